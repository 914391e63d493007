//! The bytes of a file of a Gluster volume.

use crate::VolumeIo;
use cenote_host::gfapi::GlusterFile;
use cenote_image::{ReadAt, WriteAt};
use std::io;

/// Zeroes are written in steps of this size, where a range cannot be given up.
const STEP: u64 = 1 << 20;

/// A file, open.
pub(super) struct FileIo {
    pub(super) file: GlusterFile,
    /// Where it is, for errors.
    pub(super) server: String,
}

impl FileIo {
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.server)))
    }

    /// Makes a range read as zeroes, which lies within the file.
    fn clear(&self, mut offset: u64, end: u64) -> io::Result<()> {
        if offset >= end || self.file.discard(offset, end - offset).is_ok() {
            return Ok(());
        }
        let zeroes = vec![0; STEP.min(end - offset) as usize];
        while offset < end {
            let step = STEP.min(end - offset);
            self.file.write_all_at(&zeroes[..step as usize], offset)?;
            offset += step;
        }
        Ok(())
    }
}

impl VolumeIo for FileIo {
    fn size(&self) -> io::Result<u64> {
        self.named(self.file.size())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.named(self.file.read_at(buf, offset))
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.named(self.file.write_all_at(data, offset))
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or_else(|| io::Error::other("offset too large"))?;
        let size = self.size()?;
        self.named(self.clear(offset, end.min(size)))?;
        // A hole beyond the end makes the file longer.
        if size < end { self.named(self.file.set_size(end)) } else { Ok(()) }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let size = self.size()?;
        if offset >= size {
            return Ok(None);
        }
        self.named(self.file.next_data(offset, size))
    }

    fn finish(&self) -> io::Result<()> {
        self.named(self.file.sync())
    }
}
