//! The state on disk, in libvirt's files.

use crate::Layout;
use cenote_host::{LockFile, System};
use cenote_model::flags::Validate;
use cenote_model::{Code, Error, Name, PoolDef, Result};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one command waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What the names of files end in while they are written.
const TEMPORARY: &str = ".new";
/// The mark that the pools of this boot have been started; libvirt's.
const AUTOSTARTED: &str = "autostarted";

/// Takes the lock on the state: libvirt's own, so that no two daemons and no two commands change it at once. Waits for
/// another command, but not for a daemon, which would not end.
pub(crate) fn lock(system: &dyn System, folder: &Path) -> Result<LockFile> {
    let path = folder.join("driver.pid");
    let failed = |e: io::Error| Error::system(format!("cannot lock '{}'", path.display()), &e);
    create_dirs(system, folder)?;
    let started = Instant::now();
    loop {
        if let Some(lock) = system.try_lock(&path).map_err(failed)? {
            return Ok(lock);
        }
        let holder = Holder::of(system, &path);
        if holder.is_daemon || started.elapsed() >= PATIENCE {
            return Err(Error::new(
                Code::ResourceBusy,
                format!("'{}' is in use by {}: stop it, or connect to it", folder.display(), holder.text),
            ));
        }
        system.pause();
    }
}

/// Who has the lock.
struct Holder {
    text: String,
    is_daemon: bool,
}

