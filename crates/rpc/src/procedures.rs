//! The procedures of libvirt's API that storage is made of (`remote_protocol.x`), with what each takes and gives.

use crate::xdr::{Decode, Encode, xdr_struct};
use cenote_model::Uuid;

xdr_struct! {
    /// A pool, as clients name it.
    pub struct PoolId {
        /// Its name.
        pub name: String,
        /// Its UUID.
        pub uuid: Uuid,
    }
}

xdr_struct! {
    /// A volume, as clients name it.
    pub struct VolumeId {
        /// The pool's name.
        pub pool: String,
        /// Its name.
        pub name: String,
        /// Its key.
        pub key: String,
    }
}

xdr_struct! {
    /// A part of a stream that reads as zeroes.
    pub struct StreamHole {
        /// How many bytes.
        pub length: i64,
        /// None are known.
        pub flags: u32,
    }
}

xdr_struct! {
    /// A pool came, went or changed.
    pub struct PoolLifecycle {
        /// Whose callback it is for.
        pub callback: i32,
        /// The pool.
        pub pool: PoolId,
        /// What happened: `virStoragePoolEventLifecycleType`.
        pub event: i32,
        /// Always 0.
        pub detail: i32,
    }
}

xdr_struct! {
    /// The volumes of a pool were read again.
    pub struct PoolRefreshed {
        /// Whose callback it is for.
        pub callback: i32,
        /// The pool.
        pub pool: PoolId,
    }
}

/// State, capacity, allocation, available; bytes.
pub type PoolSizes = (u8, u64, u64, u64);
/// Type, capacity, allocation (or physical size); bytes.
pub type VolumeSizes = (u8, u64, u64);

/// A procedure with the types of what it takes and gives.
pub trait Call {
    /// The program that it belongs to.
    const PROGRAM: u32;
    /// Its number there.
    const NUMBER: i32;
    /// What it takes.
    type Args: Encode + Decode;
    /// What it gives.
    type Ret: Encode + Decode;
}

macro_rules! procedures {
    ($($name:ident = $number:literal $(changes $api:literal)?: $args:ty => $ret:ty;)+) => {
        /// The procedures, by libvirt's names and numbers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are libvirt's")]
        pub enum Procedure { $($name = $number),+ }

        impl Procedure {
            /// All of them.
            pub const ALL: &'static [Procedure] = &[$(Procedure::$name),+];

            /// The procedure with this number.
            pub fn from_number(number: i32) -> Option<Procedure> {
                match number { $($number => Some(Procedure::$name),)+ _ => None }
            }

            /// The number.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// The name of the API's function, if a connection for reading may not call it.
            pub fn refused_to_readers(self) -> Option<&'static str> {
                match self {
                    $($(Procedure::$name => Some($api),)?)+
                    _ => None,
                }
            }
        }

        /// The procedures as types.
        pub mod calls {
            use super::*;
            $(
                #[doc = concat!("Procedure ", $number, ".")]
                #[derive(Debug)]
                pub enum $name {}

                impl Call for $name {
                    const PROGRAM: u32 = crate::frame::REMOTE;
                    const NUMBER: i32 = $number;
                    type Args = $args;
                    type Ret = $ret;
                }
            )+
        }
    };
}

