//! One connection: frames that come, and where they go.

use crate::calls::{self, Answer};
use crate::frame_reader::FrameReader;
use crate::identity;
use crate::server::Server;
use crate::streams::{self, Incoming};
use crate::work::{Piece, Work};
use cenote_engine::{Asker, Overdue, Verdict};
use cenote_model::event::{PoolEvent, SecretEvent, VolumeEvent};
use cenote_model::{Code, Domain, Error, Result, Uuid};
use cenote_rpc::frame::{self, Frame, Header, Kind, Status};
use cenote_rpc::own::{self, VolumeHappening};
use cenote_rpc::procedures::{
    PoolId, PoolLifecycle, PoolRefreshed, SecretId, SecretLifecycle, SecretValueChanged, StreamHole,
    TypedParam,
};
use cenote_rpc::{Encode, Procedure, WireError, xdr};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use zeroize::Zeroizing;

/// So many events wait for a client; one that lets more come together has to go.
const MAX_EVENTS: usize = 16_384;
/// So many calls of a client are worked on at once; then no more are read.
const MAX_CALLS: usize = 32;
/// So much may a client send before it has opened a connection to storage.
const MAX_FIRST: usize = 64 << 10;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    Everything,
    Reading,
}

/// What a connection is opened for. Both may be used over either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Storage,
    Secrets,
}

impl Service {
    /// libvirt's name of the driver, in URIs too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Storage => "storage",
            Service::Secrets => "secret",
        }
    }
}

/// What an event callback is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    PoolLifecycle,
    PoolRefreshed,
    SecretLifecycle,
    SecretValueChanged,
    Volume,
}

struct Callback {
    kind: EventKind,
    /// The pool or secret; all, if there is none.
    object: Option<Uuid>,
}

#[derive(Default)]
struct Callbacks {
    registered: HashMap<i32, Callback>,
    next: i32,
}

/// Where what belongs to a stream goes.
#[derive(Clone)]
struct OpenStream {
    incoming: mpsc::Sender<Incoming>,
    /// It is open no more.
    closed: Arc<Notify>,
}

/// A client that is connected.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    /// Frames are written by who makes them. While a client does not read they wait here, and take no thread.
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    events: mpsc::Sender<Vec<u8>>,
    /// What it is open for, once it is.
    service: OnceLock<Service>,
    /// What it is opened for if the client does not say.
    usual_service: Service,
    may_only_read: AtomicBool,
    /// Whom it acts for: itself, until it says otherwise.
    identity: Mutex<Vec<TypedParam>>,
    callbacks: Mutex<Callbacks>,
    /// The streams that are open, by serial; `None` when the client has gone.
    streams: Mutex<Option<HashMap<u32, OpenStream>>>,
    /// What threads do for it.
    pub(crate) work: Work,
    event_serial: AtomicU32,
    /// The client has to go.
    gone: Notify,
}

impl Client {
    fn new(
        server: Arc<Server>,
        (usual_service, rights): (Service, Rights),
        identity: Vec<TypedParam>,
        writer: OwnedWriteHalf,
    ) -> (Arc<Client>, mpsc::Receiver<Vec<u8>>) {
        let (event_sender, events) = mpsc::channel(MAX_EVENTS);
        let client = Client {
            server,
            writer: writer.into(),
            events: event_sender,
            service: OnceLock::new(),
            usual_service,
            may_only_read: AtomicBool::new(rights == Rights::Reading),
            identity: Mutex::new(identity),
            callbacks: Mutex::default(),
            streams: Mutex::new(Some(HashMap::new())),
            work: Work::default(),
            event_serial: AtomicU32::new(0),
            gone: Notify::new(),
        };
        (Arc::new(client), events)
    }

    /// Sends a frame. Fails if the client has gone.
    pub(crate) async fn send(&self, frame: &[u8]) -> std::io::Result<()> {
        self.writer.lock().await.write_all(frame).await
    }