impl Holder {
    fn of(system: &dyn System, path: &Path) -> Holder {
        let pid = read_text(system, path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let Some(pid) = pid else { return Holder { text: "another process".to_owned(), is_daemon: false } };
        let name = read_text(system, Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
        let name = name.trim();
        Holder {
            text: format!("{} (process {pid})", if name.is_empty() { "another process" } else { name }),
            is_daemon: matches!(name, "libvirtd" | "virtstoraged" | "virtsecretd" | "cenoted"),
        }
    }
}

/// The content of a file that is text.
fn read_text(system: &dyn System, path: &Path) -> io::Result<String> {
    String::from_utf8(system.read(path)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn is_there(system: &dyn System, path: &Path) -> bool {
    system.exists(path).unwrap_or(false)
}

/// True before the very first use.
pub(crate) fn is_new(system: &dyn System, layout: &Layout) -> bool {
    !is_there(system, layout.config())
}

/// True if the machine has been started since the pools of this state were.
pub(crate) fn is_from_another_boot(system: &dyn System, layout: &Layout) -> bool {
    match boot_id(system) {
        Some(now) if layout.outlives_boot() => {
            read_text(system, &layout.run().join("boot-id")).ok().as_deref() != Some(&now)
        }
        _ => shall_autostart(system, layout),
    }
}

fn boot_id(system: &dyn System) -> Option<String> {
    read_text(system, Path::new(BOOT_ID)).ok()
}

/// Makes the directories, and forgets which pools were active before the machine was started.
pub(crate) fn prepare(system: &dyn System, layout: &Layout) -> Result<()> {
    create_dirs(system, layout.config())?;
    create_dirs(system, layout.run())?;
    // Without a boot id of ours the state is libvirt's: its directory does not outlive a boot, or it has just been
    // used by a daemon of this boot.
    if layout.outlives_boot() && is_there(system, &layout.run().join("boot-id")) {
        for (name, _) in xml_files(system, layout.run())? {
            let _ = system.remove(&layout.run().join(format!("{name}.xml")));
        }
        let _ = system.remove(&layout.run().join(AUTOSTARTED));
    }
    Ok(())
}

/// Removes what writers that were killed left.
pub(crate) fn sweep(system: &dyn System, folder: &Path) {
    for name in system.names(folder).unwrap_or_default() {
        if name.to_string_lossy().ends_with(TEMPORARY) {
            let _ = system.remove(&folder.join(name));
        }
    }
}

/// True if the pools that start by themselves have not been started in this boot.
pub(crate) fn shall_autostart(system: &dyn System, layout: &Layout) -> bool {
    !is_there(system, &layout.run().join(AUTOSTARTED))
}

/// Notes that the pools of this boot have been started.
pub(crate) fn remember_boot(system: &dyn System, layout: &Layout) -> Result<()> {
    write(system, &layout.run().join(AUTOSTARTED), "")?;
    match boot_id(system) {
        Some(id) if layout.outlives_boot() => write(system, &layout.run().join("boot-id"), &id),
        _ => Ok(()),
    }
}

/// The definitions on disk that can be read, and why the others cannot.
pub(crate) fn read_definitions(system: &dyn System, layout: &Layout) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_pools(system, layout.config(), |text| PoolDef::from_xml(text, Validate::Lax))
}

/// The pools that were active, and why others cannot be read.
pub(crate) fn read_active(system: &dyn System, layout: &Layout) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_pools(system, layout.run(), PoolDef::from_state_xml)
}

fn read_pools(
    system: &dyn System,
    folder: &Path,
    parse: impl Fn(&str) -> Result<PoolDef>,
) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    read_all(system, folder, parse, |def, name, shown| match def.name.as_str() == name {
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
    system: &dyn System,
    folder: &Path,
    parse: impl Fn(&str) -> Result<T>,
    check_name: impl Fn(&T, &str, &Path) -> Result<()>,
) -> Result<(Vec<T>, Vec<Error>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, text) in xml_files(system, folder)? {
        let shown = folder.join(format!("{name}.xml"));
        let read = text
            .map_err(|e| Error::system(format!("cannot read '{}'", shown.display()), &e))
            .and_then(|text| parse(&text).map_err(|e| named(e, &shown)))
            .and_then(|def| check_name(&def, &name, &shown).map(|()| def));
        match read {
            Ok(def) => good.push(def),
            Err(error) => bad.push(error),
        }
    }
    Ok((good, bad))
}

/// An error that names the file that it is about.
fn named(mut error: Error, file: &Path) -> Error {
    error.detail = format!("'{}': {}", file.display(), error.detail);
    error
}

/// The names of the `.xml` files in a directory, without the ending, and their texts.
fn xml_files(system: &dyn System, folder: &Path) -> Result<Vec<(String, io::Result<String>)>> {
    let names = match system.names(folder) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(Error::system(format!("cannot read directory '{}'", folder.display()), &e));
        }
    };
    let mut files = Vec::new();
    for name in names {
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".xml")) {
            files.push((stem.to_owned(), read_text(system, &folder.join(&name))));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// Writes a definition.
pub(crate) fn save_definition(system: &dyn System, layout: &Layout, def: &PoolDef) -> Result<()> {
    create_dirs(system, layout.config())?;
    write(system, &layout.config_file(&def.name), format!("{}{}", warning(def), def.to_xml()))
}

/// Removes a definition and its link.
pub(crate) fn remove_definition(system: &dyn System, layout: &Layout, pool: &Name) -> Result<()> {
    set_autostart(system, layout, pool, false)?;
    let removed = match system.remove(&layout.config_file(pool)) {
        // What is gone already need not be removed.
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => system.sync(layout.config()),
    };
    removed.map_err(|_| Error::new(Code::Internal, format!("cannot remove config for {pool}")))
}

/// Notes that a pool is active.
pub(crate) fn save_active(system: &dyn System, layout: &Layout, def: &PoolDef) -> Result<()> {
    write(system, &layout.run_file(&def.name), format!("{}{}", warning(def), def.to_state_xml()))
}

/// Notes that a pool is not active.
pub(crate) fn remove_active(system: &dyn System, layout: &Layout, pool: &Name) {
    let _ = system.remove(&layout.run_file(pool));
}

/// True if the pool starts by itself: there is a link to its definition. One that was made where this prefix was the
/// root counts as well.
pub(crate) fn is_autostart(system: &dyn System, layout: &Layout, pool: &Name) -> bool {
    let file = layout.config_file(pool);
    system
        .read_link(&layout.autostart_link(pool))
        .is_ok_and(|target| target == file || file.ends_with(target.strip_prefix("/").unwrap_or(&target)))
}

/// Makes or removes the link.
pub(crate) fn set_autostart(
    system: &dyn System,
    layout: &Layout,
    pool: &Name,
    autostart: bool,
) -> Result<()> {
    let (link, target) = (layout.autostart_link(pool), layout.config_file(pool));
    let folder = layout.autostart();
    // What is so already may not be on the medium yet.
    if autostart {
        create_dirs(system, &folder)?;
        let linked = match is_autostart(system, layout, pool) {
            true => Ok(()),
            false => system.symlink(&target, &link),
        };
        return linked.and_then(|()| system.sync(&folder)).map_err(|e| {
            Error::system(
                format!("Failed to create symlink '{}' to '{}'", link.display(), target.display()),
                &e,
            )
        });
    }
    let is_gone = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let removed = match system.remove(&link) {
        Err(e) if !is_gone(&e) => Err(e),
        _ => system.sync(&folder),
    };
    match removed {
        Err(e) if !is_gone(&e) => {
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
pub(crate) fn write(system: &dyn System, path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let failed = |e: io::Error| Error::system(format!("cannot write data to file '{}'", path.display()), &e);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = Path::new(&temporary);
    let result = (|| {
        system.write(temporary, content.as_ref())?;
        system.sync(temporary)?;
        system.rename(temporary, path)?;
        system.sync(path.parent().unwrap_or(Path::new("/")))
    })();
    result.map_err(|e| {
        let _ = system.remove(temporary);
        failed(e)
    })
}

pub(crate) fn create_dirs(system: &dyn System, path: &Path) -> Result<()> {
    system
        .create_dirs(path)
        .map_err(|e| Error::system(format!("cannot create directory {}", path.display()), &e))
}
