//! The bytes of a volume.

use super::scan::PLOOP_IMAGE;
use super::{Directory, local_path};
use crate::{Access, Content, VolumeIo, error};
use cenote_host::Unsynced;
use cenote_image::ReadAt;
use cenote_image::copy::next_data;
use cenote_image::wipe::wipe;
use cenote_model::error::cause_text;
use cenote_model::flags::WipeAlgorithm;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

impl Content for Directory {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.write(true),
        };
        let path = content_path(volume)?;
        let file = open(&path, &mut options)
            .map_err(|e| Error::system(format!("Unable to open stream for '{path}'"), &e))?;
        let unsynced = Arc::clone(&self.environment.unsynced);
        Ok(Box::new(FileContent { file, unsynced, folder: self.path().to_owned() }))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        let path = content_path(volume)?;
        let file = open(&path, OpenOptions::new().read(true).write(true))
            .map_err(|e| Error::system(format!("Failed to open storage volume with path '{path}'"), &e))?;
        let length = file.size().map_err(|e| Error::system(format!("cannot stat file '{path}'"), &e))?;
        wipe(&file, length, algorithm, job)
            .map_err(|e| error::image(format!("cannot wipe volume '{path}'"), e))
    }
}

fn open(path: &str, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags((OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32).open(path)
}

/// Where the bytes are: those of a directory are nowhere.
fn content_path(volume: &VolumeDef) -> Result<String> {
    let path = local_path(volume)?;
    match volume.kind {
        VolumeKind::Dir => Err(Error::new(
            Code::OperationInvalid,
            format!("volume '{}' is a directory: it has no content of its own", volume.name),
        )),
        VolumeKind::Ploop => Ok(format!("{path}/{PLOOP_IMAGE}")),
        _ => Ok(path.to_owned()),
    }
}

struct FileContent {
    file: File,
    unsynced: Arc<Unsynced>,
    folder: PathBuf,
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
        self.unsynced.later(self.file.try_clone()?, &self.folder)
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

/// Why a volume's file could not be opened.
pub(super) fn cannot_open(path: &str, cause: &io::Error) -> Error {
    Error::new(Code::SystemError, format!("Unable to open '{path}': {}", cause_text(cause)))
}
