//! What keeping state takes of the machine: files, and threads. Tests give a machine that they make up.

use crate::{SecretValue, create_private_dir};
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, open};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long a [`pause`](System::pause) is.
const PAUSE: Duration = Duration::from_micros(200);

/// A machine on which state is kept. Every call may fail; nothing is on its medium before it is synced.
pub trait System: Send + Sync {
    /// Makes a directory and those above it, where they are missing.
    fn create_dirs(&self, folder: &Path) -> io::Result<()>;
    /// Makes a directory that is its owner's alone, and those above it, where they are missing.
    fn create_private_dir(&self, folder: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Whether there is something at this path.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The content of a file of at most so many bytes, which nobody else shall see.
    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<SecretValue>;
    /// Makes a file that is its owner's alone, or empties it, and writes into it.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Returns when a file, or the names in a directory, are on their medium.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, at which there may be another file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a link.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// Where a link leads.
    fn read_link(&self, link: &Path) -> io::Result<PathBuf>;
    /// When a file was written.
    fn modified(&self, path: &Path) -> io::Result<SystemTime>;
    /// Takes the lock that a file stands for; `None` if another process has it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<LockFile>>;
    /// Starts a thread.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
    /// Waits a moment for another thread.
    fn pause(&self);
}

/// A lock between processes, until it is dropped.
#[derive(Debug)]
pub struct LockFile {
    _file: Option<File>,
}

impl LockFile {
    /// A lock on a machine that is made up, where there is no other process.
    pub fn alone() -> LockFile {
        LockFile { _file: None }
    }
}

/// This machine.
#[derive(Debug)]
pub(crate) struct ThisSystem;

impl System for ThisSystem {
    fn create_dirs(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn create_private_dir(&self, folder: &Path) -> io::Result<()> {
        create_private_dir(folder)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<SecretValue> {
        SecretValue::read_file(path, limit)
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        fs::read_link(link)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        path.metadata()?.modified()
    }

    /// The lock is libvirt's: one on the whole file. The file then holds the number of this process.
    fn try_lock(&self, path: &Path) -> io::Result<Option<LockFile>> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut file = File::from(open(path, flags, mode)?);
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(LockFile { _file: Some(file) }))
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }

    fn pause(&self) {
        thread::sleep(PAUSE);
    }
}
