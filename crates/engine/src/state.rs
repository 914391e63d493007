//! The state on disk, in libvirt's files.

use crate::Layout;
use cenote_model::flags::Validate;
use cenote_model::{Code, Error, Name, PoolDef, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, open};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long one command waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What the names of files end in while they are written.
const TEMPORARY: &str = ".new";
/// The mark that the pools of this boot have been started; libvirt's.
const AUTOSTARTED: &str = "autostarted";

/// The lock on the state: libvirt's own, so that no two daemons and no two commands change it at once.
#[derive(Debug)]
pub(crate) struct StateLock(#[allow(dead_code, reason = "closing it ends the lock")] File);

impl StateLock {
    /// Takes the lock. Waits for another command, but not for a daemon, which would not end.
    pub(crate) fn take(folder: &Path) -> Result<StateLock> {
        let path = folder.join("driver.pid");
        let failed = |e: io::Error| Error::system(format!("cannot lock '{}'", path.display()), &e);
        create_dirs(folder)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut file = File::from(open(&path, flags, mode).map_err(|e| failed(e.into()))?);
        let started = Instant::now();
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    let holder = Holder::read(&path);
                    if holder.is_daemon || started.elapsed() >= PATIENCE {
                        return Err(Error::new(
                            Code::ResourceBusy,
                            format!(
                                "'{}' is in use by {}: stop it, or connect to it",
                                folder.display(),
                                holder.text
                            ),
                        ));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err(e) => return Err(failed(e.into())),
            }
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(StateLock(file))
    }
}

/// Who has the lock.
struct Holder {
    text: String,
    is_daemon: bool,
}

impl Holder {
    fn read(path: &Path) -> Holder {
        // The file must not be opened again by this process for writing a lock of its own; reading through /proc
        // would end no lock either, for this process has none.
        let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let Some(pid) = pid else { return Holder { text: "another process".to_owned(), is_daemon: false } };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim();
        Holder {
            text: format!("{} (process {pid})", if name.is_empty() { "another process" } else { name }),
            is_daemon: matches!(name, "libvirtd" | "virtstoraged" | "virtsecretd" | "cenoted"),
        }
    }
}

/// True before the very first use.
pub(crate) fn is_new(layout: &Layout) -> bool {
    !layout.config().exists()
}

/// True if the machine has been started since the pools of this state were.
pub(crate) fn is_from_another_boot(layout: &Layout) -> bool {
    match boot_id() {
        Some(now) if layout.outlives_boot() => {
            fs::read_to_string(layout.run().join("boot-id")).ok().as_deref() != Some(&now)
        }
        _ => !layout.run().join(AUTOSTARTED).exists(),
    }
}

fn boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID).ok()
}

/// Makes the directories, and forgets which pools were active before the machine was started.
pub(crate) fn prepare(layout: &Layout) -> Result<()> {
    create_dirs(layout.config())?;
    create_dirs(layout.run())?;
    // Without a boot id of ours the state is libvirt's: its directory does not outlive a boot, or it has just been
    // used by a daemon of this boot.
    if layout.outlives_boot() && layout.run().join("boot-id").exists() {
        for (name, _) in xml_files(layout.run())? {
            let _ = fs::remove_file(layout.run().join(format!("{name}.xml")));
        }
        let _ = fs::remove_file(layout.run().join(AUTOSTARTED));
    }
    Ok(())
}

/// Removes what writers that were killed left.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// True if the pools that start by themselves have not been started in this boot.
pub(crate) fn shall_autostart(layout: &Layout) -> bool {
    !layout.run().join(AUTOSTARTED).exists()
}

/// Notes that the pools of this boot have been started.
pub(crate) fn remember_boot(layout: &Layout) -> Result<()> {
    write(&layout.run().join(AUTOSTARTED), "")?;
    match boot_id() {
        Some(id) if layout.outlives_boot() => write(&layout.run().join("boot-id"), &id),
        _ => Ok(()),
    }
}

/// The definitions on disk that can be read, and why the others cannot.
pub(crate) fn read_definitions(layout: &Layout) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_pools(layout.config(), |text| PoolDef::from_xml(text, Validate::Lax))
}

/// The pools that were active, and why others cannot be read.
pub(crate) fn read_active(layout: &Layout) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_pools(layout.run(), PoolDef::from_state_xml)
}

