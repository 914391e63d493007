//! Copies between storages of which one is not on this machine: byte for byte, through what both have opened.

use cenote_backend::{Access, Content, Volumes};
use cenote_host::Undo;
use cenote_model::flags::CreateOptions;
use cenote_model::format::ImageFormat;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use std::io;

/// So many bytes are read and written at once.
const PIECE: usize = 1 << 20;

/// Whether a copy of one to the other has to be made here: no backend knows both.
pub(crate) fn is_needed(source: &VolumeDef, planned: &VolumeDef) -> bool {
    [source, planned].iter().any(|volume| volume.kind == VolumeKind::Network)
}

/// Makes a volume that was planned, with the content of another.
pub(crate) fn create_from(
    (volumes, content, planned): (&dyn Volumes, &dyn Content, &VolumeDef),
    (source_content, source): (&dyn Content, &VolumeDef),
    options: CreateOptions,
    job: &Job,
) -> Result<()> {
    let cannot = |why: &str| {
        let what = format!("cannot copy volume '{}' to '{}'", source.name, planned.name);
        Error::new(Code::NoSupport, format!("{what}: {why}"))
    };
    let is_plain = |volume: &VolumeDef| {
        matches!(volume.image_format(), ImageFormat::Raw | ImageFormat::Iso) && volume.encryption.is_none()
    };
    if !is_plain(source) || !is_plain(planned) {
        return Err(cannot("between storages, only raw volumes without encryption can be copied"));
    }
    if options.reflink {
        return Err(cannot("two storages cannot share blocks: leave out --reflink"));
    }
    volumes.create(planned, options, job)?;
    let mut undo = Undo::new();
    undo.push(|| drop(volumes.delete(planned, &Job::new(0, "undoing a copy"))));
    let failed = |e: io::Error| {
        Error::system(format!("cannot copy volume '{}' to '{}'", source.name, planned.name), &e)
    };
    // Where a new device is may be known only now.
    let made = volumes.probe(&planned.name)?.unwrap_or_else(|| planned.clone());
    let from = source_content.open(source, Access::Read)?;
    let to = content.open(&made, Access::Write)?;
    let size = from.size().map_err(failed)?;
    job.expect(size);
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    // A device has in it what it had before.
    let zero = |offset: u64, length: u64| match made.kind {
        VolumeKind::Block if length > 0 => to.zero(offset, length).map_err(failed),
        _ => Ok(()),
    };
    while let Some((mut offset, end)) = from.next_data(done).map_err(failed)? {
        zero(done, offset.saturating_sub(done))?;
        while offset < end {
            let want = (end - offset).min(PIECE as u64) as usize;
            let read = from.read_at(&mut buffer[..want], offset).map_err(failed)?;
            if read == 0 {
                break;
            }
            to.write_all_at(&buffer[..read], offset).map_err(failed)?;
            offset += read as u64;
            job.advance(offset - done)?;
            done = offset;
        }
        if done < end {
            return Err(cannot("it became shorter meanwhile"));
        }
    }
    zero(done, size.saturating_sub(done))?;
    to.finish().map_err(failed)?;
    job.advance(size.saturating_sub(done))?;
    drop((from, to));
    undo.disarm();
    Ok(())
}
