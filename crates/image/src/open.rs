//! Opening what somebody else named.

use rustix::fs::OFlags;
use std::fs::{File, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens an image for reading. What is neither a regular file nor a block device is refused: a pipe must not hold us
/// up, and a device may do something when it is opened.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    check_kind(path, std::fs::metadata(path)?.file_type())?;
    // Something else may have taken its place meanwhile.
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    check_kind(path, file.metadata()?.file_type())?;
    Ok(file)
}

pub(crate) fn check_kind(path: &Path, kind: FileType) -> io::Result<()> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("'{}' is neither a regular file nor a block device", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn a_pipe_does_not_hold_us_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(open(&pipe).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(crate::backing::chain(&pipe).is_err());
        assert!(open(Path::new("/dev/zero")).is_err());
        assert!(open(folder.path()).is_err());
    }
}
