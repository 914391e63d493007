//! What a disk is divided into: GPT and DOS tables are read here, the others by parted(8).

use cenote_image::partitions::{Area, Partition, Purpose, Role, Table, TableKind};
use cenote_model::format::PartitionTable;
use cenote_model::{Code, Error, Result};
use std::ops::Range;

/// A disk with a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The table.
    pub table: PartitionTable,
    /// The partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// What none of them has, in bytes, in the order of the disk.
    pub free: Vec<(Area, Range<u64>)>,
}

impl From<Table> for Layout {
    fn from(table: Table) -> Layout {
        let kind = match table.kind {
            TableKind::Gpt => PartitionTable::Gpt,
            TableKind::Dos => PartitionTable::Dos,
        };
        Layout { table: kind, free: table.free(), partitions: table.partitions }
    }
}

/// What `parted -sm DEVICE unit B print free` prints; `None` where parted knows no table.
pub fn of_parted(printed: &str) -> Result<Option<Layout>> {
    let strange = || Error::new(Code::Internal, format!("parted tells of a disk that cannot be: {printed}"));
    let bytes = |field: &str| field.strip_suffix('B').and_then(|number| number.parse::<u64>().ok());
    let mut rows = printed.lines().map(|row| row.trim_end_matches(';'));
    if rows.next() != Some("BYT") {
        return Err(strange());
    }
    // The disk's path, which may have colons, then its size, how it is connected, two sizes of sectors, and the table.
    let disk = rows.next().ok_or_else(strange)?;
    let label = disk.split(':').skip_while(|field| bytes(field).is_none()).nth(4).ok_or_else(strange)?;
    let Some(table) = table(label) else { return Ok(None) };
    let mut layout = Layout { table, partitions: Vec::new(), free: Vec::new() };
    for row in rows {
        let fields: Vec<_> = row.split(':').collect();
        let [number, first, last, _size, kind, rest @ ..] = fields.as_slice() else { return Err(strange()) };
        let (Ok(number), Some(first), Some(last)) = (number.parse(), bytes(first), bytes(last)) else {
            return Err(strange());
        };
        let range = first..last.checked_add(1).filter(|end| first < *end).ok_or_else(strange)?;
        match (*kind, rest) {
            // The first sector is the table's own.
            ("free", []) => layout.free.push((Area::Disk, range.start.max(512)..range.end)),
            // The map itself.
            (_, ["Apple", ..]) if table == PartitionTable::Mac => {}
            (file_system, _) => layout.partitions.push(Partition {
                number,
                // The volume header takes no space that others could have.
                role: if table == PartitionTable::Dvh && number == 9 {
                    Role::Extended
                } else {
                    Role::Primary
                },
                purpose: purpose(file_system),
                bytes: range,
            }),
        }
    }
    layout.free.retain(|(_, gap)| !gap.is_empty());
    Ok(Some(layout))
}

/// The bytes of a cylinder, in what `parted -sm DEVICE unit cyl print` prints: in the third line are cylinders, heads and
/// sectors of 512 bytes.
pub fn cylinder(printed: &str) -> Option<u64> {
    let mut numbers = printed.lines().nth(2)?.split(':').skip(1).map(|number| number.parse::<u64>().ok());
    let (heads, sectors) = (numbers.next()??, numbers.next()??);
    heads.checked_mul(sectors)?.checked_mul(512).filter(|bytes| *bytes > 0)
}

fn table(label: &str) -> Option<PartitionTable> {
    match label {
        // A file system on the whole disk.
        "loop" => None,
        "msdos" => Some(PartitionTable::Dos),
        other => PartitionTable::from_name(other).filter(|table| *table != PartitionTable::Unknown),
    }
}

fn purpose(file_system: &str) -> Purpose {
    match file_system {
        "fat16" => Purpose::Fat16,
        "fat32" => Purpose::Fat32,
        _ if file_system.starts_with("linux-swap") => Purpose::LinuxSwap,
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" => Purpose::Linux,
        _ => Purpose::Other,
    }
}

impl Layout {
    /// The whole that can be divided, what data partitions have of it, and what is free.
    pub fn usage(&self) -> cenote_model::pool::Usage {
        let total = |ranges: &mut dyn Iterator<Item = &Range<u64>>| {
            ranges.fold(0u64, |sum, range| sum.saturating_add(range.end - range.start))
        };
        let ends =
            self.partitions.iter().map(|p| p.bytes.end).chain(self.free.iter().map(|(_, gap)| gap.end));
        let data = self.partitions.iter().filter(|partition| partition.role != Role::Extended);
        let (mut data, mut free) =
            (data.map(|partition| &partition.bytes), self.free.iter().map(|(_, gap)| gap));
        cenote_model::pool::Usage {
            capacity: ends.max().unwrap_or(0),
            allocation: total(&mut data),
            available: total(&mut free),
        }
    }

