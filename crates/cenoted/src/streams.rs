//! Data on its way.
//!
//! An upload has a thread of its own, which writes what comes. A download is read piece by piece where it may wait,
//! and sent from where waiting for a client costs no thread.

use crate::client::{Client, refusal};
use cenote_engine::{Chunk, Download};
use cenote_model::flags::Holes;
use cenote_model::{Code, Domain, Error, Result, VolumeRef};
use cenote_rpc::frame::{self, HEAD, Header, Kind, MAX_STREAM_DATA, Status};
use cenote_rpc::procedures::StreamHole;
use cenote_rpc::xdr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// So many pieces wait for being written.
const MAX_INCOMING: usize = 16;

/// What comes in on a stream.
pub(crate) enum Incoming {
    Data(Vec<u8>),
    /// So many bytes that read as zeroes.
    Hole(i64),
    /// All has come.
    Finish,
    /// It shall end as it is.
    Abort,
}

/// A download that is about to begin.
pub(crate) struct Outgoing {
    pub(crate) download: Download,
    pub(crate) holes: Holes,
    incoming: mpsc::Receiver<Incoming>,
}

impl Outgoing {
    pub(crate) fn new(client: &Client, header: Header, download: Download, holes: Holes) -> Outgoing {
        let (sender, incoming) = mpsc::channel(MAX_INCOMING);
        client.add_stream(header.serial, sender);
        Outgoing { download, holes, incoming }
    }
}

/// Begins an upload. Returns when the volume is open.
pub(crate) fn receive(
    client: &Arc<Client>,
    header: Header,
    volume: VolumeRef,
    (offset, length): (u64, u64),
    holes: Holes,
) -> Result<()> {
    let (sender, incoming) = mpsc::channel(MAX_INCOMING);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let writer = Arc::clone(client);
    let runtime = tokio::runtime::Handle::current();
    let caller = std::thread::current().id();
    std::thread::Builder::new()
        .name("upload".to_owned())
        .spawn(move || {
            let engine = Arc::clone(&writer.server.engine);
            writer.work.help(caller);
            let upload = match engine.upload(&volume, offset, length) {
                Ok(upload) => upload,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            // Before the client is told that it may send.
            writer.add_stream(header.serial, sender);
            let _ = ready.send(Ok(()));
            let work = writer.work.begin(header, Kind::Stream, None);
            let ended = write(upload, incoming, holes);
            writer.remove_stream(header.serial);
            let is_awaited = writer.work.end(work);
            if let Some(result) = ended.filter(|_| is_awaited) {
                let _ = runtime.block_on(writer.send(&end(header, &result)));
            }
        })
        .map_err(|e| Error::system("cannot start a thread for the upload", &e))?;
    let broken = |_| Err(Error::new(Code::Internal, "the upload broke off: this is a mistake in cenoted"));
    is_ready.recv().unwrap_or_else(broken)
}

/// Writes what comes to its end. `None` if the client has gone.
fn write(
    mut upload: cenote_engine::Upload<'_>,
    mut incoming: mpsc::Receiver<Incoming>,
    holes: Holes,
) -> Option<Result<()>> {
    loop {
        let written = match incoming.blocking_recv()? {
            Incoming::Data(data) => upload.write(&data),
            Incoming::Hole(length) => match (holes, u64::try_from(length)) {
                (Holes::Kept, Ok(length)) => upload.hole(length),
                _ => Err(Error::new(Code::Rpc, "Unexpected stream hole").in_domain(Domain::Streams)),
            },
            Incoming::Finish => return Some(upload.finish()),
            Incoming::Abort => return Some(Ok(())),
        };
        if written.is_err() {
            return Some(written);
        }
    }
}

/// The last message of a stream.
fn end(header: Header, result: &Result<()>) -> Vec<u8> {
    match result {
        Ok(()) => message(header, Status::Ok, &[]),
        Err(error) => refusal(header, Kind::Stream, error),
    }
}

fn message(header: Header, status: Status, payload: &[u8]) -> Vec<u8> {
    frame::to_bytes(&header.answer(Kind::Stream, status), payload)
}

/// Sends a download to its end.
pub(crate) async fn send(client: Arc<Client>, header: Header, outgoing: Outgoing) {
    // Whoever is told that it is over may go on with the volume: by then it is let go.
    let ended = pump(&client, header, outgoing).await;
    client.remove_stream(header.serial);
    if let Some(result) = ended {
        let _ = client.send(&end(header, &result)).await;
    }
}

/// Sends what there is, until the client has all or wants no more. `None` if it has gone.
async fn pump(client: &Client, header: Header, outgoing: Outgoing) -> Option<Result<()>> {
    let Outgoing { mut download, holes, mut incoming } = outgoing;
    // Each piece is read to where it is sent from.
    let mut frame = vec![0; HEAD + MAX_STREAM_DATA];
    loop {
        match incoming.try_recv() {
            // A client may end it before all has come.
            Ok(Incoming::Finish | Incoming::Abort) => return Some(Ok(())),
            Ok(Incoming::Data(_) | Incoming::Hole(_)) => return Some(Err(unexpected())),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        let (next, is_awaited) = tokio::task::block_in_place(|| {
            let work = client.work.begin(header, Kind::Stream, None);
            let next = download.next(&mut frame[HEAD..]);
            (next, client.work.end(work))
        });
        if !is_awaited {
            return None;
        }
        let sent = match next {
            Err(error) => return Some(Err(error)),
            Ok(Chunk::Data(length)) => {
                let frame = &mut frame[..HEAD + length];
                frame::put_head(&header.answer(Kind::Stream, Status::Continue), frame);
                client.send(frame).await
            }
            Ok(Chunk::Hole(length)) if holes == Holes::Filled => {
                fill(client, header, length, &mut incoming).await
            }
            Ok(Chunk::Hole(length)) => {
                let payload = xdr::to_bytes(&StreamHole { length: length as i64, flags: 0 });
                let header = header.answer(Kind::StreamHole, Status::Continue);
                client.send(&frame::to_bytes(&header, &payload)).await
            }
            Ok(Chunk::End) => {
                drop(download);
                // An empty message says that this was all; the client has the last word.
                let _ = client.send(&message(header, Status::Continue, &[])).await;
                return match incoming.recv().await? {
                    Incoming::Finish | Incoming::Abort => Some(Ok(())),
                    Incoming::Data(_) | Incoming::Hole(_) => Some(Err(unexpected())),
                };
            }
        };
        if sent.is_err() {
            return None;
        }
    }
}

fn unexpected() -> Error {
    Error::new(Code::Rpc, "Unexpected data on a stream for reading").in_domain(Domain::Streams)
}

/// Sends zeroes, until the client wants no more.
async fn fill(
    client: &Client,
    header: Header,
    mut length: u64,
    incoming: &mut mpsc::Receiver<Incoming>,
) -> std::io::Result<()> {
    let zeroes = message(header, Status::Continue, &[0; MAX_STREAM_DATA]);
    while length >= MAX_STREAM_DATA as u64 && incoming.is_empty() {
        client.send(&zeroes).await?;
        length -= MAX_STREAM_DATA as u64;
    }
    if length > 0 && incoming.is_empty() {
        client.send(&message(header, Status::Continue, &vec![0; length as usize])).await?;
    }
    Ok(())
}
