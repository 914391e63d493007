//! libvirt's flags: the bits of a call, and what they mean, for both sides of the wire.

use cenote_model::flags::{
    BuildFirst, CreateOptions, DeleteOptions, Holes, Overwrite, ResizeOptions, Validate,
};
use cenote_model::secret::SecretFilter;
use cenote_model::{Code, Error, Result};

/// What the bits of a call mean.
pub trait Flags: Sized {
    /// The bits that there are.
    const KNOWN: u32;

    /// What these bits mean, which are all known. Some exclude each other.
    fn from_bits(bits: u32) -> Result<Self>;

    /// The bits.
    fn to_bits(self) -> u32;
}

/// What the bits mean that a client has sent to this function of libvirt's.
pub fn decode<F: Flags>(bits: u32, function: &str) -> Result<F> {
    check(bits, F::KNOWN, function)?;
    F::from_bits(bits)
}

/// Refuses bits that there are not, in libvirt's words.
pub fn check(bits: u32, known: u32, function: &str) -> Result<()> {
    match bits & !known {
        0 => Ok(()),
        unknown => Err(Error::plain(
            Code::InvalidArg,
            format!("unsupported flags (0x{unknown:x}) in function {function}"),
        )),
    }
}

fn bit(is_set: bool, bit: u32) -> u32 {
    if is_set { bit } else { 0 }
}

/// libvirt's words, in which the flags of building stand for those of creating too.
fn exclusive(bits: u32, overwrite: u32, no_overwrite: u32) -> Result<()> {
    if bits & overwrite != 0 && bits & no_overwrite != 0 {
        return Err(Error::plain(
            Code::InvalidArg,
            "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE' are mutually \
             exclusive",
        ));
    }
    Ok(())
}

/// `virStoragePoolDefineFlags`, `virSecretDefineFlags`.
impl Flags for Validate {
    const KNOWN: u32 = 1;

    fn from_bits(bits: u32) -> Result<Validate> {
        Ok(if bits == 0 { Validate::Lax } else { Validate::Strict })
    }

    fn to_bits(self) -> u32 {
        bit(self == Validate::Strict, 1)
    }
}

/// `virStoragePoolCreateFlags`.
impl Flags for BuildFirst {
    const KNOWN: u32 = BUILD | CREATE_OVERWRITE | CREATE_NO_OVERWRITE;

    fn from_bits(bits: u32) -> Result<BuildFirst> {
        exclusive(bits, CREATE_OVERWRITE, CREATE_NO_OVERWRITE)?;
        Ok(match bits {
            0 => BuildFirst::No,
            bits if bits & CREATE_OVERWRITE != 0 => BuildFirst::Yes(Overwrite::Allow),
            bits if bits & CREATE_NO_OVERWRITE != 0 => BuildFirst::Yes(Overwrite::Refuse),
            _ => BuildFirst::Yes(Overwrite::Default),
        })
    }

    fn to_bits(self) -> u32 {
        match self {
            BuildFirst::No => 0,
            BuildFirst::Yes(Overwrite::Default) => BUILD,
            BuildFirst::Yes(Overwrite::Allow) => CREATE_OVERWRITE,
            BuildFirst::Yes(Overwrite::Refuse) => CREATE_NO_OVERWRITE,
        }
    }
}

const BUILD: u32 = 1;
const CREATE_OVERWRITE: u32 = 2;
const CREATE_NO_OVERWRITE: u32 = 4;

/// `virStoragePoolBuildFlags`. Repairing (1) and resizing (2) are what no backend of libvirt does; it passes over the
/// wish.
impl Flags for Overwrite {
    const KNOWN: u32 = 1 | 2 | NO_OVERWRITE | OVERWRITE;

    fn from_bits(bits: u32) -> Result<Overwrite> {
        exclusive(bits, OVERWRITE, NO_OVERWRITE)?;
        Ok(match bits {
            bits if bits & NO_OVERWRITE != 0 => Overwrite::Refuse,
            bits if bits & OVERWRITE != 0 => Overwrite::Allow,
            _ => Overwrite::Default,
        })
    }

