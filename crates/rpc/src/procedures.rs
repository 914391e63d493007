//! The procedures of libvirt's API that storage is made of (`remote_protocol.x`), with what each takes and gives.

use crate::xdr::{Decode, Encode, Input, XdrError, xdr_struct};
use cenote_host::SecretValue;
use cenote_model::secret::{self, SecretUsage, UsageKind};
use cenote_model::{Code, Error, Name, PoolRef, Uuid, VolumeRef};

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

impl From<PoolRef> for PoolId {
    fn from(pool: PoolRef) -> PoolId {
        PoolId { name: pool.name.to_string(), uuid: pool.uuid }
    }
}

impl TryFrom<PoolId> for PoolRef {
    type Error = Error;

    fn try_from(id: PoolId) -> Result<PoolRef, Error> {
        let name = Name::pool(id.name).map_err(|error| Error::new(Code::NoStoragePool, error.detail))?;
        Ok(PoolRef { name, uuid: id.uuid })
    }
}

impl From<VolumeRef> for VolumeId {
    fn from(volume: VolumeRef) -> VolumeId {
        VolumeId { pool: volume.pool.to_string(), name: volume.name.to_string(), key: volume.key }
    }
}

impl TryFrom<VolumeId> for VolumeRef {
    type Error = Error;

    fn try_from(id: VolumeId) -> Result<VolumeRef, Error> {
        let pool = Name::pool(id.pool).map_err(|error| Error::new(Code::NoStoragePool, error.detail))?;
        let name = Name::volume(id.name).map_err(|error| Error::new(Code::NoStorageVol, error.detail))?;
        Ok(VolumeRef { pool, name, key: id.key })
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

xdr_struct! {
    /// A secret, as clients name it.
    pub struct SecretId {
        /// Its UUID.
        pub uuid: Uuid,
        /// The number of what it is for; 0 if that is nothing.
        pub usage_type: i32,
        /// Which one it is for.
        pub usage_id: String,
    }
}

impl From<secret::SecretId> for SecretId {
    fn from(id: secret::SecretId) -> SecretId {
        let (usage_type, usage_id) = id.usage.map_or((0, String::new()), |u| (u.kind.number(), u.id));
        SecretId { uuid: id.uuid, usage_type, usage_id }
    }
}

impl From<SecretId> for secret::SecretId {
    fn from(id: SecretId) -> secret::SecretId {
        let usage = UsageKind::from_number(id.usage_type).map(|kind| SecretUsage { kind, id: id.usage_id });
        secret::SecretId { uuid: id.uuid, usage }
    }
}

xdr_struct! {
    /// A secret came, went or changed.
    pub struct SecretLifecycle {
        /// Whose callback it is for.
        pub callback: i32,
        /// The secret.
        pub secret: SecretId,
        /// What happened: `virSecretEventLifecycleType`.
        pub event: i32,
        /// Always 0.
        pub detail: i32,
    }
}

xdr_struct! {
    /// The value of a secret was set.
    pub struct SecretValueChanged {
        /// Whose callback it is for.
        pub callback: i32,
        /// The secret.
        pub secret: SecretId,
    }
}

xdr_struct! {
    /// A named value (`virTypedParameter`).
    pub struct TypedParam {
        /// Its name.
        pub field: String,
        /// Its value.
        pub value: TypedValue,
    }
}

/// The value of a [`TypedParam`], as far as there is use for it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedValue {
    /// A number of four bytes, of whatever kind.
    Short(i32, u32),
    /// A number of eight bytes, of whatever kind.
    Long(i32, u64),
    /// A text.
    Text(String),
}

const TYPED_TEXT: i32 = 7;

impl Encode for TypedValue {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            TypedValue::Short(kind, number) => (*kind, *number).encode(out),
            TypedValue::Long(kind, number) => (*kind, *number).encode(out),
            TypedValue::Text(text) => {
                TYPED_TEXT.encode(out);
                text.encode(out);
            }
        }
    }
}

