//! The bytes of volumes that have a path on this machine: files and devices.

use crate::{Access, Environment, VolumeIo, error};
use cenote_host::Unsynced;
use cenote_image::copy::next_data;
use cenote_image::{ReadAt, sync_data, wipe};
use cenote_model::flags::WipeAlgorithm;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// When what was written gets to its medium.
pub(crate) enum Durable {
    /// When writing is finished: a device, which no flush of file systems reaches.
    Now,
    /// With the next flush of the files in this folder.
    Later(Arc<Unsynced>, PathBuf),
}

/// Opens the bytes at a path.
pub(crate) fn open(path: &str, access: Access, durable: Durable) -> Result<Box<dyn VolumeIo>> {
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::Write => options.write(true),
    };
    let file = open_file(path, &mut options)
        .map_err(|e| Error::system(format!("Unable to open stream for '{path}'"), &e))?;
    Ok(Box::new(FileContent { file, durable }))
}

/// Overwrites the bytes at a path.
pub(crate) fn wipe_at(path: &str, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
    let (file, length) = open_whole(path)?;
    wipe::wipe(&file, length, algorithm, job)
        .map_err(|e| error::image(format!("cannot wipe volume '{path}'"), e))
}

/// Opens a file or device to change all of it, and tells its size.
fn open_whole(path: &str) -> Result<(File, u64)> {
    let file = open_file(path, OpenOptions::new().read(true).write(true))
        .map_err(|e| Error::system(format!("Failed to open storage volume with path '{path}'"), &e))?;
    let length = file.size().map_err(|e| Error::system(format!("cannot stat file '{path}'"), &e))?;
    Ok((file, length))
}

/// Makes a thin device give up its blocks, and what it keeps of them read as zeroes.
pub(crate) fn discard(environment: &Environment, path: &str, job: &Job) -> Result<()> {
    let blkdiscard = environment.host.tool("blkdiscard").map_err(error::tool)?;
    blkdiscard.args(["--force", "--", path]).run(job).map_err(error::tool)?;
    let (file, length) = open_whole(path)?;
    wipe::zero_what_is_left(&file, length, job)
        .map_err(|e| error::image(format!("cannot wipe volume '{path}'"), e))
}

/// The path of a volume that must have one.
pub(crate) fn local_path(volume: &VolumeDef) -> Result<&str> {
    volume.path.as_deref().ok_or_else(|| {
        Error::new(Code::Internal, format!("volume '{}' has no path on this machine", volume.name))
    })
}

/// Opens a file or device without waiting for anything, and without making a terminal this process's own.
pub(crate) fn open_file(path: &str, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags((OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32).open(path)
}

struct FileContent {
    file: File,
    durable: Durable,
}

impl VolumeIo for FileContent {
    fn size(&self) -> io::Result<u64> {
        ReadAt::size(&self.file)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, data, offset)
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or_else(|| io::Error::other("offset too large"))?;
        if length == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => write_zeroes(&self.file, offset, end)?,
            Err(e) => return Err(e.into()),
        }
        // A hole beyond the end makes the file longer.
        if self.file.metadata()?.is_file() && self.size()? < end {
            self.file.set_len(end)?;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        next_data(&self.file, offset, self.size()?)
    }

    fn finish(&self) -> io::Result<()> {
        match &self.durable {
            Durable::Now => sync_data(&self.file, || {}),
            Durable::Later(unsynced, folder) => unsynced.later(self.file.try_clone()?, folder),
        }
    }
}

fn write_zeroes(file: &File, mut offset: u64, end: u64) -> io::Result<()> {
    let zeroes = [0u8; 64 << 10];
    // Zeroes that would only make the file longer are left to its size.
    let end = end.min(ReadAt::size(file)?);
    while offset < end {
        let step = zeroes.len().min((end - offset) as usize);
        FileExt::write_all_at(file, &zeroes[..step], offset)?;
        offset += step as u64;
    }
    Ok(())
}
