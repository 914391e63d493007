//! Directories and files: whether they can be used, and whether others can who must not.

use super::{Finding, Weight, quoted};
use cenote_engine::{Layout, definitions, storage_timeout};
use cenote_host::{Host, Settings, WatchedFolder};
use cenote_model::PoolKind;
use rustix::fs::{Access, access};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(super) fn findings(layout: &Layout, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in [layout.config(), layout.run(), layout.secrets(), layout.sockets()] {
        findings.extend(not_writable(folder));
    }
    findings.extend(open_to_others(layout));
    findings.extend(wrong_settings(layout));
    findings.extend(pools(layout, host));
    findings.extend(not_watched());
    findings
}

fn sudo() -> &'static str {
    if rustix::process::geteuid().is_root() { "" } else { "sudo " }
}

/// The nearest directory that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// A directory of the state that cannot be written to, or not be made.
fn not_writable(folder: &Path) -> Option<Finding> {
    let found = existing(folder);
    if !found.is_dir() {
        let what = format!("'{}' should be a directory, and is something else", found.display());
        let aside = quoted(&found.with_extension("aside"));
        return Some(Finding::new(Weight::Error, what, format!("{}mv {} {aside}", sudo(), quoted(&found))));
    }
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    if access(&found, all).is_ok() {
        return None;
    }
    // root lacks no permission: what it cannot write to is on a medium that cannot be written to.
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let remedy = match user {
        0 => format!("mount -o remount,rw \"$(findmnt -n -o TARGET --target {})\"", quoted(&found)),
        _ => format!("sudo chown -R {user}:{group} {0} && chmod u+rwx {0}", quoted(&found)),
    };
    let what = format!("the directory '{}' of the state cannot be written to by this user", found.display());
    Some(Finding::new(Weight::Error, what, remedy))
}

/// Secrets that others may read.
fn open_to_others(layout: &Layout) -> Vec<Finding> {
    const OTHERS: u32 = 0o077;
    let is_open = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() || found.is_file())
            && fs::metadata(path).is_ok_and(|found| found.mode() & OTHERS != 0)
    };
    let mut findings = Vec::new();
    if is_open(layout.secrets()) {
        let folder = quoted(layout.secrets());
        let what = format!("the directory of secrets {folder} is open to others");
        findings.push(Finding::new(Weight::Error, what, format!("{}chmod 700 {folder}", sudo())));
    }
    for entry in fs::read_dir(layout.secrets()).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_value = path.extension().is_some_and(|ending| ending == "base64" || ending == "aes256cbc");
        if is_value && is_open(&path) {
            let what = format!("the value of a secret '{}' is open to others", path.display());
            findings.push(Finding::new(
                Weight::Error,
                what,
                format!("{}chmod 600 {}", sudo(), quoted(&path)),
            ));
        }
    }
    findings
}

/// Settings files that cannot be read, and settings that mean nothing.
fn wrong_settings(layout: &Layout) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["cenote.conf", "virtstoraged.conf", "virtsecretd.conf", "secret.conf"] {
        let path = layout.settings(name);
        let read = Settings::read(&path).map(drop);
        let read =
            if name == "cenote.conf" { read.and_then(|()| storage_timeout(layout).map(drop)) } else { read };
        let Err(error) = read else { continue };
        // The line is named in the message, where it is one line that is wrong.
        let text = error.to_string();
        let line = text.split(", line ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
        let remedy = match line {
            Some(line) => format!("{}sed -i {line}d {}", sudo(), quoted(&path)),
            None => format!("{}chmod u+r {}", sudo(), quoted(&path)),
        };
        findings.push(Finding::new(Weight::Error, text, remedy));
    }
    findings
}

/// Definitions that cannot be read, and directories that cannot be used.
fn pools(layout: &Layout, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Ok((pools, bad)) = definitions(layout, host) else { return findings };
    for error in bad {
        let text = error.to_string();
        // A definition that cannot be read is named in its message.
        let path = text.split('\'').nth(1).filter(|path| path.starts_with('/')).map(PathBuf::from);
        let remedy = match path.filter(|path| path.exists()) {
            Some(path) => {
                format!("{}mv {} {}", sudo(), quoted(&path), quoted(&path.with_extension("broken")))
            }
            None => format!("ls -l {}", quoted(layout.config())),
        };
        findings.push(Finding::new(Weight::Warning, format!("a definition is passed over: {text}"), remedy));
    }
    let guests = user_of_guests();
    for pool in pools.iter().filter(|pool| pool.kind == PoolKind::Dir) {
        let Some(target) = pool.target_path().map(Path::new) else { continue };
        if !target.is_dir() {
            let what = format!(
                "pool '{}' needs the directory '{}', which is not there",
                pool.name,
                target.display()
            );
            findings.push(Finding::new(
                Weight::Warning,
                what,
                format!("{}mkdir -p {}", sudo(), quoted(target)),
            ));
            continue;
        }
        if access(target, Access::READ_OK | Access::EXEC_OK).is_err() {
            let what = format!(
                "pool '{}': its directory '{}' cannot be read by this user",
                pool.name,
                target.display()
            );
            findings.push(Finding::new(
                Weight::Warning,
                what,
                format!("{}chmod a+rx {}", sudo(), quoted(target)),
            ));
        }
        let Some((name, user, groups)) = &guests else { continue };
        let closed = target.ancestors().find(|path| !may_pass(path, *user, groups));
        if let Some(closed) = closed {
            let what = format!(
                "pool '{}': guests run as '{name}', who may not pass through '{}' to their disks",
                pool.name,
                closed.display()
            );
            findings.push(Finding::new(
                Weight::Warning,
                what,
                format!("{}chmod o+x {}", sudo(), quoted(closed)),
            ));
        }
    }
    findings
}

/// The user that libvirt's guests run as, its number and its groups.
fn user_of_guests() -> Option<(String, u32, Vec<u32>)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let groups = fs::read_to_string("/etc/group").ok()?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found =
        fields.into_iter().find(|fields| matches!(fields.first(), Some(&("libvirt-qemu" | "qemu"))))?;
    let (name, user, group) =
        ((*found.first()?).to_owned(), found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?);
    let others = groups.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_in = fields.get(3)?.split(',').any(|member| member == name);
        is_in.then(|| fields.get(2)?.parse().ok())?
    });
    let groups = std::iter::once(group).chain(others).collect();
    Some((name, user, groups))
}

fn may_pass(folder: &Path, user: u32, groups: &[u32]) -> bool {
    let Ok(found) = fs::metadata(folder) else { return true };
    let mode = found.permissions().mode();
    let bit = match (found.uid() == user, groups.contains(&found.gid())) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    mode & bit != 0
}

/// Directories cannot be watched: a user may have so many watchers and no more.
fn not_watched() -> Option<Finding> {
    let Err(e) = WatchedFolder::new(Path::new("/")) else { return None };
    let what =
        format!("directories cannot be watched, so that what others do in them is seen by a refresh: {e}");
    Some(Finding::new(
        Weight::Warning,
        what,
        format!("{}sysctl -w fs.inotify.max_user_instances=1024", sudo()),
    ))
}