    fn to_bits(self) -> u32 {
        match self {
            Overwrite::Default => 0,
            Overwrite::Refuse => NO_OVERWRITE,
            Overwrite::Allow => OVERWRITE,
        }
    }
}

const NO_OVERWRITE: u32 = 4;
const OVERWRITE: u32 = 8;

/// `virStorageVolCreateFlags`.
impl Flags for CreateOptions {
    const KNOWN: u32 = 1 | 2 | 4;

    fn from_bits(bits: u32) -> Result<CreateOptions> {
        Ok(CreateOptions {
            prealloc_metadata: bits & 1 != 0,
            reflink: bits & 2 != 0,
            validate: Validate::from_bits(bits & 4)?,
        })
    }

    fn to_bits(self) -> u32 {
        bit(self.prealloc_metadata, 1) | bit(self.reflink, 2) | bit(self.validate == Validate::Strict, 4)
    }
}

/// `virStorageVolDeleteFlags`.
impl Flags for DeleteOptions {
    const KNOWN: u32 = 1 | 2;

    fn from_bits(bits: u32) -> Result<DeleteOptions> {
        Ok(DeleteOptions { zeroed: bits & 1 != 0, with_snapshots: bits & 2 != 0 })
    }

    fn to_bits(self) -> u32 {
        bit(self.zeroed, 1) | bit(self.with_snapshots, 2)
    }
}

/// `virStorageVolResizeFlags`.
impl Flags for ResizeOptions {
    const KNOWN: u32 = 1 | 2 | 4;

    fn from_bits(bits: u32) -> Result<ResizeOptions> {
        Ok(ResizeOptions { allocate: bits & 1 != 0, delta: bits & 2 != 0, shrink: bits & 4 != 0 })
    }

    fn to_bits(self) -> u32 {
        bit(self.allocate, 1) | bit(self.delta, 2) | bit(self.shrink, 4)
    }
}

/// `virStorageVolUploadFlags` and those of downloads: sparse streams.
impl Flags for Holes {
    const KNOWN: u32 = 1;

    fn from_bits(bits: u32) -> Result<Holes> {
        Ok(if bits == 0 { Holes::Filled } else { Holes::Kept })
    }

    fn to_bits(self) -> u32 {
        bit(self == Holes::Kept, 1)
    }
}

/// `virConnectListAllSecretsFlags`: both flags of a pair let everything through, and so does none.
impl Flags for SecretFilter {
    const KNOWN: u32 = 15;

    fn from_bits(bits: u32) -> Result<SecretFilter> {
        let pair = |yes: u32, no: u32| match (bits & yes != 0, bits & no != 0) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        };
        Ok(SecretFilter { ephemeral: pair(1, 2), private: pair(4, 8) })
    }

    fn to_bits(self) -> u32 {
        let pair = |wanted: Option<bool>, yes, no| wanted.map_or(0, |wanted| if wanted { yes } else { no });
        pair(self.ephemeral, 1, 2) | pair(self.private, 4, 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn round<F: Flags + Copy + PartialEq + Debug>() {
        for bits in (0..16).filter(|bits| bits & !F::KNOWN == 0) {
            let Ok(flags) = F::from_bits(bits) else { continue };
            assert_eq!(flags.to_bits() & !F::KNOWN, 0);
            assert_eq!(F::from_bits(flags.to_bits()), Ok(flags), "{bits}");
        }
        let error = decode::<F>(1 << 20, "function").unwrap_err();
        assert_eq!(error.to_string(), "unsupported flags (0x100000) in function function");
    }

    #[test]
    fn both_sides_mean_the_same() {
        round::<Validate>();
        round::<BuildFirst>();
        round::<Overwrite>();
        round::<CreateOptions>();
        round::<DeleteOptions>();
        round::<ResizeOptions>();
        round::<Holes>();
        round::<SecretFilter>();
        assert!(decode::<BuildFirst>(CREATE_OVERWRITE | CREATE_NO_OVERWRITE, "f").is_err());
        assert!(decode::<Overwrite>(OVERWRITE | NO_OVERWRITE, "f").is_err());
    }
}
