//! Files whose content shall reach the medium, but not at once.

use rustix::fs::{fdatasync, syncfs};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

/// Up to so many files each is synced by itself; above, the file systems as a whole are.
const FEW: usize = 16;
/// So many files wait at most.
const MANY: usize = 256;

/// New files that wait for being synced. Making many small ones is several times as fast when they are synced
/// together.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<Vec<File>>);

impl Unsynced {
    /// Syncs this file with the next [`flush`](Unsynced::flush).
    pub fn later(&self, file: File) -> io::Result<()> {
        let is_full = {
            let mut files = self.lock();
            files.push(file);
            files.len() >= MANY
        };
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Returns when all files are on their medium.
    pub fn flush(&self) -> io::Result<()> {
        let files = std::mem::take(&mut *self.lock());
        if files.len() <= FEW {
            return files.iter().try_for_each(|file| Ok(fdatasync(file)?));
        }
        let mut synced = Vec::new();
        for file in files {
            let device = file.metadata()?.dev();
            if !synced.contains(&device) {
                syncfs(&file)?;
                synced.push(device);
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<File>> {
        // A panic while it was held can have lost no file.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
