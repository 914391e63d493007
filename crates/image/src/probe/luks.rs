//! LUKS on a raw image, after the LUKS1 and LUKS2 on-disk format specifications.

use super::Facts;
use crate::bytes::Bytes;
use crate::{ReadAt, read_full_at};
use cenote_model::encryption::EncryptionFormat;
use cenote_model::format::ImageFormat;
use std::io;

/// The largest JSON area of LUKS2.
const MAX_JSON: u64 = 4 << 20;

pub(super) fn raw(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Raw);
    if !head.starts_with(b"LUKS\xba\xbe") {
        return Ok(facts);
    }
    match head.be16(6) {
        Some(1) => {
            facts.encryption = Some(EncryptionFormat::Luks);
            facts.payload_offset = head.be32(104).map(|sectors| u64::from(sectors) * 512);
        }
        Some(2) => {
            facts.encryption = Some(EncryptionFormat::Luks2);
            facts.payload_offset = luks2_payload(image, head)?;
        }
        _ => return Ok(facts),
    }
    if let Some(payload) = facts.payload_offset {
        facts.capacity = image.size()?.checked_sub(payload);
    }
    Ok(facts)
}

/// LUKS2 describes its segments in JSON, which follows the binary header.
fn luks2_payload(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Option<u64>> {
    const BINARY: u64 = 4096;
    let Some(size) = head.be64(8).filter(|size| (BINARY..=MAX_JSON).contains(size)) else { return Ok(None) };
    let mut area = vec![0u8; (size - BINARY) as usize];
    let length = read_full_at(image, &mut area, BINARY)?;
    let text = area[..length].split(|c| *c == 0).next().unwrap_or_default();
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(text) else { return Ok(None) };
    let segments = json.get("segments").and_then(|segments| segments.as_object());
    let offsets = segments.into_iter().flat_map(|segments| segments.values());
    let offsets = offsets.filter_map(|segment| segment.get("offset")?.as_str()?.parse().ok());
    Ok(offsets.min())
}
