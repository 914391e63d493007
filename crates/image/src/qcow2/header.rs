//! The first cluster: header, extensions, the backing image's name.

use super::layout::Layout;
use super::{
    COMPATIBLE_LAZY_REFCOUNTS, EXTENSION_BACKING_FORMAT, EXTENSION_END, INCOMPATIBLE_EXTENDED_L2, Options,
    V2_HEADER, Version,
};
use crate::{Error, Result};
use cenote_model::format::ImageFormat;

/// With the field for the compression's type, of which there is one here.
const V3_HEADER: u32 = 112;
const REFCOUNT_ORDER: u32 = 4;

/// The image that another one stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its path, as it is written into the header: at most 1023 bytes.
    pub name: String,
    /// Its format.
    pub format: ImageFormat,
}

/// The bytes of the first cluster, as far as there is something in it.
pub(super) fn encode(options: &Options, layout: &Layout) -> Result<Vec<u8>> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u32, data: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((data.len() as u32).to_be_bytes());
        extensions.extend(data);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    };
    if let Some(backing) = &options.backing {
        extension(EXTENSION_BACKING_FORMAT, backing.format.as_str().as_bytes());
    }
    extension(EXTENSION_END, &[]);

    let header_length = match options.version {
        Version::V2 => V2_HEADER,
        Version::V3 => V3_HEADER,
    };
    let name = options.backing.as_ref().map_or("", |backing| &backing.name);
    let name_offset = u64::from(header_length) + extensions.len() as u64;
    if name.len() > 1023 || name_offset + name.len() as u64 > options.cluster_size {
        return Err(Error::unsupported(format!(
            "the backing image's name is {} bytes long, which does not fit into the header of a qcow2 image \
             with clusters of {} bytes",
            name.len(),
            options.cluster_size
        )));
    }

    let mut out = Vec::with_capacity(name_offset as usize + name.len());
    out.extend(b"QFI\xfb");
    out.extend(match options.version {
        Version::V2 => 2u32.to_be_bytes(),
        Version::V3 => 3u32.to_be_bytes(),
    });
    out.extend(if name.is_empty() { 0 } else { name_offset }.to_be_bytes());
    out.extend((name.len() as u32).to_be_bytes());
    out.extend(options.cluster_size.trailing_zeros().to_be_bytes());
    out.extend(options.capacity.to_be_bytes());
    out.extend(0u32.to_be_bytes()); // no encryption
    out.extend((options.l1_entries() as u32).to_be_bytes());
    out.extend(layout.l1_offset.to_be_bytes());
    out.extend(layout.refcount_table_offset.to_be_bytes());
    out.extend((layout.refcount_table_clusters as u32).to_be_bytes());
    out.extend(0u32.to_be_bytes()); // no snapshots
    out.extend(0u64.to_be_bytes());
    if options.version == Version::V3 {
        out.extend(if options.extended_l2 { INCOMPATIBLE_EXTENDED_L2 } else { 0 }.to_be_bytes());
        out.extend(if options.lazy_refcounts { COMPATIBLE_LAZY_REFCOUNTS } else { 0 }.to_be_bytes());
        out.extend(0u64.to_be_bytes()); // nothing that a writer may clear
        out.extend(REFCOUNT_ORDER.to_be_bytes());
        out.extend(V3_HEADER.to_be_bytes());
        out.extend([0u8; 8]); // zlib, padding
    }
    out.extend(extensions);
    out.extend(name.as_bytes());
    Ok(out)
}