    /// Opens the connection for a service, or for that of the socket.
    pub(crate) fn open(&self, service: Option<Service>, rights: Rights) -> Result<()> {
        if self.service.set(service.unwrap_or(self.usual_service)).is_err() {
            return Err(Error::new(Code::Internal, "connection already open").in_domain(Domain::Rpc));
        }
        if rights == Rights::Reading {
            self.may_only_read.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.service.get().is_some()
    }

    pub(crate) fn service(&self) -> Service {
        *self.service.get().unwrap_or(&self.usual_service)
    }

    /// Takes note of whom the client acts for.
    pub(crate) fn identify(&self, identity: Vec<TypedParam>) -> Result<()> {
        const MOST: usize = 20;
        if identity.len() > MOST {
            let message = format!("an identity of {} parameters: at most {MOST} are allowed", identity.len());
            return Err(rpc_error(message));
        }
        *lock(&self.identity) = identity;
        Ok(())
    }

    /// As whom it asks for secrets.
    pub(crate) fn asker(&self) -> Asker {
        if self.server.token.is_in(&lock(&self.identity)) { Asker::Machine } else { Asker::Client }
    }

    /// Whom it acts for, in the words of libvirt's daemons.
    pub(crate) fn identity(&self) -> Vec<TypedParam> {
        lock(&self.identity).clone()
    }

    pub(crate) fn rights(&self) -> Rights {
        if self.may_only_read.load(Ordering::Acquire) { Rights::Reading } else { Rights::Everything }
    }

    /// Registers a callback for events of a pool or secret, or of all; returns its number.
    pub(crate) fn watch(&self, kind: EventKind, object: Option<Uuid>) -> i32 {
        let mut callbacks = lock(&self.callbacks);
        let number = callbacks.next;
        callbacks.next += 1;
        callbacks.registered.insert(number, Callback { kind, object });
        number
    }

    /// Forgets a callback; `None` if there is none of this number.
    pub(crate) fn unwatch(&self, number: i32) -> Option<()> {
        lock(&self.callbacks).registered.remove(&number).map(drop)
    }

    /// Tells of what happened to a pool.
    pub(crate) fn tell_of_pool(&self, event: &PoolEvent) {
        let pool = PoolId { name: event.pool.to_string(), uuid: event.uuid };
        match event.change.lifecycle_number() {
            None => self.tell(EventKind::PoolRefreshed, event.uuid, |callback| {
                let message = PoolRefreshed { callback, pool: pool.clone() };
                self.event(frame::REMOTE, Procedure::StoragePoolEventRefresh.number(), &message)
            }),
            Some(number) => self.tell(EventKind::PoolLifecycle, event.uuid, |callback| {
                let message = PoolLifecycle { callback, pool: pool.clone(), event: number, detail: 0 };
                self.event(frame::REMOTE, Procedure::StoragePoolEventLifecycle.number(), &message)
            }),
        }
    }

    /// Tells of what happened to a volume.
    pub(crate) fn tell_of_volume(&self, event: &VolumeEvent) {
        self.tell(EventKind::Volume, event.pool.uuid, |callback| {
            let (pool, volume) = (event.pool.clone().into(), event.volume.to_string());
            let happening = VolumeHappening { callback, pool, volume, change: event.change.number() };
            self.event(own::PROGRAM, own::VOLUME_EVENT, &happening)
        });
    }

    /// Tells of what happened to a secret.
    pub(crate) fn tell_of_secret(&self, event: &SecretEvent) {
        let secret = SecretId::from(event.secret.clone());
        match event.change.lifecycle_number() {
            None => self.tell(EventKind::SecretValueChanged, secret.uuid, |callback| {
                let message = SecretValueChanged { callback, secret: secret.clone() };
                self.event(frame::REMOTE, Procedure::SecretEventValueChanged.number(), &message)
            }),
            Some(number) => self.tell(EventKind::SecretLifecycle, secret.uuid, |callback| {
                let message = SecretLifecycle { callback, secret: secret.clone(), event: number, detail: 0 };
                self.event(frame::REMOTE, Procedure::SecretEventLifecycle.number(), &message)
            }),
        }
    }

    /// Sends an event to those callbacks that are for it. A client that does not take its events has to go, so that
    /// nobody waits for it and nothing piles up.
    fn tell(&self, kind: EventKind, object: Uuid, message: impl Fn(i32) -> Vec<u8>) {
        let numbers: Vec<i32> = lock(&self.callbacks)
            .registered
            .iter()
            .filter(|(_, callback)| {
                callback.kind == kind && callback.object.is_none_or(|wanted| wanted == object)
            })
            .map(|(number, _)| *number)
            .collect();
        for callback in numbers {
            if self.events.try_send(message(callback)).is_err() {
                self.gone.notify_one();
            }
        }
    }

    fn event(&self, program: u32, procedure: i32, message: &impl Encode) -> Vec<u8> {
        let header = Header {
            program,
            version: frame::VERSION,
            procedure,
            kind: Kind::Message,
            serial: self.event_serial.fetch_add(1, Ordering::Relaxed) + 1,
            status: Status::Ok,
        };
        Frame { header, payload: xdr::to_bytes(message) }.to_bytes()
    }

    /// Makes a stream known under the serial of its call. If the client has gone, the stream finds that out at once.
    pub(crate) fn add_stream(&self, serial: u32, stream: mpsc::Sender<Incoming>) {
        if let Some(streams) = &mut *lock(&self.streams)
            && streams.insert(serial, OpenStream { incoming: stream, closed: Arc::default() }).is_none()
        {
            self.server.streams.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn remove_stream(&self, serial: u32) {
        if let Some(streams) = &mut *lock(&self.streams)
            && let Some(stream) = streams.remove(&serial)
        {
            // Who waits to pass something on to it need not.
            stream.closed.notify_one();
            self.server.streams.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Streams find that nobody sends to them any more, and nobody is told of events.
    fn leave(&self) {
        let left = lock(&self.streams).take().map_or(0, |streams| streams.len());
        self.server.streams.fetch_sub(left, Ordering::AcqRel);
        lock(&self.callbacks).registered.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Serves a client until it goes.
pub(crate) async fn serve(server: Arc<Server>, stream: UnixStream, usual: (Service, Rights)) {
    let identity = identity::of_peer(&stream);
    let (incoming, writer) = stream.into_split();
    let (client, mut events) = Client::new(server, usual, identity, writer);
    client.server.greet(&client);
    let told = Arc::clone(&client);
    let telling = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if told.send(&event).await.is_err() {
                return;
            }
        }
    });
    let mut incoming = FrameReader::new(incoming);
    tokio::select! {
        () = read(&client, &mut incoming) => {}
        () = client.gone.notified() => {}
    }
    client.leave();
    telling.abort();
    // Who is still writing to it finds out.
    let _ = rustix::net::shutdown(incoming.socket(), rustix::net::Shutdown::Both);
}

async fn read(client: &Arc<Client>, incoming: &mut FrameReader) {
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    while let Some(head) = incoming.head().await {
        let (header, length) = head;
        if length > MAX_FIRST && !client.is_open() {
            return;
        }
        let Some(frame) = incoming.frame(head).await else { return };
        let is_ours =
            matches!(header.program, frame::REMOTE | own::PROGRAM) && header.version == frame::VERSION;
        match header.kind {
            Kind::Message if header.program == frame::KEEPALIVE => keep_alive(client, header).await,
            Kind::Call if is_ours => {
                let Ok(slot) = Arc::clone(&calls).acquire_owned().await else { return };
                let client = Arc::clone(client);
                tokio::spawn(async move {
                    answer(client, frame).await;
                    drop(slot);
                });
            }
            Kind::Call => {
                let message = format!("Cannot find program {} version {}", header.program, header.version);
                refuse(client, header, &rpc_error(message)).await;
            }
            Kind::Stream | Kind::StreamHole if is_ours => match pass_on(client, frame).await {
                Ok(()) => {}
                Err(_) => return,
            },
            // As libvirt does: what is no call gets no answer.
            _ => {}
        }
    }
}

pub(crate) fn rpc_error(message: impl Into<String>) -> Error {
    Error::new(Code::Rpc, message).in_domain(Domain::Rpc)
}

/// An answer that is nothing but an error.
pub(crate) fn refusal(header: Header, kind: Kind, error: &Error) -> Vec<u8> {
    let payload = xdr::to_bytes(&WireError::from(error));
    Frame { header: header.answer(kind, Status::Error), payload }.to_bytes()
}

async fn refuse(client: &Client, header: Header, error: &Error) {
    // Who has gone needs no answer.
    let _ = client.send(&refusal(header, Kind::Reply, error)).await;
}

async fn keep_alive(client: &Client, header: Header) {
    const PING: i32 = 1;
    const PONG: i32 = 2;
    if header.procedure == PING {
        let pong = Frame { header: Header { procedure: PONG, ..header }, payload: Vec::new() };
        let _ = client.send(&pong.to_bytes()).await;
    }
}

/// Answers a call. While it works others are served by other threads; while its answer waits it takes none.
async fn answer(client: Arc<Client>, frame: Frame) {
    // There may be a secret in it, and in the answer.
    let Frame { header, payload } = frame;
    let payload = Arc::new(Zeroizing::new(payload));
    let started = Instant::now();
    let (answered, is_awaited) = tokio::task::block_in_place(|| {
        let work = client.work.begin(header, Kind::Reply, Some(Arc::clone(&payload)));
        // Only the client whose call breaks off is to notice.
        let answered =
            std::panic::catch_unwind(AssertUnwindSafe(|| calls::answer(&client, header, &payload)));
        (answered, client.work.end(work))
    });
    let failed = |_| Err(Error::new(Code::Internal, "the call broke off: this is a mistake in cenoted"));
    let answered = answered.unwrap_or_else(failed);
    if !is_awaited {
        // The client has been told something else meanwhile, and knows of no stream.
        client.remove_stream(header.serial);
        return;
    }
    client.server.metrics.call(header, started.elapsed(), answered.as_ref().err());
    match answered {
        Err(error) => refuse(&client, header, &error).await,
        Ok(answer) => reply(client, header, answer).await,
    }
}

/// Sends an answer, and what comes after it.
async fn reply(client: Arc<Client>, header: Header, Answer { payload, download }: Answer) {
    let payload = Zeroizing::new(payload);
    let reply = frame::to_bytes(&header.answer(Kind::Reply, Status::Ok), &payload);
    if client.send(&Zeroizing::new(reply)).await.is_ok()
        && let Some(download) = download
    {
        streams::send(client, header, download).await;
    }
}

/// Has whoever waits for a thread wait no longer, if that is this client.
pub(crate) fn wait_no_longer(client: &Arc<Client>, overdue: &Overdue, runtime: &Handle) {
    let Some(Piece { id, header, kind, payload, started, .. }) =
        client.work.of(overdue.thread, overdue.since)
    else {
        return;
    };
    let client = Arc::clone(client);
    match (&overdue.verdict, payload) {
        (Verdict::GivenUp(error), _) => {
            if client.work.end(id) {
                client.server.metrics.call(header, started.elapsed(), Some(error));
                // Nothing more is passed on to a stream that hangs.
                client.remove_stream(header.serial);
                let refusal = refusal(header, kind, error);
                runtime.spawn(async move { client.send(&refusal).await });
            }
        }
        (Verdict::AskAgain, Some(payload)) if calls::only_looks(header) => {
            runtime.spawn(async move {
                let answered = tokio::task::block_in_place(|| calls::answer(&client, header, &payload));
                // What is not known goes on being looked for.
                if let Ok(answer) = answered
                    && client.work.end(id)
                {
                    client.server.metrics.call(header, started.elapsed(), None);
                    reply(client, header, answer).await;
                }
            });
        }
        (Verdict::AskAgain, _) => {}
    }
}

/// Passes what belongs to a stream on to it. What comes after its end is dropped.
async fn pass_on(client: &Client, frame: Frame) -> Result<(), xdr::XdrError> {
    let serial = frame.header.serial;
    let known = lock(&client.streams).as_ref().and_then(|streams| streams.get(&serial).cloned());
    let Some(stream) = known else { return Ok(()) };
    let incoming = match (frame.header.kind, frame.header.status) {
        (Kind::StreamHole, _) => {
            let hole: StreamHole = xdr::from_bytes(&frame.payload)?;
            Incoming::Hole(hole.length)
        }
        (_, Status::Continue) => Incoming::Data(frame.payload),
        (_, Status::Ok) => Incoming::Finish,
        (_, Status::Error | Status::Other(_)) => Incoming::Abort,
    };
    // A full stream holds up the one who fills it, nobody else, and not for ever.
    tokio::select! {
        _ = stream.incoming.send(incoming) => {}
        () = stream.closed.notified() => {}
    }
    Ok(())
}
