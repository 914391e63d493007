//! The side that calls. A thread reads what the server sends and hands it to who waits for it.

use crate::frame::{self, Frame, HEAD, Header, Kind, MAX_STREAM_DATA, Status};
use crate::procedures::{Call, StreamHole};
use crate::{WireError, xdr};
use cenote_model::{Code, Domain, Error, Result};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use zeroize::Zeroizing;

/// So many pieces of a stream wait for being taken; then nothing more is read from the server.
const MAX_WAITING: usize = 16;

/// A connection to a server, which ends with the value and the streams that it has opened.
pub struct Client {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

/// The socket of a connection, if it has one. The thread that reads it does not keep it open.
struct Line(Option<UnixStream>);

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

struct Shared {
    outgoing: Mutex<Outgoing>,
    waiting: Mutex<Waiting>,
}

struct Outgoing {
    writer: Box<dyn Write + Send>,
    serial: u32,
}

#[derive(Default)]
struct Waiting {
    replies: HashMap<u32, Sender<Frame>>,
    streams: HashMap<u32, SyncSender<Frame>>,
    events: Vec<Sender<Frame>>,
    /// The server has gone.
    is_over: bool,
}

/// What a server sends on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data.
    Data(Vec<u8>),
    /// So many bytes that read as zeroes.
    Hole(u64),
    /// That was all.
    End,
}

/// A stream that a call has opened. Dropped before [`finish`](Stream::finish), it is broken off.
pub struct Stream {
    shared: Arc<Shared>,
    _line: Arc<Line>,
    header: Header,
    incoming: Receiver<Frame>,
    is_over: bool,
}

impl Client {
    /// A client on a socket that is connected.
    pub fn on(socket: UnixStream) -> io::Result<Client> {
        let line = Line(Some(socket.try_clone()?));
        Ok(Client { line: Arc::new(line), ..Client::new(socket.try_clone()?, socket) })
    }

