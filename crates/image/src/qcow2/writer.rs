//! Writing an image from the first byte to the last.

use super::create::{write_counts, write_head};
use super::layout::Layout;
use super::{COPIED, Options, REFCOUNT_BYTES};
use crate::{Result, WriteAt};
use std::collections::BTreeMap;

/// Writes an image whose content comes in rising order. Clusters go one after another to the end of the file; the
/// tables are kept in memory and written by [`finish`](Writer::finish), the header last.
pub struct Writer<'f, F> {
    file: &'f F,
    options: Options,
    layout: Layout,
    /// The next free cluster.
    end: u64,
    /// The second-level tables that have entries.
    tables: BTreeMap<u64, Vec<u64>>,
}

impl<'f, F: WriteAt> Writer<'f, F> {
    /// A writer for an image in this empty file.
    pub fn new(file: &'f F, options: Options) -> Result<Writer<'f, F>> {
        options.check()?;
        // Room to count the image as if it were full.
        let layout = Layout::new(&options, options.guest_clusters() + options.l1_entries());
        Ok(Writer { file, end: layout.end, options, layout, tables: BTreeMap::new() })
    }

    /// The size of a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.options.cluster_size
    }

    /// Writes whole clusters from guest offset `offset` on; the last one of the image may be short.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let cluster = self.options.cluster_size;
        debug_assert_eq!(offset % cluster, 0);
        self.file.write_all_at(data, self.end)?;
        for guest in offset / cluster..(offset + data.len() as u64).div_ceil(cluster) {
            let entries = self.options.l2_entries();
            let table = self.tables.entry(guest / entries).or_insert_with(|| vec![0; entries as usize]);
            table[(guest % entries) as usize] = self.end | COPIED;
            self.end += cluster;
        }
        Ok(())
    }

    /// Writes the tables and the header: now it is an image.
    pub fn finish(mut self) -> Result<()> {
        let cluster = self.options.cluster_size;
        let mut l1 = vec![0u8; (self.options.l1_entries() * 8) as usize];
        for (index, table) in std::mem::take(&mut self.tables) {
            let bytes: Vec<u8> = if self.options.extended_l2 {
                table
                    .iter()
                    .flat_map(|entry| [*entry, if *entry == 0 { 0 } else { 0xffff_ffff }])
                    .flat_map(u64::to_be_bytes)
                    .collect()
            } else {
                table.iter().flat_map(|entry| entry.to_be_bytes()).collect()
            };
            self.file.write_all_at(&bytes, self.end)?;
            let at = (index * 8) as usize;
            l1[at..at + 8].copy_from_slice(&(self.end | COPIED).to_be_bytes());
            self.end += cluster;
        }
        // The last cluster may have been short, or nothing may have been written at all.
        self.file.set_size(self.end)?;
        self.file.write_all_at(&l1, self.layout.l1_offset)?;
        // Blocks that count nothing are left out: their clusters become the beginning of free space, which is
        // allowed to be counted as used.
        debug_assert!(self.end / cluster <= self.layout.refcount_blocks * cluster / REFCOUNT_BYTES);
        write_counts(self.file, &self.layout, self.end / cluster)?;
        write_head(self.file, &self.options, &self.layout)
    }
}
