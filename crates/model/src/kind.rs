//! The fourteen types of pool, and what each of them is made of.

use crate::format::{
    FileSystem, ImageFormat, NetFileSystem, PartitionFormat, PartitionTable, SourceFormat, VolumeFormat,
    VolumeGroupFormat,
};
use crate::named_enum;

named_enum! {
    /// The type of a pool.
    pub enum PoolKind {
        Dir = "dir",
        Fs = "fs",
        NetFs = "netfs",
        Logical = "logical",
        Disk = "disk",
        Iscsi = "iscsi",
        IscsiDirect = "iscsi-direct",
        Scsi = "scsi",
        Mpath = "mpath",
        Rbd = "rbd",
        Sheepdog = "sheepdog",
        Gluster = "gluster",
        Zfs = "zfs",
        Vstorage = "vstorage",
    }
}

/// The parts of a pool's `<source>` that its type uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceParts {
    /// `<host>`
    pub host: bool,
    /// `<device>`
    pub device: bool,
    /// `<dir>`
    pub dir: bool,
    /// `<adapter>`
    pub adapter: bool,
    /// `<name>`
    pub name: bool,
    /// `<initiator>`
    pub initiator: bool,
    /// `<auth>`
    pub auth: bool,
    /// `<protocol ver=…>`
    pub protocol: bool,
}

const NOTHING: SourceParts = SourceParts {
    host: false,
    device: false,
    dir: false,
    adapter: false,
    name: false,
    initiator: false,
    auth: false,
    protocol: false,
};

/// Where the volumes of a pool appear on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetRule {
    /// The definition must give a path.
    Given,
    /// The path follows from the source's name: this directory, then the name.
    Under(&'static str),
    /// Volumes have no path of their own: they are reached over the network.
    Network,
}

impl PoolKind {
    /// The parts of the source that this type uses.
    pub fn source_parts(self) -> SourceParts {
        match self {
            PoolKind::Dir | PoolKind::Mpath => NOTHING,
            PoolKind::Fs | PoolKind::Disk => SourceParts { device: true, ..NOTHING },
            PoolKind::NetFs => SourceParts { host: true, dir: true, protocol: true, ..NOTHING },
            PoolKind::Logical | PoolKind::Zfs => SourceParts { name: true, device: true, ..NOTHING },
            PoolKind::Iscsi | PoolKind::IscsiDirect => {
                SourceParts { host: true, device: true, initiator: true, auth: true, ..NOTHING }
            }
            PoolKind::Scsi => SourceParts { adapter: true, ..NOTHING },
            PoolKind::Rbd => SourceParts { host: true, name: true, auth: true, ..NOTHING },
            PoolKind::Sheepdog => SourceParts { host: true, name: true, ..NOTHING },
            PoolKind::Gluster => SourceParts { host: true, name: true, dir: true, ..NOTHING },
            PoolKind::Vstorage => SourceParts { name: true, ..NOTHING },
        }
    }

    /// Whether the volumes are files, each at its name in the target's directory.
    pub fn has_files(self) -> bool {
        matches!(self, PoolKind::Dir | PoolKind::Fs | PoolKind::NetFs | PoolKind::Vstorage)
    }

    /// Whether nothing of a pool is on this machine: it is on servers, which may be away for a while.
    pub fn is_remote(self) -> bool {
        self.target_rule() == TargetRule::Network
    }

    /// Where the target path comes from.
    pub fn target_rule(self) -> TargetRule {
        match self {
            PoolKind::Logical => TargetRule::Under("/dev"),
            PoolKind::Zfs => TargetRule::Under("/dev/zvol"),
            PoolKind::IscsiDirect | PoolKind::Rbd | PoolKind::Sheepdog | PoolKind::Gluster => {
                TargetRule::Network
            }
            _ => TargetRule::Given,
        }
    }

    /// The format of the source where none is given.
    pub fn default_source_format(self) -> Option<SourceFormat> {
        match self {
            PoolKind::Fs => Some(SourceFormat::FileSystem(FileSystem::Auto)),
            PoolKind::NetFs => Some(SourceFormat::NetFileSystem(NetFileSystem::Auto)),
            PoolKind::Disk => Some(SourceFormat::PartitionTable(PartitionTable::Unknown)),
            PoolKind::Logical => Some(SourceFormat::VolumeGroup(VolumeGroupFormat::Lvm2)),
            _ => None,
        }
    }

    /// The source format with this name; `None` where there is no such, or none at all.
    pub fn source_format(self, name: &str) -> Option<SourceFormat> {
        match self {
            PoolKind::Fs => FileSystem::from_name(name).map(SourceFormat::FileSystem),
            PoolKind::NetFs => NetFileSystem::from_name(name).map(SourceFormat::NetFileSystem),
            PoolKind::Disk => PartitionTable::from_name(name).map(SourceFormat::PartitionTable),
            PoolKind::Logical => VolumeGroupFormat::from_name(name).map(SourceFormat::VolumeGroup),
            _ => None,
        }
    }

    /// The names of all source formats, empty where the type has none.
    pub fn source_format_names(self) -> Vec<&'static str> {
        match self {
            PoolKind::Fs => FileSystem::ALL.iter().map(|f| f.as_str()).collect(),
            PoolKind::NetFs => NetFileSystem::ALL.iter().map(|f| f.as_str()).collect(),
            PoolKind::Disk => PartitionTable::ALL.iter().map(|f| f.as_str()).collect(),
            PoolKind::Logical => VolumeGroupFormat::ALL.iter().map(|f| f.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The format of a volume where none is given.
    pub fn default_volume_format(self) -> Option<VolumeFormat> {
        match self {
            PoolKind::Dir
            | PoolKind::Fs
            | PoolKind::NetFs
            | PoolKind::Rbd
            | PoolKind::Gluster
            | PoolKind::Vstorage => Some(VolumeFormat::Image(ImageFormat::Raw)),
            PoolKind::Disk => Some(VolumeFormat::Partition(PartitionFormat::None)),
            _ => None,
        }
    }

    /// The volume format with this name. libvirt takes "none" for partitions only.
    pub fn volume_format(self, name: &str) -> Option<VolumeFormat> {
        if self == PoolKind::Logical {
            return Some(VolumeFormat::ThinPool).filter(|format| format.as_str() == name);
        }
        match self.default_volume_format()? {
            VolumeFormat::Image(_) => ImageFormat::from_name(name)
                .filter(|format| *format != ImageFormat::None)
                .map(VolumeFormat::Image),
            VolumeFormat::Partition(_) => PartitionFormat::from_name(name).map(VolumeFormat::Partition),
            VolumeFormat::ThinPool => None,
        }
    }

    /// The names of all volume formats in libvirt's capabilities; rbd has a default and no list.
    pub fn volume_format_names(self) -> Vec<&'static str> {
        match self.default_volume_format() {
            _ if self == PoolKind::Rbd => Vec::new(),
            Some(VolumeFormat::Image(_)) => ImageFormat::ALL.iter().map(|f| f.as_str()).collect(),
            Some(VolumeFormat::Partition(_)) => PartitionFormat::ALL.iter().map(|f| f.as_str()).collect(),
            Some(VolumeFormat::ThinPool) | None => Vec::new(),
        }
    }
}
