//! The bytes of a virtual disk, each piece by one call of dog.

use super::Cluster;
use super::listing::Vdi;
use crate::pieces::Remote;
use crate::waiting;
use std::io;
use std::sync::Arc;

/// A virtual disk, open.
pub(super) struct VdiIo {
    pub(super) cluster: Arc<Cluster>,
    pub(super) vdi: Vdi,
}

impl Remote for VdiIo {
    type Reading = Vec<u8>;
    type Writing = ();
    const WINDOW: usize = 1;

    fn begin_read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let read = self.cluster.read(&self.vdi, offset, length as u64, &waiting::look("reading a piece"));
        read.map_err(io::Error::other)
    }

    fn end_read(&self, read: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(read)
    }

    fn begin_write(&self, offset: u64, data: Vec<u8>) -> io::Result<()> {
        let written = self.cluster.write(&self.vdi.name, offset, &data, &waiting::look("writing a piece"));
        written.map_err(io::Error::other)
    }

    fn end_write(&self, (): ()) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, _offset: u64, _length: u64) -> Option<io::Result<()>> {
        None
    }

    fn extents(&self) -> io::Result<Option<Vec<(u64, u64)>>> {
        Ok(None)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
