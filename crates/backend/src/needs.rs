//! What each type of pool needs of a machine, and where that comes from.

use cenote_host::Host;
use cenote_model::PoolKind;
use std::fmt;
use std::path::Path;

/// Something that a type of pool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub what: What,
    /// What for.
    pub purpose: &'static str,
    /// Debian's package that has it; empty if there is none.
    pub debian: &'static str,
    /// Fedora's package that has it; empty if there is none.
    pub fedora: &'static str,
}

/// What can be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A program.
    Tool(&'static str),
    /// A library, by the name that it is loaded by.
    Library(&'static str),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Tool(name) | What::Library(name) => f.write_str(name),
        }
    }
}

impl What {
    /// True if the machine has it.
    pub fn is_there(self, host: &Host) -> bool {
        match self {
            What::Tool(name) => host.tool(name).is_ok(),
            What::Library(name) => library_folders().any(|folder| Path::new(&folder).join(name).exists()),
        }
    }
}

/// Where libraries are: the usual places, with and without the name of the machine's kind, and what is set by hand.
fn library_folders() -> impl Iterator<Item = String> {
    let by_hand = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let by_hand: Vec<_> = by_hand.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    let kind = format!("{}-linux-gnu", std::env::consts::ARCH);
    let usual = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].into_iter();
    by_hand.into_iter().chain(usual.flat_map(move |folder| [folder.to_owned(), format!("{folder}/{kind}")]))
}

const fn tool(name: &'static str, purpose: &'static str, debian: &'static str, fedora: &'static str) -> Need {
    Need { what: What::Tool(name), purpose, debian, fedora }
}

const fn library(
    name: &'static str,
    purpose: &'static str,
    debian: &'static str,
    fedora: &'static str,
) -> Need {
    Need { what: What::Library(name), purpose, debian, fedora }
}

const QEMU_IMG: Need = tool("qemu-img", "formats other than raw and qcow2", "qemu-utils", "qemu-img");
const MOUNT: Need = tool("mount", "mounting", "mount", "util-linux");

/// What a type of pool needs.
pub fn needs(kind: PoolKind) -> &'static [Need] {
    match kind {
        PoolKind::Dir => const { &[QEMU_IMG] },
        PoolKind::Fs => {
            const {
                &[
                    QEMU_IMG,
                    MOUNT,
                    tool("mkfs.ext4", "building ext2, ext3 and ext4", "e2fsprogs", "e2fsprogs"),
                    tool("mkfs.xfs", "building xfs", "xfsprogs", "xfsprogs"),
                    tool("blkid", "not building over what is there", "util-linux", "util-linux"),
                ]
            }
        }
        PoolKind::NetFs => {
            const {
                &[
                    QEMU_IMG,
                    MOUNT,
                    tool("mount.nfs", "NFS", "nfs-common", "nfs-utils"),
                    tool("showmount", "finding exports", "nfs-common", "nfs-utils"),
                    tool("mount.cifs", "CIFS", "cifs-utils", "cifs-utils"),
                    tool("mount.glusterfs", "Gluster", "glusterfs-client", "glusterfs-fuse"),
                ]
            }
        }
        PoolKind::Logical => const { &[tool("lvs", "volume groups", "lvm2", "lvm2")] },
        PoolKind::Disk => {
            const {
                &[
                    tool("parted", "changing partitions", "parted", "parted"),
                    tool("blkid", "not building over what is there", "util-linux", "util-linux"),
                ]
            }
        }
        PoolKind::Iscsi => const { &[tool("iscsiadm", "sessions", "open-iscsi", "iscsi-initiator-utils")] },
        PoolKind::IscsiDirect => {
            const { &[library("libiscsi.so.7", "the protocol", "libiscsi7", "libiscsi")] }
        }
        PoolKind::Scsi => const { &[] },
        PoolKind::Mpath => {
            const { &[tool("multipathd", "multipath devices", "multipath-tools", "device-mapper-multipath")] }
        }
        PoolKind::Rbd => {
            const {
                &[
                    library("librados.so.2", "clusters", "librados2", "librados2"),
                    library("librbd.so.1", "images", "librbd1", "librbd1"),
                ]
            }
        }
        PoolKind::Sheepdog => const { &[tool("dog", "everything", "", "")] },
        PoolKind::Gluster => const { &[library("libgfapi.so.0", "everything", "libgfapi0", "libgfapi0")] },
        PoolKind::Zfs => {
            const { &[tool("zfs", "datasets", "zfsutils-linux", ""), tool("zpool", "pools", "zfsutils-linux", "")] }
        }
        PoolKind::Vstorage => {
            const { &[tool("vstorage", "clusters", "", ""), tool("vstorage-mount", "mounting", "", "")] }
        }
    }
}
