//! The bytes of an image.

use crate::pieces::Remote;
use cenote_host::ceph::{Image, Transfer, Whose, Zeroes};
use std::io;
use std::sync::Arc;

/// An image, open.
pub(super) struct ImageIo {
    image: Arc<Image>,
    size: u64,
}

impl ImageIo {
    pub(super) fn new(image: Image, size: u64) -> ImageIo {
        ImageIo { image: Arc::new(image), size }
    }
}

impl Remote for ImageIo {
    type Reading = Transfer;
    type Writing = Transfer;
    const WINDOW: usize = 8;

    fn begin_read(&self, offset: u64, length: usize) -> io::Result<Transfer> {
        self.image.begin_read(offset, length)
    }

    fn end_read(&self, reading: Transfer) -> io::Result<Vec<u8>> {
        reading.wait()
    }

    fn begin_write(&self, offset: u64, data: Vec<u8>) -> io::Result<Transfer> {
        self.image.begin_write(offset, data)
    }

    fn end_write(&self, writing: Transfer) -> io::Result<()> {
        writing.wait().map(drop)
    }

    fn zero(&self, offset: u64, length: u64) -> Option<io::Result<()>> {
        Some(self.image.write_zeroes(offset, length, Zeroes::Sparse))
    }

    fn extents(&self) -> io::Result<Option<Vec<(u64, u64)>>> {
        self.image.extents(self.size, Whose::OwnAndParent).map(Some)
    }

    fn flush(&self) -> io::Result<()> {
        self.image.flush()
    }
}
