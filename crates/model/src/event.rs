//! What is told to those who watch pools.

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