fn read_pools(folder: &Path, parse: impl Fn(&str) -> Result<PoolDef>) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_all(folder, parse, |def, name, shown| match def.name.as_str() == name {
        true => Ok(()),
        false => Err(Error::new(
            Code::XmlError,
            format!(
                "Storage pool config filename '{}' does not match pool name '{}'",
                shown.display(),
                def.name
            ),
        )),
    })
}

/// What the `.xml` files in a directory define, and why some cannot be read, or do not have the name that is theirs.
pub(crate) fn read_all<T>(
    folder: &Path,
    parse: impl Fn(&str) -> Result<T>,
    check_name: impl Fn(&T, &str, &Path) -> Result<()>,
) -> Result<(Vec<T>, Vec<Error>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, text) in xml_files(folder)? {
        let shown = folder.join(format!("{name}.xml"));
        let read = text
            .map_err(|e| Error::system(format!("cannot read '{}'", shown.display()), &e))
            .and_then(|text| parse(&text))
            .and_then(|def| check_name(&def, &name, &shown).map(|()| def));
        match read {
            Ok(def) => good.push(def),
            Err(error) => bad.push(error),
        }
    }
    Ok((good, bad))
}

/// The names of the `.xml` files in a directory, without the ending, and their texts.
fn xml_files(folder: &Path) -> Result<Vec<(String, io::Result<String>)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(Error::system(format!("cannot read directory '{}'", folder.display()), &e));
        }
    };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".xml")) {
            files.push((name.to_owned(), fs::read_to_string(entry.path())));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// Writes a definition.
pub(crate) fn save_definition(layout: &Layout, def: &PoolDef) -> Result<()> {
    create_dirs(layout.config())?;
    write(&layout.config_file(&def.name), format!("{}{}", warning(def), def.to_xml()))
}

/// Removes a definition and its link.
pub(crate) fn remove_definition(layout: &Layout, pool: &Name) -> Result<()> {
    set_autostart(layout, pool, false)?;
    fs::remove_file(layout.config_file(pool))
        .map_err(|_| Error::new(Code::Internal, format!("cannot remove config for {pool}")))
}

/// Notes that a pool is active.
pub(crate) fn save_active(layout: &Layout, def: &PoolDef) -> Result<()> {
    write(&layout.run_file(&def.name), format!("{}{}", warning(def), def.to_state_xml()))
}

/// Notes that a pool is not active.
pub(crate) fn remove_active(layout: &Layout, pool: &Name) {
    let _ = fs::remove_file(layout.run_file(pool));
}

/// True if the pool starts by itself: there is a link to its definition. One that was made where this prefix was the
/// root counts as well.
pub(crate) fn is_autostart(layout: &Layout, pool: &Name) -> bool {
    let file = layout.config_file(pool);
    fs::read_link(layout.autostart_link(pool))
        .is_ok_and(|target| target == file || file.ends_with(target.strip_prefix("/").unwrap_or(&target)))
}

/// Makes or removes the link.
pub(crate) fn set_autostart(layout: &Layout, pool: &Name, autostart: bool) -> Result<()> {
    let (link, target) = (layout.autostart_link(pool), layout.config_file(pool));
    if autostart {
        create_dirs(&layout.autostart())?;
        if is_autostart(layout, pool) {
            return Ok(());
        }
        return symlink(&target, &link).map_err(|e| {
            Error::system(
                format!("Failed to create symlink '{}' to '{}'", link.display(), target.display()),
                &e,
            )
        });
    }
    match fs::remove_file(&link) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::system(format!("Failed to delete symlink '{}'", link.display()), &e))
        }
        _ => Ok(()),
    }
}

/// What libvirt writes above its files, with the command to use instead of an editor. In a comment a name must not
/// end it, and in a command it must not mean anything to a shell: else the UUID stands for it.
fn warning(def: &PoolDef) -> String {
    let is_safe = |c: char| !"\r\t\n !\"#$&'()*;<>?[\\]^`{|}~".contains(c);
    let name = def.name.as_str();
    let name = match name.chars().all(is_safe) && !name.contains("--") {
        true => name.to_owned(),
        false => def.uuid.to_string(),
    };
    format!(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\n\
         OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:\n  \
         virsh pool-edit {name}\nor other application using the libvirt API.\n-->\n\n"
    )
}

/// Replaces a file as a whole: after a crash there is the old one or the new one.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let failed = |e: io::Error| Error::system(format!("cannot write data to file '{}'", path.display()), &e);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let result = (|| {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_ref())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    })();
    result.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(e)
    })
}

pub(crate) fn create_dirs(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|e| Error::system(format!("cannot create directory {}", path.display()), &e))
}
