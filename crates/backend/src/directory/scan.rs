//! Finding volumes and describing them.

use super::Directory;
use crate::{Earlier, Found, images};
use cenote_host::{FileStat, attributes, is_hidden, space, stat, stat_at, sweep};
use cenote_image::backing::{Location, json_format};
use cenote_image::probe::{self, BackingName, Facts, probe_named};
use cenote_model::format::{ImageFormat, VolumeFormat};
use cenote_model::permissions::Permissions;
use cenote_model::volume::{BackingStore, VolumeKind};
use cenote_model::{Code, Error, Job, Name, Result, VolumeDef};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, open, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// From so many files on they are read by several threads.
const MANY: usize = 500;
/// So many threads, at most: more gain nothing on one disk.
const MAX_WORKERS: usize = 4;

/// The coarsest clock of a file system that there is is FAT's, with two seconds.
const TICK: Duration = Duration::from_secs(3);

impl Directory {
    /// Finds all volumes. What is no volume (sockets, pipes, links to nowhere, names that are no text) is passed over,
    /// and so is what vanishes meanwhile or may not be read.
    pub fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let folder = self.open_folder()?;
        let names = self.names(&folder)?;
        let workers = match names.len() {
            0..MANY => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
        };
        let describe = |names: &[Name]| -> Result<Vec<Arc<VolumeDef>>> {
            let mut volumes = Vec::with_capacity(names.len());
            for name in names {
                let known = earlier.and_then(|earlier| still_known(earlier, folder.as_fd(), name));
                match known {
                    Some(volume) => volumes.push(volume),
                    None => {
                        let path = Path::new(name.as_str());
                        volumes.extend(self.describe(folder.as_fd(), path, name.clone())?.map(Arc::new));
                    }
                }
                job.advance(1)?;
            }
            Ok(volumes)
        };
        let parts: Vec<&[Name]> = names.chunks(names.len().div_ceil(workers).max(1)).collect();
        let described: Vec<_> = std::thread::scope(|scope| {
            let (first, others) =
                parts.split_first().map_or((&[][..], &[][..]), |(first, rest)| (*first, rest));
            let others: Vec<_> = others.iter().map(|part| scope.spawn(|| describe(part))).collect();
            let first = describe(first);
            let broken = |_| Err(Error::new(Code::Internal, "a thread that described volumes broke off"));
            std::iter::once(first)
                .chain(others.into_iter().map(|part| part.join().unwrap_or_else(broken)))
                .collect()
        });
        for part in described {
            part?.into_iter().for_each(&mut *found);
        }
        self.measure()
    }

    /// The names of what may be volumes. Incomplete ones whose maker is gone are removed.
    fn names(&self, folder: &OwnedFd) -> Result<Vec<Name>> {
        let failed =
            |e: Errno| Error::system(format!("cannot read directory '{}'", self.path().display()), &e.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if is_hidden(name.to_bytes()) {
                sweep(&self.path().join(OsStr::from_bytes(name.to_bytes())));
                continue;
            }
            if !may_be_volume(entry.file_type()) {
                continue;
            }
            names.extend(name.to_str().ok().and_then(|name| Name::volume(name).ok()));
        }
        Ok(names)
    }

    /// How full it is, and what permissions it has.
    pub fn measure(&self) -> Result<Found> {
        let folder = File::from(self.open_folder()?);
        let failed = |what: &str, e: io::Error| {
            Error::system(format!("cannot {what} path '{}'", self.path().display()), &e)
        };
        let mut permissions = stat(&folder).map_err(|e| failed("stat", e))?.permissions;
        permissions.label = attributes::label(&folder).map_err(|e| failed("get label of", e))?;
        let space = space(self.path()).map_err(|e| failed("statvfs", e))?;
        Ok(Found { usage: space.usage(), permissions: Some(permissions), free_extents: Vec::new() })
    }

    fn open_folder(&self) -> Result<OwnedFd> {
        self.check_condition()?;
        open(self.path(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
            Error::system(format!("cannot open directory '{}'", self.path().display()), &e.into())
        })
    }

    /// The volume of this name, opened as `entry` of `folder`; `None` if it is no volume.
    fn describe(&self, folder: BorrowedFd<'_>, entry: &Path, name: Name) -> Result<Option<VolumeDef>> {
        let path = self.path_of(&name);
        // Without NONBLOCK a pipe that took a file's place would hold us up.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(folder, entry, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(e) => return Err(Error::system(format!("cannot open volume '{path}'"), &e.into())),
        };
        let failed = |what: &str, e: io::Error| Error::system(format!("cannot {what} file '{path}'"), &e);
        let found = stat(&file).map_err(|e| failed("stat", e))?;
        if !matches!(found.kind, FileType::RegularFile | FileType::Directory | FileType::BlockDevice) {
            return Ok(None);
        }
        let mut volume = VolumeDef::file(name, path.clone());
        volume.permissions = found.permissions.clone();
        volume.permissions.label = attributes::label(&file).map_err(|e| failed("get label of", e))?;
        volume.timestamps = Some(found.timestamps);
        if found.kind == FileType::Directory {
            // One whose image cannot be read is a directory like any other.
            if !is_ploop(&file) || self.describe_ploop(&mut volume, Path::new(&path)).is_err() {
                volume.kind = VolumeKind::Dir;
                volume.format = Some(VolumeFormat::Image(ImageFormat::Dir));
            }
            return Ok(Some(volume));
        }
        // A file whose header cannot be read is still a volume: it must not hide the others.
        if self.describe_image(&mut volume, &file, &found).is_err() {
            volume.capacity = Some(found.size);
            volume.allocation = Some(found.allocated);
        }
        Ok(Some(volume))
    }

    fn describe_image(&self, volume: &mut VolumeDef, file: &File, found: &FileStat) -> io::Result<()> {
        let (size, allocated) = match found.kind {
            FileType::RegularFile => (found.size, found.allocated),
            _ => {
                let size = cenote_image::ReadAt::size(file)?;
                (size, size)
            }
        };
        let facts = probe_named(file, volume.name.as_str())?;
        volume.capacity = Some(facts.capacity.filter(|capacity| *capacity != 0).unwrap_or(size));
        volume.allocation = Some(allocated);
        volume.physical = Some(size).filter(|size| *size != 0);
        volume.format = Some(VolumeFormat::Image(facts.format));
        self.fill_in(volume, facts);
        Ok(())
    }

    /// What the header says beyond format and size.
    fn fill_in(&self, volume: &mut VolumeDef, facts: Facts) {
        let backing = images::fill_in(volume, facts, &self.environment);
        volume.backing = backing.map(|backing| self.describe_backing(backing));
    }

    fn describe_backing(&self, backing: BackingName) -> BackingStore {
        let Location::Local(path) = Location::of(&backing.name, self.path()) else {
            return BackingStore {
                path: backing.name,
                format: Some(VolumeFormat::Image(ImageFormat::Raw)),
                permissions: Default::default(),
                timestamps: None,
            };
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::empty()).ok().map(File::from);
        let known = backing.format.or_else(|| json_format(&backing.name));
        // An image that cannot be opened now may be there later: it is no reason to lose the volume.
        let format = known.unwrap_or_else(|| {
            file.as_ref()
                .and_then(|file| probe::probe(file).ok())
                .map_or(ImageFormat::Raw, |facts| facts.format)
        });
        let found = file.as_ref().and_then(|file| stat(file).ok());
        BackingStore {
            path: path.display().to_string(),
            format: Some(VolumeFormat::Image(format)),
            permissions: found.as_ref().map(|found| found.permissions.clone()).unwrap_or_default(),
            timestamps: found.map(|found| found.timestamps),
        }
    }

    fn describe_ploop(&self, volume: &mut VolumeDef, path: &Path) -> io::Result<()> {
        let file = cenote_image::open(&path.join(PLOOP_IMAGE))?;
        let found = stat(&file)?;
        self.describe_image(volume, &file, &found)?;
        volume.kind = VolumeKind::Ploop;
        Ok(())
    }
}

