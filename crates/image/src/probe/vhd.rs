//! Virtual PC's format (vpc) and its successor VHDX (vhd), after Microsoft's specifications.

use super::{BackingName, Facts};
use crate::bytes::Bytes;
use crate::{ReadAt, read_full_at};
use cenote_model::format::ImageFormat;
use std::io;

/// Makers of images whose size field counts; for all others, as in QEMU, the geometry does.
const SIZE_COUNTS: [&[u8]; 6] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"vs  ", b"wa\0\0"];
/// The geometry with all fields at their limit: the image is larger than it can say.
const MAX_GEOMETRY: u64 = 65535 * 16 * 255;

pub(super) fn vpc(head: &Bytes<'_>) -> Facts {
    let mut facts = Facts::of(ImageFormat::Vpc);
    let size = head.be64(48);
    let sectors = match (head.be16(56), head.u8(58), head.u8(59)) {
        (Some(c), Some(h), Some(s)) => Some(u64::from(c) * u64::from(h) * u64::from(s)),
        _ => None,
    };
    let by_size = head.at(28, 4).is_some_and(|maker| SIZE_COUNTS.contains(&maker));
    facts.capacity = match sectors {
        Some(sectors) if !by_size && sectors != MAX_GEOMETRY => Some(sectors * 512),
        _ => size,
    };
    // A block of a dynamic disk: its header follows the copy of the footer.
    facts.cluster_size = (head.at(512, 8) == Some(b"cxsparse"))
        .then(|| head.be32(512 + 32))
        .flatten()
        .map(u64::from)
        .filter(|size| size.is_power_of_two());
    facts
}

/// GUIDs as they stand on disk.
const METADATA_REGION: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, *b"\xb8\xfe\x57\x5f\x05\x0f\x88\x6e");
const FILE_PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, *b"\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b");
const VIRTUAL_DISK_SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, *b"\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8");
const PARENT_LOCATOR: [u8; 16] = guid(0xa8d3_5f2d, 0xb30b, 0x454d, *b"\xab\xf7\xd3\xd8\x48\x34\xab\x0c");

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

pub(super) fn vhdx(image: &(impl ReadAt + ?Sized)) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Vhd);
    let mut metadata = None;
    // The region table is kept twice.
    for offset in [192 << 10, 256 << 10] {
        metadata = metadata.or(metadata_region(image, offset)?);
    }
    let Some(metadata) = metadata else { return Ok(facts) };
    let mut table = vec![0u8; 64 << 10];
    let length = read_full_at(image, &mut table, metadata)?;
    let table = Bytes::new(&table[..length]);
    if !table.starts_with(b"metadata") {
        return Ok(facts);
    }
    let entries = table.at(10, 2).map_or(0, |n| usize::from(u16::from_le_bytes([n[0], n[1]])));
    for entry in (0..entries.min(2047)).map(|i| 32 + 32 * i) {
        let (Some(id), Some(offset), Some(length)) =
            (table.at(entry, 16), table.le32(entry + 16), table.le32(entry + 20))
        else {
            break;
        };
        let mut item = vec![0u8; (length as usize).min(64 << 10)];
        let Some(at) = metadata.checked_add(u64::from(offset)) else { break };
        let length = read_full_at(image, &mut item, at)?;
        let item = Bytes::new(&item[..length]);
        if id == VIRTUAL_DISK_SIZE {
            facts.capacity = item.le64(0);
        } else if id == FILE_PARAMETERS {
            facts.cluster_size = item.le32(0).map(u64::from);
        } else if id == PARENT_LOCATOR {
            facts.backing = parent(&item);
        }
    }
    Ok(facts)
}

fn metadata_region(image: &(impl ReadAt + ?Sized), offset: u64) -> io::Result<Option<u64>> {
    let mut table = vec![0u8; 64 << 10];
    let length = read_full_at(image, &mut table, offset)?;
    let table = Bytes::new(&table[..length]);
    if !table.starts_with(b"regi") {
        return Ok(None);
    }
    let entries = table.le32(8).unwrap_or(0).min(2047) as usize;
    Ok((0..entries)
        .map(|i| 16 + 32 * i)
        .find(|entry| table.at(*entry, 16) == Some(&METADATA_REGION))
        .and_then(|entry| table.le64(entry + 16)))
}

/// The parent's path, from the locator's keys and values in UTF-16.
fn parent(locator: &Bytes<'_>) -> Option<BackingName> {
    let count = locator.at(18, 2).map(|n| u16::from_le_bytes([n[0], n[1]]))?;
    let text = |offset: usize, length: usize| -> Option<String> {
        let (units, _) = locator.at(offset, length)?.as_chunks::<2>();
        String::from_utf16(&units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<_>>()).ok()
    };
    let short = |at: usize| locator.at(at, 2).map(|n| usize::from(u16::from_le_bytes([n[0], n[1]])));
    for entry in (0..usize::from(count)).map(|i| 20 + 12 * i) {
        let key = text(locator.le32(entry)? as usize, short(entry + 8)?)?;
        if matches!(key.as_str(), "relative_path" | "absolute_win32_path") {
            let name = text(locator.le32(entry + 4)? as usize, short(entry + 10)?)?;
            return Some(BackingName { name: name.replace('\\', "/"), format: None });
        }
    }
    None
}
