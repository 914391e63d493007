//! Clients that lie, die and dawdle: each gets what it deserves, and the others are served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_model::{Code, Error, Uuid};
use cenote_rpc::client::{Client, Piece};
use cenote_rpc::frame::{self, Frame, Header, Kind, Status};
use cenote_rpc::procedures::{PoolId, Procedure, VolumeId, calls};
use cenote_rpc::{WireError, xdr};
use cenote_test_support::{Cenoted, am_root};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Scene {
    cenoted: Cenoted,
    pool: PoolId,
    folder: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), folder.path());
        let client = open(&cenoted.socket());
        let target = folder.path().join("p");
        let xml = format!(
            "<pool type='dir'><name>p</name><target><path>{}</path></target></pool>",
            target.display()
        );
        let (pool,) = client.call::<calls::StoragePoolCreateXml>(&(xml, 1)).unwrap();
        Scene { cenoted, pool, folder }
    }

    fn client(&self) -> Client {
        open(&self.cenoted.socket())
    }

    fn volume(&self, name: &str, capacity: u64) -> VolumeId {
        let xml = format!(
            "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation></volume>"
        );
        self.client().call::<calls::StorageVolCreateXml>(&(self.pool.clone(), xml, 0)).unwrap().0
    }

    /// Others are served.
    fn serves(&self) {
        let (info, ..) = self.client().call::<calls::StoragePoolGetInfo>(&(self.pool.clone(),)).unwrap();
        assert_eq!(info, 2);
    }

    /// Deletes a volume, as soon as nobody is at it any more.
    fn delete(&self, volume: &VolumeId) {
        let client = self.client();
        when_free(|| client.call::<calls::StorageVolDelete>(&(volume.clone(), 0)));
    }
}

/// What is done to a volume as soon as those are gone whose clients have died.
fn when_free<T>(what: impl Fn() -> Result<T, Error>) -> T {
    for _ in 0..500 {
        match what() {
            Ok(done) => return done,
            Err(error) if error.to_string().contains("in use") => {}
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the volume is in use for ever");
}

/// A connection that has been opened.
fn open(socket: &Path) -> Client {
    let stream = UnixStream::connect(socket).unwrap();
    let client = Client::on(stream).unwrap();
    client.call::<calls::ConnectOpen>(&(Some("storage:///system".to_owned()), 0)).unwrap();
    client
}

fn header(procedure: i32) -> Header {
    let (program, version) = (frame::REMOTE, frame::VERSION);
    Header { program, version, procedure, kind: Kind::Call, serial: 7, status: Status::Ok }
}

/// Sends a frame on a connection of its own, and returns what is answered.
fn answer(socket: &Path, header: Header, payload: &[u8]) -> (Header, Error) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&Frame { header, payload: payload.to_vec() }.to_bytes()).unwrap();
    let mut head = [0; frame::HEAD];
    stream.read_exact(&mut head).unwrap();
    let (header, length) = Frame::head(&head).unwrap();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (header, xdr::from_bytes::<WireError>(&payload).unwrap().into_error())
}

#[test]
fn frames_that_lie() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let whole = Frame { header: header(66), payload: Vec::new() }.to_bytes();
    let long = [&(64u32 << 20).to_be_bytes()[..], &whole[4..]].concat();
    for bytes in [&[0xff; 64][..], &[0; 64], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &long] {
        let mut stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        // Nothing is answered: the connection is closed.
        let mut answered = Vec::new();
        let _ = stream.read_to_end(&mut answered);
        assert!(answered.is_empty());
    }
    // One that ends in the middle, after a length that promises more than anybody may send before a call is answered.
    for length in [&whole[..10], &whole[..3], &(32u32 << 20).to_be_bytes()] {
        let mut stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
        stream.write_all(length).unwrap();
    }
    scene.serves();
}