impl Decode for TypedValue {
    fn decode(input: &mut Input<'_>) -> Result<TypedValue, XdrError> {
        Ok(match i32::decode(input)? {
            // int, unsigned, boolean
            kind @ (1 | 2 | 6) => TypedValue::Short(kind, u32::decode(input)?),
            // long, unsigned long, double
            kind @ (3..=5) => TypedValue::Long(kind, u64::decode(input)?),
            TYPED_TEXT => TypedValue::Text(String::decode(input)?),
            kind => return Err(XdrError::NoSuchKind(kind)),
        })
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
    ($($name:ident = $number:literal $(for_writers $api:literal)?: $args:ty => $ret:ty;)+) => {
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

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Procedure::$name => stringify!($name),)+ }
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
    ConnectGetCapabilities = 7: () => (String,);
    ConnectGetHostname = 59: () => (String,);
    ConnectSupportsFeature = 60: (i32,) => (i32,);
    AuthList = 66: () => (Vec<u32>,);
    ConnectNumOfStoragePools = 71: () => (i32,);
    ConnectListStoragePools = 72: (i32,) => (Vec<String>,);
    ConnectNumOfDefinedStoragePools = 73: () => (i32,);
    ConnectListDefinedStoragePools = 74: (i32,) => (Vec<String>,);
    ConnectFindStoragePoolSources = 75 for_writers "virConnectFindStoragePoolSources":
        (String, Option<String>, u32) => (String,);
    StoragePoolCreateXml = 76 for_writers "virStoragePoolCreateXML": (String, u32) => (PoolId,);
    StoragePoolDefineXml = 77 for_writers "virStoragePoolDefineXML": (String, u32) => (PoolId,);
    StoragePoolCreate = 78 for_writers "virStoragePoolCreate": (PoolId, u32) => ();
    StoragePoolBuild = 79 for_writers "virStoragePoolBuild": (PoolId, u32) => ();
    StoragePoolDestroy = 80 for_writers "virStoragePoolDestroy": (PoolId,) => ();
    StoragePoolDelete = 81 for_writers "virStoragePoolDelete": (PoolId, u32) => ();
    StoragePoolUndefine = 82 for_writers "virStoragePoolUndefine": (PoolId,) => ();
    StoragePoolRefresh = 83 for_writers "virStoragePoolRefresh": (PoolId, u32) => ();
    StoragePoolLookupByName = 84: (String,) => (PoolId,);
    StoragePoolLookupByUuid = 85: (Uuid,) => (PoolId,);
    StoragePoolLookupByVolume = 86: (VolumeId,) => (PoolId,);
    StoragePoolGetInfo = 87: (PoolId,) => PoolSizes;
    StoragePoolGetXmlDesc = 88: (PoolId, u32) => (String,);
    StoragePoolGetAutostart = 89: (PoolId,) => (i32,);
    StoragePoolSetAutostart = 90 for_writers "virStoragePoolSetAutostart": (PoolId, i32) => ();
    StoragePoolNumOfVolumes = 91: (PoolId,) => (i32,);
    StoragePoolListVolumes = 92: (PoolId, i32) => (Vec<String>,);
    StorageVolCreateXml = 93 for_writers "virStorageVolCreateXML": (PoolId, String, u32) => (VolumeId,);
    StorageVolDelete = 94 for_writers "virStorageVolDelete": (VolumeId, u32) => ();
    StorageVolLookupByName = 95: (PoolId, String) => (VolumeId,);
    StorageVolLookupByKey = 96: (String,) => (VolumeId,);
    StorageVolLookupByPath = 97: (String,) => (VolumeId,);
    StorageVolGetInfo = 98: (VolumeId,) => VolumeSizes;
    StorageVolGetXmlDesc = 99: (VolumeId, u32) => (String,);
    StorageVolGetPath = 100: (VolumeId,) => (String,);
    ConnectGetUri = 110: () => (String,);
    StorageVolCreateXmlFrom = 125 for_writers "virStorageVolCreateXMLFrom":
        (PoolId, String, VolumeId, u32) => (VolumeId,);
    ConnectNumOfSecrets = 139: () => (i32,);
    ConnectListSecrets = 140: (i32,) => (Vec<String>,);
    SecretLookupByUuid = 141: (Uuid,) => (SecretId,);
    SecretDefineXml = 142 for_writers "virSecretDefineXML": (String, u32) => (SecretId,);
    SecretGetXmlDesc = 143: (SecretId, u32) => (String,);
    SecretSetValue = 144 for_writers "virSecretSetValue": (SecretId, SecretValue, u32) => ();
    SecretGetValue = 145 for_writers "virSecretGetValue": (SecretId, u32) => (SecretValue,);
    SecretUndefine = 146 for_writers "virSecretUndefine": (SecretId,) => ();
    SecretLookupByUsage = 147: (i32, String) => (SecretId,);
    ConnectIsSecure = 149: () => (i32,);
    StoragePoolIsActive = 154: (PoolId,) => (i32,);
    StoragePoolIsPersistent = 155: (PoolId,) => (i32,);
    ConnectGetLibVersion = 157: () => (u64,);
    StorageVolWipe = 165 for_writers "virStorageVolWipe": (VolumeId, u32) => ();
    StorageVolUpload = 208 for_writers "virStorageVolUpload": (VolumeId, u64, u64, u32) => ();
    StorageVolDownload = 209 for_writers "virStorageVolDownload": (VolumeId, u64, u64, u32) => ();
    StorageVolWipePattern = 259 for_writers "virStorageVolWipePattern": (VolumeId, u32, u32) => ();
    StorageVolResize = 260 for_writers "virStorageVolResize": (VolumeId, u64, u32) => ();
    ConnectListAllStoragePools = 281: (i32, u32) => (Vec<PoolId>, u32);
    StoragePoolListAllVolumes = 282: (PoolId, i32, u32) => (Vec<VolumeId>, u32);
    ConnectListAllSecrets = 287: (i32, u32) => (Vec<SecretId>, u32);
    ConnectRegisterCloseCallback = 360: () => ();
    ConnectUnregisterCloseCallback = 361: () => ();
    ConnectStoragePoolEventRegisterAny = 368: (i32, Option<PoolId>) => (i32,);
    ConnectStoragePoolEventDeregisterAny = 369: (i32,) => ();
    StoragePoolEventLifecycle = 370: () => PoolLifecycle;
    StoragePoolEventRefresh = 373: () => PoolRefreshed;
    StorageVolGetInfoFlags = 378: (VolumeId, u32) => VolumeSizes;
    ConnectSecretEventRegisterAny = 380: (i32, Option<SecretId>) => (i32,);
    ConnectSecretEventDeregisterAny = 381: (i32,) => ();
    SecretEventLifecycle = 382: () => SecretLifecycle;
    SecretEventValueChanged = 383: () => SecretValueChanged;
    StoragePoolLookupByTargetPath = 391: (String,) => (PoolId,);
    ConnectGetStoragePoolCapabilities = 403: (u32,) => (String,);
    ConnectSetIdentity = 419: (Vec<TypedParam>, u32) => ();
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
