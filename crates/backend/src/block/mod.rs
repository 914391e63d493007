//! The block family: pools whose volumes are devices.

pub(crate) mod luns;
pub(crate) mod mapped;
mod signature;
pub(crate) mod watch;

pub(crate) use signature::{check_all_empty, erase};

use crate::content::{self, Durable, local_path, open_file};
use crate::{Access, Content, Environment, Found, VolumeIo, Volumes, error, qemu_img, waiting};
use cenote_host::{Undo, attributes, stat_at};
use cenote_image::convert::Source;
use cenote_image::{ReadAt, device};
use cenote_model::flags::{CreateOptions, WipeAlgorithm};
use cenote_model::format::ImageFormat;
use cenote_model::pool::Usage;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Name, PoolDef, Result, VolumeDef};
use rustix::fs::{CWD, FileType};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a device may take to appear after it was made.
const APPEARING: Duration = Duration::from_secs(20);
/// The header of a LUKS volume takes this of it.
const LUKS_HEADER: u64 = 2 << 20;

/// The content of volumes that are devices.
pub(crate) struct Devices;

impl Content for Devices {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        content::open(local_path(volume)?, access, Durable::Now)
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        content::wipe_at(local_path(volume)?, algorithm, job)
    }
}

/// A volume that is the device at `path`, of which nothing else is known.
pub(crate) fn volume(name: Name, path: String, key: String) -> VolumeDef {
    VolumeDef { kind: VolumeKind::Block, key: Some(key), format: None, ..VolumeDef::file(name, path) }
}

/// How much larger than its capacity a device has to be.
pub(crate) fn header_of(volume: &VolumeDef) -> u64 {
    if volume.encryption.is_some() { LUKS_HEADER } else { 0 }
}

/// The only device of a definition.
pub(crate) fn only_device(def: &PoolDef) -> Result<&str> {
    match def.source.devices.as_slice() {
        [device] => Ok(&device.path),
        _ => Err(Error::new(Code::ConfigUnsupported, "expected exactly 1 device for the storage pool")),
    }
}

/// The volumes of a pool whose devices are given, and cannot be made here, as its scan finds them. One that cannot be read
/// now does not hide the others.
pub(crate) fn scan_given(
    devices: impl IntoIterator<Item = VolumeDef>,
    found: &mut dyn FnMut(Arc<VolumeDef>),
    job: &Job,
) -> Result<Found> {
    let mut usage = Usage::default();
    for mut volume in devices {
        if describe(&mut volume).unwrap_or(false) {
            usage.capacity += volume.capacity.unwrap_or(0);
            usage.allocation += volume.allocation.unwrap_or(0);
            found(Arc::new(volume));
            job.advance(1)?;
        }
    }
    Ok(Found::of(usage))
}

/// The links in a pool's target, such as `/dev/disk/by-path`, by the device that each leads to. Their names stay when those
/// of devices change. Of several for one device the first by name counts; in `/dev` itself there are none.
pub(crate) fn links(target: &str) -> BTreeMap<PathBuf, String> {
    let is_stable = target.strip_prefix("/dev").is_some_and(|rest| !matches!(rest, "" | "/"));
    let entries = is_stable.then(|| std::fs::read_dir(target).ok()).flatten();
    let mut links = BTreeMap::new();
    for name in
        entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
    {
        let link = format!("{target}/{name}");
        if let Ok(device) = std::fs::canonicalize(&link) {
            let known = links.entry(device).or_insert_with(|| link.clone());
            if link < *known {
                *known = link;
            }
        }
    }
    links
}

/// Fills in what the device itself tells. False if there is no device.
pub(crate) fn describe(volume: &mut VolumeDef) -> Result<bool> {
    let path = local_path(volume)?.to_owned();
    let failed = |what: &str, e| Error::system(format!("cannot {what} '{path}'"), &e);
    let file = match open_file(&path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound) => return Ok(false),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => return Ok(false),
        Err(e) => return Err(failed("open volume", e)),
    };
    let size = file.size().map_err(|e| failed("seek to end of file", e))?;
    describe_sized(volume, size)
}

/// The same where the size is known: the device, which some take their time to open, is not opened.
pub(crate) fn describe_sized(volume: &mut VolumeDef, size: u64) -> Result<bool> {
    let path = Path::new(local_path(volume)?);
    let failed = |what: &str, e| Error::system(format!("cannot {what} '{}'", path.display()), &e);
    let found = match stat_at(CWD, path) {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound) => return Ok(false),
        Err(e) => return Err(failed("stat file", e)),
    };
    if found.kind != FileType::BlockDevice {
        return Ok(false);
    }
    let label = attributes::label_at(path).map_err(|e| failed("get label of", e))?;
    volume.capacity = Some(size);
    volume.allocation = Some(size);
    volume.physical = Some(size).filter(|size| *size != 0);
    volume.permissions = found.permissions;
    volume.permissions.label = label;
    volume.timestamps = Some(found.timestamps);
    Ok(true)
}

