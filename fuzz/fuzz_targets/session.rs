//! Whole sessions: a client that opens a connection and then sends what it likes. The daemon must not break, and must
//! serve the next client.
#![no_main]

use cenote_engine::Layout;
use cenote_rpc::frame::{self, Frame, HEAD, Header, Kind, Status};
use cenote_rpc::own;
use cenote_rpc::procedures::{Call, PoolId, Procedure, calls};
use cenote_rpc::xdr;
use cenoted::Daemon;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::cell::RefCell;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// So many sessions have the same state: it grows.
const SESSIONS: u32 = 256;
/// The largest file, in bytes: volumes shall not fill the machine.
const MAX_FILE: u64 = 16 << 20;

/// What works on storage wherever a definition says, which may be anywhere on this machine.
const FORBIDDEN: [Procedure; 5] = [
    Procedure::StoragePoolCreateXml,
    Procedure::StoragePoolCreate,
    Procedure::StoragePoolBuild,
    Procedure::StoragePoolDelete,
    Procedure::ConnectFindStoragePoolSources,
];

struct Scene {
    daemon: Arc<Daemon>,
    sessions: u32,
    pool: Vec<u8>,
    volume: Vec<u8>,
    secret: Vec<u8>,
    _folder: TempDir,
}

thread_local! {
    static SCENE: RefCell<Option<Scene>> = const { RefCell::new(None) };
    static RUNTIME: Runtime = cenoted::runtime().unwrap();
}

libfuzzer_sys::fuzz_target!(
    init: {
        // SAFETY: no other thread runs yet. A write that is too long is to fail, not to end the program.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = Rlimit { current: Some(MAX_FILE), maximum: Some(MAX_FILE) };
        setrlimit(Resource::Fsize, limit).unwrap();
    },
    |data: &[u8]| {
        RUNTIME.with(|runtime| {
            SCENE.with_borrow_mut(|scene| {
                if scene.as_ref().is_none_or(|scene| scene.sessions >= SESSIONS) {
                    *scene = None;
                    *scene = Some(runtime.block_on(Scene::new()));
                }
                let scene = scene.as_mut().unwrap();
                scene.sessions += 1;
                let bytes = scene.session(data);
                runtime.block_on(exchange(&scene.daemon, &bytes));
                let next = call::<calls::ConnectNumOfStoragePools>(&());
                assert_eq!(replies(&runtime.block_on(exchange(&scene.daemon, &next))).len(), 1);
            });
        });
    }
);

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let daemon = Arc::new(Daemon::open(Layout::under(folder.path()).without_default_pool()).unwrap());
        let target = folder.path().join("p");
        let pool = format!(
            "<pool type='dir'><name>p</name><target><path>{}</path></target></pool>",
            target.display()
        );
        let volume = "<volume><name>v</name><capacity>65536</capacity></volume>".to_owned();
        let secret = "<secret><usage type='volume'><volume>/v</volume></usage></secret>".to_owned();
        let ask = async |call: Vec<u8>| {
            let reply = replies(&exchange(&daemon, &call).await).pop().unwrap();
            assert_eq!(reply.header.status, Status::Ok);
            reply.payload
        };
        let pool = ask(call::<calls::StoragePoolCreateXml>(&(pool, 1))).await;
        let (id,) = xdr::from_bytes::<(PoolId,)>(&pool).unwrap();
        let volume = ask(call::<calls::StorageVolCreateXml>(&(id, volume, 0))).await;
        let secret = ask(call::<calls::SecretDefineXml>(&(secret, 0))).await;
        Scene { daemon, sessions: 0, pool, volume, secret, _folder: folder }
    }

    /// The bytes that a client sends: well-formed frames of calls and streams, whose contents come from the input, and
    /// raw bytes between them.
    fn session(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = data;
        while let Some(([kind, procedure, serial, length], more)) = rest.split_first_chunk() {
            let (content, more) = more.split_at(usize::from(*length).min(more.len()));
            rest = more;
            let payload = self.payload(content);
            let libvirts = Procedure::ALL[usize::from(*procedure) % Procedure::ALL.len()].number();
            let (program, procedure, kind, status) = match kind % 8 {
                0..=2 => (frame::REMOTE, libvirts, Kind::Call, Status::Ok),
                3 => (own::PROGRAM, i32::from(*procedure % 10), Kind::Call, Status::Ok),
                4 => (frame::REMOTE, libvirts, Kind::Stream, Status::Continue),
                5 => (frame::REMOTE, libvirts, Kind::Stream, Status::Ok),
                6 => (frame::REMOTE, libvirts, Kind::StreamHole, Status::Continue),
                _ => {
                    bytes.extend(content);
                    continue;
                }
            };
            let version = frame::VERSION;
            let header = Header { program, version, procedure, kind, serial: u32::from(*serial), status };
            bytes.extend(frame::to_bytes(&header, &payload));
        }
        up_to_what_is_forbidden(&bytes).to_vec()
    }

    /// A marker at the beginning stands for something that there is.
    fn payload(&self, content: &[u8]) -> Vec<u8> {
        match content {
            [0xa5, 1, rest @ ..] => [&self.pool, rest].concat(),
            [0xa5, 2, rest @ ..] => [&self.volume, rest].concat(),
            [0xa5, 3, rest @ ..] => [&self.secret, rest].concat(),
            content => content.to_vec(),
        }
    }
}

