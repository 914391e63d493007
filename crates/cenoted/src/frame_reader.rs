//! Frames as they come from a client.

use cenote_rpc::frame::{Frame, HEAD, Header, Kind, MAX_STREAM_DATA};
use tokio::io::{AsyncReadExt, Take};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use zeroize::{Zeroize, Zeroizing};

/// Memory for so much is taken on a client's word, for more as it comes.
const ON_CREDIT: usize = MAX_STREAM_DATA + 64;
/// So much is read ahead.
const AHEAD: usize = 8 << 10;

/// Reads frames, several at a time where they are small. Of a call, which may carry a secret, nothing is left in here.
pub(crate) struct FrameReader {
    socket: OwnedReadHalf,
    ahead: Box<[u8; AHEAD]>,
    /// What has been read and not been taken is `ahead[start..end]`.
    start: usize,
    end: usize,
}

impl FrameReader {
    pub(crate) fn new(socket: OwnedReadHalf) -> FrameReader {
        FrameReader { socket, ahead: Box::new([0; AHEAD]), start: 0, end: 0 }
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        self.socket.as_ref()
    }

    /// What the next frame begins with; `None` if no frame comes that there could be.
    pub(crate) async fn head(&mut self) -> Option<(Header, usize)> {
        if self.end - self.start < HEAD {
            self.ahead.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            while self.end < HEAD {
                match self.socket.read(&mut self.ahead[self.end..]).await {
                    Ok(read) if read > 0 => self.end += read,
                    _ => return None,
                }
            }
        }
        let head = self.ahead[self.start..].first_chunk()?;
        let head = Frame::head(head)?;
        self.start += HEAD;
        Some(head)
    }

    /// The rest of a frame that began so; `None` if the client goes before.
    pub(crate) async fn frame(&mut self, (header, length): (Header, usize)) -> Option<Frame> {
        // With more room than is needed it is not moved at its end, which would leave a copy behind.
        let mut payload = Zeroizing::new(Vec::with_capacity((length + 64).min(ON_CREDIT)));
        let here = &mut self.ahead[self.start..self.end];
        let here_length = here.len().min(length);
        let here = &mut here[..here_length];
        payload.extend_from_slice(here);
        if header.kind == Kind::Call {
            here.zeroize();
        }
        self.start += here_length;
        let missing = length - here_length;
        if missing > 0 {
            let mut rest: Take<_> = (&mut self.socket).take(missing as u64);
            match rest.read_to_end(&mut payload).await {
                Ok(read) if read == missing => {}
                _ => return None,
            }
        }
        Some(Frame { header, payload: std::mem::take(&mut *payload) })
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.ahead[self.start..self.end].zeroize();
    }
}
