//! Formats whose header says little.

use super::{BackingName, Facts, read_name};
use crate::bytes::Bytes;
use crate::{ReadAt, read_full_at};
use cenote_model::format::ImageFormat;
use std::io;

/// QED, after QEMU's docs/interop/qed_spec.rst.
pub(super) fn qed(image: &(impl ReadAt + ?Sized), head: &Bytes<'_>) -> io::Result<Facts> {
    const BACKING_FILE: u64 = 1;
    const BACKING_IS_RAW: u64 = 4;
    let mut facts = Facts::of(ImageFormat::Qed);
    facts.cluster_size = head.le32(4).map(u64::from);
    facts.capacity = head.le64(48);
    let features = head.le64(16).unwrap_or(0);
    if features & BACKING_FILE != 0
        && let (Some(offset), Some(length)) = (head.le32(56), head.le32(60))
        && let Some(name) = read_name(image, u64::from(offset), u64::from(length))?
    {
        let format = (features & BACKING_IS_RAW != 0).then_some(ImageFormat::Raw);
        facts.backing = Some(BackingName { name, format });
    }
    Ok(facts)
}

/// User Mode Linux's COW, version 2.
pub(super) fn cow(head: &Bytes<'_>) -> Facts {
    let mut facts = Facts::of(ImageFormat::Cow);
    facts.capacity = head.be64(1036);
    let name = head.at(8, 1024).and_then(|field| field.split(|c| *c == 0).next());
    facts.backing = name
        .and_then(|name| std::str::from_utf8(name).ok())
        .filter(|name| !name.is_empty())
        .map(|name| BackingName { name: name.to_owned(), format: None });
    facts
}

/// VirtualBox's image, version 1.1.
pub(super) fn vdi(head: &Bytes<'_>) -> Facts {
    let mut facts = Facts::of(ImageFormat::Vdi);
    facts.capacity = head.le64(368);
    facts.cluster_size = head.le32(376).map(u64::from);
    facts
}

/// Parallels' image, after QEMU's docs/interop/parallels.rst; libvirt calls it ploop.
pub(super) fn ploop(head: &Bytes<'_>) -> Facts {
    let mut facts = Facts::of(ImageFormat::Ploop);
    let sectors =
        if head.starts_with(b"WithouFreSpacExt") { head.le64(36) } else { head.le32(36).map(u64::from) };
    facts.capacity = sectors.and_then(|sectors| sectors.checked_mul(512));
    facts.cluster_size = head.le32(28).map(|sectors| u64::from(sectors) * 512);
    facts
}

/// Bochs' growing image, version 2.
pub(super) fn bochs(head: &Bytes<'_>) -> Facts {
    let mut facts = Facts::of(ImageFormat::Bochs);
    // Version 1 has no room for a time stamp before the size.
    facts.capacity = if head.le32(64) == Some(0x10000) { head.le64(80 + 4) } else { head.le64(80 + 8) };
    facts
}

/// A compressed loop image: a script, then the size of a block and their number.
pub(super) fn cloop(image: &(impl ReadAt + ?Sized)) -> io::Result<Facts> {
    let mut facts = Facts::of(ImageFormat::Cloop);
    let mut field = [0u8; 8];
    if read_full_at(image, &mut field, 128)? == field.len() {
        let field = Bytes::new(&field);
        facts.capacity =
            field.be32(0).zip(field.be32(4)).map(|(size, count)| u64::from(size) * u64::from(count));
        facts.cluster_size = field.be32(0).map(u64::from);
    }
    Ok(facts)
}

/// Apple's image, known by its trailer. `None` if there is none.
pub(super) fn dmg(image: &(impl ReadAt + ?Sized)) -> io::Result<Option<Facts>> {
    let Some(trailer) = image.size()?.checked_sub(512) else { return Ok(None) };
    let mut field = [0u8; 512];
    if read_full_at(image, &mut field, trailer)? != field.len() {
        return Ok(None);
    }
    let field = Bytes::new(&field);
    if !field.starts_with(b"koly") || field.be32(8) != Some(512) {
        return Ok(None);
    }
    let mut facts = Facts::of(ImageFormat::Dmg);
    facts.capacity = field.be64(492).and_then(|sectors| sectors.checked_mul(512));
    Ok(Some(facts))
}
