//! Changing the size of an image in place.
//!
//! Whatever is done, the header is changed last, by one write: killed at any moment, the image is sound and has its
//! old size or its new one.

use super::{COMPATIBLE_LAZY_REFCOUNTS, INCOMPATIBLE_EXTENDED_L2, MAX_L1_BYTES};
use crate::{Error, ReadAt, Result, WriteAt, read_full_at};

/// Where the size stands in the header; behind it the encryption, then the length of the first-level table.
const SIZE_FIELDS: u64 = 24;
/// The bytes of an entry of the first-level table.
const ENTRY: u64 = 8;
/// The bits of an entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Sets the capacity of the qcow2 image in this file, open for reading and writing. `backing_capacity` is that of the
/// image it stands on, if it stands on one.
///
/// [`Error::Unsupported`] says that the image is one for qemu-img, and nothing has been changed: its first-level table
/// has to move, data has to be given up, or the backing image would show through.
pub fn resize(file: &(impl ReadAt + WriteAt), capacity: u64, backing_capacity: Option<u64>) -> Result<()> {
    let image = Image::read(file)?;
    let capacity = capacity.next_multiple_of(512);
    if backing_capacity.is_some_and(|backing| backing > image.capacity) && capacity > image.capacity {
        return Err(Error::unsupported("the backing image is larger and would show through"));
    }
    let entries = capacity.div_ceil(image.mapped_by_entry());
    if capacity < image.capacity {
        image.check_unmapped(file, capacity)?;
    }
    // A shorter table is not needed: entries beyond the end are free.
    let entries = entries.max(u64::from(image.l1_entries));
    if entries * ENTRY > image.l1_room() || entries * ENTRY > MAX_L1_BYTES {
        return Err(Error::unsupported("the first-level table has to move"));
    }
    let old_end = image.l1_offset + u64::from(image.l1_entries) * ENTRY;
    let new_end = image.l1_offset + entries * ENTRY;
    if new_end > old_end {
        file.write_all_at(&vec![0; (new_end - old_end) as usize], old_end)?;
        file.sync()?;
    }
    let mut fields = Vec::with_capacity(16);
    fields.extend(capacity.to_be_bytes());
    fields.extend(image.encryption.to_be_bytes());
    fields.extend((entries as u32).to_be_bytes());
    file.write_all_at(&fields, SIZE_FIELDS)?;
    file.sync()?;
    Ok(())
}

/// What of an image's header resizing needs.
struct Image {
    capacity: u64,
    cluster_size: u64,
    l2_entry_size: u64,
    encryption: u32,
    l1_entries: u32,
    l1_offset: u64,
}

impl Image {
    fn read(file: &impl ReadAt) -> Result<Image> {
        let mut header = [0u8; 104];
        let length = read_full_at(file, &mut header, 0)?;
        let be32 =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let be64 = |at: usize| u64::from(be32(at)) << 32 | u64::from(be32(at + 4));
        let version = be32(4);
        if &header[..4] != b"QFI\xfb"
            || !matches!(version, 2 | 3)
            || length < if version == 2 { 72 } else { 104 }
        {
            return Err(Error::Damaged("this is no qcow2 image".to_owned()));
        }
        let (incompatible, compatible) = if version == 3 { (be64(72), be64(80)) } else { (0, 0) };
        if incompatible & !INCOMPATIBLE_EXTENDED_L2 != 0 || compatible & !COMPATIBLE_LAZY_REFCOUNTS != 0 {
            return Err(Error::unsupported(
                "the image has features that are not known here, or was not closed",
            ));
        }
        if be32(60) != 0 {
            return Err(Error::unsupported("the image has internal snapshots, which keep the old size"));
        }
        let bits = be32(20);
        if !(9..=21).contains(&bits) {
            return Err(Error::Damaged(format!("the image says that its clusters have 2^{bits} bytes")));
        }
        let image = Image {
            capacity: be64(24),
            cluster_size: 1 << bits,
            l2_entry_size: if incompatible & INCOMPATIBLE_EXTENDED_L2 != 0 { 16 } else { 8 },
            encryption: be32(32),
            l1_entries: be32(36),
            l1_offset: be64(40),
        };
        if u64::from(image.l1_entries) * ENTRY > MAX_L1_BYTES
            || !image.l1_offset.is_multiple_of(image.cluster_size)
        {
            return Err(Error::Damaged("the image's first-level table is at an impossible place".to_owned()));
        }
        Ok(image)
    }

    /// The guest's bytes that an entry of the first-level table maps.
    fn mapped_by_entry(&self) -> u64 {
        self.cluster_size / self.l2_entry_size * self.cluster_size
    }

    /// The bytes that belong to the first-level table; an empty one has none that it could grow into.
    fn l1_room(&self) -> u64 {
        (u64::from(self.l1_entries) * ENTRY).next_multiple_of(self.cluster_size)
    }

    /// Refuses to cut off what is mapped: it would come back with the next growth.
    fn check_unmapped(&self, file: &impl ReadAt, capacity: u64) -> Result<()> {
        let mapped = || Error::unsupported("data beyond the new end has to be given up");
        let first = capacity / self.mapped_by_entry();
        let beyond = u64::from(self.l1_entries).saturating_sub(first);
        let mut table = vec![0u8; (beyond * ENTRY) as usize];
        let length = read_full_at(file, &mut table, self.l1_offset + first * ENTRY)?;
        let (entries, _) = table[..length].as_chunks::<8>();
        for (i, entry) in entries.iter().enumerate() {
            let entry = u64::from_be_bytes(*entry);
            if entry == 0 {
                continue;
            }
            // Only the first of them can map something before the new end.
            let keep =
                if i == 0 { (capacity % self.mapped_by_entry()).div_ceil(self.cluster_size) } else { 0 };
            let skip = keep * self.l2_entry_size;
            let mut rest = vec![0u8; (self.cluster_size - skip) as usize];
            let length = read_full_at(file, &mut rest, (entry & OFFSET).saturating_add(skip))?;
            if rest[..length].iter().any(|byte| *byte != 0) {
                return Err(mapped());
            }
        }
        // The last cluster that stays must not keep data behind the new end either.
        match capacity % self.cluster_size {
            0 => Ok(()),
            _ if beyond == 0 => Ok(()),
            _ => self.check_last_cluster(file, capacity, mapped),
        }
    }

    fn check_last_cluster(
        &self,
        file: &impl ReadAt,
        capacity: u64,
        mapped: impl Fn() -> Error,
    ) -> Result<()> {
        let read = |at: u64| -> Result<u64> {
            let mut entry = [0u8; 8];
            read_full_at(file, &mut entry, at)?;
            Ok(u64::from_be_bytes(entry))
        };
        let table = read(self.l1_offset + capacity / self.mapped_by_entry() * ENTRY)? & OFFSET;
        if table == 0 {
            return Ok(());
        }
        let index = capacity % self.mapped_by_entry() / self.cluster_size;
        match read(table.saturating_add(index * self.l2_entry_size))? {
            0 => Ok(()),
            _ => Err(mapped()),
        }
    }
}
