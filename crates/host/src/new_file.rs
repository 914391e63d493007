//! Files that appear as a whole or not at all.
//!
//! Where the file system can, a new file has no name until it is complete, so that nothing is left of it if its maker
//! is killed. Elsewhere, and for tools that need a name, it has a hidden one, and its maker holds a lock on it: a
//! hidden file without a lock is what a killed maker left, and [`sweep`] removes it.

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, linkat, open, renameat_with,
    unlink,
};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What the names of incomplete files begin with.
const HIDDEN: &str = ".cenote-new-";
/// The mode while a file is incomplete.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file under construction.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// Its hidden name; `None` if it has no name at all.
    hidden: Option<HiddenName>,
}

/// A name that goes when the value is dropped.
#[derive(Debug)]
struct HiddenName(PathBuf);

impl Drop for HiddenName {
    fn drop(&mut self) {
        // After publishing there is nothing under it any more.
        let _ = unlink(&self.0);
    }
}

impl NewFile {
    /// A new file that will appear in this folder, without a name where the file system can do that.
    pub fn create(folder: &Path) -> io::Result<NewFile> {
        match open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, PRIVATE) {
            Ok(fd) => Ok(NewFile { file: fd.into(), hidden: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                NewFile::create_hidden(folder)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A new file that will appear in this folder, with a hidden name that a tool can be given.
    pub fn create_hidden(folder: &Path) -> io::Result<NewFile> {
        loop {
            let path = folder.join(hidden_name()?);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            match open(&path, flags, PRIVATE) {
                Ok(fd) => {
                    let new = NewFile { file: fd.into(), hidden: Some(HiddenName(path)) };
                    match flock(&new.file, FlockOperation::NonBlockingLockExclusive) {
                        Ok(()) if fstat(&new.file)?.st_nlink > 0 => return Ok(new),
                        // A sweep was faster.
                        Ok(()) | Err(Errno::WOULDBLOCK) => {}
                        // Without locks (some network file systems) a sweep cannot tell; it then removes nothing.
                        Err(_) => return Ok(new),
                    }
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The hidden name.
    pub fn path(&self) -> Option<&Path> {
        self.hidden.as_ref().map(|hidden| hidden.0.as_path())
    }

    /// Gives it its name. Fails with `AlreadyExists` if that is taken; nothing is ever replaced.
    pub fn publish(self, path: &Path) -> io::Result<File> {
        let NewFile { file, hidden } = self;
        let Some(hidden) = hidden else {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            return Ok(file);
        };
        match renameat_with(CWD, &hidden.0, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => linkat(CWD, &hidden.0, CWD, path, AtFlags::empty())?,
            Err(e) => return Err(e.into()),
        }
        let _ = flock(&file, FlockOperation::Unlock);
        Ok(file)
    }
}

fn hidden_name() -> io::Result<String> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(format!("{HIDDEN}{:016x}", u64::from_ne_bytes(random)))
}

/// True for the name of an incomplete file.
pub fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(HIDDEN.as_bytes())
}

/// Removes an incomplete file if its maker is gone.
pub fn sweep(path: &Path) {
    // What others put there under such a name, a pipe maybe, must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = open(path, flags, Mode::empty()) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = unlink(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        for create in [NewFile::create, NewFile::create_hidden] {
            let new = create(folder.path()).unwrap();
            new.file().write_all(b"content").unwrap();
            assert!(names(folder.path()).iter().all(|name| is_hidden(name.as_bytes())));
            let path = folder.path().join("name");
            new.publish(&path).unwrap();
            assert_eq!(names(folder.path()), ["name"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"content");

            let error = create(folder.path()).unwrap().publish(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&path).unwrap(), b"content");
            assert_eq!(names(folder.path()), ["name"]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_a_killed_maker_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let busy = NewFile::create_hidden(folder.path()).unwrap();
        sweep(busy.path().unwrap());
        assert_eq!(names(folder.path()).len(), 1);
        let left = folder.path().join(".cenote-new-0123456789abcdef");
        std::fs::write(&left, b"half").unwrap();
        sweep(&left);
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_pipe_under_a_hidden_name_does_not_hold_us_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join(".cenote-new-pipe");
        rustix::fs::mkfifoat(CWD, &pipe, PRIVATE).unwrap();
        sweep(&pipe);
    }

    #[test]
    fn makers_and_sweepers_do_not_hinder_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..2)
                .map(|maker| {
                    scope.spawn(move || {
                        for i in 0..300 {
                            let new = NewFile::create_hidden(path).unwrap();
                            new.publish(&path.join(format!("{maker}-{i}"))).unwrap();
                        }
                    })
                })
                .collect();
            while makers.iter().any(|maker| !maker.is_finished()) {
                names(path)
                    .iter()
                    .filter(|name| is_hidden(name.as_bytes()))
                    .for_each(|name| sweep(&path.join(name)));
            }
        });
        assert_eq!(names(path).len(), 600);
    }
}