/// A volume of which nothing else can have changed, with what udev says of its device now. `None` if there is no device.
pub(crate) fn still(known: Arc<VolumeDef>) -> Result<Option<Arc<VolumeDef>>> {
    let mut now = (*known).clone();
    let is_there = describe_sized(&mut now, known.capacity.unwrap_or(0))?;
    now.allocation = known.allocation;
    Ok(is_there.then(|| if now == *known { known } else { Arc::new(now) }))
}

/// A volume that is known, with what its device tells now, and its allocation as it was known.
pub(crate) fn look_at(known: &VolumeDef) -> Result<Option<VolumeDef>> {
    let mut volume = known.clone();
    let is_there = describe(&mut volume)?;
    let was_whole = known.allocation == known.capacity;
    if !was_whole {
        volume.allocation = known.allocation;
    }
    Ok(is_there.then_some(volume))
}

/// Waits until the device that was made at this path is there.
pub(crate) fn wait_for(environment: &Environment, path: &str, job: &Job) -> Result<()> {
    wait_until(environment, path, || Path::new(path).exists(), job)
}

/// Waits until the device that was made is there, wherever that is.
pub(crate) fn wait_until(
    environment: &Environment,
    device: &str,
    is_there: impl Fn() -> bool,
    job: &Job,
) -> Result<()> {
    settle(environment, job);
    waiting::until(APPEARING, job, || is_there().then_some(()))?.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!(
                "the device '{device}' was made but does not appear: udev does not run, or the kernel does not know \
                 what it is"
            ),
        )
    })
}

/// Waits until udev has dealt with what has happened. Where there is no udev there is nothing to wait for.
pub(crate) fn settle(environment: &Environment, job: &Job) {
    if let Ok(udevadm) = environment.host.tool("udevadm") {
        let _ = udevadm.args(["settle", "--timeout=20"]).run(job);
    }
}

/// Makes a volume with the content of another, for `Volumes::create_from`. `no_sharing` says why blocks are not shared.
pub(crate) fn create_from(
    volumes: &impl Volumes,
    environment: &Environment,
    (planned, source): (&VolumeDef, &VolumeDef),
    options: CreateOptions,
    no_sharing: &str,
    job: &Job,
) -> Result<()> {
    if options.reflink {
        return Err(Error::new(Code::ConfigUnsupported, no_sharing));
    }
    volumes.create(planned, options, job)?;
    let mut undo = Undo::new();
    undo.push(|| drop(volumes.delete(planned, &waiting::look("undoing a copy"))));
    // Where it is may be known only now.
    let path = volumes.probe(&planned.name)?.and_then(|made| made.path);
    let made = VolumeDef { path: path.or_else(|| planned.path.clone()), ..planned.clone() };
    fill(environment, &made, source, job)?;
    undo.disarm();
    Ok(())
}

/// Removes a volume, for `Volumes::delete`: what is gone already is no error, and what udev looks at just now can be removed
/// a moment later.
pub(crate) fn remove(
    environment: &Environment,
    remove: impl Fn() -> Result<()>,
    is_there: impl FnOnce() -> Result<bool>,
    job: &Job,
) -> Result<()> {
    if remove().is_ok() || !is_there()? {
        return Ok(());
    }
    settle(environment, job);
    remove()
}

/// Puts the content of another volume onto a device that was made for it.
pub(crate) fn fill(
    environment: &Environment,
    planned: &VolumeDef,
    source: &VolumeDef,
    job: &Job,
) -> Result<()> {
    let (path, from) = (local_path(planned)?, local_path(source)?);
    let is_plain = planned.encryption.is_none() && source.encryption.is_none();
    let open_device = || -> Result<File> {
        open_file(path, OpenOptions::new().write(true))
            .map_err(|e| Error::system(format!("Failed to open storage volume with path '{path}'"), &e))
    };
    let failed = |e| error::image(format!("cannot copy volume '{from}' to '{path}'"), e);
    match source.image_format() {
        ImageFormat::Raw | ImageFormat::Iso | ImageFormat::None if is_plain => {
            let input = cenote_image::open(Path::new(from))
                .map_err(|e| Error::system(format!("could not open input path '{from}'"), &e))?;
            let length = input.size().map_err(|e| failed(e.into()))?;
            device::copy_onto(&open_device()?, &input, length, job).map_err(failed)
        }
        format => match Source::open(Path::new(from), format) {
            Ok(input) if is_plain => device::convert_onto(&open_device()?, &input, job).map_err(failed),
            Err(e) if !matches!(e, cenote_image::Error::Unsupported(_)) => Err(failed(e)),
            _ => qemu_img::fill(environment, planned, source, Path::new(from), Path::new(path), job),
        },
    }
}
