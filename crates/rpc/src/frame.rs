//! Frames: a length, a header, a payload (`virnetprotocol.x`).

use crate::xdr::{self, Decode, Encode, Input};

/// Bytes of the length that stands before everything, and counts itself.
pub const LENGTH: usize = 4;
/// Bytes of the header.
pub const HEADER: usize = 24;
/// The most that a frame may take, the length with it (`VIR_NET_MESSAGE_MAX` and the length).
pub const MAX_FRAME: usize = (32 << 20) + LENGTH;
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
    /// The bytes on the wire, the length first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = LENGTH + HEADER + self.payload.len();
        let mut out = Vec::with_capacity(length);
        (length as u32).encode(&mut out);
        self.header.encode(&mut out);
        out.extend_from_slice(&self.payload);
        out
    }

    /// How many bytes follow the length; `None` if there is no such frame.
    pub fn rest(length: [u8; LENGTH]) -> Option<usize> {
        let length = u32::from_be_bytes(length) as usize;
        (LENGTH + HEADER..=MAX_FRAME).contains(&length).then(|| length - LENGTH)
    }

    /// The frame whose bytes after the length are these.
    pub fn from_rest(mut bytes: Vec<u8>) -> Result<Frame, xdr::XdrError> {
        let header = xdr::from_bytes(&bytes)?;
        bytes.drain(..HEADER);
        Ok(Frame { header, payload: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as virsh sends it: `auth_list`.
    const AUTH_LIST: &[u8] = b"\0\0\0\x1c\x20\0\x80\x86\0\0\0\x01\0\0\0\x42\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_frame_of_virsh() {
        let length = AUTH_LIST[..4].try_into().unwrap();
        assert_eq!(Frame::rest(length), Some(HEADER));
        let frame = Frame::from_rest(AUTH_LIST[4..].to_vec()).unwrap();
        let header = Header {
            program: REMOTE,
            version: VERSION,
            procedure: 66,
            kind: Kind::Call,
            serial: 0,
            status: Status::Ok,
        };
        assert_eq!(frame, Frame { header, payload: Vec::new() });
        assert_eq!(frame.to_bytes(), AUTH_LIST);
    }

    #[test]
    fn lengths_that_no_frame_has() {
        for length in [0u32, 4, 27, MAX_FRAME as u32 + 1, u32::MAX] {
            assert_eq!(Frame::rest(length.to_be_bytes()), None, "{length}");
        }
        assert!(Frame::from_rest(vec![0; HEADER - 1]).is_err());
    }
}
