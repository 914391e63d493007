//! VMDK, after VMware's "Virtual Disk Format 5.0": sparse extents, and descriptors that name extents.

use super::{BackingName, Facts};
use crate::bytes::Bytes;
use crate::{ReadAt, read_full_at};
use cenote_model::format::ImageFormat;
use std::io;

/// The longest descriptor that is read.
const MAX_DESCRIPTOR: usize = 64 << 10;

pub(super) fn is_descriptor(head: &Bytes<'_>) -> bool {
    head.starts_with(b"# Disk DescriptorFile")
}

pub(super) fn describe(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Vmdk);
    let (offset, length) = if is_descriptor(head) {
        (0, MAX_DESCRIPTOR as u64)
    } else {
        facts.capacity = head.le64(12).and_then(|sectors| sectors.checked_mul(512));
        facts.cluster_size = head.le64(20).and_then(|sectors| sectors.checked_mul(512));
        let sectors = |at| head.le64(at).unwrap_or(0).saturating_mul(512);
        (sectors(28), sectors(36))
    };
    let mut descriptor = vec![0u8; length.min(MAX_DESCRIPTOR as u64) as usize];
    let length = read_full_at(image, &mut descriptor, offset)?;
    let descriptor = descriptor[..length].split(|c| *c == 0).next().unwrap_or_default();
    let descriptor = String::from_utf8_lossy(descriptor);
    if is_descriptor(head) {
        facts.capacity = extents(&descriptor);
    }
    facts.backing = descriptor
        .lines()
        .find_map(|line| line.strip_prefix("parentFileNameHint=\"")?.strip_suffix('"'))
        .filter(|name| !name.is_empty())
        .map(|name| BackingName { name: name.to_owned(), format: None });
    Ok(facts)
}

/// The sizes of all extents: `RW 2097152 FLAT "disk-flat.vmdk" 0`.
fn extents(descriptor: &str) -> Option<u64> {
    let mut total = None;
    for line in descriptor.lines() {
        let mut words = line.split_ascii_whitespace();
        if !matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) {
            continue;
        }
        let sectors: u64 = words.next()?.parse().ok()?;
        total = Some(sectors.checked_mul(512)?.checked_add(total.unwrap_or(0))?);
    }
    total
}
