use super::{Partition, Purpose, Role, Table, TableKind};
use crate::bytes::Bytes;
use crate::{ReadAt, Result, read_full_at};
use std::ops::Range;

/// The kernel looks no further along the chain either.
const MAX_LOGICAL: u32 = 128;
/// Logical partitions are numbered from here.
const FIRST_LOGICAL: u32 = 5;

/// One of the four entries of a table, in sectors.
struct Entry {
    kind: u8,
    start: u64,
    length: u64,
}

pub(super) fn read(disk: &(impl ReadAt + ?Sized), sector: u64) -> Result<Option<Table>> {
    let size = disk.size()?;
    let Some(entries) = entries(disk, 0)? else { return Ok(None) };
    let mut table = Table {
        kind: TableKind::Dos,
        usable: sector..size - size % sector,
        partitions: Vec::new(),
        chain: Vec::new(),
    };
    let bytes = |start: u64, length: u64| -> Option<Range<u64>> {
        let end = start.checked_add(length)?.checked_mul(sector)?;
        (length > 0 && start > 0 && end <= size).then_some(start * sector..end)
    };
    for (entry, number) in entries.iter().zip(1..) {
        let Some(found) = bytes(entry.start, entry.length) else { continue };
        if entry.kind == 0 {
            continue;
        }
        let role = if is_extended(entry.kind) { Role::Extended } else { Role::Primary };
        table.partitions.push(Partition { number, role, purpose: purpose(entry.kind), bytes: found });
    }
    let extended = entries.iter().find(|entry| is_extended(entry.kind) && entry.length > 0);
    if let Some(extended) = extended {
        let mut link = extended.start;
        for number in FIRST_LOGICAL..FIRST_LOGICAL + MAX_LOGICAL {
            let Some(own) = bytes(link, 1) else { break };
            let Some(entries) = self::entries(disk, own.start)? else { break };
            table.chain.push(own);
            let logical = entries.iter().find(|entry| entry.kind != 0 && !is_extended(entry.kind));
            let found =
                logical.and_then(|entry| Some((entry, bytes(link.checked_add(entry.start)?, entry.length)?)));
            if let Some((entry, bytes)) = found {
                let purpose = purpose(entry.kind);
                table.partitions.push(Partition { number, role: Role::Logical, purpose, bytes });
            }
            let next = entries.iter().find(|entry| is_extended(entry.kind) && entry.length > 0);
            match next.and_then(|next| extended.start.checked_add(next.start)) {
                Some(next) if next > extended.start => link = next,
                _ => break,
            }
        }
    }
    Ok(Some(table))
}

/// The entries in a sector; `None` if it is no table: the first sector of a file system ends like one.
fn entries(disk: &(impl ReadAt + ?Sized), offset: u64) -> Result<Option<[Entry; 4]>> {
    let mut bytes = [0; 512];
    if read_full_at(disk, &mut bytes, offset)? < bytes.len() || bytes[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    let is_something_else = &bytes[3..11] == b"NTFS    "
        || &bytes[3..11] == b"EXFAT   "
        || &bytes[54..57] == b"FAT"
        || &bytes[82..87] == b"FAT32"
        // PC-98 has its table elsewhere.
        || &bytes[4..8] == b"IPL1";
    let entry = |number: usize| {
        let fields = Bytes::new(&bytes[446 + 16 * number..][..16]);
        Entry {
            kind: fields.u8(4).unwrap_or(0),
            start: fields.le32(8).unwrap_or(0).into(),
            length: fields.le32(12).unwrap_or(0).into(),
        }
    };
    let has_good_flags = (0..4).all(|number| bytes[446 + 16 * number] & 0x7f == 0);
    Ok((has_good_flags && !is_something_else).then(|| [0, 1, 2, 3].map(entry)))
}

fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

fn purpose(kind: u8) -> Purpose {
    match kind {
        0x83 => Purpose::Linux,
        0x04 | 0x06 | 0x0e => Purpose::Fat16,
        0x0b | 0x0c => Purpose::Fat32,
        0x82 => Purpose::LinuxSwap,
        0x8e => Purpose::LinuxLvm,
        0xfd => Purpose::LinuxRaid,
        _ => Purpose::Other,
    }
}
