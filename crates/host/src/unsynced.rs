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
pub struct Unsynced {
    waiting: Mutex<Waiting>,
    /// Held by who flushes, to its end.
    flushing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The first few files.
    files: Vec<File>,
    /// The folders that have more.
    folders: Vec<Folder>,
    /// How many files have come that are full of data, and how many of them are known to be on their medium.
    data: Data,
}

#[derive(Debug, Default, Clone, Copy)]
struct Data {
    came: u64,
    synced: u64,
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
    /// Syncs this new and empty image of `folder` with the next [`flush`](Unsynced::flush).
    pub fn later(&self, file: File, folder: &Path) {
        lock(&self.waiting).add(file, folder);
    }

    /// The same for a file that is full of data.
    pub fn later_with_data(&self, file: File, folder: &Path) {
        let mut waiting = lock(&self.waiting);
        waiting.data.came += 1;
        waiting.add(file, folder);
    }

    /// Returns when all data is on its medium: before something else is given up, of which it may be the copy.
    pub fn flush_data(&self) -> io::Result<()> {
        let Data { came, synced } = lock(&self.waiting).data;
        if came > synced { self.flush() } else { Ok(()) }
    }

    /// Returns when all files are on their medium.
    pub fn flush(&self) -> io::Result<()> {
        let _turn = lock(&self.flushing);
        let (files, folders, came) = {
            let mut waiting = lock(&self.waiting);
            let Waiting { files, folders, data } = &mut *waiting;
            (std::mem::take(files), std::mem::take(folders), data.came)
        };
        folders.into_iter().try_for_each(Folder::sync)?;
        // Those whose file system has just been synced take no time.
        files.iter().try_for_each(fdatasync)?;
        lock(&self.waiting).data.synced = came;
        Ok(())
    }
}

/// A panic while it was held can have lost no file.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Waiting {
    fn add(&mut self, file: File, folder: &Path) {
        if self.files.len() < FEW {
            self.files.push(file);
            return;
        }
        match self.folders.iter_mut().find(|known| known.path == folder) {
            None => self.folders.push(Folder { path: folder.to_owned(), file, new: 1, writing: None }),
            Some(known) => known.add(file),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_synced_before_something_is_given_up_and_empty_files_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let unsynced = Unsynced::default();
        let file = || tempfile::tempfile_in(folder.path()).unwrap();
        let waiting = || lock(&unsynced.waiting).files.len();
        unsynced.later(file(), folder.path());
        unsynced.flush_data().unwrap();
        assert_eq!(waiting(), 1);
        unsynced.later_with_data(file(), folder.path());
        unsynced.flush_data().unwrap();
        assert_eq!(waiting(), 0);
        unsynced.later(file(), folder.path());
        unsynced.flush_data().unwrap();
        assert_eq!(waiting(), 1);
        unsynced.flush().unwrap();
        assert_eq!(waiting(), 0);
    }
}
