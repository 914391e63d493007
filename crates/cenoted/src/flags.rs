//! libvirt's flags as they come over the wire, and what they mean.

use crate::streams::Holes;
use cenote_engine::{PoolInfo, PoolRun};
use cenote_model::flags::{BuildFirst, CreateOptions, DeleteOptions, Overwrite, ResizeOptions, Validate};
use cenote_model::secret::SecretFilter;
use cenote_model::{Code, Error, PoolKind, Result};

/// Refuses flags that there are not, in libvirt's words.
pub(crate) fn check_flags(flags: u32, known: u32, function: &str) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::plain(
            Code::InvalidArg,
            format!("unsupported flags (0x{unknown:x}) in function {function}"),
        )),
    }
}

/// libvirt's words, in which the flags of building stand for those of creating too.
fn exclusive(flags: u32, overwrite: u32, no_overwrite: u32) -> Result<()> {
    if flags & overwrite != 0 && flags & no_overwrite != 0 {
        return Err(Error::plain(
            Code::InvalidArg,
            "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE' are mutually \
             exclusive",
        ));
    }
    Ok(())
}

pub(crate) fn validate(flag: u32) -> Validate {
    if flag == 0 { Validate::Lax } else { Validate::Strict }
}

pub(crate) fn build_first(flags: u32, function: &str) -> Result<BuildFirst> {
    const BUILD: u32 = 1;
    const OVERWRITE: u32 = 2;
    const NO_OVERWRITE: u32 = 4;
    check_flags(flags, BUILD | OVERWRITE | NO_OVERWRITE, function)?;
    exclusive(flags, OVERWRITE, NO_OVERWRITE)?;
    Ok(match flags {
        0 => BuildFirst::No,
        flags if flags & OVERWRITE != 0 => BuildFirst::Yes(Overwrite::Allow),
        flags if flags & NO_OVERWRITE != 0 => BuildFirst::Yes(Overwrite::Refuse),
        _ => BuildFirst::Yes(Overwrite::Default),
    })
}

/// Repairing and resizing are what no backend of libvirt does; it passes over the wish.
pub(crate) fn overwrite(flags: u32) -> Result<Overwrite> {
    const REPAIR: u32 = 1;
    const RESIZE: u32 = 2;
    const NO_OVERWRITE: u32 = 4;
    const OVERWRITE: u32 = 8;
    check_flags(flags, REPAIR | RESIZE | NO_OVERWRITE | OVERWRITE, "storagePoolBuild")?;
    exclusive(flags, OVERWRITE, NO_OVERWRITE)?;
    Ok(match flags {
        flags if flags & NO_OVERWRITE != 0 => Overwrite::Refuse,
        flags if flags & OVERWRITE != 0 => Overwrite::Allow,
        _ => Overwrite::Default,
    })
}

pub(crate) fn create_options(flags: u32, function: &str) -> Result<CreateOptions> {
    const PREALLOC_METADATA: u32 = 1;
    const REFLINK: u32 = 2;
    const VALIDATE: u32 = 4;
    check_flags(flags, PREALLOC_METADATA | REFLINK | VALIDATE, function)?;
    Ok(CreateOptions {
        prealloc_metadata: flags & PREALLOC_METADATA != 0,
        reflink: flags & REFLINK != 0,
        validate: validate(flags & VALIDATE),
    })
}

pub(crate) fn delete_options(flags: u32) -> Result<DeleteOptions> {
    const ZEROED: u32 = 1;
    const WITH_SNAPSHOTS: u32 = 2;
    // libvirt says in which of its functions: that of volumes which are files.
    check_flags(flags, ZEROED | WITH_SNAPSHOTS, "virStorageBackendVolDeleteLocal")?;
    Ok(DeleteOptions { zeroed: flags & ZEROED != 0, with_snapshots: flags & WITH_SNAPSHOTS != 0 })
}

pub(crate) fn resize_options(flags: u32) -> Result<ResizeOptions> {
    const ALLOCATE: u32 = 1;
    const DELTA: u32 = 2;
    const SHRINK: u32 = 4;
    check_flags(flags, ALLOCATE | DELTA | SHRINK, "storageVolResize")?;
    Ok(ResizeOptions {
        allocate: flags & ALLOCATE != 0,
        delta: flags & DELTA != 0,
        shrink: flags & SHRINK != 0,
    })
}

pub(crate) fn holes(flags: u32, function: &str) -> Result<Holes> {
    const SPARSE: u32 = 1;
    check_flags(flags, SPARSE, function)?;
    Ok(if flags & SPARSE == 0 { Holes::Filled } else { Holes::Kept })
}

/// `virConnectListAllSecretsFlags`: both flags of a pair let everything through, and so does none.
pub(crate) fn secret_filter(flags: u32) -> Result<SecretFilter> {
    check_flags(flags, 15, "secretConnectListAllSecrets")?;
    let pair = |yes: u32, no: u32| match (flags & yes != 0, flags & no != 0) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    Ok(SecretFilter { ephemeral: pair(1, 2), private: pair(4, 8) })
}

/// `virConnectListAllStoragePoolsFlags`: within each group, any flag that fits lets a pool through, and so does none.
#[derive(Clone, Copy)]
pub(crate) struct PoolFilter(pub(crate) u32);

impl PoolFilter {
    pub(crate) const INACTIVE: PoolFilter = PoolFilter(1);
    pub(crate) const ACTIVE: PoolFilter = PoolFilter(2);
    /// Twenty flags: six for states, then one for each type.
    pub(crate) const KNOWN: u32 = (1 << 20) - 1;

    pub(crate) fn admits(self, info: &PoolInfo) -> bool {
        let pair = |yes: u32, no: u32, value: bool| {
            let wanted = self.0 & (yes | no);
            wanted == 0 || wanted & (if value { yes } else { no }) != 0
        };
        let types = self.0 >> 6;
        pair(2, 1, info.run == PoolRun::Active)
            && pair(4, 8, info.persistent)
            && pair(16, 32, info.autostart)
            && (types == 0 || types & type_flag(info.kind) != 0)
    }
}

/// The types in the order of libvirt's flags.
fn type_flag(kind: PoolKind) -> u32 {
    use PoolKind::*;
    let order = [
        Dir,
        Fs,
        NetFs,
        Logical,
        Disk,
        Iscsi,
        Scsi,
        Mpath,
        Rbd,
        Sheepdog,
        Gluster,
        Zfs,
        Vstorage,
        IscsiDirect,
    ];
    order.iter().position(|other| *other == kind).map_or(0, |position| 1 << position)
}
