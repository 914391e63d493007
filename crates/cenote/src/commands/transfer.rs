//! Data between volumes and files.

use crate::connection::{DownloadStream, UploadStream};
use crate::failure::{Context, Failure, Outcome};
use cenote_engine::Chunk;
use cenote_model::flags::Holes;
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::io::{Read, Write};

/// The pieces in which data goes.
const PIECE: usize = 1 << 20;

/// Sends a file's content, at most `length` bytes of it.
pub(super) fn send(
    mut file: &File,
    path: &str,
    volume: &str,
    length: Option<u64>,
    holes: Holes,
    mut stream: Box<dyn UploadStream + '_>,
) -> Outcome {
    let failed = || format!("cannot send data to volume {volume}");
    let cannot_read = |e: std::io::Error| Failure::said(format!("cannot read {path}: {e}"));
    let mut buffer = vec![0u8; PIECE];
    let mut left = length.unwrap_or(u64::MAX);
    while left > 0 {
        if holes == Holes::Kept
            && let Some(hole) = hole_ahead(file).map_err(cannot_read)?
        {
            let hole = hole.min(left);
            stream.hole(hole).context(failed)?;
            left -= hole;
            continue;
        }
        let want = data_ahead(file, holes).min(left).min(PIECE as u64) as usize;
        let n = file.read(&mut buffer[..want]).map_err(cannot_read)?;
        if n == 0 {
            break;
        }
        stream.write(&buffer[..n]).context(failed)?;
        left -= n as u64;
    }
    stream.finish().context(|| format!("cannot close volume {volume}"))
}

/// The length of the hole at the file's position, which is moved behind it.
fn hole_ahead(file: &File) -> std::io::Result<Option<u64>> {
    let Ok(here) = seek(file, SeekFrom::Current(0)) else { return Ok(None) };
    let end = file.metadata()?.len();
    let data = match seek(file, SeekFrom::Data(here)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => end,
        Err(_) => here,
    };
    seek(file, SeekFrom::Start(data.max(here)))?;
    Ok(Some(data.saturating_sub(here)).filter(|hole| *hole > 0))
}

/// How far data goes from the file's position.
fn data_ahead(file: &File, holes: Holes) -> u64 {
    if holes == Holes::Filled {
        return u64::MAX;
    }
    let Ok(here) = seek(file, SeekFrom::Current(0)) else { return u64::MAX };
    let hole = seek(file, SeekFrom::Hole(here)).unwrap_or(u64::MAX);
    let _ = seek(file, SeekFrom::Start(here));
    hole.saturating_sub(here).max(1)
}

/// Receives a volume's content into a file that was just made or emptied.
pub(super) fn receive(
    mut file: &File,
    path: &str,
    volume: &str,
    holes: Holes,
    mut stream: Box<dyn DownloadStream>,
) -> Outcome {
    let cannot_write = |e: std::io::Error| {
        Failure::said(format!("cannot write {path}: {}", cenote_model::error::cause_text(&e)))
    };
    let is_device = !file.metadata().map_err(cannot_write)?.is_file();
    let mut buffer = vec![0u8; PIECE];
    let mut end = 0;
    loop {
        match stream.next(&mut buffer).context(|| format!("cannot receive data from volume {volume}"))? {
            Chunk::Data(n) => {
                file.write_all(&buffer[..n]).map_err(cannot_write)?;
                end += n as u64;
            }
            Chunk::Hole(length) if holes == Holes::Kept && !is_device => {
                end += length;
                seek(file, SeekFrom::Start(end)).map_err(|e| cannot_write(e.into()))?;
            }
            Chunk::Hole(length) => {
                buffer.fill(0);
                let mut left = length;
                while left > 0 {
                    let step = left.min(PIECE as u64);
                    file.write_all(&buffer[..step as usize]).map_err(cannot_write)?;
                    left -= step;
                }
                end += length;
            }
            Chunk::End => break,
        }
    }
    if !is_device {
        file.set_len(end).map_err(cannot_write)?;
    }
    Ok(())
}
