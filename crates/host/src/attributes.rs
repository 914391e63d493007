//! Attributes of files beyond mode and owner.

use rustix::fd::AsFd;
use rustix::fs::{IFlags, XattrFlags, fgetxattr, fsetxattr, getxattr, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use std::io;
use std::path::Path;

const LABEL: &str = "security.selinux";
/// Labels are short; a longer one is none.
const MAX_LABEL: usize = 4096;

/// The security label of an open file, if it has one.
pub fn label(file: impl AsFd) -> io::Result<Option<String>> {
    read_label(|value| fgetxattr(file, LABEL, value))
}

/// The security label of what is at a path, if it has one, without opening it.
pub fn label_at(path: &Path) -> io::Result<Option<String>> {
    read_label(|value| getxattr(path, LABEL, value))
}

fn read_label(read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<String>> {
    let mut value = [0u8; MAX_LABEL];
    match read(&mut value) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&value[..length]);
            Ok(Some(text.trim_end_matches('\0').to_owned()).filter(|text| !text.is_empty()))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Sets the security label of an open file. The kernel keeps it as text with a NUL behind it.
pub fn set_label(file: impl AsFd, label: &str) -> io::Result<()> {
    let value: Vec<u8> = label.bytes().chain([0]).collect();
    Ok(fsetxattr(file, LABEL, &value, XattrFlags::empty())?)
}

/// Whether the blocks of a file are copied on write. Files in a directory inherit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOnWrite {
    /// As the file system does by itself.
    On,
    /// Blocks are written in place.
    Off,
}

/// Sets it; the file must be empty. Where the file system copies nothing on write anyway, there is nothing to do.
pub fn set_copy_on_write(file: impl AsFd, setting: CopyOnWrite) -> io::Result<()> {
    let flags = match ioctl_getflags(&file) {
        Ok(flags) => flags,
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let wanted = match setting {
        CopyOnWrite::On => flags - IFlags::NOCOW,
        CopyOnWrite::Off => flags | IFlags::NOCOW,
    };
    if wanted == flags {
        return Ok(());
    }
    match ioctl_setflags(&file, wanted) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What [`set_copy_on_write`] set.
pub fn copy_on_write(file: impl AsFd) -> io::Result<CopyOnWrite> {
    match ioctl_getflags(file) {
        Ok(flags) if flags.contains(IFlags::NOCOW) => Ok(CopyOnWrite::Off),
        Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(CopyOnWrite::On),
        Err(e) => Err(e.into()),
    }
}
