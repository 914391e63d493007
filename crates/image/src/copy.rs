//! Copying a file's content as it is: by sharing blocks, or data by data with the holes kept.

use crate::{Result, raw};
use cenote_model::Job;
use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Copying goes on in steps of this size, so that it can be watched and stopped.
const STEP: u64 = 32 << 20;
/// The buffer where the kernel cannot copy by itself.
const BUFFER: usize = 1 << 20;

/// Whether blocks are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Where the file system can; otherwise data is copied.
    IfPossible,
    /// Or it fails.
    Required,
}

/// Copies the first `length` bytes of one file to the beginning of another, which is empty. Holes stay holes.
pub fn copy(from: &File, to: &File, length: u64, sharing: Sharing, job: &Job) -> Result<()> {
    job.expect(length);
    let whole = from.metadata()?.len() <= length;
    match ioctl_ficlone(to, from) {
        Ok(()) if whole => return Ok(job.advance(length)?),
        Ok(()) => {
            to.set_len(length)?;
            return Ok(job.advance(length)?);
        }
        Err(e) if sharing == Sharing::Required => return Err(io::Error::from(e).into()),
        Err(_) => {}
    }
    to.set_len(length)?;
    let mut end = 0;
    while let Some((start, next)) = next_data(from, end, length)? {
        job.advance(start - end)?;
        copy_range(from, to, start, next, job)?;
        end = next;
    }
    Ok(job.advance(length - end)?)
}

/// The next range with data in it, from `offset` on.
pub fn next_data(file: &File, offset: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if offset >= length {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // Where holes are unknown, all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((offset, length))),
        Err(e) => return Err(e.into()),
    };
    if start >= length {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(length);
    Ok(Some((start, end.min(length))))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64, job: &Job) -> Result<()> {
    let (mut in_offset, mut out_offset) = (start, start);
    while in_offset < end {
        let step = (end - in_offset).min(STEP) as usize;
        match copy_file_range(from, Some(&mut in_offset), to, Some(&mut out_offset), step) {
            // The source became shorter: what is missing is a hole.
            Ok(0) => break,
            Ok(n) => job.advance(n as u64)?,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_buffer(from, to, in_offset, end, job);
            }
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Ok(())
}

fn copy_by_buffer(from: &File, to: &File, mut offset: u64, end: u64, job: &Job) -> Result<()> {
    let mut buffer = vec![0u8; BUFFER];
    while offset < end {
        let want = (end - offset).min(BUFFER as u64) as usize;
        let n = crate::read_full_at(from, &mut buffer[..want], offset)?;
        if n == 0 {
            break;
        }
        to.write_all_at(&buffer[..n], offset)?;
        offset += n as u64;
        job.advance(n as u64)?;
    }
    Ok(())
}

/// Fills the holes of a copy, for a volume that shall be allocated as a whole.
pub fn fill_holes(file: &File, length: u64, job: &Job) -> Result<()> {
    raw::reserve(file, 0, length, job)
}
