//! Data going into and out of volumes.

use crate::Engine;
use crate::jobs::RunningJob;
use crate::pool::PoolEntry;
use crate::visits::{Purpose, Visit};
use crate::volumes::{Busy, content_of};
use cenote_backend::{Access, Pool, VolumeIo};
use cenote_model::event::{PoolChange, VolumeChange};
use cenote_model::{Code, Domain, Error, Name, Result, VolumeRef};
use std::io;
use std::sync::Arc;

/// The largest piece of data of a download.
const PIECE: u64 = 1 << 20;

/// Data on its way into a volume. Dropped before [`finish`](Upload::finish), it ends where it is.
pub struct Upload<'e> {
    engine: &'e Engine,
    entry: Arc<PoolEntry>,
    backend: Arc<dyn Pool>,
    name: Name,
    io: Box<dyn VolumeIo>,
    offset: u64,
    /// What may still come; `None` if that was not said.
    left: Option<u64>,
    job: RunningJob,
    _busy: Busy,
}

/// Data on its way out of a volume.
pub struct Download {
    entry: Arc<PoolEntry>,
    backend: Arc<dyn Pool>,
    name: Name,
    io: Box<dyn VolumeIo>,
    offset: u64,
    /// Where the data ends that is at `offset`; not after it, if that is not known.
    data_end: u64,
    end: u64,
    job: RunningJob,
    _busy: Busy,
}

/// A piece of a download.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// So many bytes are in the buffer.
    Data(usize),
    /// So many bytes read as zeroes.
    Hole(u64),
    /// That was all.
    End,
}

impl Engine {
    /// Begins to write into a volume from `offset` on, at most `length` bytes; 0 means as many as come.
    pub fn upload(&self, volume: &VolumeRef, offset: u64, length: u64) -> Result<Upload<'_>> {
        let (entry, visit) = self.at(volume)?;
        let def = self.volume(volume)?;
        let busy = self.claim(&entry, &visit, &def)?;
        let io =
            content_of(&*visit, "storage pool doesn't support volume upload")?.open(&def, Access::Write)?;
        let job = visit.job(&self.jobs, format!("uploading to volume '{}'", volume.name))?;
        job.expect(length);
        let left = (length != 0).then_some(length);
        let name = volume.name.clone();
        let backend = Arc::clone(visit.backend());
        Ok(Upload { engine: self, entry, backend, name, io, offset, left, job, _busy: busy })
    }

    /// Begins to read a volume from `offset` on, at most `length` bytes; 0 means to its end.
    pub fn download(&self, volume: &VolumeRef, offset: u64, length: u64) -> Result<Download> {
        let (entry, visit) = self.at(volume)?;
        let def = self.volume(volume)?;
        let busy = Busy::shared(&entry, &volume.name)?;
        let io =
            content_of(&*visit, "storage pool doesn't support volume download")?.open(&def, Access::Read)?;
        let size = io.size().map_err(|e| failed("read", &volume.name, &e))?;
        let end = match length {
            0 => size,
            _ => size.min(offset.saturating_add(length)),
        };
        let job = visit.job(&self.jobs, format!("downloading volume '{}'", volume.name))?;
        job.expect(end.saturating_sub(offset));
        let (name, backend) = (volume.name.clone(), Arc::clone(visit.backend()));
        drop(visit);
        Ok(Download { entry, backend, name, io, offset, data_end: offset, end, job, _busy: busy })
    }
}

impl Upload<'_> {
    /// Writes data.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        let length = data.len() as u64;
        self.take(length)?;
        let _visit = self.visit()?;
        self.io.write_all_at(data, self.offset).map_err(|e| failed("write", &self.name, &e))?;
        self.advance(length)
    }

    /// Leaves a hole, which reads as zeroes.
    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.take(length)?;
        let _visit = self.visit()?;
        self.io.zero(self.offset, length).map_err(|e| failed("write", &self.name, &e))?;
        self.advance(length)
    }

    /// All has come. It is on the medium with the engine's next [`flush`](Engine::flush).
    pub fn finish(self) -> Result<()> {
        let _visit = self.visit()?;
        self.job.check()?;
        self.io.finish().map_err(|e| failed("sync", &self.name, &e))
    }

    /// Goes to storage with data that has come. While none comes, nobody is there.
    fn visit(&self) -> Result<Visit> {
        let visit = Visit::begin(&self.entry, Arc::clone(&self.backend), Purpose::Work)?;
        visit.goes_on(&self.job);
        Ok(visit)
    }

    fn take(&mut self, length: u64) -> Result<()> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length).ok_or_else(|| {
                Error::new(
                    Code::OperationFailed,
                    format!("more data than was announced came for volume '{}'", self.name),
                )
                .in_domain(Domain::Streams)
            })?;
        }
        Ok(())
    }

    fn advance(&mut self, length: u64) -> Result<()> {
        self.offset = self.offset.saturating_add(length);
        self.job.advance(length)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // The volume may be longer now, or be of another format. If it cannot be looked at, the next call says why.
        if let Ok(visit) = self.visit()
            && let Some(volumes) = visit.volumes()
        {
            let _ = self.engine.look_again(&self.entry, volumes, &self.name);
        }
        self.engine.tell(&self.entry, &self.name, VolumeChange::Changed);
        // As libvirt does, which reads the whole pool again.
        self.engine.emit(&self.entry, PoolChange::Refreshed);
    }
}

impl Download {
    /// The next piece; data is put into `buffer`.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Chunk> {
        if self.offset >= self.end {
            return Ok(Chunk::End);
        }
        let failed = |e: io::Error| failed("read", &self.name, &e);
        let visit = Visit::begin(&self.entry, Arc::clone(&self.backend), Purpose::Work)?;
        visit.goes_on(&self.job);
        if self.offset >= self.data_end {
            let (start, stop) = match self.io.next_data(self.offset).map_err(failed)? {
                Some((start, stop)) => (start.min(self.end), stop.min(self.end)),
                None => (self.end, self.end),
            };
            self.data_end = stop;
            if start > self.offset {
                let hole = start - self.offset;
                self.offset = start;
                self.job.advance(hole)?;
                return Ok(Chunk::Hole(hole));
            }
        }
        let want = (self.data_end - self.offset).min(PIECE).min(buffer.len() as u64) as usize;
        let n = self.io.read_at(&mut buffer[..want], self.offset).map_err(failed)?;
        if n == 0 {
            // The volume became shorter.
            self.end = self.offset;
            return Ok(Chunk::End);
        }
        self.offset += n as u64;
        self.job.advance(n as u64)?;
        Ok(Chunk::Data(n))
    }
}

fn failed(what: &str, name: &Name, cause: &io::Error) -> Error {
    Error::system(format!("cannot {what} volume '{name}'"), cause).in_domain(Domain::Streams)
}