/// What the daemon would read before the first frame that it must not be given.
fn up_to_what_is_forbidden(bytes: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEAD>()) {
        let Some((header, length)) = Frame::head(head) else { break };
        let is_libvirts = header.program == frame::REMOTE;
        if is_libvirts && FORBIDDEN.iter().any(|procedure| procedure.number() == header.procedure) {
            return &bytes[..at];
        }
        at += HEAD + length;
    }
    bytes
}

/// Opens a connection, sends bytes, and returns what is answered to them until the daemon has had enough.
async fn exchange(daemon: &Arc<Daemon>, bytes: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let serving = Arc::clone(daemon);
    let serving = tokio::spawn(async move { serving.serve(theirs).await });
    let (mut reader, mut writer) = ours.split();
    writer.write_all(&call::<calls::ConnectOpen>(&(None, 0))).await.unwrap();
    reader.read_exact(&mut [0; HEAD]).await.unwrap();
    let calls = count(bytes);
    let mut answers = Vec::new();
    let (_, ()) = tokio::join!(writer.write_all(bytes), async {
        let mut buffer = [0; 4096];
        // Who goes before the answers are there does not get them.
        while replies(&answers).len() < calls {
            match tokio::time::timeout(std::time::Duration::from_secs(1), reader.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => answers.extend(&buffer[..read]),
                _ => break,
            }
        }
    });
    drop(ours);
    serving.await.unwrap();
    answers
}

/// How many answers there will be, at most: the daemon may break off before.
fn count(bytes: &[u8]) -> usize {
    let frames = replies(bytes);
    frames.iter().filter(|frame| frame.header.kind == Kind::Call).count()
}

/// The frames in these bytes.
fn replies(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((head, more)) = rest.split_first_chunk::<HEAD>() {
        let Some((header, length)) = Frame::head(head) else { break };
        let Some((payload, more)) = more.split_at_checked(length) else { break };
        frames.push(Frame { header, payload: payload.to_vec() });
        rest = more;
    }
    frames
}

fn call<C: Call>(args: &C::Args) -> Vec<u8> {
    let header = Header {
        program: C::PROGRAM,
        version: frame::VERSION,
        procedure: C::NUMBER,
        kind: Kind::Call,
        serial: 0,
        status: Status::Ok,
    };
    frame::to_bytes(&header, &xdr::to_bytes(args))
}