/// The volume as it was found before, with what can be seen from outside as it is now, if its content cannot have
/// changed. What depends on other files, or on secrets, is looked at anew.
fn still_known(earlier: Earlier<'_>, folder: BorrowedFd<'_>, name: &Name) -> Option<Arc<VolumeDef>> {
    let known = (earlier.volume)(name)?;
    if known.kind != VolumeKind::File || known.backing.is_some() || known.encryption.is_some() {
        return None;
    }
    let (before, physical) = (known.timestamps?, known.physical?);
    // A file that changes twice within a tick of its clock has the same times afterwards.
    let settled = earlier.began.checked_sub(TICK)?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    if before.mtime.seconds.max(before.ctime.seconds) >= settled {
        return None;
    }
    let now = stat_at(folder, Path::new(name.as_str())).ok()?;
    let is_same = now.kind == FileType::RegularFile
        && now.size == physical
        && now.timestamps.mtime == before.mtime
        && now.timestamps.ctime == before.ctime;
    if !is_same {
        return None;
    }
    let permissions = Permissions { label: known.permissions.label.clone(), ..now.permissions };
    let (timestamps, allocation) = (Some(now.timestamps), Some(now.allocated));
    if known.permissions == permissions && known.timestamps == timestamps && known.allocation == allocation {
        return Some(known);
    }
    Some(Arc::new(VolumeDef { permissions, timestamps, allocation, ..(*known).clone() }))
}

/// A ploop volume is a directory with these files.
pub(super) const PLOOP_IMAGE: &str = "root.hds";
const PLOOP_DESCRIPTOR: &str = "DiskDescriptor.xml";

fn is_ploop(folder: &File) -> bool {
    [PLOOP_IMAGE, PLOOP_DESCRIPTOR]
        .iter()
        .all(|name| openat(folder, *name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok())
}

/// What the directory says of an entry's type, so that what is no volume need not be opened.
fn may_be_volume(kind: FileType) -> bool {
    !matches!(kind, FileType::Fifo | FileType::Socket | FileType::CharacterDevice)
}

pub(super) fn probe(directory: &Directory, name: &Name) -> Result<Option<VolumeDef>> {
    if is_hidden(name.as_str().as_bytes()) {
        return Ok(None);
    }
    let path = directory.path().join(name.as_str());
    directory.describe(CWD, &path, name.clone())
}
