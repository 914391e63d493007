//! Storage pools, volumes, secrets and capabilities: the types, and their XML in libvirt's exact layout.
//!
//! Everything here is pure: text in, valid values out, and back. The layouts follow libvirt's documents
//! `formatstorage`, `formatstoragecaps`, `formatstorageencryption` and `formatsecret`, and its RELAX NG schemas.
//! Sizes are bytes unless a name says otherwise.

#![warn(missing_docs)]

pub mod auth;
pub mod capabilities;
pub mod encryption;
pub mod error;
pub mod event;
pub mod flags;
pub mod format;
pub mod job;
pub mod kind;
pub mod name;
pub mod permissions;
pub mod pool;
pub mod secret;
pub mod source;
pub mod units;
pub mod uuid;
pub mod volume;
pub mod xml;

pub use error::{Code, Domain, Error, Result};
pub use job::Job;
pub use kind::PoolKind;
pub use name::Name;
pub use pool::{PoolDef, PoolRef};
pub use uuid::Uuid;
pub use volume::{VolumeDef, VolumeRef};

/// An enum whose values have fixed names in XML and on command lines.
macro_rules! named_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $($(#[$vmeta])* #[doc = concat!("`", $text, "`")] $variant),+ }

        impl $name {
            /// Every value, in libvirt's order.
            #[allow(dead_code, reason = "not every enumeration is listed")]
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name in XML.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value with this name, if there is one.
            pub fn from_name(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named_enum;
