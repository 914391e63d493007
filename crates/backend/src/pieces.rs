//! The family of types whose volumes are not on this machine: their bytes go there and back in pieces, several at a time
//! where the technology can do that.

use crate::VolumeIo;
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::io;

/// The size of a piece.
pub(crate) const PIECE: u64 = 4 << 20;

/// The bytes of a volume elsewhere.
pub(crate) trait Remote: Send {
    /// Reading that is under way.
    type Reading: Send;
    /// Writing that is under way.
    type Writing: Send;

    /// So many pieces are on their way at once.
    const WINDOW: usize;

    /// Begins to read a piece, which lies within the volume.
    fn begin_read(&self, offset: u64, length: usize) -> io::Result<Self::Reading>;

    /// Waits for what was read.
    fn end_read(&self, reading: Self::Reading) -> io::Result<Vec<u8>>;

    /// Begins to write a piece, which lies within the volume.
    fn begin_write(&self, offset: u64, data: Vec<u8>) -> io::Result<Self::Writing>;

    /// Waits until it is written.
    fn end_write(&self, writing: Self::Writing) -> io::Result<()>;

    /// Makes a range, of no more than some pieces, read as zeroes. `None` if that is no different from writing them.
    fn zero(&self, offset: u64, length: u64) -> Option<io::Result<()>>;

    /// Where there is data, as offset and length; `None` where nobody knows.
    fn extents(&self) -> io::Result<Option<Vec<(u64, u64)>>>;

    /// Waits until all that was written is on its medium.
    fn flush(&self) -> io::Result<()>;
}

/// A volume elsewhere, open.
pub(crate) struct Pieces<R: Remote> {
    remote: R,
    size: u64,
    /// Where it is, for errors.
    server: String,
    incoming: RefCell<Incoming<R::Reading>>,
    outgoing: RefCell<Outgoing<R::Writing>>,
    extents: OnceCell<Option<Vec<(u64, u64)>>>,
}

/// The piece that was read last, and what is going to be read: each with its offset.
struct Incoming<T> {
    current: Option<(u64, Vec<u8>)>,
    coming: VecDeque<(u64, T)>,
}

/// A piece that is not full yet, where it begins, and what is on its way.
struct Outgoing<T> {
    start: u64,
    piece: Vec<u8>,
    sent: VecDeque<T>,
}

impl<R: Remote> Pieces<R> {
    pub(crate) fn new(remote: R, size: u64, server: String) -> Pieces<R> {
        Pieces {
            remote,
            size,
            server,
            incoming: RefCell::new(Incoming { current: None, coming: VecDeque::new() }),
            outgoing: RefCell::new(Outgoing { start: 0, piece: Vec::new(), sent: VecDeque::new() }),
            extents: OnceCell::new(),
        }
    }

