//! What the file system says of files and of itself.

use cenote_model::permissions::Permissions;
use cenote_model::pool::Usage;
use cenote_model::volume::{Timestamp, Timestamps};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, major, minor, statvfs, statx};
use std::io;
use std::path::Path;

/// What is known of an open file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Regular, directory, …
    pub kind: FileType,
    /// The size in bytes.
    pub size: u64,
    /// The bytes that it takes.
    pub allocated: u64,
    /// Mode, owner, group; no label.
    pub permissions: Permissions,
    /// Its times.
    pub timestamps: Timestamps,
}

/// Asks about an open file.
pub fn stat(file: impl AsFd) -> io::Result<FileStat> {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    Ok(FileStat::from(&found))
}

/// Asks about the file of this name in a folder, or that a link of this name leads to, without opening it. Of a file on
/// another machine that machine is asked.
pub fn stat_at(folder: impl AsFd, name: &Path) -> io::Result<FileStat> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let found = statx(folder, name, AtFlags::STATX_FORCE_SYNC, wanted)?;
    Ok(FileStat::from(&found))
}

/// The major and minor number of the block device at a path, or that a link there leads to; `None` if there is none.
pub fn device_number(path: &Path) -> Option<(u32, u32)> {
    let found = rustix::fs::stat(path).ok()?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    is_device.then(|| (major(found.st_rdev), minor(found.st_rdev)))
}

impl From<&Statx> for FileStat {
    fn from(found: &Statx) -> FileStat {
        let mode = u32::from(found.stx_mode);
        let has_btime = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        FileStat {
            kind: FileType::from_raw_mode(mode),
            size: found.stx_size,
            allocated: found.stx_blocks.saturating_mul(512),
            permissions: Permissions {
                mode: Some(mode & 0o777),
                owner: Some(found.stx_uid),
                group: Some(found.stx_gid),
                label: None,
            },
            timestamps: Timestamps {
                atime: timestamp(&found.stx_atime),
                mtime: timestamp(&found.stx_mtime),
                ctime: timestamp(&found.stx_ctime),
                btime: has_btime.then(|| timestamp(&found.stx_btime)),
            },
        }
    }
}

fn timestamp(time: &StatxTimestamp) -> Timestamp {
    Timestamp { seconds: u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds: time.tv_nsec }
}

/// The room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The whole.
    pub capacity: u64,
    /// What is free.
    pub free: u64,
}

impl Space {
    /// The same as a pool has it.
    pub fn usage(self) -> Usage {
        Usage {
            capacity: self.capacity,
            allocation: self.capacity.saturating_sub(self.free),
            available: self.free,
        }
    }
}

/// The room on the file system that holds this path.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    Ok(Space {
        capacity: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bfree.saturating_mul(found.f_frsize),
    })
}
