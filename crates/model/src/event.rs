//! What is told to those who watch pools and secrets.

use crate::pool::PoolRef;
use crate::secret::SecretId;
use crate::{Name, Uuid};

/// Something that happened to a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolEvent {
    /// The pool's name.
    pub pool: Name,
    /// The pool's UUID.
    pub uuid: Uuid,
    /// What happened.
    pub change: PoolChange,
}

/// The changes that libvirt's pool events tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolChange {
    /// A persistent definition was made or changed.
    Defined,
    /// The persistent definition went.
    Undefined,
    /// The pool became active.
    Started,
    /// The pool became inactive.
    Stopped,
    /// The pool's storage was built.
    Created,
    /// The pool's storage was deleted.
    Deleted,
    /// The list of volumes was read again.
    Refreshed,
}

impl PoolChange {
    /// Those with a number of `virStoragePoolEventLifecycleType`, in its order.
    const LIFECYCLE: [PoolChange; 6] = [
        PoolChange::Defined,
        PoolChange::Undefined,
        PoolChange::Started,
        PoolChange::Stopped,
        PoolChange::Created,
        PoolChange::Deleted,
    ];

    /// The number among lifecycle events; `None` for a refresh, which is an event of another kind.
    pub fn lifecycle_number(self) -> Option<i32> {
        PoolChange::LIFECYCLE.iter().position(|change| *change == self).map(|number| number as i32)
    }

    /// The lifecycle event with this number.
    pub fn from_lifecycle_number(number: i32) -> Option<PoolChange> {
        PoolChange::LIFECYCLE.get(usize::try_from(number).ok()?).copied()
    }
}

/// Something that happened to a volume, by whoever's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEvent {
    /// The pool that it is in.
    pub pool: PoolRef,
    /// Its name.
    pub volume: Name,
    /// What happened.
    pub change: VolumeChange,
}

/// The changes that volume events tell of. libvirt has no such events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeChange {
    /// It is there, and was not before.
    Added,
    /// It is gone.
    Removed,
    /// Its size, format, permissions or content are not what they were. What a guest writes into it is no such change.
    Changed,
}

impl VolumeChange {
    const ALL: [VolumeChange; 3] = [VolumeChange::Added, VolumeChange::Removed, VolumeChange::Changed];

    /// The number that stands for it on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// What this number stands for.
    pub fn from_number(number: i32) -> Option<VolumeChange> {
        VolumeChange::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeChange::Added => "added",
            VolumeChange::Removed => "removed",
            VolumeChange::Changed => "changed",
        }
    }
}

/// Something that happened to a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEvent {
    /// The secret.
    pub secret: SecretId,
    /// What happened.
    pub change: SecretChange,
}

/// The changes that libvirt's secret events tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretChange {
    /// It was defined, or its definition changed.
    Defined,
    /// It went.
    Undefined,
    /// Its value was set.
    ValueChanged,
}

impl SecretChange {
    /// Those with a number of `virSecretEventLifecycleType`, in its order.
    const LIFECYCLE: [SecretChange; 2] = [SecretChange::Defined, SecretChange::Undefined];

    /// The number among lifecycle events; `None` for a new value, which is an event of another kind.
    pub fn lifecycle_number(self) -> Option<i32> {
        SecretChange::LIFECYCLE.iter().position(|change| *change == self).map(|number| number as i32)
    }

    /// The lifecycle event with this number.
    pub fn from_lifecycle_number(number: i32) -> Option<SecretChange> {
        SecretChange::LIFECYCLE.get(usize::try_from(number).ok()?).copied()
    }
}
