//! Cenote's own program, for what libvirt has no procedure for. A client that does not know it never sees it.

use crate::procedures::{Call, PoolId};
use crate::xdr::xdr_struct;

/// The program's number.
pub const PROGRAM: u32 = 0x6365_6e6f;

xdr_struct! {
    /// Long work that is under way.
    pub struct JobRecord {
        /// Its number.
        pub id: u64,
        /// What it does.
        pub what: String,
        /// The pool whose storage it is at.
        pub pool: String,
        /// Bytes, or steps, that are done.
        pub done: u64,
        /// Of so many; 0 if that is not known.
        pub total: u64,
        /// How long it has run, in milliseconds.
        pub elapsed: u64,
        /// How long there has been no sign of life, in milliseconds.
        pub silence: u64,
        /// Not 0 if it has been asked to stop.
        pub cancelled: u32,
    }
}

xdr_struct! {
    /// Whether the storage of a pool answers.
    pub struct PoolHealth {
        /// 0 if it does, 1 if it is slow, 2 if it has been silent for too long.
        pub answering: u32,
        /// How old what is known of the pool may be, in milliseconds.
        pub age: u64,
    }
}

xdr_struct! {
    /// Something that happened to a volume.
    pub struct VolumeHappening {
        /// The callback that it is for.
        pub callback: i32,
        /// The pool.
        pub pool: PoolId,
        /// The volume's name.
        pub volume: String,
        /// What happened: added, removed, changed.
        pub change: i32,
    }
}

/// The number of the message that tells what happened to a volume.
pub const VOLUME_EVENT: i32 = 7;

macro_rules! own {
    ($($(#[$meta:meta])* $name:ident = $number:literal: $args:ty => $ret:ty;)+) => { $(
        $(#[$meta])*
        #[derive(Debug)]
        pub enum $name {}

        impl Call for $name {
            const PROGRAM: u32 = PROGRAM;
            const NUMBER: i32 = $number;
            type Args = $args;
            type Ret = $ret;
        }
    )+

        /// The name of the procedure with this number.
        pub fn name(procedure: i32) -> Option<&'static str> {
            match procedure { $($number => Some(stringify!($name)),)+ _ => None }
        }
    };
}

own! {
    /// The version of cenoted: who answers this is one.
    Version = 1: () => (String,);
    /// What is under way.
    JobList = 2: () => (Vec<JobRecord>,);
    /// Asks a job to stop.
    JobCancel = 3: (u64,) => ();
    /// Whether the storage of a pool answers.
    Health = 4: (PoolId,) => (PoolHealth,);
    /// Registers for what happens to volumes, of one pool or of all.
    VolumeEventRegister = 5: (Option<PoolId>,) => (i32,);
    /// Forgets a callback.
    VolumeEventDeregister = 6: (i32,) => ();
}
