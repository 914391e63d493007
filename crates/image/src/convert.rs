//! From one format to another: raw and qcow2 are read, through backing chains too, and written.

use crate::copy::non_zero;
use crate::open::check_kind;
use crate::qcow2::{Options, Writer};
use crate::{Error, Result, WriteAt};
use cenote_model::Job;
use cenote_model::format::ImageFormat;
use imago::file::File as ImagoFile;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{FormatAccess, FormatDriverBuilder, Mapping, Storage, StorageOpenOptions};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};

/// The piece that is read at once; whole clusters of every size.
const PIECE: u64 = 2 << 20;
/// So many pieces are read ahead.
const AHEAD: usize = 2;

/// An image that is read through its whole backing chain.
pub struct Source(FormatAccess<ImagoFile>);

impl Source {
    /// Opens an image of this format. [`Error::Unsupported`] says that the image is one for qemu-img: of another
    /// format, encrypted, or with a feature that is not read in-process (`extended_l2`).
    pub fn open(path: &Path, format: ImageFormat) -> Result<Source> {
        let opened = match format {
            ImageFormat::Raw | ImageFormat::Iso => {
                Raw::<ImagoFile>::builder_path(path).open(FilesOnly).map(FormatAccess::new)
            }
            ImageFormat::Qcow2 => {
                Qcow2::<ImagoFile>::builder_path(path).open(FilesOnly).map(FormatAccess::new)
            }
            other => return Err(Error::unsupported(format!("{other} images are not read in-process"))),
        };
        opened.map(Source).map_err(from_imago)
    }

    /// The size that a guest sees.
    pub fn capacity(&self) -> u64 {
        self.0.size()
    }

    /// Writes the content to an empty file, which gets at least this size.
    pub fn to_raw(&self, file: &File, capacity: u64, job: &Job) -> Result<()> {
        let capacity = capacity.max(self.capacity());
        file.set_size(capacity)?;
        self.for_each_data(job, |offset, data| {
            for (at, data) in non_zero(data) {
                file.write_all_at(data, offset + at)?;
            }
            Ok(())
        })
    }

    /// Writes the content as a qcow2 image into an empty file.
    pub fn to_qcow2(&self, file: &File, mut options: Options, job: &Job) -> Result<()> {
        options.capacity = options.capacity.max(self.capacity()).next_multiple_of(512);
        let mut writer = Writer::new(file, options)?;
        let cluster = writer.cluster_size() as usize;
        self.for_each_data(job, |offset, data| {
            let is_zero = |cluster: &[u8]| cluster.iter().all(|byte| *byte == 0);
            let mut at = 0;
            let mut clusters = data.chunks(cluster);
            // Neighbours that are not zero are written together.
            while let Some(first) = clusters.next() {
                if is_zero(first) {
                    at += first.len();
                    continue;
                }
                let start = at;
                at += first.len();
                let mut rest = clusters.clone();
                while let Some(next) = rest.next().filter(|next| !is_zero(next)) {
                    at += next.len();
                    clusters.next();
                }
                writer.write(offset + start as u64, &data[start..at])?;
            }
            Ok(())
        })?;
        writer.finish()
    }

    /// Calls `sink` for every piece that is not known to be zero, in rising order. The next ones are read meanwhile.
    pub(crate) fn for_each_data(
        &self,
        job: &Job,
        mut sink: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let capacity = self.capacity();
        job.expect(capacity);
        std::thread::scope(|scope| {
            let (filled, pieces) = sync_channel(AHEAD);
            let (empty, buffers) = channel();
            (0..AHEAD + 2).for_each(|_| drop(empty.send(Vec::new())));
            scope.spawn(move || {
                // It ends when all is read, or nobody takes any more.
                let mut offset = 0;
                while offset < capacity {
                    let Ok(buffer) = buffers.recv() else { return };
                    let length = PIECE.min(capacity - offset);
                    if filled.send(self.read(offset, length, buffer)).is_err() {
                        return;
                    }
                    offset += length;
                }
            });
            let mut offset = 0;
            for piece in pieces {
                let piece = piece?;
                if !piece.is_empty() {
                    sink(offset, &piece)?;
                }
                let length = PIECE.min(capacity - offset);
                offset += length;
                job.advance(length)?;
                let _ = empty.send(piece);
            }
            Ok(())
        })
    }

    /// Reads a piece; what is known to be zero is empty.
    fn read(&self, offset: u64, length: u64, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.is_zero(offset, length)? {
            buffer.clear();
        } else {
            buffer.resize(length as usize, 0);
            self.0.read(&mut buffer[..], offset)?;
        }
        Ok(buffer)
    }

    fn is_zero(&self, offset: u64, length: u64) -> io::Result<bool> {
        match self.0.get_mapping(offset, length)? {
            (Mapping::Zero { .. }, mapped) => Ok(mapped >= length),
            _ => Ok(false),
        }
    }
}

/// imago says by the kind whether it is the image or the storage that it cannot cope with.
fn from_imago(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Unsupported => Error::Unsupported(error.to_string()),
        _ => Error::Io(error),
    }
}

/// Opens what an image refers to only where it is a regular file or a block device.
struct FilesOnly;

impl ImplicitOpenGate<ImagoFile> for FilesOnly {
    fn open_format<F: FormatDriverBuilder<ImagoFile>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<ImagoFile>> {
        Ok(FormatAccess::new(builder.open(FilesOnly)?))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<ImagoFile> {
        if let Some(path) = options.get_filename() {
            let found = std::fs::metadata(path)
                .map_err(|e| io::Error::new(e.kind(), format!("cannot open '{}': {e}", path.display())))?;
            check_kind(path, found.file_type())?;
        }
        ImagoFile::open(options)
    }
}
