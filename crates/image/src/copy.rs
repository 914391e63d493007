//! Copying a file's content as it is: by sharing blocks, or data by data with the holes kept.

use crate::Result;
use cenote_model::Job;
use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Copying goes on in steps of this size, so that it can be watched and stopped.
const STEP: u64 = 32 << 20;
/// Zeroes of this length become a hole.
const HOLE: usize = 4096;
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

/// What becomes of zeroes that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// They are copied, so that what was allocated stays allocated.
    Kept,
    /// They become holes.
    Dropped,
}

/// Copies the first `length` bytes of one file to the beginning of another, which is empty. Holes stay holes.
pub fn copy(from: &File, to: &File, length: u64, sharing: Sharing, zeroes: Zeroes, job: &Job) -> Result<()> {
    job.expect(length);
    match ioctl_ficlone(to, from) {
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
        match zeroes {
            Zeroes::Kept => copy_range(from, to, start, next, job)?,
            Zeroes::Dropped => copy_by_buffer(from, to, start, next, zeroes, job)?,
        }
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
                return copy_by_buffer(from, to, in_offset, end, Zeroes::Kept, job);
            }
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
    Ok(())
}

fn copy_by_buffer(
    from: &File,
    to: &File,
    mut offset: u64,
    end: u64,
    zeroes: Zeroes,
    job: &Job,
) -> Result<()> {
    let mut buffer = vec![0u8; BUFFER];
    while offset < end {
        let want = (end - offset).min(BUFFER as u64) as usize;
        let n = crate::read_full_at(from, &mut buffer[..want], offset)?;
        if n == 0 {
            break;
        }
        match zeroes {
            Zeroes::Kept => to.write_all_at(&buffer[..n], offset)?,
            Zeroes::Dropped => {
                for (at, data) in non_zero(&buffer[..n]) {
                    to.write_all_at(data, offset + at)?;
                }
            }
        }
        offset += n as u64;
        job.advance(n as u64)?;
    }
    Ok(())
}

/// The stretches that are not zero, in steps of a block.
pub(crate) fn non_zero(data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut blocks =
        data.chunks(HOLE).map(|block| block.iter().any(|byte| *byte != 0)).enumerate().peekable();
    std::iter::from_fn(move || {
        let (first, _) = blocks.by_ref().find(|(_, is_data)| *is_data)?;
        let mut last = first;
        while let Some((next, _)) = blocks.next_if(|(_, is_data)| *is_data) {
            last = next;
        }
        let (start, end) = (first * HOLE, ((last + 1) * HOLE).min(data.len()));
        Some((start as u64, &data[start..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::non_zero;

    #[test]
    fn zeroes_are_left_out() {
        let mut data = vec![0u8; 5 * 4096 + 10];
        data[4096] = 1;
        data[2 * 4096 + 7] = 1;
        data[5 * 4096 + 9] = 1;
        let found: Vec<_> = non_zero(&data).map(|(at, data)| (at, data.len())).collect();
        assert_eq!(found, [(4096, 8192), (5 * 4096, 10)]);
        assert_eq!(non_zero(&[0; 100]).count(), 0);
    }
}
