//! Files whose content shall reach the medium, but not at once.

use rustix::fs::{fdatasync, syncfs};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Up to so many files each is synced by itself; above, the file systems as a whole are.
const FEW: usize = 16;
/// When so many more have come, writing them begins while others are made.
const BATCH: usize = 128;

/// New files that wait for being synced. Making many small ones is several times as fast when they are synced
/// together, and written while the next ones are made.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The first few files.
    files: Vec<File>,
    /// The folders that have more.
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// One of its files, which stands for the file system.
    file: File,
    /// How many came since writing began.
    new: usize,
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl Unsynced {
    /// Syncs this file of `folder` with the next [`flush`](Unsynced::flush).
    pub fn later(&self, file: File, folder: &Path) {
        let mut waiting = self.lock();
        if waiting.files.len() < FEW {
            waiting.files.push(file);
            return;
        }
        match waiting.folders.iter_mut().find(|known| known.path == folder) {
            None => waiting.folders.push(Folder { path: folder.to_owned(), file, new: 1, writing: None }),
            Some(known) => known.add(file),
        }
    }

    /// Returns when all files are on their medium.
    pub fn flush(&self) -> io::Result<()> {
        let Waiting { files, folders } = std::mem::take(&mut *self.lock());
        folders.into_iter().try_for_each(Folder::sync)?;
        // Those whose file system has just been synced take no time.
        files.iter().try_for_each(|file| Ok(fdatasync(file)?))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while it was held can have lost no file.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Folder {
    fn add(&mut self, file: File) {
        self.new += 1;
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if self.new >= BATCH && !is_writing {
            self.new = 0;
            // A failure is not lost with the handle: the file stands for the file system with an error state of its
            // own, in which it is found when the whole is synced.
            self.writing = Some(std::thread::spawn(move || Ok(syncfs(&file)?)));
        }
    }

    fn sync(self) -> io::Result<()> {
        if let Some(writing) = self.writing {
            writing.join().unwrap_or_else(|_| Err(io::Error::other("writing in the background failed")))?;
        }
        Ok(syncfs(&self.file)?)
    }
}
