//! What an image is, from its header.

mod luks;
mod others;
mod qcow;
mod vhd;
mod vmdk;

use crate::bytes::Bytes;
use crate::{ReadAt, read_full_at};
use cenote_model::encryption::EncryptionFormat;
use cenote_model::format::{ImageFeature, ImageFormat};
use std::io;

/// The first bytes, which are enough to know most formats.
const HEAD: usize = 4096;
/// Where an ISO 9660 file system says what it is.
const ISO_OFFSET: u64 = 32769;
/// The longest name of a backing image, as qcow2 limits it.
const MAX_BACKING_NAME: u64 = 1023;

/// What an image's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The format.
    pub format: ImageFormat,
    /// The size that a guest sees; `None` where the format does not say, so that the file's own counts.
    pub capacity: Option<u64>,
    /// The image it stands on.
    pub backing: Option<BackingName>,
    /// Its encryption.
    pub encryption: Option<EncryptionFormat>,
    /// Where the data of an encrypted raw image begins.
    pub payload_offset: Option<u64>,
    /// qcow2's version.
    pub compat: Option<&'static str>,
    /// The size of a cluster.
    pub cluster_size: Option<u64>,
    /// Features; `None` where the format has no notion of them.
    pub features: Option<Vec<ImageFeature>>,
    /// The file with the data, for a qcow2 image that has it apart.
    pub data_file: Option<String>,
}

/// The image that another one stands on, as its header names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// A path, an address, or `json:` with a description.
    pub name: String,
    /// Its format, where the header says so.
    pub format: Option<ImageFormat>,
}

impl Facts {
    /// An image of this format, of which nothing else is known.
    pub fn of(format: ImageFormat) -> Facts {
        Facts {
            format,
            capacity: None,
            backing: None,
            encryption: None,
            payload_offset: None,
            compat: None,
            cluster_size: None,
            features: None,
            data_file: None,
        }
    }
}

/// Finds out the format of an image and describes it. What nothing is known of is raw.
pub fn probe(image: &(impl ReadAt + ?Sized)) -> io::Result<Facts> {
    let mut head = [0u8; HEAD];
    let length = read_full_at(image, &mut head, 0)?;
    let head = Bytes::new(&head[..length]);
    match recognise(&head) {
        Some(format) => describe_head(image, &head, format),
        None if length == HEAD => probe_elsewhere(image, &head),
        None => describe_head(image, &head, ImageFormat::Raw),
    }
}

/// Like [`probe`], for an image in a file of this name. Apple's images have nothing at their beginning to be known
/// by: the trailer is looked for where the name ends in `.dmg`.
pub fn probe_named(image: &(impl ReadAt + ?Sized), name: &str) -> io::Result<Facts> {
    let facts = probe(image)?;
    if facts.format == ImageFormat::Raw
        && name.to_ascii_lowercase().ends_with(".dmg")
        && let Some(dmg) = others::dmg(image)?
    {
        return Ok(dmg);
    }
    Ok(facts)
}

/// Describes an image whose format is known from elsewhere.
pub fn describe(image: &(impl ReadAt + ?Sized), format: ImageFormat) -> io::Result<Facts> {
    let mut head = [0u8; HEAD];
    let length = read_full_at(image, &mut head, 0)?;
    describe_head(image, &Bytes::new(&head[..length]), format)
}

fn recognise(head: &Bytes<'_>) -> Option<ImageFormat> {
    let version_be = head.be32(4);
    match head.at(0, 4)? {
        b"QFI\xfb" if version_be == Some(1) => return Some(ImageFormat::Qcow),
        b"QFI\xfb" if matches!(version_be, Some(2 | 3)) => return Some(ImageFormat::Qcow2),
        b"QED\0" => return Some(ImageFormat::Qed),
        b"KDMV" if matches!(head.le32(4), Some(1..=3)) => return Some(ImageFormat::Vmdk),
        b"OOOM" if version_be == Some(2) => return Some(ImageFormat::Cow),
        _ => {}
    }
    if head.starts_with(b"conectix") && head.be32(12) == Some(0x10000) {
        return Some(ImageFormat::Vpc);
    }
    if head.starts_with(b"vhdxfile") {
        return Some(ImageFormat::Vhd);
    }
    if head.at(64, 4) == Some(b"\x7f\x10\xda\xbe") && head.le32(68) == Some(0x0001_0001) {
        return Some(ImageFormat::Vdi);
    }
    if head.starts_with(b"WithoutFreeSpace") || head.starts_with(b"WithouFreSpacExt") {
        return Some(ImageFormat::Ploop);
    }
    if head.starts_with(b"Bochs Virtual HD Image\0") {
        return Some(ImageFormat::Bochs);
    }
    if head.starts_with(b"#!/bin/sh\n#V2.0 Format\n") {
        return Some(ImageFormat::Cloop);
    }
    vmdk::is_descriptor(head).then_some(ImageFormat::Vmdk)
}

