//! Disk image formats.
//!
//! Probing reads a bounded number of bytes and believes none of them. raw and qcow2 are made in-process; what else
//! there is, qemu-img makes (the `backend` crate runs it). Offsets and sizes are bytes.

#![warn(missing_docs)]

pub mod backing;
mod bytes;
pub mod convert;
pub mod copy;
pub mod device;
mod error;
mod io;
pub mod lvm;
mod open;
pub mod partitions;
pub mod probe;
pub mod qcow2;
pub mod raw;
mod sync;
pub mod wipe;

pub use error::{Error, Result};
pub use io::{ReadAt, WriteAt, read_full_at};
pub use open::open;
pub use probe::{Facts, probe};
pub use sync::sync_data;
