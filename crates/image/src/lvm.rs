//! What a physical volume of LVM2 says of its volume group: its label, the area of the metadata, and the text in it, as
//! lib/format_text of the LVM2 sources has them.

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

/// The state of a volume group, as one of its physical volumes has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The group's name.
    pub group: String,
    /// When it was changed last, in seconds since 1970.
    pub changed: u64,
}

/// Reads it; `None` if there is none, or it is not as it should be.
pub fn read(disk: &(impl ReadAt + ?Sized)) -> Result<Option<Metadata>> {
    for sector in 0..LABELS {
        let mut label = [0; SECTOR as usize];
        if read_full_at(disk, &mut label, sector * SECTOR)? < label.len() {
            return Ok(None);
        }
        if label.starts_with(b"LABELONE") {
            let text = area(&label).map_or(Ok(None), |area| text(disk, area))?;
            return Ok(text.as_deref().and_then(parse));
        }
    }
    Ok(None)
}

/// Where the first area with metadata is, in bytes.
fn area(label: &[u8]) -> Option<u64> {
    let label = Bytes::new(label);
    if label.at(24, 8)? != b"LVM2 001" {
        return None;
    }
    // A UUID and the device's size, then places of data up to an empty one, then places of metadata.
    let mut at = usize::try_from(label.le32(20)?).ok()?.checked_add(40)?;
    while label.le64(at)? != 0 {
        at = at.checked_add(16)?;
    }
    label.le64(at.checked_add(16)?).filter(|area| *area != 0)
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

fn parse(text: &[u8]) -> Option<Metadata> {
    let text = std::str::from_utf8(text).ok()?;
    let (group, _) = text.split_once(" {")?;
    // At the end, outside of the group.
    let (_, time) = text.rsplit_once("\ncreation_time = ")?;
    let digits = time.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Metadata { group: group.to_owned(), changed: digits.parse().ok()? })
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
        assert_eq!(parse(b"vg {\nid = \"x\"\n}\n\ncreation_time = 17\t# then\n").unwrap().changed, 17);
        assert_eq!(parse(b"vg {\n}\n"), None);
    }
}
