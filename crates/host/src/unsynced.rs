//! Files whose content shall reach the medium, but not at once.

use cenote_image::sync_data;
use rustix::fs::{fstat, fsync, syncfs};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
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
    /// What has been copied from a volume that is still there.
    copies: Mutex<Vec<Arc<Copied>>>,
    /// Held while they are synced, so that whoever comes later waits for what is under way.
    flushing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The first few files, and the folders that their names are in.
    files: Vec<(File, PathBuf)>,
    /// The file systems that have more.
    systems: Vec<FileSystem>,
}

#[derive(Debug)]
struct FileSystem {
    device: u64,
    /// One of its files, which stands for it.
    file: File,
    /// How many came since writing began.
    new: usize,
    writing: Option<JoinHandle<io::Result<()>>>,
}

/// A file with the content of another one, which must not be given up before it.
#[derive(Debug)]
struct Copied {
    file: File,
    source: PathBuf,
    target: PathBuf,
    /// It could not be written: the system says so once only.
    is_lost: AtomicBool,
}

impl Unsynced {
    /// Syncs this file of `folder`, and its name, with the next [`flush`](Unsynced::flush).
    pub fn later(&self, file: File, folder: &Path) -> io::Result<()> {
        let mut waiting = lock(&self.waiting);
        if waiting.files.len() < FEW {
            waiting.files.push((file, folder.to_owned()));
            return Ok(());
        }
        let device = fstat(&file)?.st_dev;
        match waiting.systems.iter_mut().find(|known| known.device == device) {
            None => waiting.systems.push(FileSystem { device, file, new: 1, writing: None }),
            Some(known) => known.add(file),
        }
        Ok(())
    }

    /// The same for `target`, which has the content of `source`; or before that is given up.
    pub fn later_copy(&self, file: File, source: &Path, target: &Path) {
        let (source, target) = (source.to_owned(), target.to_owned());
        lock(&self.copies).push(Arc::new(Copied { file, source, target, is_lost: AtomicBool::new(false) }));
    }

    /// True if there are copies of this file that are not on their medium.
    pub fn has_copies_of(&self, source: &Path) -> bool {
        lock(&self.copies).iter().any(|copy| copy.source == source)
    }

    /// Returns when all copies of this file are on their medium, which may take long: `alive` is called meanwhile.
    pub fn settle(&self, source: &Path, alive: impl Fn()) -> io::Result<()> {
        let copies: Vec<_> =
            lock(&self.copies).iter().filter(|copy| copy.source == source).cloned().collect();
        copies.iter().try_for_each(|copy| self.write(copy, &alive))
    }

    /// This file is gone: whether it is on a medium is of no interest.
    pub fn forget(&self, target: &Path) {
        lock(&self.copies).retain(|copy| copy.target != target);
    }

    /// True if nothing waits, and nothing is on its way to its medium.
    pub fn is_empty(&self) -> bool {
        let waits = {
            let waiting = lock(&self.waiting);
            !waiting.files.is_empty() || !waiting.systems.is_empty() || !lock(&self.copies).is_empty()
        };
        // Whoever has taken what waited holds this lock until it is synced.
        !waits && !matches!(self.flushing.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Returns when all files are on their medium, or it is known which are not: the first failure is told, and others
    /// are not left out because of it.
    pub fn flush(&self) -> io::Result<()> {
        let _flushing = lock(&self.flushing);
        let Waiting { files, systems } = std::mem::take(&mut *lock(&self.waiting));
        let mut folders: Vec<&Path> = files.iter().map(|(_, folder)| folder.as_path()).collect();
        folders.sort();
        folders.dedup();
        let copies = lock(&self.copies).clone();
        let results = systems.into_iter().map(FileSystem::sync);
        // Those whose file system has just been synced take no time.
        let results = results.chain(files.iter().map(|(file, _)| Ok(fsync(file)?)));
        let results = results.chain(folders.into_iter().map(sync_folder));
        let results = results.chain(copies.iter().map(|copy| self.write(copy, || ())));
        // All of them are tried before one is told of.
        let results: Vec<_> = results.collect();
        results.into_iter().collect()
    }

    fn write(&self, copy: &Arc<Copied>, alive: impl Fn()) -> io::Result<()> {
        let written = match copy.is_lost.load(Ordering::Acquire) {
            true => Err(io::Error::other("an earlier attempt failed: delete it")),
            false => sync_data(&copy.file, alive)
                .and_then(|()| Ok(fsync(&copy.file)?))
                .and_then(|()| sync_folder(copy.target.parent().unwrap_or(Path::new("/")))),
        };
        match written {
            Ok(()) => {
                lock(&self.copies).retain(|other| !Arc::ptr_eq(other, copy));
                Ok(())
            }
            Err(e) => {
                copy.is_lost.store(true, Ordering::Release);
                Err(io::Error::new(e.kind(), format!("copy '{}': {e}", copy.target.display())))
            }
        }
    }
}

/// Brings the names in a folder to the medium. One that is gone has none.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// A panic while it was held can have lost no file.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl FileSystem {
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
        let written = self.writing.map_or(Ok(()), |writing| {
            writing.join().unwrap_or_else(|_| Err(io::Error::other("writing in the background failed")))
        });
        syncfs(&self.file)?;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_synced_before_what_they_are_of_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let unsynced = Unsynced::default();
        let copies = || lock(&unsynced.copies).len();
        for name in ["a", "b"] {
            unsynced.later_copy(File::create(path(name)).unwrap(), &path("source"), &path(name));
        }
        unsynced.later_copy(File::create(path("c")).unwrap(), &path("other"), &path("c"));
        unsynced.forget(&path("b"));
        assert_eq!(copies(), 2);
        unsynced.settle(&path("source"), || ()).unwrap();
        assert_eq!(copies(), 1);
        unsynced.flush().unwrap();
        assert_eq!(copies(), 0);
    }

    #[test]
    fn a_copy_that_could_not_be_written_is_remembered_and_others_are_written_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let unsynced = Unsynced::default();
        // What cannot be synced at all stands for what cannot be written.
        let broken = || File::open("/proc/self/status").unwrap();
        unsynced.later_copy(broken(), &path("source"), &path("copy"));
        unsynced.later_copy(File::create(path("good")).unwrap(), &path("source"), &path("good"));
        unsynced.later(broken(), folder.path()).unwrap();
        unsynced.later(File::create(path("new")).unwrap(), folder.path()).unwrap();
        assert!(unsynced.flush().is_err());
        assert!(lock(&unsynced.waiting).files.is_empty());
        let left: Vec<_> = lock(&unsynced.copies).iter().map(|copy| copy.target.clone()).collect();
        assert_eq!(left, [path("copy")]);
        let error = unsynced.settle(&path("source"), || ()).unwrap_err().to_string();
        assert!(error.contains("/copy'") && error.contains("delete it"), "{error}");
        unsynced.forget(&path("copy"));
        unsynced.settle(&path("source"), || ()).unwrap();
    }
}
