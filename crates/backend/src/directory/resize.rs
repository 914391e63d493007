//! Changing the capacity of a volume.

use super::Directory;
use super::content::cannot_open;
use super::create::capacity_of;
use super::scan::PLOOP_IMAGE;
use crate::content::local_path;
use crate::{Growth, error, qemu_img};
use cenote_image::backing::Location;
use cenote_image::{qcow2, raw};
use cenote_model::format::ImageFormat;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use std::fs::File;

pub(super) fn resize(
    directory: &Directory,
    volume: &VolumeDef,
    capacity: u64,
    growth: Growth,
    job: &Job,
) -> Result<()> {
    let path = local_path(volume)?;
    let format = volume.image_format();
    if growth == Growth::Allocated && (format != ImageFormat::Raw || volume.encryption.is_some()) {
        let kind = if format == ImageFormat::Raw { "an unencrypted raw volume" } else { "raw type volume" };
        return Err(Error::new(
            Code::OperationUnsupported,
            format!("preallocate is only supported for {kind}"),
        ));
    }
    match format {
        ImageFormat::Raw if volume.encryption.is_none() => resize_raw(path, capacity, growth, job),
        ImageFormat::Qcow2 if volume.encryption.is_none() => {
            let resized = match backing_capacity(directory, volume) {
                Ok(backing) => qcow2::resize(&open(path)?, capacity, backing),
                Err(unknown) => Err(unknown),
            };
            match resized {
                Err(cenote_image::Error::Unsupported(_)) => {
                    qemu_img::resize(&directory.environment, volume, path, capacity, job)
                }
                resized => resized.map_err(|e| error::image(format!("cannot resize volume '{path}'"), e)),
            }
        }
        ImageFormat::Dir => Err(Error::new(
            Code::OperationInvalid,
            format!("volume '{}' is a directory: it has no capacity", volume.name),
        )),
        ImageFormat::Ploop => {
            let ploop = directory.host().tool("ploop").map_err(error::tool)?;
            let size = format!("{}M", capacity.div_ceil(1 << 20));
            let image = format!("{path}/{PLOOP_IMAGE}");
            ploop.args(["resize", "-s", &size, &image]).run(job).map_err(error::tool)?;
            Ok(())
        }
        _ => qemu_img::resize(&directory.environment, volume, path, capacity, job),
    }
}

/// The capacity of what a volume stands on. Where that cannot be found out, qemu-img has to.
fn backing_capacity(directory: &Directory, volume: &VolumeDef) -> Result<Option<u64>, cenote_image::Error> {
    let Some(backing) = &volume.backing else { return Ok(None) };
    let unknown = || cenote_image::Error::Unsupported("the backing image cannot be read".to_owned());
    let Location::Local(path) = Location::of(&backing.path, directory.path()) else { return Err(unknown()) };
    capacity_of(&path, backing.image_format()).map(Some).map_err(|_| unknown())
}

fn open(path: &str) -> Result<File> {
    File::options().read(true).write(true).open(path).map_err(|e| cannot_open(path, &e))
}

fn resize_raw(path: &str, capacity: u64, growth: Growth, job: &Job) -> Result<()> {
    let file = open(path)?;
    let before = file.metadata().map_err(|e| Error::system(format!("cannot stat file '{path}'"), &e))?.len();
    if growth == Growth::Allocated {
        raw::reserve(&file, 0, capacity, job)
            .inspect_err(|_| {
                // What was allocated beyond the old end goes; the old part may have lost holes, but nothing else.
                let _ = file.set_len(before);
            })
            .map_err(|e| error::image(format!("Failed to pre-allocate space for file '{path}'"), e))?;
    }
    file.set_len(capacity).map_err(|e| Error::system(format!("Failed to truncate file '{path}'"), &e))
}
