//! Overwriting data so that it cannot be read again, with the patterns of scrub(1).

use crate::copy::next_data;
use crate::sync_data;
use crate::{Error, Result};
use cenote_model::Job;
use cenote_model::flags::WipeAlgorithm;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BUFFER: usize = 1 << 20;

/// What one pass writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// The same three bytes over and over.
    Pattern([u8; 3]),
    /// Bytes that nobody can know.
    Random,
    /// Nothing: what the pass before wrote is read and compared.
    Verify,
}

const fn byte(value: u8) -> Pass {
    Pass::Pattern([value; 3])
}

fn passes(algorithm: WipeAlgorithm) -> Vec<Pass> {
    use Pass::{Pattern, Random, Verify};
    match algorithm {
        WipeAlgorithm::Zero => vec![byte(0)],
        WipeAlgorithm::Nnsa => vec![Random, Random, byte(0), Verify],
        WipeAlgorithm::Dod => vec![Random, byte(0), byte(0xff), Verify],
        WipeAlgorithm::Bsi => [0xff, 0xfe, 0xfd, 0xfb, 0xf7, 0xef, 0xdf, 0xbf, 0x7f].map(byte).to_vec(),
        WipeAlgorithm::Gutmann => {
            let mut passes = vec![Random; 4];
            passes.extend([byte(0x55), byte(0xaa)]);
            passes.extend([[0x92, 0x49, 0x24], [0x49, 0x24, 0x92], [0x24, 0x92, 0x49]].map(Pattern));
            passes.extend((0..16).map(|nibble| byte(nibble * 0x11)));
            passes.extend([[0x92, 0x49, 0x24], [0x49, 0x24, 0x92], [0x24, 0x92, 0x49]].map(Pattern));
            passes.extend([[0x6d, 0xb6, 0xdb], [0xb6, 0xdb, 0x6d], [0xdb, 0x6d, 0xb6]].map(Pattern));
            passes.extend([Random; 4]);
            passes
        }
        WipeAlgorithm::Schneier => {
            vec![byte(0x00), byte(0xff), Random, Random, Random, Random, Random]
        }
        WipeAlgorithm::Pfitzner7 => vec![Random; 7],
        WipeAlgorithm::Pfitzner33 => vec![Random; 33],
        WipeAlgorithm::Random => vec![Random],
        WipeAlgorithm::Trim => Vec::new(),
    }
}

/// Wipes the first `length` bytes of a file or device, open for reading and writing. Holes have nothing to wipe and
/// stay holes.
pub fn wipe(file: &File, length: u64, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
    if algorithm == WipeAlgorithm::Trim {
        return trim(file, length, job);
    }
    let mut extents = Vec::new();
    let mut offset = 0;
    while let Some((start, end)) = next_data(file, offset, length)? {
        extents.push((start, end));
        offset = end;
    }
    let bytes: u64 = extents.iter().map(|(start, end)| end - start).sum();
    let passes = passes(algorithm);
    job.expect(bytes * passes.len() as u64);
    let mut last = byte(0);
    for pass in passes {
        for (start, end) in &extents {
            match pass {
                Pass::Verify => verify(file, *start, *end, last, job)?,
                _ => overwrite(file, *start, *end, pass, job)?,
            }
        }
        // Each pass has to reach the medium before the next one may replace it.
        sync_data(file, || job.alive())?;
        last = pass;
    }
    Ok(())
}

/// Writes zeroes over what is not zero, and nothing else: for storage that was told to give up its blocks, and may have
/// kept some.
pub fn zero_what_is_left(file: &File, length: u64, job: &Job) -> Result<()> {
    job.expect(length);
    let (mut buffer, zeroes) = (vec![0u8; BUFFER], vec![0u8; BUFFER]);
    let mut offset = 0;
    while offset < length {
        let step = (length - offset).min(BUFFER as u64) as usize;
        file.read_exact_at(&mut buffer[..step], offset)?;
        if buffer[..step] != zeroes[..step] {
            file.write_all_at(&zeroes[..step], offset)?;
        }
        offset += step as u64;
        job.advance(step as u64)?;
    }
    Ok(sync_data(file, || job.alive())?)
}

