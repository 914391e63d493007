//! Directories and files: whether they can be used, and whether others can who must not.

use super::{Finding, Weight, quoted};
use cenote_engine::{Layout, definitions, storage_timeout};
use cenote_host::{Host, Settings, WatchedFolder};
use cenote_model::PoolKind;
use rustix::fs::{Access, access};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long the directory of a pool may take to be looked at.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn findings(layout: &Layout, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(not_writable(layout));
    findings.extend(open_to_others(layout));
    findings.extend(wrong_settings(layout));
    findings.extend(pools(layout, host));
    findings.extend(not_watched());
    findings
}

fn sudo() -> &'static str {
    if rustix::process::geteuid().is_root() { "" } else { "sudo " }
}

/// A directory of the state that cannot be written to, or not be made.
fn not_writable(layout: &Layout) -> Option<Finding> {
    let folders = [layout.config(), layout.run(), layout.secrets(), layout.sockets()];
    let existing =
        folders.map(|folder| folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")));
    if let Some(found) = existing.iter().find(|found| !found.is_dir()) {
        let what = format!("'{}' should be a directory, and is something else", found.display());
        let aside = quoted(&found.with_extension("aside"));
        return Some(Finding::new(Weight::Error, what, format!("{}mv {} {aside}", sudo(), quoted(found))));
    }
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let closed = existing.iter().find(|found| access(**found, all).is_err())?;
    let what = format!("this user cannot use the directory '{}' for state", closed.display());
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // All of the state is below one directory, three above the definitions.
    let root = layout.config().ancestors().nth(3).unwrap_or(Path::new("/"));
    let remedy = match user {
        // root lacks no permission: what it cannot write to is on a medium that cannot be written to.
        0 => format!("mount -o remount,rw \"$(findmnt -n -o TARGET --target {})\"", quoted(closed)),
        _ if root == Path::new("/") => "sudo cenote doctor".to_owned(),
        _ if root.exists() => format!("sudo chown -R {user}:{group} {}", quoted(root)),
        _ => format!("sudo install -d -o {user} -g {group} {}", quoted(root)),
    };
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
        let path = quoted(&path);
        let remedy = match line {
            // A setting of ours is a line.
            Some(line) if name == "cenote.conf" => format!("{}sed -i {line}d {path}", sudo()),
            Some(line) => format!("{}${{EDITOR:-vi}} +{line} {path}", sudo()),
            None => format!("ls -l {path}"),
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
        // A definition that cannot be read is named in its message. One that this user may not read is somebody's.
        let path = text.split('\'').nth(1).filter(|path| path.starts_with('/')).map(PathBuf::from);
        let remedy = match path.filter(|path| access(path, Access::READ_OK).is_ok()) {
            Some(path) => {
                format!("{}mv {} {}", sudo(), quoted(&path), quoted(&path.with_extension("broken")))
            }
            None => format!("ls -l {}", quoted(layout.config())),
        };
        findings.push(Finding::new(Weight::Warning, format!("a definition is passed over: {text}"), remedy));
    }
    // Guests of this user run as this user.
    let guests = if rustix::process::geteuid().is_root() { user_of_guests() } else { None };
    for pool in pools.into_iter().filter(|pool| pool.kind == PoolKind::Dir) {
        let Some(target) = pool.target_path().map(PathBuf::from) else { continue };
        // The one whose storage hangs is what is looked for.
        let (sender, found) = channel();
        let (name, guests) = (pool.name.to_string(), guests.clone());
        let looked_at = target.clone();
        thread::spawn(move || sender.send(directory(&name, &looked_at, guests.as_ref())));
        findings.extend(found.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let what = format!("pool '{}': the storage of '{}' does not answer", pool.name, target.display());
            vec![Finding::new(Weight::Warning, what, format!("findmnt --target {}", quoted(&target)))]
        }));
    }
    findings
}

/// What is wrong with the directory of a pool.
fn directory(pool: &str, target: &Path, guests: Option<&Guests>) -> Vec<Finding> {
    match fs::metadata(target) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let what = format!(
                "pool '{pool}' needs the directory '{}', which is not there: mount what has it, or make it",
                target.display()
            );
            return vec![Finding::new(
                Weight::Warning,
                what,
                format!("{}mkdir -p {}", sudo(), quoted(target)),
            )];
        }
        Err(e) => {
            let what = format!("pool '{pool}': its directory '{}' cannot be used: {e}", target.display());
            return vec![Finding::new(Weight::Warning, what, format!("namei -l {}", quoted(target)))];
        }
        Ok(_) => {}
    }
    let Some(guests) = guests else { return Vec::new() };
    let Some(closed) = target.ancestors().find(|path| !guests.may_pass(path)) else { return Vec::new() };
    let what = format!(
        "pool '{pool}': guests run as '{}', who may not pass through '{}' to their disks",
        guests.name,
        closed.display()
    );
    vec![Finding::new(Weight::Warning, what, format!("chmod o+x {}", quoted(closed)))]
}

/// The user that libvirt's guests run as.
#[derive(Clone)]
struct Guests {
    name: String,
    user: u32,
    groups: Vec<u32>,
}

fn user_of_guests() -> Option<Guests> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let groups = fs::read_to_string("/etc/group").ok()?;
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.find(|fields| matches!(fields.first(), Some(&("libvirt-qemu" | "qemu"))))?;
    let name = (*found.first()?).to_owned();
    let (user, group) = (found.get(2)?.parse().ok()?, found.get(3)?.parse().ok()?);
    let others = groups.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_in = fields.get(3)?.split(',').any(|member| member == name);
        is_in.then(|| fields.get(2)?.parse().ok())?
    });
    let groups = std::iter::once(group).chain(others).collect();
    Some(Guests { name, user, groups })
}

impl Guests {
    fn may_pass(&self, folder: &Path) -> bool {
        let Ok(found) = fs::metadata(folder) else { return true };
        let bit = match (found.uid() == self.user, self.groups.contains(&found.gid())) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        found.mode() & bit != 0
    }
}

/// Directories cannot be watched: a user may have so many watchers, and watch so many things, and no more.
fn not_watched() -> Option<Finding> {
    let Err(e) = WatchedFolder::new(Path::new("/")) else { return None };
    let what =
        format!("directories cannot be watched, so that what others do in them is seen by a refresh: {e}");
    let setting = match e.raw_os_error() {
        Some(28) => "fs.inotify.max_user_watches",
        _ => "fs.inotify.max_user_instances",
    };
    let remedy = format!("{}sysctl -w {setting}=$(( $(sysctl -n {setting}) * 8 ))", sudo());
    Some(Finding::new(Weight::Warning, what, remedy))
}
