//! qcow2, after QEMU's docs/interop/qcow2.rst: making images, writing them in one go, changing their size.

mod create;
mod header;
mod layout;
mod resize;
mod writer;

pub use create::{Preallocation, create};
pub use header::Backing;
pub use resize::resize;
pub use writer::Writer;

use crate::{Error, Result};

pub(crate) const V2_HEADER: u32 = 72;
pub(crate) const EXTENSION_END: u32 = 0;
pub(crate) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
pub(crate) const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
pub(crate) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
pub(crate) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
pub(crate) const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1 << 0;

/// The size of a cluster where none is asked for.
pub const DEFAULT_CLUSTER_SIZE: u64 = 64 << 10;
/// QEMU opens no image with a longer first-level table.
const MAX_L1_BYTES: u64 = 32 << 20;
/// The reference counts are 16 bits wide, as QEMU makes them.
const REFCOUNT_BYTES: u64 = 2;
/// In tables: the cluster is used once, so that it may be written in place.
const COPIED: u64 = 1 << 63;

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `compat` 0.10
    V2,
    /// `compat` 1.1
    V3,
}

/// What a qcow2 image shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The size that a guest sees; a multiple of 512.
    pub capacity: u64,
    /// The version.
    pub version: Version,
    /// The size of a cluster: a power of two from 512 to 2 MiB.
    pub cluster_size: u64,
    /// Reference counts may be behind; QEMU repairs them after a crash.
    pub lazy_refcounts: bool,
    /// Clusters have 32 parts that are allocated on their own.
    pub extended_l2: bool,
    /// What it stands on.
    pub backing: Option<Backing>,
}

impl Options {
    /// A plain image of this capacity, rounded up to a whole sector.
    pub fn new(capacity: u64) -> Options {
        Options {
            capacity: capacity.next_multiple_of(512),
            version: Version::V3,
            cluster_size: DEFAULT_CLUSTER_SIZE,
            lazy_refcounts: false,
            extended_l2: false,
            backing: None,
        }
    }

    /// Refuses what the format does not allow.
    pub fn check(&self) -> Result<()> {
        if !self.cluster_size.is_power_of_two() || !(512..=2 << 20).contains(&self.cluster_size) {
            return Err(Error::unsupported(format!(
                "qcow2 cluster size must be a power of two between 512 and 2097152 bytes, not {}",
                self.cluster_size
            )));
        }
        if self.version == Version::V2 {
            for (wanted, feature) in
                [(self.lazy_refcounts, "lazy_refcounts"), (self.extended_l2, "extended_l2")]
            {
                if wanted {
                    return Err(Error::unsupported(format!(
                        "{feature} not supported with compat level 0.10"
                    )));
                }
            }
        }
        if self.extended_l2 && self.cluster_size < 16 << 10 {
            return Err(Error::unsupported("extended_l2 needs a cluster size of 16384 bytes or more"));
        }
        if self.l1_entries() * 8 > MAX_L1_BYTES {
            return Err(Error::unsupported(format!(
                "{} bytes are too much for a qcow2 image with clusters of {} bytes: use larger clusters",
                self.capacity, self.cluster_size
            )));
        }
        Ok(())
    }

    /// The size of an entry of a second-level table.
    fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// How many clusters a second-level table maps.
    fn l2_entries(&self) -> u64 {
        self.cluster_size / self.l2_entry_size()
    }

    /// How many second-level tables the image can have.
    fn l1_entries(&self) -> u64 {
        self.capacity.div_ceil(self.l2_entries() * self.cluster_size)
    }

    /// How many clusters the guest sees.
    fn guest_clusters(&self) -> u64 {
        self.capacity.div_ceil(self.cluster_size)
    }
}
