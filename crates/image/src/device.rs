//! Filling a device, which is there with whatever it had in it.

use crate::convert::Source;
use crate::copy::next_data;
use crate::{ReadAt, Result};
use cenote_model::Job;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Filling goes on in steps of this size, so that it can be watched and stopped.
const STEP: u64 = 1 << 20;

/// Copies the first `length` bytes of a file onto a device. What are holes in the file read as zeroes afterwards.
pub fn copy_onto(device: &File, from: &File, length: u64, job: &Job) -> Result<()> {
    job.expect(length);
    let mut filling = Filling { device, end: 0, job };
    let mut buffer = vec![0; STEP as usize];
    let mut offset = 0;
    while let Some((start, end)) = next_data(from, offset, length)? {
        let mut at = start;
        while at < end {
            let piece = &mut buffer[..(end - at).min(STEP) as usize];
            from.read_exact_at(piece, at)?;
            filling.write(at, piece)?;
            at += piece.len() as u64;
            job.advance(piece.len() as u64)?;
        }
        job.advance(start - offset)?;
        offset = end;
    }
    job.advance(length - offset)?;
    filling.finish(length)
}

/// Writes an image's content onto a device, which is at least as large as its capacity.
pub fn convert_onto(device: &File, source: &Source, job: &Job) -> Result<()> {
    let mut filling = Filling { device, end: 0, job };
    source.for_each_data(job, |offset, data| filling.write(offset, data))?;
    filling.finish(source.capacity())
}

struct Filling<'f> {
    device: &'f File,
    end: u64,
    job: &'f Job,
}

impl Filling<'_> {
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.zero_to(offset)?;
        self.device.write_all_at(data, offset)?;
        self.end = offset + data.len() as u64;
        Ok(())
    }

    fn zero_to(&mut self, offset: u64) -> Result<()> {
        while self.end < offset {
            let step = (offset - self.end).min(64 * STEP);
            zero(self.device, self.end, step)?;
            self.end += step;
            self.job.alive();
            self.job.check()?;
        }
        Ok(())
    }

    fn finish(mut self, length: u64) -> Result<()> {
        self.zero_to(length)?;
        crate::sync_data(self.device, || self.job.alive())?;
        Ok(())
    }
}

/// Makes a range of a device read as zeroes: by giving up its blocks, if the device then promises zeroes, or by writing.
fn zero(device: &File, offset: u64, length: u64) -> io::Result<()> {
    let keep = FallocateFlags::KEEP_SIZE;
    for way in [FallocateFlags::PUNCH_HOLE | keep, FallocateFlags::ZERO_RANGE | keep] {
        if fallocate(device, way, offset, length).is_ok() {
            return Ok(());
        }
    }
    let zeroes = vec![0; STEP as usize];
    let end = (offset + length).min(device.size()?);
    let mut at = offset;
    while at < end {
        let step = (end - at).min(STEP);
        device.write_all_at(&zeroes[..step as usize], at)?;
        at += step;
    }
    Ok(())
}
