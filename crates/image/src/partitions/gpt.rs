use super::{Partition, Purpose, Role, Table, TableKind};
use crate::bytes::Bytes;
use crate::{Error, ReadAt, Result, read_full_at};

const MAGIC: &[u8] = b"EFI PART";
/// More entries than any tool makes, in bytes.
const MAX_ENTRIES: u64 = 1 << 20;

/// Types of partition, as they are on the disk.
const LINUX: [u8; 16] = guid(0x0fc6_3daf, 0x8483, 0x4772, 0x8e79_3d69_d847_7de4);
const LINUX_SWAP: [u8; 16] = guid(0x0657_fd6d, 0xa4ab, 0x43c4, 0x84e5_0933_c84b_4f4f);
const LINUX_LVM: [u8; 16] = guid(0xe6d6_d379, 0xf507, 0x44c2, 0xa23c_238f_2a3d_f928);
const LINUX_RAID: [u8; 16] = guid(0xa19d_880f, 0x05fc, 0x4d3b, 0xa006_743f_0f84_911e);

/// Reads the first header, or if it is damaged the second one, at the end of the disk.
pub(super) fn read(disk: &(impl ReadAt + ?Sized), sector: u64) -> Result<Option<Table>> {
    let size = disk.size()?;
    let last = (size / sector).saturating_sub(1);
    let first = read_at(disk, sector, 1, size);
    match first {
        Ok(None) | Err(Error::Damaged(_)) => match read_at(disk, sector, last, size) {
            Ok(Some(table)) if is_protected(disk)? => Ok(Some(table)),
            // The second one is left when something else is put over the first.
            _ => first,
        },
        other => other,
    }
}

/// True if the disk's first sector says that there is a GPT.
fn is_protected(disk: &(impl ReadAt + ?Sized)) -> Result<bool> {
    let mut first = [0; 512];
    let length = read_full_at(disk, &mut first, 0)?;
    Ok(length == first.len()
        && first[510..] == [0x55, 0xaa]
        && (0..4).any(|n| first[446 + 16 * n + 4] == 0xee))
}

fn read_at(
    disk: &(impl ReadAt + ?Sized),
    sector: u64,
    header_sector: u64,
    size: u64,
) -> Result<Option<Table>> {
    let mut header = vec![0; sector as usize];
    let length = read_full_at(disk, &mut header, header_sector.saturating_mul(sector))?;
    let header = &mut header[..length];
    if !header.starts_with(MAGIC) {
        return Ok(None);
    }
    let damaged = |what: &str| Error::Damaged(format!("the GPT is damaged: {what}"));
    let fields = Bytes::new(header);
    let missing = || damaged("its header is cut off");
    let header_size = fields.le32(12).ok_or_else(missing)? as usize;
    let checksum = fields.le32(16).ok_or_else(missing)?;
    let (first_usable, last_usable) =
        (fields.le64(40).ok_or_else(missing)?, fields.le64(48).ok_or_else(missing)?);
    let (entries_at, count) = (fields.le64(72).ok_or_else(missing)?, fields.le32(80).ok_or_else(missing)?);
    let (entry_size, entries_checksum) =
        (fields.le32(84).ok_or_else(missing)?, fields.le32(88).ok_or_else(missing)?);
    if !(92..=length).contains(&header_size) {
        return Err(damaged("its header has no size that can be"));
    }
    header[16..20].fill(0);
    if crc32fast::hash(&header[..header_size]) != checksum {
        return Err(damaged("its header's checksum is wrong"));
    }
    let entries_size = u64::from(count).saturating_mul(u64::from(entry_size));
    if entry_size < 128 || !entry_size.is_multiple_of(8) || entries_size > MAX_ENTRIES {
        return Err(damaged("its entries have no size that can be"));
    }
    let mut entries = vec![0; entries_size as usize];
    let length = read_full_at(disk, &mut entries, entries_at.saturating_mul(sector))?;
    if length < entries.len() || crc32fast::hash(&entries) != entries_checksum {
        return Err(damaged("the checksum of its entries is wrong"));
    }
    let bytes = |first: u64, last: u64| -> Option<std::ops::Range<u64>> {
        let end = last.checked_add(1)?.checked_mul(sector)?;
        let start = first.checked_mul(sector)?;
        (start < end && end <= size).then_some(start..end)
    };
    let usable = bytes(first_usable, last_usable).ok_or_else(|| damaged("it is for a larger disk"))?;
    let partitions = entries
        .chunks_exact(entry_size as usize)
        .zip(1..)
        .filter_map(|(entry, number)| {
            let fields = Bytes::new(entry);
            let kind: [u8; 16] = fields.at(0, 16)?.try_into().ok()?;
            let bytes = bytes(fields.le64(32)?, fields.le64(40)?)?;
            (kind != [0; 16]).then(|| Partition {
                number,
                role: Role::Primary,
                purpose: purpose(kind),
                bytes,
            })
        })
        .collect();
    Ok(Some(Table { kind: TableKind::Gpt, usable, partitions, chain: Vec::new() }))
}

fn purpose(kind: [u8; 16]) -> Purpose {
    match kind {
        LINUX => Purpose::Linux,
        LINUX_SWAP => Purpose::LinuxSwap,
        LINUX_LVM => Purpose::LinuxLvm,
        LINUX_RAID => Purpose::LinuxRaid,
        _ => Purpose::Other,
    }
}

/// A GUID as it is stored: the first three parts with their low bytes first, the rest as it is written.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}
