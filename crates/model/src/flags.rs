//! libvirt's flags, as values that cannot be mixed up.

use crate::named_enum;

/// What building a pool may do to data that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Neither flag given: the type's own default.
    #[default]
    Default,
    /// `NO_OVERWRITE`: refuse if anything is there.
    Refuse,
    /// `OVERWRITE`: make it new, whatever is there.
    Allow,
}

/// Whether starting a pool builds it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildFirst {
    /// Start only.
    #[default]
    No,
    /// Build with this rule, then start.
    Yes(Overwrite),
}

/// Whether a document must fit the schema exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validate {
    /// Unknown elements and attributes are passed over.
    #[default]
    Lax,
    /// They are refused with line and column.
    Strict,
}

/// How a new volume is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreateOptions {
    /// Allocate metadata ahead (qcow2).
    pub prealloc_metadata: bool,
    /// Share blocks with the source, or fail.
    pub reflink: bool,
    /// How strictly the XML is read.
    pub validate: Validate,
}

/// Whether holes in the data of a volume travel as holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holes {
    /// They travel as zeroes.
    #[default]
    Filled,
    /// They do.
    Kept,
}

/// How a volume is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizeOptions {
    /// Allocate the new capacity.
    pub allocate: bool,
    /// The size is a difference.
    pub delta: bool,
    /// The volume may become smaller.
    pub shrink: bool,
}

/// How a volume is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteOptions {
    /// Overwrite the data with zeroes first.
    pub zeroed: bool,
    /// Delete the volume's snapshots with it.
    pub with_snapshots: bool,
}

named_enum! {
    /// The ways of wiping a volume; the numbers are libvirt's (`virStorageVolWipeAlgorithm`).
    pub enum WipeAlgorithm {
        Zero = "zero",
        Nnsa = "nnsa",
        Dod = "dod",
        Bsi = "bsi",
        Gutmann = "gutmann",
        Schneier = "schneier",
        Pfitzner7 = "pfitzner7",
        Pfitzner33 = "pfitzner33",
        Random = "random",
        Trim = "trim",
    }
}