    /// A client on a connection that stands: what comes from the server, and what goes to it.
    pub fn new(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Client {
        let shared = Arc::new(Shared {
            outgoing: Mutex::new(Outgoing { writer: Box::new(writer), serial: 0 }),
            waiting: Mutex::default(),
        });
        let receiving = Arc::clone(&shared);
        std::thread::spawn(move || {
            receiving.receive(reader);
            // Who waits finds that nobody will answer.
            *lock(&receiving.waiting) = Waiting { is_over: true, ..Waiting::default() };
        });
        Client { shared, line: Arc::new(Line(None)) }
    }

    /// Calls a procedure and waits for its reply.
    pub fn call<C: Call>(&self, args: &C::Args) -> Result<C::Ret> {
        let (_, reply) = self.send_call::<C>(args, None)?;
        result::<C>(reply)
    }

    /// Passes a call on whose arguments are encoded already. Returns what the server's reply carries.
    pub fn forward(&self, procedure: i32, payload: &[u8]) -> Result<Vec<u8>> {
        let header = |serial| Header {
            program: frame::REMOTE,
            version: frame::VERSION,
            procedure,
            kind: Kind::Call,
            serial,
            status: Status::Ok,
        };
        let (_, reply) = self.send(header, payload, None)?;
        match reply.header.status {
            Status::Ok => Ok(reply.payload),
            _ => Err(error_in(&reply)),
        }
    }

    /// Calls a procedure that opens a stream.
    pub fn open<C: Call>(&self, args: &C::Args) -> Result<Stream> {
        let (sender, incoming) = sync_channel(MAX_WAITING);
        let (serial, reply) = self.send_call::<C>(args, Some(sender))?;
        let header = header::<C>(Kind::Stream, serial, Status::Continue);
        let opened = result::<C>(reply);
        let (shared, line) = (Arc::clone(&self.shared), Arc::clone(&self.line));
        let stream = Stream { shared, _line: line, header, incoming, is_over: opened.is_err() };
        opened.map(|_| stream)
    }

    /// The events that come from now on: frames whose procedure says of what kind they are.
    pub fn events(&self) -> Receiver<Frame> {
        let (sender, receiver) = channel();
        lock(&self.shared.waiting).events.push(sender);
        receiver
    }

    fn send_call<C: Call>(&self, args: &C::Args, stream: Option<SyncSender<Frame>>) -> Result<(u32, Frame)> {
        // There may be a secret in it.
        let payload = Zeroizing::new(xdr::to_bytes(args));
        self.send(|serial| header::<C>(Kind::Call, serial, Status::Ok), &payload, stream)
    }

    /// Sends a call and waits for the frame that answers it.
    fn send(
        &self,
        header: impl FnOnce(u32) -> Header,
        payload: &[u8],
        stream: Option<SyncSender<Frame>>,
    ) -> Result<(u32, Frame)> {
        let (sender, receiver) = channel();
        let mut outgoing = lock(&self.shared.outgoing);
        let serial = outgoing.serial;
        outgoing.serial = serial.wrapping_add(1);
        {
            let mut waiting = lock(&self.shared.waiting);
            if waiting.is_over {
                return Err(gone());
            }
            waiting.replies.insert(serial, sender);
            waiting.streams.extend(stream.map(|stream| (serial, stream)));
        }
        let bytes = Zeroizing::new(frame::to_bytes(&header(serial), payload));
        outgoing.write(&bytes)?;
        drop(outgoing);
        receiver.recv().map(|reply| (serial, reply)).map_err(|_| gone())
    }
}

fn result<C: Call>(reply: Frame) -> Result<C::Ret> {
    match reply.header.status {
        Status::Ok => xdr::from_bytes(&Zeroizing::new(reply.payload)).map_err(|e| nonsense(&e)),
        _ => Err(error_in(&reply)),
    }
}

fn error_in(frame: &Frame) -> Error {
    xdr::from_bytes::<WireError>(&frame.payload).map_or_else(|e| nonsense(&e), WireError::into_error)
}

fn header<C: Call>(kind: Kind, serial: u32, status: Status) -> Header {
    Header { program: C::PROGRAM, version: frame::VERSION, procedure: C::NUMBER, kind, serial, status }
}

fn rpc(message: String) -> Error {
    Error::new(Code::Rpc, message).in_domain(Domain::Rpc)
}

fn nonsense(reason: &xdr::XdrError) -> Error {
    rpc(format!("Unable to decode message payload: {reason}"))
}

fn gone() -> Error {
    Error::new(Code::SystemError, "the server has closed the connection").in_domain(Domain::Rpc)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Outgoing {
    fn write(&mut self, frame: &[u8]) -> Result<()> {
        let written = self.writer.write_all(frame).and_then(|()| self.writer.flush());
        written.map_err(|e| Error::system("cannot send to the server", &e).in_domain(Domain::Rpc))
    }
}

impl Shared {
    fn receive(&self, mut reader: impl Read) {
        while let Ok(frame) = read(&mut reader) {
            let header = frame.header;
            if header.program == frame::KEEPALIVE {
                const PING: i32 = 1;
                const PONG: i32 = 2;
                if header.procedure == PING {
                    let _ = lock(&self.outgoing)
                        .write(&frame::to_bytes(&Header { procedure: PONG, ..header }, &[]));
                }
                continue;
            }
            match header.kind {
                Kind::Reply => {
                    let waiting = lock(&self.waiting).replies.remove(&header.serial);
                    // Who has given up needs no answer.
                    let _ = waiting.map(|waiting| waiting.send(frame));
                }
                Kind::Stream | Kind::StreamHole => {
                    let stream = lock(&self.waiting).streams.get(&header.serial).cloned();
                    let _ = stream.map(|stream| stream.send(frame));
                }
                Kind::Message => lock(&self.waiting).events.retain(|event| event.send(frame.clone()).is_ok()),
                Kind::Call | Kind::Other(_) => {}
            }
        }
    }
}

fn read(reader: &mut impl Read) -> io::Result<Frame> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let (header, length) = Frame::head(&head).ok_or_else(|| invalid("a frame of an impossible length"))?;
    // Memory for more than a piece of a stream is taken as the bytes come, not as they are announced.
    let mut payload = Vec::with_capacity(length.min(MAX_STREAM_DATA));
    match reader.take(length as u64).read_to_end(&mut payload)? {
        read if read == length => Ok(Frame { header, payload }),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Stream {
    /// Sends data.
    pub fn send(&mut self, data: &[u8]) -> Result<()> {
        for piece in data.chunks(MAX_STREAM_DATA) {
            self.check()?;
            self.write(&self.header, piece)?;
        }
        Ok(())
    }

    /// Sends a hole.
    pub fn send_hole(&mut self, length: u64) -> Result<()> {
        self.check()?;
        let length =
            i64::try_from(length).map_err(|_| rpc(format!("a hole of {length} bytes is too long")))?;
        let header = self.header.answer(Kind::StreamHole, Status::Continue);
        self.write(&header, &xdr::to_bytes(&StreamHole { length, flags: 0 }))
    }

    /// The next piece. At the end it is to be [finished](Stream::finish).
    pub fn receive(&mut self) -> Result<Piece> {
        let frame = self.incoming.recv().map_err(|_| gone())?;
        match (frame.header.kind, frame.header.status) {
            (Kind::StreamHole, _) => {
                let hole: StreamHole = xdr::from_bytes(&frame.payload).map_err(|e| nonsense(&e))?;
                let length =
                    u64::try_from(hole.length).map_err(|_| rpc("a hole of less than nothing".to_owned()))?;
                Ok(Piece::Hole(length))
            }
            (_, Status::Continue) if frame.payload.is_empty() => Ok(Piece::End),
            (_, Status::Continue) => Ok(Piece::Data(frame.payload)),
            (_, Status::Ok) => {
                self.is_over = true;
                Ok(Piece::End)
            }
            (_, Status::Error | Status::Other(_)) => {
                self.is_over = true;
                Err(error_in(&frame))
            }
        }
    }

    /// Says that all is well, and waits for the server to say so too.
    pub fn finish(mut self) -> Result<()> {
        if self.is_over {
            return Ok(());
        }
        self.write(&self.header.answer(Kind::Stream, Status::Ok), &[])?;
        loop {
            let frame = self.incoming.recv().map_err(|_| gone())?;
            match frame.header.status {
                // What was under way before the server had our word.
                Status::Continue => {}
                Status::Ok => {
                    self.is_over = true;
                    return Ok(());
                }
                Status::Error | Status::Other(_) => {
                    self.is_over = true;
                    return Err(error_in(&frame));
                }
            }
        }
    }

    /// Finds out whether the server has broken the stream off.
    fn check(&mut self) -> Result<()> {
        match self.incoming.try_recv() {
            Ok(frame) => {
                self.is_over = true;
                Err(error_in(&frame))
            }
            Err(_) => Ok(()),
        }
    }

    fn write(&self, header: &Header, payload: &[u8]) -> Result<()> {
        lock(&self.shared.outgoing).write(&frame::to_bytes(header, payload))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.shared.waiting).streams.remove(&self.header.serial);
        if !self.is_over {
            let _ = self.write(&self.header.answer(Kind::Stream, Status::Error), &[]);
        }
    }
}
