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
    /// How much depends on it.
    pub importance: Importance,
    /// Debian's package that has it; empty if there is none.
    pub debian: &'static str,
    /// Fedora's package that has it; empty if there is none.
    pub fedora: &'static str,
}

/// How much of a type of pool depends on something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Without it there can be no pool of the type.
    Vital,
    /// Most who have such pools use it.
    Usual,
    /// Few do.
    Rare,
}

/// What can be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A program.
    Tool(&'static str),
    /// A library, by the name that it is loaded by.
    Library(&'static str),
    /// A part of the kernel.
    Module {
        /// The module's name.
        name: &'static str,
        /// What is in `/sys` while the kernel has it, loaded or built in.
        sign: &'static str,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Tool(name) | What::Library(name) | What::Module { name, .. } => f.write_str(name),
        }
    }
}

impl What {
    /// True if the machine has it.
    pub fn is_there(self, host: &Host) -> bool {
        match self {
            What::Tool(name) => host.tool(name).is_ok(),
            What::Library(name) => library_folders().any(|folder| Path::new(&folder).join(name).exists()),
            What::Module { name, sign } => host.sysfs().join(sign).exists() || can_be_loaded(name),
        }
    }
}

/// Debian's package that has a tool, if it is one that a type of pool needs.
pub(crate) fn package_of(tool: &str) -> Option<&'static str> {
    let all = PoolKind::ALL.iter().flat_map(|kind| needs(*kind));
    all.filter(|need| matches!(need.what, What::Tool(name) if name == tool))
        .map(|need| need.debian)
        .find(|package| !package.is_empty())
}

/// True if the machine has the tools and libraries without which pools of this type cannot be.
pub(crate) fn are_met(kind: PoolKind, host: &Host) -> bool {
    needs(kind)
        .iter()
        .filter(|need| need.importance == Importance::Vital)
        .all(|need| need.what.is_there(host))
}

/// Where libraries are: the usual places, with and without the name of the machine's kind, and what is set by hand.
fn library_folders() -> impl Iterator<Item = String> {
    let by_hand = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let by_hand: Vec<_> = by_hand.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    let kind = format!("{}-linux-gnu", std::env::consts::ARCH);
    let usual = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].into_iter();
    by_hand.into_iter().chain(usual.flat_map(move |folder| [folder.to_owned(), format!("{folder}/{kind}")]))
}

/// Whether the running kernel has a module of this name on its disk, or built in.
fn can_be_loaded(module: &str) -> bool {
    let kernel = rustix::system::uname();
    let folder = Path::new("/lib/modules").join(kernel.release().to_string_lossy().as_ref());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let list = std::fs::read_to_string(folder.join(list)).unwrap_or_default();
        // `kernel/drivers/md/dm-mod.ko.xz: …`; dashes and underlines are the same.
        list.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split(".ko").next().is_some_and(|stem| stem.replace('-', "_") == module)
        })
    })
}

const fn tool(name: &'static str, purpose: &'static str, debian: &'static str, fedora: &'static str) -> Need {
    Need { what: What::Tool(name), purpose, importance: Importance::Usual, debian, fedora }
}

const fn library(
    name: &'static str,
    purpose: &'static str,
    debian: &'static str,
    fedora: &'static str,
) -> Need {
    Need { what: What::Library(name), purpose, importance: Importance::Vital, debian, fedora }
}

const fn module(name: &'static str, sign: &'static str, purpose: &'static str, debian: &'static str) -> Need {
    Need { what: What::Module { name, sign }, purpose, importance: Importance::Usual, debian, fedora: "" }
}

const fn vital(need: Need) -> Need {
    Need { importance: Importance::Vital, ..need }
}

const fn rare(need: Need) -> Need {
    Need { importance: Importance::Rare, ..need }
}

const QEMU_IMG: Need = tool("qemu-img", "formats other than raw and qcow2", "qemu-utils", "qemu-img");
const MOUNT: Need = vital(tool("mount", "mounting", "mount", "util-linux"));

