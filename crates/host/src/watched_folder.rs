//! Being told of what changes in a folder, by inotify.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// The buffer for what the system tells at once, in bytes.
const BUFFER: usize = 16 << 10;

/// What has changed in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderChange {
    /// Something about the entry of this name, or the name itself.
    Entry(OsString),
    /// More than the system could remember.
    Lost,
    /// The folder is not there any more.
    Gone,
}

/// A folder that is watched, until this is dropped.
#[derive(Debug)]
pub struct WatchedFolder {
    inotify: OwnedFd,
    changes: VecDeque<FolderChange>,
}

impl WatchedFolder {
    /// Watches a folder.
    pub fn new(folder: &Path) -> io::Result<WatchedFolder> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB;
        let itself = WatchFlags::ONLYDIR | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        add_watch(&inotify, folder, what | itself)?;
        Ok(WatchedFolder { inotify, changes: VecDeque::new() })
    }

    /// Waits for the next change, at most so long.
    pub fn next(&mut self, within: Duration) -> Option<FolderChange> {
        if self.changes.is_empty() {
            let within = Timespec::try_from(within).ok();
            let _ =
                poll(&mut [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)], within.as_ref());
            self.read();
        }
        self.changes.pop_front()
    }

    /// Takes what the system has to tell.
    fn read(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let gone =
                ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT;
            let events = event.events();
            let change = match event.file_name() {
                _ if events.contains(ReadFlags::QUEUE_OVERFLOW) => FolderChange::Lost,
                _ if events.intersects(gone) => FolderChange::Gone,
                Some(name) => FolderChange::Entry(OsStr::from_bytes(name.to_bytes()).to_owned()),
                // The folder's own permissions.
                None => continue,
            };
            self.changes.push_back(change);
            // The rest is read when this has been taken: the system counts what waits, and tells if it is too much.
            if reader.is_buffer_empty() {
                break;
            }
        }
    }
}