    /// What went wrong, and where.
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.server)))
    }

    /// The first offset from here on at which there may be data, as far as that was asked for.
    fn next_interesting(&self, offset: u64) -> u64 {
        let Some(Some(extents)) = self.extents.get() else { return offset };
        let next = extents.iter().find(|(start, length)| start + length > offset);
        next.map_or(self.size, |(start, _)| offset.max(*start))
    }

    /// Gets a piece, and begins to get those that come after it.
    fn fetch(&self, incoming: &mut Incoming<R::Reading>, piece: u64) -> io::Result<()> {
        incoming.current = None;
        while incoming.coming.front().is_some_and(|(offset, _)| *offset < piece) {
            incoming.coming.pop_front();
        }
        if incoming.coming.front().is_some_and(|(offset, _)| *offset != piece) {
            incoming.coming.clear();
        }
        while incoming.coming.len() < R::WINDOW {
            let next = match incoming.coming.back() {
                Some((offset, _)) => self.next_interesting(offset + PIECE),
                None => piece,
            };
            if next >= self.size {
                break;
            }
            let next = next / PIECE * PIECE;
            let length = PIECE.min(self.size - next) as usize;
            incoming.coming.push_back((next, self.remote.begin_read(next, length)?));
        }
        if let Some((offset, reading)) = incoming.coming.pop_front() {
            incoming.current = Some((offset, self.remote.end_read(reading)?));
        }
        Ok(())
    }

    fn send(&self, outgoing: &mut Outgoing<R::Writing>) -> io::Result<()> {
        if outgoing.piece.is_empty() {
            return Ok(());
        }
        if outgoing.sent.len() >= R::WINDOW
            && let Some(oldest) = outgoing.sent.pop_front()
        {
            self.remote.end_write(oldest)?;
        }
        let (start, piece) = (outgoing.start, std::mem::take(&mut outgoing.piece));
        outgoing.start += piece.len() as u64;
        outgoing.sent.push_back(self.remote.begin_write(start, piece)?);
        Ok(())
    }

    /// Sends what is not sent yet, and waits for all of it.
    fn settle(&self) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        self.send(&mut outgoing)?;
        while let Some(oldest) = outgoing.sent.pop_front() {
            self.remote.end_write(oldest)?;
        }
        Ok(())
    }

    fn write(&self, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.start + outgoing.piece.len() as u64 != offset {
            self.send(&mut outgoing)?;
            outgoing.start = offset;
        }
        while !data.is_empty() {
            let room = (PIECE - offset % PIECE) as usize;
            let (now, later) = data.split_at(room.min(data.len()));
            outgoing.piece.extend_from_slice(now);
            offset += now.len() as u64;
            data = later;
            if offset.is_multiple_of(PIECE) {
                self.send(&mut outgoing)?;
            }
        }
        Ok(())
    }

    fn check_range(&self, offset: u64, length: u64) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl<R: Remote> VolumeIo for Pieces<R> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.size {
            return Ok(0);
        }
        let mut incoming = self.incoming.borrow_mut();
        let piece = offset / PIECE * PIECE;
        if incoming.current.as_ref().is_none_or(|(start, _)| *start != piece) {
            self.named(self.fetch(&mut incoming, piece))?;
        }
        let Some((start, data)) = &incoming.current else { return Ok(0) };
        let data = data.get((offset - start) as usize..).unwrap_or_default();
        let length = data.len().min(buf.len());
        buf[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_range(offset, data.len() as u64)?;
        self.named(self.write(data, offset))
    }

    fn zero(&self, mut offset: u64, mut length: u64) -> io::Result<()> {
        self.check_range(offset, length)?;
        self.named(self.settle())?;
        let mut zeroes = Vec::new();
        while length > 0 {
            let step = length.min(R::WINDOW as u64 * PIECE);
            let zeroed = self.remote.zero(offset, step).unwrap_or_else(|| {
                zeroes.resize(step as usize, 0);
                self.write(&zeroes[..step as usize], offset)
            });
            self.named(zeroed)?;
            (offset, length) = (offset + step, length - step);
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        if self.extents.get().is_none() {
            let _ = self.extents.set(self.named(self.remote.extents())?);
        }
        let next = match self.extents.get() {
            Some(Some(extents)) => {
                let next = extents.iter().find(|(start, length)| start + length > offset);
                next.map(|(start, length)| (offset.max(*start), (start + length).min(self.size)))
            }
            _ => Some((offset, self.size)),
        };
        Ok(next.filter(|(start, end)| start < end))
    }

    fn finish(&self) -> io::Result<()> {
        self.named(self.settle().and_then(|()| self.remote.flush()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume in memory, which notes what it is asked to do.
    struct Memory {
        bytes: RefCell<Vec<u8>>,
        log: RefCell<Vec<(char, u64, usize)>>,
    }

    impl Remote for Memory {
        type Reading = (u64, usize);
        type Writing = (u64, Vec<u8>);
        const WINDOW: usize = 2;

        fn begin_read(&self, offset: u64, length: usize) -> io::Result<(u64, usize)> {
            self.log.borrow_mut().push(('r', offset, length));
            Ok((offset, length))
        }

        fn end_read(&self, (offset, length): (u64, usize)) -> io::Result<Vec<u8>> {
            Ok(self.bytes.borrow()[offset as usize..][..length].to_vec())
        }

        fn begin_write(&self, offset: u64, data: Vec<u8>) -> io::Result<(u64, Vec<u8>)> {
            self.log.borrow_mut().push(('w', offset, data.len()));
            Ok((offset, data))
        }

        fn end_write(&self, (offset, data): (u64, Vec<u8>)) -> io::Result<()> {
            self.bytes.borrow_mut()[offset as usize..][..data.len()].copy_from_slice(&data);
            Ok(())
        }

        fn zero(&self, _offset: u64, _length: u64) -> Option<io::Result<()>> {
            None
        }

        fn extents(&self) -> io::Result<Option<Vec<(u64, u64)>>> {
            Ok(Some(vec![(0, PIECE), (2 * PIECE, PIECE)]))
        }

        fn flush(&self) -> io::Result<()> {
            Err(io::Error::other("no medium"))
        }
    }

    #[test]
    fn pieces_go_in_order_and_whole() {
        let size = 2 * PIECE + 100;
        let memory = Memory { bytes: RefCell::new(vec![7; size as usize]), log: RefCell::default() };
        let pieces = Pieces::new(memory, size, "the server".to_owned());
        let data: Vec<u8> = (0..size as usize).map(|n| (n % 251) as u8).collect();
        for (at, part) in data.chunks(700_001).enumerate() {
            pieces.write_all_at(part, at as u64 * 700_001).unwrap();
        }
        pieces.settle().unwrap();
        assert!(*pieces.remote.bytes.borrow() == data);
        let whole = PIECE as usize;
        let expected = [('w', 0, whole), ('w', PIECE, whole), ('w', 2 * PIECE, 100)];
        assert_eq!(pieces.remote.log.take(), expected);

        pieces.zero(10, 20).unwrap();
        assert_eq!(pieces.finish().unwrap_err().to_string(), "the server: no medium");
        assert!(pieces.remote.bytes.borrow()[10..30].iter().all(|byte| *byte == 0));
        assert!(pieces.write_all_at(&[0; 2], size - 1).is_err());
        pieces.remote.log.take();

        let mut buffer = vec![0; whole];
        assert_eq!(pieces.read_at(&mut buffer, 5).unwrap(), whole - 5);
        assert!(buffer[25..whole - 5] == data[30..whole]);
        assert_eq!(pieces.remote.log.take(), [('r', 0, whole), ('r', PIECE, whole)]);
        // Where there is no data nothing is got ahead.
        assert_eq!(pieces.next_data(0).unwrap(), Some((0, PIECE)));
        assert_eq!(pieces.next_data(PIECE).unwrap(), Some((2 * PIECE, size)));
        assert_eq!(pieces.read_at(&mut buffer, 2 * PIECE).unwrap(), 100);
        assert_eq!(pieces.read_at(&mut buffer, size).unwrap(), 0);
        assert_eq!(pieces.remote.log.take(), [('r', 2 * PIECE, 100)]);
    }
}
