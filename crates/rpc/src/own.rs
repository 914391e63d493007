//! Cenote's own program, for what libvirt has no procedure for. A client that does not know it never sees it.

use crate::procedures::Call;
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
        /// Bytes, or steps, that are done.
        pub done: u64,
        /// Of so many; 0 if that is not known.
        pub total: u64,
        /// How long it has run, in milliseconds.
        pub elapsed: u64,
    }
}

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
    )+ };
}

own! {
    /// The version of cenoted: who answers this is one.
    Version = 1: () => (String,);
    /// What is under way.
    JobList = 2: () => (Vec<JobRecord>,);
    /// Asks a job to stop.
    JobCancel = 3: (u64,) => ();
}
