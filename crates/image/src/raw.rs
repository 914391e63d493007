//! Raw images: the bytes themselves, and the blocks that they take.

use crate::{Result, WriteAt};
use cenote_model::Job;
use std::io;

/// Allocation goes on in steps of this size, so that it can be watched and stopped.
const STEP: u64 = 256 << 20;
/// Zeroes are written in steps of this size.
const ZERO_STEP: usize = 1 << 20;

/// Takes the blocks of a range from the file system; what is in it already stays.
pub fn reserve(file: &impl WriteAt, offset: u64, length: u64, job: &Job) -> Result<()> {
    job.expect(length);
    let mut done = 0;
    while done < length {
        let step = STEP.min(length - done);
        match file.allocate(offset + done, step) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                return write_zeroes(file, offset + done, length - done, job);
            }
            Err(e) => return Err(e.into()),
        }
        done += step;
        job.advance(step)?;
    }
    Ok(())
}

/// Writes zeroes over a range.
pub(crate) fn write_zeroes(file: &impl WriteAt, offset: u64, length: u64, job: &Job) -> Result<()> {
    let zeroes = vec![0u8; ZERO_STEP.min(length as usize)];
    let mut done = 0;
    while done < length {
        let step = zeroes.len().min((length - done) as usize);
        file.write_all_at(&zeroes[..step], offset + done)?;
        done += step as u64;
        job.advance(step as u64)?;
    }
    Ok(())
}
