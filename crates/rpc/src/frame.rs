//! Frames: a length, a header, a payload (`virnetprotocol.x`).

use crate::xdr::{self, Decode, Encode, Input};

/// Bytes of what a frame begins with: its length, which counts itself, and the header.
pub const HEAD: usize = 4 + 24;
/// The most bytes that a frame may take, its length with it (`VIR_NET_MESSAGE_MAX` and the length).
pub const MAX_FRAME: usize = (32 << 20) + 4;
/// The most data that one message of a stream carries, which older clients take too.
pub const MAX_STREAM_DATA: usize = 262_120;

/// What a frame is (`virNetMessageType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call, with arguments.
    Call,
    /// The answer to a call.
    Reply,
    /// Something that nobody asked for: an event, a sign of life.
    Message,
    /// Data of a stream, or its end.
    Stream,
    /// A part of a stream that reads as zeroes.
    StreamHole,
    /// Something else: calls with file descriptors are not used here.
    Other(u32),
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Call => 0,
            Kind::Reply => 1,
            Kind::Message => 2,
            Kind::Stream => 3,
            Kind::StreamHole => 6,
            Kind::Other(number) => number,
        }
    }

    fn of(number: u32) -> Kind {
        match number {
            0 => Kind::Call,
            1 => Kind::Reply,
            2 => Kind::Message,
            3 => Kind::Stream,
            6 => Kind::StreamHole,
            other => Kind::Other(other),
        }
    }
}

/// How it goes (`virNetMessageStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Well; of a stream, that all has come.
    Ok,
    /// Not well: the payload is a [`WireError`](crate::WireError), or empty.
    Error,
    /// More comes in this stream.
    Continue,
    /// No status there is.
    Other(u32),
}

impl Status {
    fn number(self) -> u32 {
        match self {
            Status::Ok => 0,
            Status::Error => 1,
            Status::Continue => 2,
            Status::Other(number) => number,
        }
    }

    fn of(number: u32) -> Status {
        match number {
            0 => Status::Ok,
            1 => Status::Error,
            2 => Status::Continue,
            other => Status::Other(other),
        }
    }
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The program, [`REMOTE`] or [`KEEPALIVE`] for example.
    pub program: u32,
    /// The program's version.
    pub version: u32,
    /// The procedure's number.
    pub procedure: i32,
    /// What the frame is.
    pub kind: Kind,
    /// The number that a call and everything that belongs to it have in common.
    pub serial: u32,
    /// How it goes.
    pub status: Status,
}

/// The program of libvirt's API.
pub const REMOTE: u32 = 0x2000_8086;
/// The program of signs of life; procedure 1 asks for one, 2 gives it.
pub const KEEPALIVE: u32 = 0x6b65_6570;
/// The version of both.
pub const VERSION: u32 = 1;

impl Header {
    /// The same call, in a frame of another kind and status.
    pub fn answer(self, kind: Kind, status: Status) -> Header {
        Header { kind, status, ..self }
    }
}

impl Encode for Header {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.program, self.version).encode(out);
        (self.procedure, self.kind.number(), self.serial, self.status.number()).encode(out);
    }
}

impl Decode for Header {
    fn decode(input: &mut Input<'_>) -> Result<Header, xdr::XdrError> {
        let (program, version) = Decode::decode(input)?;
        let (procedure, kind, serial, status) = Decode::decode(input)?;
        Ok(Header { program, version, procedure, kind: Kind::of(kind), serial, status: Status::of(status) })
    }
}

/// A header and a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is about.
    pub header: Header,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.header, &self.payload)
    }

    /// What a frame begins with: the header, and how many bytes of payload follow. `None` if there is no such frame.
    pub fn head(bytes: &[u8; HEAD]) -> Option<(Header, usize)> {
        let (length, header) = xdr::from_bytes::<(u32, Header)>(bytes).ok()?;
        let payload = (length as usize).checked_sub(HEAD)?;
        (payload <= MAX_FRAME - HEAD).then_some((header, payload))
    }
}

/// The bytes of a frame on the wire.
pub fn to_bytes(header: &Header, payload: &[u8]) -> Vec<u8> {
    let length = HEAD + payload.len();
    let mut out = Vec::with_capacity(length);
    head(header, length, &mut out);
    out.extend_from_slice(payload);
    out
}

/// Makes a frame of bytes whose payload is in its place: what is before it, [`HEAD`] bytes, is written over.
pub fn put_head(header: &Header, frame: &mut [u8]) {
    let mut out = Vec::with_capacity(HEAD);
    head(header, frame.len(), &mut out);
    frame[..HEAD].copy_from_slice(&out);
}

fn head(header: &Header, length: usize, out: &mut Vec<u8>) {
    (length as u32).encode(out);
    header.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as virsh sends it: `auth_list`.
    const AUTH_LIST: &[u8] = b"\0\0\0\x1c\x20\0\x80\x86\0\0\0\x01\0\0\0\x42\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_frame_of_virsh() {
        let header = Header {
            program: REMOTE,
            version: VERSION,
            procedure: 66,
            kind: Kind::Call,
            serial: 0,
            status: Status::Ok,
        };
        assert_eq!(Frame::head(AUTH_LIST.try_into().unwrap()), Some((header, 0)));
        assert_eq!(to_bytes(&header, &[]), AUTH_LIST);
        let mut frame = [0; HEAD + 3];
        put_head(&header, &mut frame);
        assert_eq!(frame[..], to_bytes(&header, &[0; 3]));
    }

    #[test]
    fn lengths_that_no_frame_has() {
        let mut head: [u8; HEAD] = AUTH_LIST.try_into().unwrap();
        for length in [0u32, 4, 27, MAX_FRAME as u32 + 1, u32::MAX] {
            head[..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(Frame::head(&head), None, "{length}");
        }
        head[..4].copy_from_slice(&(MAX_FRAME as u32).to_be_bytes());
        assert_eq!(Frame::head(&head).map(|(_, payload)| payload), Some(MAX_FRAME - HEAD));
    }
}
