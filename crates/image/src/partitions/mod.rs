//! Partition tables: GPT, after the UEFI specification 2.10 (chapter 5), and DOS, with its chain of logical partitions.
//! What is on the disk is not believed: no entry leads beyond the device, and no chain goes on for ever.

mod dos;
mod gpt;

use crate::{Error, ReadAt, Result};
use std::ops::Range;

/// A table that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// GPT.
    Gpt,
    /// DOS, also called MBR.
    Dos,
}

/// What a partition is in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One like all others.
    Primary,
    /// One that holds logical ones.
    Extended,
    /// One in the extended one.
    Logical,
}

/// What a partition is for, as far as its table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A file system of Linux.
    Linux,
    /// FAT with 16 bits.
    Fat16,
    /// FAT with 32 bits.
    Fat32,
    /// Swap space of Linux.
    LinuxSwap,
    /// A physical volume of LVM.
    LinuxLvm,
    /// A member of a RAID of Linux.
    LinuxRaid,
    /// Anything else.
    Other,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as in the name of its device.
    pub number: u32,
    /// What it is in its table.
    pub role: Role,
    /// What it is for.
    pub purpose: Purpose,
    /// Its bytes on the disk.
    pub bytes: Range<u64>,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub kind: TableKind,
    /// The bytes that partitions may have.
    pub usable: Range<u64>,
    /// The partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// What the table itself takes of an extended partition.
    chain: Vec<Range<u64>>,
}

/// Where on a disk there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Outside an extended partition.
    Disk,
    /// In the extended partition.
    Extended,
}

/// Reads the table of a disk; `None` if there is none of these kinds. `sector` is what the disk calls a sector, in bytes.
pub fn read(disk: &(impl ReadAt + ?Sized), sector: u64) -> Result<Option<Table>> {
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(Error::Unsupported(format!("sectors of {sector} bytes are not supported")));
    }
    match gpt::read(disk, sector)? {
        Some(table) => Ok(Some(table)),
        None => dos::read(disk, sector),
    }
}

impl Table {
    /// What no partition has, in the order of the disk.
    pub fn free(&self) -> Vec<(Area, Range<u64>)> {
        let extended = self.partitions.iter().find(|partition| partition.role == Role::Extended);
        let (logical, others): (Vec<_>, Vec<_>) =
            self.partitions.iter().partition(|partition| partition.role == Role::Logical);
        let ranges = |partitions: Vec<&Partition>| partitions.into_iter().map(|p| p.bytes.clone()).collect();
        let outside = gaps(self.usable.clone(), ranges(others)).into_iter().map(|gap| (Area::Disk, gap));
        let inside = extended.map_or(Vec::new(), |extended| {
            let mut taken: Vec<_> = ranges(logical);
            taken.extend(self.chain.iter().cloned());
            gaps(extended.bytes.clone(), taken)
        });
        let mut free: Vec<_> = outside.chain(inside.into_iter().map(|gap| (Area::Extended, gap))).collect();
        free.sort_by_key(|(_, gap)| gap.start);
        free
    }
}

/// What of a range is left when others are taken of it.
fn gaps(range: Range<u64>, mut taken: Vec<Range<u64>>) -> Vec<Range<u64>> {
    taken.sort_by_key(|taken| taken.start);
    let mut left = Vec::new();
    let mut from = range.start;
    for taken in taken {
        if taken.start > from {
            left.push(from..taken.start.min(range.end));
        }
        from = from.max(taken.end);
    }
    if from < range.end {
        left.push(from..range.end);
    }
    left.retain(|gap| !gap.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        let left = |taken: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let taken = taken.iter().map(|(start, end)| *start..*end).collect();
            gaps(10..100, taken).into_iter().map(|gap| (gap.start, gap.end)).collect()
        };
        assert_eq!(left(&[(40, 50), (20, 30), (25, 35)]), [(10, 20), (35, 40), (50, 100)]);
        assert_eq!(left(&[(0, 10), (90, 200)]), [(10, 90)]);
        assert_eq!(left(&[(0, 200)]), []);
        assert_eq!(left(&[(200, 300)]), [(10, 100)]);
    }

    #[test]
    fn nothing_and_nonsense() {
        assert_eq!(read(&[][..], 512).unwrap(), None);
        assert_eq!(read(&[0; 4096][..], 512).unwrap(), None);
        assert!(read(&[0; 4096][..], 511).is_err());
    }
}
