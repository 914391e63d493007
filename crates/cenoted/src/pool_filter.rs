//! Which pools a list is to have.

use cenote_engine::{PoolInfo, PoolRun};
use cenote_model::PoolKind;

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