/// What a type of pool needs.
pub fn needs(kind: PoolKind) -> &'static [Need] {
    match kind {
        PoolKind::Dir => const { &[QEMU_IMG] },
        PoolKind::Fs => {
            const {
                &[
                    QEMU_IMG,
                    MOUNT,
                    tool("mke2fs", "building ext2, ext3 and ext4", "e2fsprogs", "e2fsprogs"),
                    tool("mkfs.xfs", "building xfs", "xfsprogs", "xfsprogs"),
                    rare(tool("mkfs.vfat", "building vfat", "dosfstools", "dosfstools")),
                    rare(tool("mkfs.udf", "building udf", "udftools", "udftools")),
                    rare(tool("mkfs.hfsplus", "building hfs+", "", "hfsplus-tools")),
                    rare(tool("mkfs.gfs2", "building gfs2", "gfs2-utils", "gfs2-utils")),
                    rare(tool("mkfs.ocfs2", "building ocfs2", "ocfs2-tools", "ocfs2-tools")),
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
                    rare(tool("mount.cifs", "CIFS", "cifs-utils", "cifs-utils")),
                    rare(tool("mount.glusterfs", "Gluster", "glusterfs-client", "glusterfs-fuse")),
                ]
            }
        }
        PoolKind::Logical => {
            const {
                &[
                    vital(tool("lvm", "volume groups", "lvm2", "lvm2")),
                    vital(module("dm_mod", "class/misc/device-mapper", "logical volumes", "")),
                    tool(
                        "thin_check",
                        "thin pools",
                        "thin-provisioning-tools",
                        "device-mapper-persistent-data",
                    ),
                    tool("blkid", "not building over what is there", "util-linux", "util-linux"),
                ]
            }
        }
        PoolKind::Disk => {
            const {
                &[
                    vital(tool("parted", "changing partitions", "parted", "parted")),
                    rare(tool("dmsetup", "partitions of multipath devices", "dmsetup", "device-mapper")),
                    tool("blkid", "not building over what is there", "util-linux", "util-linux"),
                ]
            }
        }
        PoolKind::Iscsi => {
            const {
                &[
                    vital(tool("iscsiadm", "sessions", "open-iscsi", "iscsi-initiator-utils")),
                    vital(module("iscsi_tcp", "class/iscsi_transport/tcp", "sessions", "")),
                ]
            }
        }
        PoolKind::IscsiDirect => {
            const { &[library("libiscsi.so.7", "the protocol", "libiscsi7", "libiscsi")] }
        }
        PoolKind::Scsi => const { &[] },
        PoolKind::Mpath => {
            const {
                &[
                    tool("multipathd", "multipath devices", "multipath-tools", "device-mapper-multipath"),
                    module("dm_multipath", "module/dm_multipath", "multipath devices", ""),
                ]
            }
        }
        PoolKind::Rbd => {
            const {
                &[
                    library("librados.so.2", "clusters", "librados2", "librados2"),
                    library("librbd.so.1", "images", "librbd1", "librbd1"),
                ]
            }
        }
        PoolKind::Sheepdog => const { &[vital(tool("dog", "everything", "", ""))] },
        PoolKind::Gluster => {
            const {
                &[
                    library("libgfapi.so.0", "everything", "libgfapi0", "libgfapi0"),
                    rare(tool("gluster", "finding volumes", "glusterfs-cli", "glusterfs-cli")),
                ]
            }
        }
        PoolKind::Zfs => {
            const {
                &[
                    vital(tool("zfs", "datasets", "zfsutils-linux", "")),
                    vital(tool("zpool", "pools", "zfsutils-linux", "")),
                    vital(module("zfs", "module/zfs", "everything", "zfs-dkms")),
                ]
            }
        }
        PoolKind::Vstorage => {
            const { &[tool("vstorage", "clusters", "", ""), vital(tool("vstorage-mount", "mounting", "", ""))] }
        }
    }
}
