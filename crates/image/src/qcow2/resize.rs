//! Changing the size of an image in place.

use crate::convert::from_imago;
use crate::{Error, Result};
use imago::file::File as ImagoFile;
use imago::format::PreallocateMode;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Sets the capacity of the qcow2 image in this file, open for reading and writing.
///
/// [`Error::Unsupported`] says that the image is one for qemu-img: with internal snapshots, which keep the old size,
/// or with a feature that is not known here (`extended_l2`). Nothing is changed then.
pub fn resize(file: File, capacity: u64) -> Result<()> {
    let capacity = capacity.next_multiple_of(512);
    let mut snapshots = [0u8; 4];
    file.read_exact_at(&mut snapshots, 60)?;
    if u32::from_be_bytes(snapshots) != 0 {
        return Err(Error::unsupported("a qcow2 image with internal snapshots cannot be resized in place"));
    }
    let image = Qcow2::<ImagoFile>::builder(ImagoFile::try_from(file.try_clone()?)?)
        .write(true)
        .backing(None)
        .open(DenyImplicitOpenGate::default())
        .map_err(from_imago)?;
    let mut image = FormatAccess::new(image);
    image.resize(capacity, PreallocateMode::None)?;
    image.flush()?;
    drop(image);
    file.sync_data()?;
    Ok(())
}