#[test]
fn calls_that_nobody_knows() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let socket = scene.cenoted.socket();
    let of_program = |program, version| {
        let sent = Header { program, version, ..header(1) };
        let (header, error) = answer(&socket, sent, &[]);
        assert_eq!(header, sent.answer(Kind::Reply, Status::Error));
        assert_eq!(error.code, Code::Rpc);
        assert_eq!(error.to_string(), format!("Cannot find program {program} version {version}"));
    };
    of_program(0x1234_5678, 1);
    of_program(frame::REMOTE, 2);
    let (_, error) = answer(&socket, header(9999), &[]);
    assert_eq!((error.code, error.to_string().as_str()), (Code::Rpc, "unknown procedure: 9999"));
    // An event is no call.
    let client = scene.client();
    let error = client.call::<calls::StoragePoolEventLifecycle>(&()).unwrap_err();
    assert_eq!(error.code, Code::Rpc);

    let lookup = Procedure::StoragePoolLookupByName.number();
    let (_, error) = answer(&socket, header(lookup), &xdr::to_bytes(&"p".to_owned()));
    assert_eq!(error.to_string(), "internal error: connection not open");
    let (_, error) = answer(&socket, header(Procedure::ConnectOpen.number()), b"\0\0\0\x01\xff\xff\xff\xff");
    assert!(error.to_string().starts_with("Unable to decode message payload"), "{error}");
    for uri in ["qemu:///system", "xen:///", "storage"] {
        let args = xdr::to_bytes(&(Some(uri.to_owned()), 0u32));
        let (_, error) = answer(&socket, header(Procedure::ConnectOpen.number()), &args);
        assert_eq!(error.code, Code::NoConnect, "{uri}");
    }
    let error = client.call::<calls::ConnectOpen>(&(None, 0)).unwrap_err();
    assert_eq!(error.to_string(), "internal error: connection already open");
    scene.serves();
}

#[test]
fn names_that_are_none() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let client = scene.client();
    for name in ["", "../../etc/passwd", "a/b", "a\nb", "."] {
        let volume = VolumeId { pool: "p".to_owned(), name: name.to_owned(), key: String::new() };
        let error = client.call::<calls::StorageVolDelete>(&(volume, 0)).unwrap_err();
        assert_eq!(error.code, Code::NoStorageVol, "{name:?}");
        let pool = PoolId { name: name.to_owned(), uuid: Uuid::from_bytes([0; 16]) };
        let error = client.call::<calls::StoragePoolDestroy>(&(pool,)).unwrap_err();
        assert_eq!(error.code, Code::NoStoragePool, "{name:?}");
    }
}

#[test]
fn a_client_that_dies_ends_its_streams() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", 64 * MIB);
    for _ in 0..5 {
        let mut stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
        let client = Client::on(stream.try_clone().unwrap()).unwrap();
        client.call::<calls::ConnectOpen>(&(None, 0)).unwrap();
        let mut upload = when_free(|| client.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 0, 0)));
        upload.send(&[1; 100_000]).unwrap();
        // Half a frame, and gone.
        stream.write_all(&[0, 4, 0]).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let client = scene.client();
    drop(when_free(|| client.open::<calls::StorageVolDownload>(&(volume.clone(), 0, 0, 0))));
    scene.delete(&volume);
}

#[test]
fn who_has_ended_a_stream_may_go_on_at_once() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", 64 * MIB);
    let client = scene.client();
    for _ in 0..200 {
        let mut download = client.open::<calls::StorageVolDownload>(&(volume.clone(), 0, 0, 0)).unwrap();
        download.receive().unwrap();
        download.finish().unwrap();
        let upload = client.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 0, 0)).unwrap();
        upload.finish().unwrap();
    }
}

#[test]
fn an_upload_longer_than_it_said_is_refused() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", 4 * MIB);
    let client = scene.client();
    let mut upload = client.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 4096, 0)).unwrap();
    let sent = (0..1000).try_for_each(|_| upload.send(&[7; 65536])).and_then(|()| upload.finish());
    assert_eq!(sent.unwrap_err().code, Code::OperationFailed);
    // A hole that nobody said would come.
    let mut upload = client.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 0, 0)).unwrap();
    let sent = upload.send_hole(4096).and_then(|()| upload.finish());
    assert_eq!(sent.unwrap_err().code, Code::Rpc);
    scene.serves();
    scene.delete(&volume);
}