procedures! {
    ConnectOpen = 1: (Option<String>, u32) => ();
    ConnectClose = 2: () => ();
    ConnectGetType = 3: () => (String,);
    ConnectGetHostname = 59: () => (String,);
    ConnectSupportsFeature = 60: (i32,) => (i32,);
    AuthList = 66: () => (Vec<u32>,);
    ConnectNumOfStoragePools = 71: () => (i32,);
    ConnectListStoragePools = 72: (i32,) => (Vec<String>,);
    ConnectNumOfDefinedStoragePools = 73: () => (i32,);
    ConnectListDefinedStoragePools = 74: (i32,) => (Vec<String>,);
    ConnectFindStoragePoolSources = 75 changes "virConnectFindStoragePoolSources":
        (String, Option<String>, u32) => (String,);
    StoragePoolCreateXml = 76 changes "virStoragePoolCreateXML": (String, u32) => (PoolId,);
    StoragePoolDefineXml = 77 changes "virStoragePoolDefineXML": (String, u32) => (PoolId,);
    StoragePoolCreate = 78 changes "virStoragePoolCreate": (PoolId, u32) => ();
    StoragePoolBuild = 79 changes "virStoragePoolBuild": (PoolId, u32) => ();
    StoragePoolDestroy = 80 changes "virStoragePoolDestroy": (PoolId,) => ();
    StoragePoolDelete = 81 changes "virStoragePoolDelete": (PoolId, u32) => ();
    StoragePoolUndefine = 82 changes "virStoragePoolUndefine": (PoolId,) => ();
    StoragePoolRefresh = 83 changes "virStoragePoolRefresh": (PoolId, u32) => ();
    StoragePoolLookupByName = 84: (String,) => (PoolId,);
    StoragePoolLookupByUuid = 85: (Uuid,) => (PoolId,);
    StoragePoolLookupByVolume = 86: (VolumeId,) => (PoolId,);
    StoragePoolGetInfo = 87: (PoolId,) => PoolSizes;
    StoragePoolGetXmlDesc = 88: (PoolId, u32) => (String,);
    StoragePoolGetAutostart = 89: (PoolId,) => (i32,);
    StoragePoolSetAutostart = 90 changes "virStoragePoolSetAutostart": (PoolId, i32) => ();
    StoragePoolNumOfVolumes = 91: (PoolId,) => (i32,);
    StoragePoolListVolumes = 92: (PoolId, i32) => (Vec<String>,);
    StorageVolCreateXml = 93 changes "virStorageVolCreateXML": (PoolId, String, u32) => (VolumeId,);
    StorageVolDelete = 94 changes "virStorageVolDelete": (VolumeId, u32) => ();
    StorageVolLookupByName = 95: (PoolId, String) => (VolumeId,);
    StorageVolLookupByKey = 96: (String,) => (VolumeId,);
    StorageVolLookupByPath = 97: (String,) => (VolumeId,);
    StorageVolGetInfo = 98: (VolumeId,) => VolumeSizes;
    StorageVolGetXmlDesc = 99: (VolumeId, u32) => (String,);
    StorageVolGetPath = 100: (VolumeId,) => (String,);
    ConnectGetUri = 110: () => (String,);
    StorageVolCreateXmlFrom = 125 changes "virStorageVolCreateXMLFrom":
        (PoolId, String, VolumeId, u32) => (VolumeId,);
    ConnectIsSecure = 149: () => (i32,);
    StoragePoolIsActive = 154: (PoolId,) => (i32,);
    StoragePoolIsPersistent = 155: (PoolId,) => (i32,);
    ConnectGetLibVersion = 157: () => (u64,);
    StorageVolWipe = 165 changes "virStorageVolWipe": (VolumeId, u32) => ();
    StorageVolUpload = 208 changes "virStorageVolUpload": (VolumeId, u64, u64, u32) => ();
    StorageVolDownload = 209 changes "virStorageVolDownload": (VolumeId, u64, u64, u32) => ();
    StorageVolWipePattern = 259 changes "virStorageVolWipePattern": (VolumeId, u32, u32) => ();
    StorageVolResize = 260 changes "virStorageVolResize": (VolumeId, u64, u32) => ();
    ConnectListAllStoragePools = 281: (i32, u32) => (Vec<PoolId>, u32);
    StoragePoolListAllVolumes = 282: (PoolId, i32, u32) => (Vec<VolumeId>, u32);
    ConnectRegisterCloseCallback = 360: () => ();
    ConnectUnregisterCloseCallback = 361: () => ();
    ConnectStoragePoolEventRegisterAny = 368: (i32, Option<PoolId>) => (i32,);
    ConnectStoragePoolEventDeregisterAny = 369: (i32,) => ();
    StoragePoolEventLifecycle = 370: () => PoolLifecycle;
    StoragePoolEventRefresh = 373: () => PoolRefreshed;
    StorageVolGetInfoFlags = 378: (VolumeId, u32) => VolumeSizes;
    StoragePoolLookupByTargetPath = 391: (String,) => (PoolId,);
    ConnectGetStoragePoolCapabilities = 403: (u32,) => (String,);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_again() {
        for procedure in Procedure::ALL {
            assert_eq!(Procedure::from_number(procedure.number()), Some(*procedure));
        }
        assert_eq!(Procedure::from_number(0), None);
    }
}
