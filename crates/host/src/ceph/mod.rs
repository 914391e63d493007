//! Ceph's libraries, loaded at run time. What is opened is closed by its owner, once, and holds what it was opened in:
//! transfers their image, images and calls their pool, pools their cluster.

mod rados;
mod rbd;

pub use rados::{Call, Calling, Cluster, ClusterUsage, Connecting, Pool};
pub use rbd::{Image, ImageInfo, ImageName, Mode, Snapshot, Told, Transfer, Watcher, Whose, Zeroes};

use std::ffi::c_int;
use std::io;

/// Both libraries return the negative number of an error.
fn succeeded(result: c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.checked_neg().unwrap_or(c_int::MAX))),
    }
}
