//! Making volumes.

use super::build::make;
use super::{Directory, VOLUME_MODE};
use crate::content::local_path;
use crate::permissions::{apply, apply_to_file};
use crate::{error, images, qemu_img, sharing};
use cenote_host::attributes::{CopyOnWrite, set_copy_on_write};
use cenote_host::{NewFile, Undo, sync_folder};
use cenote_image::backing::Location;
use cenote_image::convert::Source;
use cenote_image::copy::{self, Zeroes};
use cenote_image::qcow2::{self, Options, Preallocation};
use cenote_image::sync_data;
use cenote_image::{probe, raw};
use cenote_model::flags::CreateOptions;
use cenote_model::format::ImageFormat;
use cenote_model::permissions::Permissions;
use cenote_model::volume::{BackingStore, VolumeKind};
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use std::fs::File;
use std::path::Path;

/// When a new volume has to be on its medium.
enum Durable<'s> {
    /// Before it is announced, which is a part of this job.
    Now(&'s Job),
    /// With the next flush, or before this volume is given up, of which it is a copy.
    After(&'s str),
    /// With the next flush: it is empty, and many may be made.
    Empty,
}

pub(super) fn create(dir: &Directory, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
    match planned.image_format() {
        ImageFormat::Raw if planned.encryption.is_none() => create_raw(dir, planned, options, job),
        ImageFormat::Qcow2 if planned.encryption.is_none() => create_qcow2(dir, planned, options, job),
        ImageFormat::Dir => create_dir(planned, options),
        ImageFormat::Ploop => create_ploop(dir, planned, job),
        _ => {
            qemu_img::check(planned, options)?;
            with_hidden_file(dir, planned, job, |path| {
                let capacity = capacity_or_backing(dir, planned)?;
                qemu_img::create(&dir.environment, planned, path, capacity, options, job)
            })
        }
    }
}

pub(super) fn create_from(
    dir: &Directory,
    planned: &VolumeDef,
    source: &VolumeDef,
    options: CreateOptions,
    job: &Job,
) -> Result<()> {
    if planned.kind == VolumeKind::Dir {
        return Err(Error::new(Code::Internal, "cannot copy from volume to a directory volume"));
    }
    if source.kind == VolumeKind::Dir {
        return Err(Error::new(
            Code::OperationInvalid,
            format!("volume '{}' is a directory: it cannot be copied to a volume", source.name),
        ));
    }
    if planned.kind == VolumeKind::Ploop || source.kind == VolumeKind::Ploop {
        return Err(Error::new(Code::NoSupport, "copying ploop volumes is not supported"));
    }
    let is_plain = |volume: &VolumeDef| volume.encryption.is_none();
    let (from, to) = (source.image_format(), planned.image_format());
    let reads_as_raw = matches!(from, ImageFormat::Raw | ImageFormat::Iso);
    if reads_as_raw
        && matches!(to, ImageFormat::Raw | ImageFormat::Iso)
        && is_plain(source)
        && is_plain(planned)
    {
        return copy_raw(dir, planned, source, options, job);
    }
    if options.reflink {
        return Err(Error::new(
            Code::ConfigUnsupported,
            "blocks can be shared between raw volumes only: leave out --reflink, or clone to format raw",
        ));
    }
    qemu_img::check(planned, options)?;
    if is_plain(source) && is_plain(planned) && !options.prealloc_metadata {
        match convert(dir, planned, source, job) {
            Err(cenote_image::Error::Unsupported(_)) => {}
            converted => {
                let path = local_path(source)?;
                return converted.map_err(|e| error::image(format!("cannot convert volume '{path}'"), e))?;
            }
        }
    }
    with_hidden_file(dir, planned, job, |path| {
        qemu_img::convert(&dir.environment, planned, source, path, options, job)
    })
}

fn create_raw(dir: &Directory, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
    check_raw(planned, options)?;
    let path = local_path(planned)?;
    let capacity = planned.capacity.unwrap_or(0);
    let new = new_file(dir, planned)?;
    extend(new.file(), path, capacity)?;
    let allocation = planned.allocation.unwrap_or(capacity).min(capacity);
    allocate(new.file(), path, allocation, job)?;
    publish(dir, new, planned, if allocation == 0 { Durable::Empty } else { Durable::Now(job) })
}

fn check_raw(planned: &VolumeDef, options: CreateOptions) -> Result<()> {
    if options.prealloc_metadata {
        return Err(Error::new(
            Code::ConfigUnsupported,
            "metadata preallocation is not supported for raw volumes",
        ));
    }
    if planned.backing.is_some() {
        return Err(Error::new(Code::NoSupport, "backing storage not supported for raw volumes"));
    }
    Ok(())
}

fn extend(file: &File, path: &str, capacity: u64) -> Result<()> {
    file.set_len(capacity).map_err(|e| Error::system(format!("cannot extend file '{path}'"), &e))
}

fn allocate(file: &File, path: &str, bytes: u64, job: &Job) -> Result<()> {
    raw::reserve(file, 0, bytes, job)
        .map_err(|e| error::image(format!("cannot allocate {bytes} bytes in file '{path}'"), e))
}

fn copy_raw(
    dir: &Directory,
    planned: &VolumeDef,
    source: &VolumeDef,
    options: CreateOptions,
    job: &Job,
) -> Result<()> {
    check_raw(planned, CreateOptions { reflink: false, ..options })?;
    let (path, from) = (local_path(planned)?, local_path(source)?);
    let input = cenote_image::open(Path::new(from))
        .map_err(|e| Error::system(format!("could not open input path '{from}'"), &e))?;
    let failed = |e| error::image(format!("failed to clone files from '{from}'"), e);
    let length = cenote_image::ReadAt::size(&input).map_err(|e| failed(e.into()))?;
    let capacity = planned.capacity.unwrap_or(0).max(length);
    let new = new_file(dir, planned)?;
    let allocation = planned.allocation.unwrap_or(capacity).min(capacity);
    // Who asks for less than the source takes wants a sparse copy.
    let zeroes = if allocation < source.allocation.unwrap_or(0) { Zeroes::Dropped } else { Zeroes::Kept };
    copy::copy(&input, new.file(), length, sharing(options), zeroes, job).map_err(failed)?;
    extend(new.file(), path, capacity)?;
    // Sharing blocks and taking new ones exclude each other.
    if allocation >= length && !options.reflink {
        allocate(new.file(), path, allocation, job)?;
    }
    publish(dir, new, planned, Durable::Now(job))
}

fn create_qcow2(dir: &Directory, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
    let path = local_path(planned)?;
    let capacity = capacity_or_backing(dir, planned)?;
    let wanted = qcow2_options(dir, planned, capacity)?;
    let preallocation = images::preallocation(planned, capacity, options);
    let new = new_file(dir, planned)?;
    qcow2::create(new.file(), &wanted, preallocation, job)
        .map_err(|e| error::image(format!("cannot create volume '{path}'"), e))?;
    let durable = if preallocation == Preallocation::Off { Durable::Empty } else { Durable::Now(job) };
    publish(dir, new, planned, durable)
}

/// What the definition asks of a qcow2 image, whose backing store has to be there.
fn qcow2_options(dir: &Directory, planned: &VolumeDef, capacity: u64) -> Result<Options> {
    if let Some(backing) = &planned.backing {
        check_backing(dir, backing)?;
    }
    images::qcow2_options(planned, capacity)
}

/// Refuses a backing image on this machine that cannot be read.
fn check_backing(dir: &Directory, backing: &BackingStore) -> Result<()> {
    if let Location::Local(path) = Location::of(&backing.path, dir.path()) {
        cenote_image::open(&path)
            .map_err(|e| Error::system(format!("inaccessible backing store volume {}", backing.path), &e))?;
    }
    Ok(())
}

/// The capacity that was asked for, or that of the backing image.
fn capacity_or_backing(dir: &Directory, planned: &VolumeDef) -> Result<u64> {
    match (planned.capacity.filter(|capacity| *capacity != 0), &planned.backing) {
        (Some(capacity), _) => Ok(capacity),
        (None, None) => Ok(planned.capacity.unwrap_or(0)),
        (None, Some(backing)) => {
            check_backing(dir, backing)?;
            let Location::Local(path) = Location::of(&backing.path, dir.path()) else {
                return Err(Error::new(
                    Code::ConfigUnsupported,
                    format!("the capacity of backing store volume {} is unknown: give one", backing.path),
                ));
            };
            capacity_of(&path, backing.image_format())
                .map_err(|e| Error::system(format!("cannot read backing store volume {}", backing.path), &e))
        }
    }
}

/// The size that a guest sees of an image.
pub(super) fn capacity_of(path: &Path, format: ImageFormat) -> std::io::Result<u64> {
    let file = cenote_image::open(path)?;
    match probe::describe(&file, format)?.capacity {
        Some(capacity) => Ok(capacity),
        None => cenote_image::ReadAt::size(&file),
    }
}

/// Converts in-process. The outer error says that the images are ones for qemu-img, or what is wrong with them.
fn convert(
    dir: &Directory,
    planned: &VolumeDef,
    source: &VolumeDef,
    job: &Job,
) -> Result<Result<()>, cenote_image::Error> {
    let to = planned.image_format();
    if !matches!(to, ImageFormat::Raw | ImageFormat::Qcow2) {
        return Err(cenote_image::Error::Unsupported(format!("{to} images are not written in-process")));
    }
    let from = match local_path(source) {
        Ok(path) => path,
        Err(error) => return Ok(Err(error)),
    };
    let input = Source::open(Path::new(from), source.image_format())?;
    let capacity = planned.capacity.unwrap_or(0).max(input.capacity());
    let prepared = new_file(dir, planned).and_then(|new| {
        // What a converted volume stood on is in it.
        let alone = VolumeDef { backing: None, ..planned.clone() };
        Ok((new, qcow2_options(dir, &alone, capacity)?))
    });
    let (new, options) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    match to {
        ImageFormat::Qcow2 => input.to_qcow2(new.file(), options, job)?,
        _ => input.to_raw(new.file(), capacity, job)?,
    }
    Ok(publish(dir, new, planned, Durable::After(from)))
}

fn create_dir(planned: &VolumeDef, options: CreateOptions) -> Result<()> {
    if options.prealloc_metadata {
        return Err(Error::new(
            Code::ConfigUnsupported,
            "metadata preallocation is not supported for directory volumes",
        ));
    }
    if planned.backing.is_some() {
        return Err(Error::new(Code::NoSupport, "backing storage not supported for directories volumes"));
    }
    let path = Path::new(local_path(planned)?);
    let wanted = permissions(planned);
    make(path, 0o700)?;
    let mut undo = Undo::new();
    undo.push(|| drop(std::fs::remove_dir(path)));
    apply(path, &wanted)?;
    undo.disarm();
    Ok(())
}

fn create_ploop(dir: &Directory, planned: &VolumeDef, job: &Job) -> Result<()> {
    let path = local_path(planned)?;
    let tool = dir
        .host()
        .tool("ploop")
        .map_err(|_| Error::new(Code::Internal, "unable to find ploop, please install ploop tools"))?;
    make(Path::new(path), 0o700)?;
    let mut undo = Undo::new();
    undo.push(|| drop(std::fs::remove_dir_all(path)));
    let size = format!("{}M", planned.capacity.unwrap_or(0).div_ceil(1 << 20));
    let image = format!("{path}/{}", super::scan::PLOOP_IMAGE);
    tool.args(["init", "-s", &size, "-t", "ext4", &image]).run(job).map_err(error::tool)?;
    apply(Path::new(path), &permissions(planned))?;
    undo.disarm();
    Ok(())
}

/// Lets a tool make the volume under a hidden name.
fn with_hidden_file(
    dir: &Directory,
    planned: &VolumeDef,
    job: &Job,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let new = NewFile::create_hidden(dir.path()).map_err(|e| cannot_create(planned, &e))?;
    set_nocow(&new, planned)?;
    if let Some(path) = new.path() {
        make(path)?;
    }
    publish(dir, new, planned, Durable::Now(job))
}

fn new_file(dir: &Directory, planned: &VolumeDef) -> Result<NewFile> {
    let new = NewFile::create(dir.path()).map_err(|e| cannot_create(planned, &e))?;
    set_nocow(&new, planned)?;
    Ok(new)
}

fn set_nocow(new: &NewFile, planned: &VolumeDef) -> Result<()> {
    if planned.nocow {
        set_copy_on_write(new.file(), CopyOnWrite::Off)
            .map_err(|e| Error::system(format!("cannot set NOCOW for volume '{}'", planned.name), &e))?;
    }
    Ok(())
}

fn permissions(planned: &VolumeDef) -> Permissions {
    let wanted = planned.permissions.clone();
    Permissions { mode: wanted.mode.or(Some(VOLUME_MODE)), ..wanted }
}

fn publish(dir: &Directory, new: NewFile, planned: &VolumeDef, durable: Durable<'_>) -> Result<()> {
    let path = local_path(planned)?;
    let wanted = permissions(planned);
    if wanted != (Permissions { mode: Some(VOLUME_MODE), ..Permissions::default() }) {
        apply_to_file(new.file(), path, &wanted)?;
    }
    if let Durable::Now(job) = durable {
        sync_data(new.file(), || job.alive())
            .map_err(|e| Error::system(format!("cannot sync data to file '{path}'"), &e))?;
    }
    let file = new.publish(Path::new(path)).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Code::OperationInvalid, format!("volume target path '{path}' already exists"))
        }
        _ => cannot_create(planned, &e),
    })?;
    let unsynced = &dir.environment.unsynced;
    let synced = match durable {
        Durable::Now(_) => sync_folder(dir.path()),
        Durable::After(source) => {
            unsynced.later_copy(file, Path::new(source), Path::new(path));
            Ok(())
        }
        Durable::Empty => unsynced.later(file, dir.path()),
    };
    synced.map_err(|e| {
        let _ = std::fs::remove_file(path);
        Error::system(format!("cannot sync the name of file '{path}'"), &e)
    })
}

fn cannot_create(planned: &VolumeDef, cause: &std::io::Error) -> Error {
    let path = planned.path.as_deref().unwrap_or_default();
    Error::system(format!("Failed to create file '{path}'"), cause)
}
