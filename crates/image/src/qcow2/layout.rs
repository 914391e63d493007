//! Where the tables of a new image go.

use super::{Options, REFCOUNT_BYTES};

/// The places of the metadata: header, reference count table, reference count blocks, first-level table; then
/// what else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u64,
    pub(super) refcount_blocks_offset: u64,
    pub(super) refcount_blocks: u64,
    pub(super) l1_offset: u64,
    /// Where the metadata ends: the first free cluster.
    pub(super) end: u64,
}

impl Layout {
    /// Places the metadata so that `further` more clusters can be counted.
    pub(super) fn new(options: &Options, further: u64) -> Layout {
        let cluster = options.cluster_size;
        let counts_per_block = cluster / REFCOUNT_BYTES;
        let l1_clusters = (options.l1_entries() * 8).div_ceil(cluster);
        let (mut table, mut blocks) = (1, 1);
        loop {
            let clusters = 1 + table + blocks + l1_clusters + further;
            let wanted_blocks = clusters.div_ceil(counts_per_block);
            let wanted_table = (wanted_blocks * 8).div_ceil(cluster);
            // Both only grow, and each grows by far less than it can count.
            if wanted_blocks <= blocks && wanted_table <= table {
                break;
            }
            blocks = wanted_blocks.max(blocks);
            table = wanted_table.max(table);
        }
        let refcount_blocks_offset = (1 + table) * cluster;
        let l1_offset = refcount_blocks_offset + blocks * cluster;
        Layout {
            refcount_table_offset: cluster,
            refcount_table_clusters: table,
            refcount_blocks_offset,
            refcount_blocks: blocks,
            l1_offset,
            end: l1_offset + l1_clusters * cluster,
        }
    }

    /// The entries of the reference count table.
    pub(super) fn refcount_table(&self, cluster_size: u64) -> Vec<u8> {
        (0..self.refcount_blocks)
            .flat_map(|block| (self.refcount_blocks_offset + block * cluster_size).to_be_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_can_be_counted(bits in 9u32..=21, capacity in 0u64..1 << 50, further in 0u64..1 << 30) {
            let options = Options { cluster_size: 1 << bits, ..Options::new(capacity) };
            prop_assume!(options.check().is_ok());
            let cluster = options.cluster_size;
            let layout = Layout::new(&options, further);
            let clusters = layout.end / cluster + further;
            prop_assert!(layout.refcount_blocks * cluster / REFCOUNT_BYTES >= clusters);
            prop_assert!(layout.refcount_table_clusters * cluster >= layout.refcount_blocks * 8);
            prop_assert_eq!(layout.end % cluster, 0);
        }
    }
}
