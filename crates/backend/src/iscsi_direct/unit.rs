//! A LUN in a session: what it is, and its bytes.

use super::scsi::{self, Blocks, Capacity};
use crate::pieces::Remote;
use cenote_host::libiscsi::{Command, Data, Ended, Session};
use std::cell::RefCell;
use std::io;

/// So many bytes go with one command.
const TRANSFER: usize = 256 << 10;
/// A unit may have several things to tell before it does what it is asked to do.
const TRIES: usize = 8;

/// A LUN, and the session in which it is asked.
pub(super) struct Unit {
    session: RefCell<Session>,
    lun: u16,
    capacity: Capacity,
}

/// What there is to know about a LUN.
pub(super) struct About {
    pub(super) capacity: Capacity,
    pub(super) identifier: Option<String>,
}

/// Has a LUN do commands, all at once. Those that it had something to tell instead of, such as that it was reset, once more.
fn run_all<B: AsRef<[u8]>>(
    session: &mut Session,
    lun: u16,
    mut commands: Vec<(B, Data<'_>)>,
) -> io::Result<()> {
    for _ in 0..TRIES {
        let mut all: Vec<_> = commands
            .iter_mut()
            .map(|(block, data)| {
                let data = match data {
                    Data::None => Data::None,
                    Data::In(buffer) => Data::In(buffer),
                    Data::Out(buffer) => Data::Out(buffer),
                };
                Command { block: B::as_ref(block), data }
            })
            .collect();
        let ended = session.run(lun, &mut all)?;
        if ended.contains(&Ended::Otherwise) {
            break;
        }
        let mut ended = ended.into_iter();
        commands.retain(|_| ended.next() != Some(Ended::Good));
        if commands.is_empty() {
            return Ok(());
        }
    }
    Err(session.error())
}

/// Has a LUN do one command.
fn command(session: &mut Session, lun: u16, block: &[u8], data: Data<'_>) -> io::Result<()> {
    run_all(session, lun, vec![(block, data)])
}

/// The numbers of the LUNs that a target has.
pub(super) fn luns(session: &mut Session) -> io::Result<Vec<u16>> {
    let mut answer = vec![0; scsi::FIRST_ANSWER];
    loop {
        let block = scsi::report_luns(answer.len() as u32);
        command(session, 0, &block, Data::In(&mut answer))?;
        match scsi::luns_length(&answer).filter(|length| *length > answer.len() && *length < scsi::MOST) {
            Some(length) => answer.resize(length, 0),
            None => return Ok(scsi::luns(&answer)),
        }
    }
}

/// What a LUN is; `None` if it is no disk.
pub(super) fn about(session: &mut Session, lun: u16) -> io::Result<Option<About>> {
    let mut answer = [0; 64];
    command(session, lun, &scsi::inquiry(None, 64), Data::In(&mut answer))?;
    if !scsi::is_disk(&answer) {
        return Ok(None);
    }
    command(session, lun, &scsi::TEST_UNIT_READY, Data::None)?;
    let mut answer = [0; 32];
    command(session, lun, &scsi::read_capacity(), Data::In(&mut answer))?;
    let Some(capacity) = scsi::capacity(&answer) else {
        return Err(io::Error::other(format!("LUN {lun} tells no capacity that can be")));
    };
    // Not every disk has this page.
    let mut page = [0; 252];
    let paged = command(session, lun, &scsi::inquiry(Some(0x83), 252), Data::In(&mut page));
    let identifier = paged.ok().and_then(|()| scsi::identifier(&page));
    Ok(Some(About { capacity, identifier }))
}

impl Unit {
    pub(super) fn open(mut session: Session, lun: u16) -> io::Result<Unit> {
        let Some(about) = about(&mut session, lun)? else {
            return Err(io::Error::other(format!("LUN {lun} is no disk")));
        };
        Ok(Unit { session: RefCell::new(session), lun, capacity: about.capacity })
    }

    pub(super) fn size(&self) -> u64 {
        self.capacity.blocks * self.block()
    }

    fn block(&self) -> u64 {
        u64::from(self.capacity.block)
    }

    /// The blocks that a range touches, as a range of bytes.
    fn around(&self, offset: u64, length: u64) -> (u64, usize) {
        let start = offset / self.block() * self.block();
        let end = (offset + length).div_ceil(self.block()) * self.block();
        (start, (end - start) as usize)
    }

    fn command_for(&self, what: Blocks, offset: u64, length: usize) -> [u8; 16] {
        scsi::blocks(what, offset / self.block(), (length as u64 / self.block()) as u32)
    }

    fn run_all(&self, commands: Vec<([u8; 16], Data<'_>)>) -> io::Result<()> {
        run_all(&mut self.session.borrow_mut(), self.lun, commands)
    }

    fn read_blocks(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let parts = bytes.chunks_mut(TRANSFER).enumerate().map(|(at, part)| {
            let block = self.command_for(Blocks::Read, offset + (at * TRANSFER) as u64, part.len());
            (block, Data::In(part))
        });
        self.run_all(parts.collect())?;
        Ok(bytes)
    }

    fn write_blocks(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let parts = bytes.chunks(TRANSFER).enumerate().map(|(at, part)| {
            let block = self.command_for(Blocks::Write, offset + (at * TRANSFER) as u64, part.len());
            (block, Data::Out(part))
        });
        self.run_all(parts.collect())
    }
}

impl Remote for Unit {
    type Reading = Vec<u8>;
    type Writing = ();
    // The commands of one piece are on their way at once.
    const WINDOW: usize = 1;

    fn begin_read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let (start, whole) = self.around(offset, length as u64);
        let mut bytes = self.read_blocks(start, whole)?;
        bytes.drain(..(offset - start) as usize);
        bytes.truncate(length);
        Ok(bytes)
    }

    fn end_read(&self, read: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(read)
    }

    fn begin_write(&self, offset: u64, data: Vec<u8>) -> io::Result<()> {
        let (start, whole) = self.around(offset, data.len() as u64);
        if whole == data.len() {
            return self.write_blocks(start, &data);
        }
        // What else is in the blocks stays.
        let mut bytes = self.read_blocks(start, whole)?;
        bytes[(offset - start) as usize..][..data.len()].copy_from_slice(&data);
        self.write_blocks(start, &bytes)
    }

    fn end_write(&self, (): ()) -> io::Result<()> {
        Ok(())
    }

    /// By giving up the blocks, where they then read as zeroes.
    fn zero(&self, offset: u64, length: u64) -> Option<io::Result<()>> {
        let is_whole = offset.is_multiple_of(self.block()) && length.is_multiple_of(self.block());
        if !self.capacity.has_zeroes || !is_whole {
            return None;
        }
        let zeroes = vec![0; self.capacity.block as usize];
        let block = self.command_for(Blocks::Unmap, offset, length as usize);
        self.run_all(vec![(block, Data::Out(&zeroes))]).is_ok().then_some(Ok(()))
    }

    fn extents(&self) -> io::Result<Option<Vec<(u64, u64)>>> {
        Ok(None)
    }

    fn flush(&self) -> io::Result<()> {
        command(&mut self.session.borrow_mut(), self.lun, &scsi::SYNCHRONIZE, Data::None)
    }
}
