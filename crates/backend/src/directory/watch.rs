//! Being told of what others do in the directory.

use super::Directory;
use crate::{Noticed, Watch};
use cenote_host::{FolderChange, WatchedFolder, is_hidden};
use cenote_model::Name;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

struct DirectoryWatch(WatchedFolder);

impl Directory {
    /// Begins to watch it.
    pub fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        Ok(Some(Box::new(DirectoryWatch(WatchedFolder::new(self.path())?))))
    }
}

impl Watch for DirectoryWatch {
    fn next(&mut self, within: Duration) -> Option<Noticed> {
        let until = Instant::now() + within;
        loop {
            match self.0.next(until.saturating_duration_since(Instant::now()))? {
                FolderChange::Lost => return Some(Noticed::Anything),
                FolderChange::Gone => return Some(Noticed::Gone),
                // What has no name for a volume is none.
                FolderChange::Entry(name) if is_hidden(name.as_bytes()) => {}
                FolderChange::Entry(name) => {
                    if let Some(name) = name.to_str().and_then(|name| Name::volume(name).ok()) {
                        return Some(Noticed::Volume(name));
                    }
                }
            }
        }
    }
}
