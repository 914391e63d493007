//! qcow and qcow2, after QEMU's docs/interop/qcow2.rst.

use super::{BackingName, Facts, read_name};
use crate::bytes::Bytes;
use crate::qcow2::{
    COMPATIBLE_LAZY_REFCOUNTS, EXTENSION_BACKING_FORMAT, EXTENSION_DATA_FILE, EXTENSION_END,
    INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_EXTENDED_L2, V2_HEADER,
};
use crate::{ReadAt, read_full_at};
use cenote_model::encryption::EncryptionFormat;
use cenote_model::format::{ImageFeature, ImageFormat};
use std::io;

/// The header's extensions end before the backing name, within the first cluster; a bound for damaged images.
const MAX_EXTENSIONS: usize = 64 << 10;

pub(super) fn qcow1(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Qcow);
    facts.capacity = head.be64(24);
    facts.cluster_size = cluster_size(head.u8(32).map(u32::from));
    if head.be32(36) == Some(1) {
        facts.encryption = Some(EncryptionFormat::Qcow);
    }
    facts.backing = backing_name(image, head)?.map(|name| BackingName { name, format: None });
    Ok(facts)
}

pub(super) fn qcow2(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Qcow2);
    facts.capacity = head.be64(24);
    facts.cluster_size = cluster_size(head.be32(20));
    facts.encryption = match head.be32(32) {
        Some(1) => Some(EncryptionFormat::Qcow),
        Some(2) => Some(EncryptionFormat::Luks),
        _ => None,
    };
    let is_v3 = head.be32(4) == Some(3);
    facts.compat = Some(if is_v3 { "1.1" } else { "0.10" });
    let header_length = if is_v3 { head.be32(100).unwrap_or(V2_HEADER) } else { V2_HEADER };
    if is_v3 {
        let (incompatible, compatible) = (head.be64(72).unwrap_or(0), head.be64(80).unwrap_or(0));
        let mut features = Vec::new();
        if compatible & COMPATIBLE_LAZY_REFCOUNTS != 0 {
            features.push(ImageFeature::LazyRefcounts);
        }
        if incompatible & INCOMPATIBLE_EXTENDED_L2 != 0 {
            features.push(ImageFeature::ExtendedL2);
        }
        if incompatible & INCOMPATIBLE_DATA_FILE != 0 {
            features.push(ImageFeature::DataFile);
        }
        facts.features = Some(features);
    }
    let extensions = Extensions::read(image, head, header_length)?;
    facts.data_file = extensions.data_file;
    facts.backing = backing_name(image, head)?.map(|name| BackingName {
        name,
        // A name that is no image format is a protocol's: what it gives is raw.
        format: extensions.backing_format.map(|format| match ImageFormat::from_name(&format) {
            None | Some(ImageFormat::None) => ImageFormat::Raw,
            Some(format) => format,
        }),
    });
    Ok(facts)
}

fn cluster_size(bits: Option<u32>) -> Option<u64> {
    bits.filter(|bits| (9..=21).contains(bits)).map(|bits| 1 << bits)
}

fn backing_name(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Option<String>> {
    match (head.be64(8), head.be32(16)) {
        (Some(offset), Some(length)) if offset != 0 => read_name(image, offset, u64::from(length)),
        _ => Ok(None),
    }
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<String>,
}

impl Extensions {
    fn read(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>, start: u32) -> io::Result<Extensions> {
        let mut found = Extensions::default();
        // They reach to the backing name at most, and to the end of the first cluster.
        let cluster = cluster_size(head.be32(20)).unwrap_or(512);
        let end = head.be64(8).filter(|offset| *offset != 0).unwrap_or(cluster).min(cluster);
        let length = end.saturating_sub(u64::from(start)).min(MAX_EXTENSIONS as u64) as usize;
        // Nearly always they are in what has been read already.
        let known = head.from(start as usize).filter(|known| found.parse(&Bytes::new(known), length));
        if known.is_none() {
            found = Extensions::default();
            let mut area = vec![0u8; length];
            let read = read_full_at(image, &mut area, u64::from(start))?;
            found.parse(&Bytes::new(&area[..read]), length);
        }
        Ok(found)
    }

    /// Reads the extensions in `area`, of which `length` bytes count. Says whether it holds all of them.
    fn parse(&mut self, area: &Bytes<'_>, length: usize) -> bool {
        let mut offset = 0usize;
        while offset + 8 <= length {
            let (Some(kind), Some(size)) = (area.be32(offset), area.be32(offset + 4)) else { return false };
            let Some(data) = area.at(offset + 8, size as usize) else { return false };
            match kind {
                EXTENSION_END => break,
                EXTENSION_BACKING_FORMAT => self.backing_format = text(data),
                EXTENSION_DATA_FILE => self.data_file = text(data),
                _ => {}
            }
            // Extensions are padded to eight bytes.
            offset += 8 + (size as usize).next_multiple_of(8);
        }
        true
    }
}

fn text(data: &[u8]) -> Option<String> {
    String::from_utf8(data.to_vec()).ok().filter(|text| !text.is_empty())
}
