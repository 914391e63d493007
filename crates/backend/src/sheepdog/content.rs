//! The bytes of a virtual disk, read and written in pieces of bounded size, each by one call of dog.

use super::{Cluster, PIECE};
use crate::{VolumeIo, waiting};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// A piece of the disk.
#[derive(Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A virtual disk, open.
pub(super) struct VdiIo {
    cluster: Arc<Cluster>,
    name: String,
    size: u64,
    /// What was read last.
    read: Mutex<Piece>,
    /// What has been written and is not there yet.
    written: Mutex<Piece>,
}

impl VdiIo {
    pub(super) fn new(cluster: Arc<Cluster>, name: String, size: u64) -> VdiIo {
        VdiIo { cluster, name, size, read: Mutex::default(), written: Mutex::default() }
    }

    fn lock(piece: &Mutex<Piece>) -> MutexGuard<'_, Piece> {
        piece.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn flush(&self, piece: &mut Piece) -> io::Result<()> {
        if piece.bytes.is_empty() {
            return Ok(());
        }
        let written =
            self.cluster.write(&self.name, piece.start, &piece.bytes, &waiting::look("writing a piece"));
        piece.bytes.clear();
        written.map_err(io::Error::other)
    }
}

impl VolumeIo for VdiIo {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut piece = VdiIo::lock(&self.read);
        if offset >= self.size {
            return Ok(0);
        }
        if !(piece.start..piece.end()).contains(&offset) {
            let length = (self.size - offset).min(PIECE as u64);
            let bytes = self.cluster.read(&self.name, offset, length, &waiting::look("reading a piece"));
            *piece = Piece { start: offset, bytes: bytes.map_err(io::Error::other)? };
        }
        let rest = piece.bytes.get((offset - piece.start) as usize..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut piece = VdiIo::lock(&self.written);
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            if piece.end() != offset || piece.bytes.len() == PIECE {
                self.flush(&mut piece)?;
                piece.start = offset;
            }
            let (now, later) = data.split_at(data.len().min(PIECE - piece.bytes.len()));
            piece.bytes.extend(now);
            (data, offset) = (later, offset + now.len() as u64);
        }
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeroes = vec![0; PIECE];
        let (mut offset, end) = (offset, offset.saturating_add(length).min(self.size));
        while offset < end {
            let piece = (end - offset).min(PIECE as u64);
            self.write_all_at(&zeroes[..piece as usize], offset)?;
            offset += piece;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        Ok((offset < self.size).then_some((offset, self.size)))
    }

    fn finish(&self) -> io::Result<()> {
        self.flush(&mut VdiIo::lock(&self.written))
    }
}