    /// What the next partition will be.
    pub fn next_role(&self) -> Result<Role> {
        let count = |role| self.partitions.iter().filter(|partition| partition.role == role).count();
        match (self.table, count(Role::Primary) + count(Role::Extended), count(Role::Extended)) {
            (PartitionTable::Dos, 4.., 0) => Err(Error::new(
                Code::Internal,
                "no extended partition found and no primary partition available",
            )),
            (PartitionTable::Dos, 4.., _) => Ok(Role::Logical),
            _ => Ok(Role::Primary),
        }
    }

    /// The number that a new partition gets.
    pub fn next_number(&self, role: Role) -> u32 {
        let from = if role == Role::Logical { 5 } else { 1 };
        // The map itself, and the whole disk.
        let is_reserved =
            |number| matches!((self.table, number), (PartitionTable::Mac, 1) | (PartitionTable::Sun, 3));
        let is_taken = |number| self.partitions.iter().any(|partition| partition.number == number);
        (from..).find(|number| !is_reserved(*number) && !is_taken(*number)).unwrap_or(from)
    }

    /// The smallest place for so many bytes, which begins at a multiple of `align`.
    pub fn place(&self, role: Role, length: u64, align: u64) -> Result<Range<u64>> {
        let area = if role == Role::Logical { Area::Extended } else { Area::Disk };
        let fitting = self.free.iter().filter(|(of, _)| *of == area).filter_map(|(_, gap)| {
            // Each logical partition has a sector of the table before it.
            let from = if role == Role::Logical { gap.start.checked_add(512)? } else { gap.start };
            let start = from.checked_next_multiple_of(align)?;
            let end = start.checked_add(length)?;
            (end <= gap.end).then_some((gap.end - gap.start, start..end))
        });
        let smallest = fitting.min_by_key(|(size, _)| *size);
        smallest.map(|(_, place)| place).ok_or_else(|| {
            Error::new(
                Code::Internal,
                format!("no large enough free extent: {length} bytes are needed in one piece"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parted_prints_of_every_table() {
        let read = |printed| of_parted(printed).unwrap().unwrap();
        let gpt = read(include_str!("../../tests/golden/parted-gpt"));
        assert_eq!((gpt.table, gpt.partitions.len(), gpt.free.len()), (PartitionTable::Gpt, 2, 3));
        assert_eq!(gpt.usage().capacity, 104_840_704);
        let mac = read(include_str!("../../tests/golden/parted-mac"));
        assert_eq!((mac.table, mac.partitions.len(), mac.partitions[0].number), (PartitionTable::Mac, 1, 2));
        let sun = read(include_str!("../../tests/golden/parted-sun"));
        assert_eq!((sun.table, sun.free[0].1.start), (PartitionTable::Sun, 512));
        let dvh = read(include_str!("../../tests/golden/parted-dvh"));
        assert_eq!((dvh.table, dvh.usage().allocation), (PartitionTable::Dvh, 0));
        assert_eq!(read(include_str!("../../tests/golden/parted-bsd")).table, PartitionTable::Bsd);
        assert_eq!(read(include_str!("../../tests/golden/parted-pc98")).table, PartitionTable::Pc98);
    }

    #[test]
    fn what_makes_no_sense() {
        assert_eq!(of_parted("BYT;\n/dev/loop3:1B:x:512:512:unknown:x:;\n").unwrap(), None);
        assert_eq!(of_parted("BYT;\n/dev/loop3:1B:x:512:512:loop:x:;\n1:0B:1B:2B:ext4::;\n").unwrap(), None);
        for wrong in [
            "",
            "BYT;\n",
            "BYT;\n/dev/sda:x",
            "BYT;\n/dev/sda:1B:x",
            "BYT;\n/dev/loop3:1B:x:512:512:gpt:x:;\n1:2:3;\n",
        ] {
            assert!(of_parted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cylinders() {
        let printed = "CYL;\n/dev/sda:8191cyl:file:512:512:sun::;\n8192:4:32:65.5kB;\n";
        assert_eq!(cylinder(printed), Some(65536));
        assert_eq!(cylinder("CYL;\nx\n8192:0:32:0B;\n"), None);
        assert_eq!(cylinder("CYL;\n"), None);
    }

    #[test]
    fn the_next_partition() {
        let mut dos = of_parted(include_str!("../../tests/golden/parted-msdos")).unwrap().unwrap();
        assert_eq!((dos.next_role().unwrap(), dos.next_number(Role::Primary)), (Role::Primary, 3));
        assert_eq!(dos.next_number(Role::Logical), 6);
        assert_eq!(dos.place(Role::Primary, 512, 1 << 20).unwrap(), 11 << 20..(11 << 20) + 512);
        assert!(dos.place(Role::Primary, 100 << 20, 1 << 20).is_err());
        assert!(dos.place(Role::Primary, u64::MAX, 1 << 20).is_err());
        let copy = dos.partitions[0].clone();
        dos.partitions.extend([3, 4].map(|number| Partition { number, ..copy.clone() }));
        assert_eq!(dos.next_role().unwrap_err().code, Code::Internal);
        dos.partitions[1].role = Role::Extended;
        assert_eq!(dos.next_role().unwrap(), Role::Logical);
    }
}
