//! Making an image of an empty file.

use super::layout::Layout;
use super::{COPIED, Options, header};
use crate::{Error, Result, WriteAt, raw};
use cenote_model::Job;

/// What of a new image is allocated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocation {
    /// Nothing.
    Off,
    /// The tables that map the guest's clusters.
    Metadata,
    /// The tables; the clusters' blocks are reserved.
    Reserve,
    /// The tables; zeroes are written to the clusters.
    Write,
}

/// Tables are written in pieces of this size.
const PIECE: usize = 1 << 20;

/// Makes an image of an empty file.
///
/// Nothing is written but what is not zero, so that a new image takes a few blocks however large its clusters are.
pub fn create(file: &impl WriteAt, options: &Options, preallocation: Preallocation, job: &Job) -> Result<()> {
    options.check()?;
    if preallocation == Preallocation::Off {
        return create_empty(file, options);
    }
    if options.backing.is_some() {
        return Err(Error::unsupported("metadata preallocation conflicts with backing store"));
    }
    let (data, tables) = (options.guest_clusters(), options.l1_entries());
    let layout = Layout::new(options, tables + data);
    let cluster = options.cluster_size;
    let tables_offset = layout.end;
    let data_offset = tables_offset + tables * cluster;
    file.set_size(data_offset + data * cluster)?;
    job.expect(tables * cluster);

    // From the end to the front: an image without a header is no image.
    match preallocation {
        Preallocation::Off | Preallocation::Metadata => {}
        Preallocation::Reserve => raw::reserve(file, data_offset, data * cluster, job)?,
        Preallocation::Write => {
            job.expect(data * cluster);
            raw::write_zeroes(file, data_offset, data * cluster, job)?;
        }
    }
    let entries = (0..data).map(|guest| (data_offset + guest * cluster) | COPIED);
    if options.extended_l2 {
        // Each entry is followed by a map: the lower half says which parts are allocated.
        const ALL_ALLOCATED: u64 = 0xffff_ffff;
        write_entries(file, tables_offset, entries.flat_map(|entry| [entry, ALL_ALLOCATED]), job)?;
    } else {
        write_entries(file, tables_offset, entries, job)?;
    }
    let l1 = (0..tables).map(|table| (tables_offset + table * cluster) | COPIED);
    write_entries(file, layout.l1_offset, l1, job)?;
    write_counts(file, &layout, (data_offset / cluster) + data)?;
    write_head(file, options, &layout)
}

fn create_empty(file: &impl WriteAt, options: &Options) -> Result<()> {
    let layout = Layout::new(options, 0);
    // As QEMU does, the last cluster is only as long as its table.
    file.set_size(layout.l1_offset + options.l1_entries() * 8)?;
    write_counts(file, &layout, layout.end / options.cluster_size)?;
    write_head(file, options, &layout)
}

/// Writes the reference counts of the first `clusters`: one each.
pub(super) fn write_counts(file: &impl WriteAt, layout: &Layout, clusters: u64) -> Result<()> {
    let ones = [0u8, 1].repeat((clusters as usize).min(PIECE / 2));
    let mut done = 0;
    while done < clusters {
        let count = (clusters - done).min(ones.len() as u64 / 2);
        file.write_all_at(&ones[..count as usize * 2], layout.refcount_blocks_offset + done * 2)?;
        done += count;
    }
    Ok(())
}

pub(super) fn write_head(file: &impl WriteAt, options: &Options, layout: &Layout) -> Result<()> {
    file.write_all_at(&layout.refcount_table(options.cluster_size), layout.refcount_table_offset)?;
    file.write_all_at(&header::encode(options, layout)?, 0)?;
    Ok(())
}

fn write_entries(
    file: &impl WriteAt,
    mut offset: u64,
    entries: impl Iterator<Item = u64>,
    job: &Job,
) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    for entry in entries {
        piece.extend(entry.to_be_bytes());
        if piece.len() == PIECE {
            file.write_all_at(&piece, offset)?;
            job.advance(piece.len() as u64)?;
            offset += piece.len() as u64;
            piece.clear();
        }
    }
    file.write_all_at(&piece, offset)?;
    Ok(job.advance(piece.len() as u64)?)
}
