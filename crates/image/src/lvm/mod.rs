//! What a physical volume of LVM2 says of its volume group: its label, the area of the metadata, and the text in it, as
//! lib/format_text of the LVM2 sources has them.

mod text;

use crate::bytes::Bytes;
use crate::{ReadAt, Result, read_full_at};

/// A label is in one of the first sectors.
const LABELS: u64 = 4;
const SECTOR: u64 = 512;
/// Metadata that is longer is none that any tool makes.
const MAX_TEXT: u64 = 64 << 20;
const MAGIC: &[u8] = b"\x20LVM2\x20x[5A%r0N*>";
/// With which LVM's checksums begin.
const CHECKSUM: u32 = 0xf597_a6cf;

/// A physical volume, and what is written on it of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// LVM's identifier of the device, without dashes.
    pub id: String,
    /// The group.
    pub group: Group,
}

/// A volume group of which all can be told without LVM: it is whole, and this machine's own, and all volumes in it are
/// linear or striped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How often it has been changed.
    pub sequence: u64,
    /// The size of an extent in bytes.
    pub extent_size: u64,
    /// What it is made of.
    pub devices: Vec<Device>,
    /// Its logical volumes.
    pub volumes: Vec<Volume>,
}

/// A device of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// LVM's identifier of it, without dashes.
    pub id: String,
    /// Where it was when the group was changed last.
    pub path: Option<String>,
    /// How many extents it has.
    pub extents: u64,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// LVM's identifier of it.
    pub id: String,
    /// Its pieces in their order.
    pub segments: Vec<Segment>,
}

/// A piece of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its parts, all of one length, between which its content takes turns.
    pub stripes: Vec<Stripe>,
}

/// A part of a segment, in extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripe {
    /// Which of the group's devices it is on.
    pub device: usize,
    /// Where it begins.
    pub first: u64,
    /// How long it is.
    pub length: u64,
}

/// Reads the group of the physical volume that this is; `None` if it is none, or the group is not plain, or not as it
/// should be.
pub fn read(disk: &(impl ReadAt + ?Sized)) -> Result<Option<Member>> {
    for sector in 0..LABELS {
        let mut label = [0; SECTOR as usize];
        if read_full_at(disk, &mut label, sector * SECTOR)? < label.len() {
            return Ok(None);
        }
        if label.starts_with(b"LABELONE") {
            let Some((id, area)) = places(&label) else { return Ok(None) };
            let text = text(disk, area)?;
            return Ok(text.and_then(|text| Some(Member { id, group: self::text::group(&text)? })));
        }
    }
    Ok(None)
}

/// The identifier of the device, and where the first area with metadata is, in bytes.
fn places(label: &[u8]) -> Option<(String, u64)> {
    let label = Bytes::new(label);
    if label.at(24, 8)? != b"LVM2 001" {
        return None;
    }
    // A UUID and the device's size, then places of data up to an empty one, then places of metadata.
    let header = usize::try_from(label.le32(20)?).ok()?;
    let id = std::str::from_utf8(label.at(header, 32)?).ok()?;
    let mut at = header.checked_add(40)?;
    while label.le64(at)? != 0 {
        at = at.checked_add(16)?;
    }
    let area = label.le64(at.checked_add(16)?).filter(|area| *area != 0)?;
    Some((id.to_owned(), area))
}

/// The text that is valid now. It goes round in its area, behind the header.
fn text(disk: &(impl ReadAt + ?Sized), area: u64) -> Result<Option<Vec<u8>>> {
    let mut header = [0; SECTOR as usize];
    if read_full_at(disk, &mut header, area)? < header.len() || header[4..20] != *MAGIC {
        return Ok(None);
    }
    let fields = Bytes::new(&header);
    let (Some(size), Some(from), Some(length), Some(expected)) =
        (fields.le64(32), fields.le64(40), fields.le64(48), fields.le32(56))
    else {
        return Ok(None);
    };
    if from < SECTOR || from >= size || length > MAX_TEXT || length > size - SECTOR {
        return Ok(None);
    }
    let mut text = vec![0; length as usize];
    let (first, rest) = text.split_at_mut((size - from).min(length) as usize);
    let read = read_full_at(disk, first, area.saturating_add(from))?
        + read_full_at(disk, rest, area.saturating_add(SECTOR))?;
    Ok((read == text.len() && checksum(&text) == expected).then_some(text))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!CHECKSUM);
    hasher.update(bytes);
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_nonsense() {
        assert_eq!(read(&[0; 4096][..]).unwrap(), None);
        assert_eq!(read(&b"LABELONE"[..]).unwrap(), None);
        let mut label = vec![0xff; 4096];
        label[..8].copy_from_slice(b"LABELONE");
        label[24..32].copy_from_slice(b"LVM2 001");
        assert_eq!(read(&label[..]).unwrap(), None);
    }
}
