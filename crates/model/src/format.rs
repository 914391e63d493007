//! The formats that pools and volumes can have, with libvirt's names and in libvirt's order.

use crate::named_enum;

named_enum! {
    /// The format of a volume that is an image.
    pub enum ImageFormat {
        None = "none",
        Raw = "raw",
        Dir = "dir",
        Bochs = "bochs",
        Cloop = "cloop",
        Dmg = "dmg",
        Iso = "iso",
        Vpc = "vpc",
        Vdi = "vdi",
        Fat = "fat",
        Vhd = "vhd",
        Ploop = "ploop",
        Cow = "cow",
        Qcow = "qcow",
        Qcow2 = "qcow2",
        Qed = "qed",
        Vmdk = "vmdk",
    }
}

named_enum! {
    /// The type of a volume that is a partition.
    pub enum PartitionFormat {
        None = "none",
        Linux = "linux",
        Fat16 = "fat16",
        Fat32 = "fat32",
        LinuxSwap = "linux-swap",
        LinuxLvm = "linux-lvm",
        LinuxRaid = "linux-raid",
        Extended = "extended",
    }
}

named_enum! {
    /// The file system of an `fs` pool.
    pub enum FileSystem {
        Auto = "auto",
        Ext2 = "ext2",
        Ext3 = "ext3",
        Ext4 = "ext4",
        Ufs = "ufs",
        Iso9660 = "iso9660",
        Udf = "udf",
        Gfs = "gfs",
        Gfs2 = "gfs2",
        Vfat = "vfat",
        HfsPlus = "hfs+",
        Xfs = "xfs",
        Ocfs2 = "ocfs2",
        Vmfs = "vmfs",
    }
}

named_enum! {
    /// The protocol of a `netfs` pool.
    pub enum NetFileSystem {
        Auto = "auto",
        Nfs = "nfs",
        GlusterFs = "glusterfs",
        Cifs = "cifs",
    }
}

named_enum! {
    /// The partition table of a `disk` pool.
    pub enum PartitionTable {
        Unknown = "unknown",
        Dos = "dos",
        Dvh = "dvh",
        Gpt = "gpt",
        Mac = "mac",
        Bsd = "bsd",
        Pc98 = "pc98",
        Sun = "sun",
        Lvm2 = "lvm2",
    }
}

named_enum! {
    /// The metadata of a `logical` pool.
    pub enum VolumeGroupFormat {
        Unknown = "unknown",
        Lvm2 = "lvm2",
    }
}

/// What the source of a pool is made of, where its type says that at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// `fs`
    FileSystem(FileSystem),
    /// `netfs`
    NetFileSystem(NetFileSystem),
    /// `disk`
    PartitionTable(PartitionTable),
    /// `logical`
    VolumeGroup(VolumeGroupFormat),
}

impl SourceFormat {
    /// The name in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceFormat::FileSystem(f) => f.as_str(),
            SourceFormat::NetFileSystem(f) => f.as_str(),
            SourceFormat::PartitionTable(f) => f.as_str(),
            SourceFormat::VolumeGroup(f) => f.as_str(),
        }
    }
}

/// The format of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeFormat {
    /// An image file or object.
    Image(ImageFormat),
    /// A partition.
    Partition(PartitionFormat),
    /// A thin pool of a volume group, which is no device, but gives space to its thin volumes. libvirt has no such format, and
    /// takes no notice of formats in `logical` pools.
    ThinPool,
}

impl VolumeFormat {
    /// The name in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeFormat::Image(f) => f.as_str(),
            VolumeFormat::Partition(f) => f.as_str(),
            VolumeFormat::ThinPool => "thin-pool",
        }
    }
}

named_enum! {
    /// Features of a qcow2 image that the XML names.
    pub enum ImageFeature {
        LazyRefcounts = "lazy_refcounts",
        ExtendedL2 = "extended_l2",
        DataFile = "data_file",
    }
}