#[test]
fn who_never_reads_holds_up_nobody_else() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", 512 * MIB);
    let client = scene.client();
    // It has opened a download and reads nothing of it, while it holds on to the connection.
    let mut lazy = Vec::new();
    for _ in 0..4 {
        let mut stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
        let open = Frame { header: header(1), payload: xdr::to_bytes(&(None::<String>, 0u32)) };
        stream.write_all(&open.to_bytes()).unwrap();
        let payload = xdr::to_bytes(&(volume.clone(), 0u64, 0u64, 0u32));
        let download = Procedure::StorageVolDownload.number();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(&Frame { header: header(download), payload }.to_bytes()).unwrap();
        let lookup = Procedure::StoragePoolLookupByName.number();
        let payload = xdr::to_bytes(&"p".to_owned());
        // Answers that nobody takes.
        for _ in 0..20 {
            stream.write_all(&Frame { header: header(lookup), payload: payload.clone() }.to_bytes()).unwrap();
        }
        lazy.push(stream);
    }
    for _ in 0..50 {
        client.call::<calls::StoragePoolGetInfo>(&(scene.pool.clone(),)).unwrap();
    }
    let mut download = client.open::<calls::StorageVolDownload>(&(volume.clone(), 0, MIB, 0)).unwrap();
    let mut received = 0;
    while let Piece::Data(data) = download.receive().unwrap() {
        received += data.len() as u64;
    }
    download.finish().unwrap();
    assert_eq!(received, MIB);
    // 512 MiB of zeroes were wanted four times: they are not kept in memory.
    assert!(resident(scene.cenoted.pid()) < 150 * MIB);
    drop(lazy);
    scene.delete(&volume);
}

#[test]
fn a_thousand_clients() {
    if !am_root() {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let scene = Scene::new();
    let volume = scene.volume("v", 64 * MIB);
    let open = Frame { header: header(1), payload: xdr::to_bytes(&(None::<String>, 0u32)) }.to_bytes();
    let idle: Vec<_> = (0..1000)
        .map(|_| {
            let mut stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
            stream.write_all(&open).unwrap();
            let mut reply = [0; 28];
            stream.read_exact(&mut reply).unwrap();
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let client = scene.client();
                let args = (volume.clone(), 0, 0, 0);
                let mut download = client.open::<calls::StorageVolDownload>(&args).unwrap();
                let mut received = 0;
                while let Piece::Data(data) = download.receive().unwrap() {
                    received += data.len() as u64;
                }
                download.finish().unwrap();
                assert_eq!(received, 64 * MIB);
            });
        }
        let client = scene.client();
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let started = Instant::now();
                client.call::<calls::StorageVolGetInfo>(&(volume.clone(),)).unwrap();
                started.elapsed()
            })
            .collect();
        times.sort();
        eprintln!("a call beside 50 streams: {:?} at the median", times[times.len() / 2]);
    });
    let resident = resident(scene.cenoted.pid());
    eprintln!("{} MiB with {} clients", resident / MIB, idle.len());
    assert!(resident < 150 * MIB);
}

/// What a process has in memory, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn the_socket_for_reading_is_for_reading() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", MIB);
    let reader = open(&scene.folder.path().join("run/libvirt/virtstoraged-sock-ro"));
    let (pools, count) = reader.call::<calls::ConnectListAllStoragePools>(&(1, 0)).unwrap();
    assert_eq!((pools.len(), count), (1, 1));
    let denied = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.code, Code::OperationDenied, "{error}");
    };
    // A client may want no more than that on the other socket too. Its other flags are its own.
    let stream = UnixStream::connect(scene.cenoted.socket()).unwrap();
    let modest = Client::on(stream).unwrap();
    modest.call::<calls::ConnectOpen>(&(Some("storage:///system".to_owned()), 7)).unwrap();
    denied(modest.call::<calls::StoragePoolDestroy>(&(scene.pool.clone(),)));
    denied(reader.call::<calls::StoragePoolDestroy>(&(scene.pool.clone(),)));
    denied(reader.call::<calls::StorageVolDelete>(&(volume.clone(), 0)));
    denied(reader.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 0, 0)).map(drop));
    denied(reader.open::<calls::StorageVolDownload>(&(volume, 0, 0, 0)).map(drop));
}

#[test]
fn one_daemon_serves_a_state_and_ends_when_told() {
    if !am_root() {
        return;
    }
    let scene = Scene::new();
    let volume = scene.volume("v", MIB);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_cenoted"))
        .arg("--prefix")
        .arg(scene.folder.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("is in use by cenoted"), "{said}");
    scene.serves();

    // A stream that nobody ends does not keep it from ending.
    let client = scene.client();
    let _upload = client.open::<calls::StorageVolUpload>(&(volume, 0, 0, 0)).unwrap();
    let Scene { cenoted, folder, .. } = scene;
    let socket = cenoted.socket();
    assert!(cenoted.stop(Duration::from_secs(20)), "cenoted did not end");
    assert!(!socket.exists());

    // What was there is there again.
    let again = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), folder.path());
    let (pools, _) = open(&again.socket()).call::<calls::ConnectListAllStoragePools>(&(1, 2)).unwrap();
    assert_eq!(pools[0].name, "p");
}