fn overwrite(file: &File, start: u64, end: u64, pass: Pass, job: &Job) -> Result<()> {
    let mut buffer = pattern(pass);
    let mut offset = start;
    while offset < end {
        if pass == Pass::Random {
            getrandom::fill(&mut buffer).map_err(|e| Error::Io(io::Error::other(e.to_string())))?;
        }
        let step = (end - offset).min(buffer.len() as u64);
        file.write_all_at(&buffer[..step as usize], offset)?;
        offset += step;
        job.advance(step)?;
    }
    Ok(())
}

fn verify(file: &File, start: u64, end: u64, written: Pass, job: &Job) -> Result<()> {
    let expected = pattern(written);
    let mut buffer = vec![0u8; expected.len()];
    let mut offset = start;
    while offset < end {
        let step = (end - offset).min(buffer.len() as u64);
        let piece = &mut buffer[..step as usize];
        file.read_exact_at(piece, offset)?;
        if piece != &expected[..step as usize] {
            return Err(Error::Damaged(format!("what was written at {offset} reads back differently")));
        }
        offset += step;
        job.advance(step)?;
    }
    Ok(())
}

/// A buffer whose length is a multiple of the pattern's.
fn pattern(pass: Pass) -> Vec<u8> {
    match pass {
        Pass::Pattern(bytes) => bytes.repeat(BUFFER / 3),
        Pass::Random | Pass::Verify => vec![0; BUFFER],
    }
}

fn trim(file: &File, length: u64, job: &Job) -> Result<()> {
    job.expect(length);
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, length) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => {
            return Err(Error::unsupported("the storage does not support the 'trim' algorithm"));
        }
        Err(e) => return Err(io::Error::from(e).into()),
    }
    sync_data(file, || job.alive())?;
    Ok(job.advance(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_as_many_as_their_names_say() {
        let count = |algorithm| passes(algorithm).len();
        assert_eq!(count(WipeAlgorithm::Nnsa), 4);
        assert_eq!(count(WipeAlgorithm::Dod), 4);
        assert_eq!(count(WipeAlgorithm::Bsi), 9);
        assert_eq!(count(WipeAlgorithm::Gutmann), 35);
        assert_eq!(count(WipeAlgorithm::Schneier), 7);
        assert_eq!(count(WipeAlgorithm::Pfitzner7), 7);
        assert_eq!(count(WipeAlgorithm::Pfitzner33), 33);
    }

    #[test]
    fn every_algorithm_leaves_nothing_of_the_data() {
        for &algorithm in WipeAlgorithm::ALL {
            let file = tempfile::tempfile().unwrap();
            let secret = b"the secret ".repeat(20_000);
            file.write_all_at(&secret, 1 << 20).unwrap();
            let length = 4 << 20;
            file.set_len(length).unwrap();
            wipe(&file, length, algorithm, &Job::new(0, "wipe")).unwrap();
            assert_eq!(file.metadata().unwrap().len(), length);
            let mut left = vec![0u8; length as usize];
            file.read_exact_at(&mut left, 0).unwrap();
            assert!(!left.windows(11).any(|w| w == b"the secret "), "{algorithm}");
        }
    }

    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        wipe(&file, 1 << 30, WipeAlgorithm::Dod, &Job::new(0, "wipe")).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn what_is_left_is_zeroed_and_holes_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], (33 << 20) + 100).unwrap();
        zero_what_is_left(&file, 64 << 20, &Job::new(0, "wipe")).unwrap();
        let mut left = vec![0u8; 64 << 20];
        file.read_exact_at(&mut left, 0).unwrap();
        assert!(left.iter().all(|byte| *byte == 0));
        assert!(file.metadata().unwrap().blocks() * 512 <= 2 * BUFFER as u64);
    }

    #[test]
    fn a_cancelled_wipe_stops() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        let job = Job::new(0, "wipe");
        job.cancel();
        assert!(matches!(wipe(&file, 4096, WipeAlgorithm::Dod, &job), Err(Error::Stopped(_))));
    }
}