/// Formats that are known by what stands further in.
fn probe_elsewhere(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    let mut mark = [0u8; 5];
    if read_full_at(image, &mut mark, ISO_OFFSET)? == mark.len() && &mark == b"CD001" {
        return describe_head(image, head, ImageFormat::Iso);
    }
    describe_head(image, head, ImageFormat::Raw)
}

fn describe_head(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>, format: ImageFormat) -> io::Result<Facts> {
    Ok(match format {
        ImageFormat::Qcow => qcow::qcow1(image, head)?,
        ImageFormat::Qcow2 => qcow::qcow2(image, head)?,
        ImageFormat::Vmdk => vmdk::describe(image, head)?,
        ImageFormat::Vpc => vhd::vpc(head),
        ImageFormat::Vhd => vhd::vhdx(image)?,
        ImageFormat::Raw => luks::raw(image, head)?,
        ImageFormat::Qed => others::qed(image, head)?,
        ImageFormat::Cow => others::cow(head),
        ImageFormat::Vdi => others::vdi(head),
        ImageFormat::Ploop => others::ploop(head),
        ImageFormat::Bochs => others::bochs(head),
        ImageFormat::Cloop => others::cloop(image)?,
        ImageFormat::Dmg => others::dmg(image)?.unwrap_or_else(|| Facts::of(ImageFormat::Dmg)),
        ImageFormat::None | ImageFormat::Dir | ImageFormat::Iso | ImageFormat::Fat => Facts::of(format),
    })
}

/// A backing image's name somewhere in a header; `None` if it cannot be one.
fn read_name(image: &(impl ReadAt + ?Sized), offset: u64, length: u64) -> io::Result<Option<String>> {
    if length == 0 || length > MAX_BACKING_NAME {
        return Ok(None);
    }
    let mut name = vec![0u8; length as usize];
    if offset.checked_add(length).is_none() || read_full_at(image, &mut name, offset)? != name.len() {
        return Ok(None);
    }
    let end = name.iter().position(|c| *c == 0).unwrap_or(name.len());
    name.truncate(end);
    Ok(String::from_utf8(name).ok().filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_raw() {
        assert_eq!(probe([].as_slice()).unwrap(), Facts::of(ImageFormat::Raw));
        assert_eq!(probe([0u8; 100_000].as_slice()).unwrap(), Facts::of(ImageFormat::Raw));
    }

    #[test]
    fn an_iso_is_known_by_its_volume_descriptor() {
        let mut image = vec![0u8; 40_000];
        image[32769..32774].copy_from_slice(b"CD001");
        assert_eq!(probe(image.as_slice()).unwrap().format, ImageFormat::Iso);
    }

    #[test]
    fn formats_without_a_maker_here() {
        let mut bochs = vec![0u8; 512];
        bochs[..23].copy_from_slice(b"Bochs Virtual HD Image\0");
        bochs[64..68].copy_from_slice(&0x20000u32.to_le_bytes());
        bochs[88..96].copy_from_slice(&(64u64 << 20).to_le_bytes());
        let facts = probe(bochs.as_slice()).unwrap();
        assert_eq!((facts.format, facts.capacity), (ImageFormat::Bochs, Some(64 << 20)));

        let mut cow = vec![0u8; 2048];
        cow[..4].copy_from_slice(b"OOOM");
        cow[4..8].copy_from_slice(&2u32.to_be_bytes());
        cow[8..13].copy_from_slice(b"/base");
        cow[1036..1044].copy_from_slice(&(1u64 << 30).to_be_bytes());
        let facts = probe(cow.as_slice()).unwrap();
        assert_eq!((facts.format, facts.capacity), (ImageFormat::Cow, Some(1 << 30)));
        assert_eq!(facts.backing.unwrap().name, "/base");

        let mut cloop = vec![0u8; 256];
        cloop[..23].copy_from_slice(b"#!/bin/sh\n#V2.0 Format\n");
        cloop[128..132].copy_from_slice(&65536u32.to_be_bytes());
        cloop[132..136].copy_from_slice(&10u32.to_be_bytes());
        let facts = probe(cloop.as_slice()).unwrap();
        assert_eq!((facts.format, facts.capacity), (ImageFormat::Cloop, Some(655_360)));

        let mut dmg = vec![0u8; 8192];
        let koly = dmg.len() - 512;
        dmg[koly..koly + 4].copy_from_slice(b"koly");
        dmg[koly + 4..koly + 8].copy_from_slice(&4u32.to_be_bytes());
        dmg[koly + 8..koly + 12].copy_from_slice(&512u32.to_be_bytes());
        dmg[koly + 492..koly + 500].copy_from_slice(&2048u64.to_be_bytes());
        let facts = probe_named(dmg.as_slice(), "system.dmg").unwrap();
        assert_eq!((facts.format, facts.capacity), (ImageFormat::Dmg, Some(1 << 20)));
        assert_eq!(probe_named(dmg.as_slice(), "disk.img").unwrap().format, ImageFormat::Raw);
    }
}
