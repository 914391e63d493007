//! cenoted beside libvirtd: the same calls, by the same client, in turn.

use crate::{Times, print_ratio};
use cenote_rpc::client::{Client, Piece};
use cenote_rpc::procedures::{PoolId, VolumeId, calls};
use cenote_test_support::{Cenoted, Libvirtd};
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const ROUNDS: usize = 5;
const MIB: u64 = 1 << 20;

/// One of the two.
struct Side {
    client: Client,
    pool: PoolId,
    target: PathBuf,
}

impl Side {
    fn new(socket: &Path, target: &Path) -> Side {
        let client = connect(socket);
        let xml = format!(
            "<pool type='dir'><name>bench</name><target><path>{}</path></target></pool>",
            target.display()
        );
        let (pool,) = client.call::<calls::StoragePoolCreateXml>(&(xml, 1)).unwrap();
        Side { client, pool, target: target.to_owned() }
    }

    fn refresh(&self) {
        self.client.call::<calls::StoragePoolRefresh>(&(self.pool.clone(), 0)).unwrap();
    }

    fn list(&self) -> Vec<VolumeId> {
        self.client.call::<calls::StoragePoolListAllVolumes>(&(self.pool.clone(), 1, 0)).unwrap().0
    }

    fn create(&self, name: &str, format: &str, capacity: u64) -> VolumeId {
        let xml = format!(
            "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>\
             <target><format type='{format}'/></target></volume>"
        );
        self.client.call::<calls::StorageVolCreateXml>(&(self.pool.clone(), xml, 0)).unwrap().0
    }

    fn copy(&self, name: &str, format: &str, source: &VolumeId) -> VolumeId {
        let xml = format!(
            "<volume><name>{name}</name><capacity>0</capacity><target><format type='{format}'/></target></volume>"
        );
        let args = (self.pool.clone(), xml, source.clone(), 0);
        self.client.call::<calls::StorageVolCreateXmlFrom>(&args).unwrap().0
    }

    fn delete(&self, volume: &VolumeId) {
        self.client.call::<calls::StorageVolDelete>(&(volume.clone(), 0)).unwrap();
    }

    fn upload(&self, volume: &VolumeId, data: &[u8], times: u64) {
        let mut stream = self.client.open::<calls::StorageVolUpload>(&(volume.clone(), 0, 0, 0)).unwrap();
        (0..times).for_each(|_| stream.send(data).unwrap());
        stream.finish().unwrap();
    }

    fn download(&self, volume: &VolumeId) {
        let mut stream = self.client.open::<calls::StorageVolDownload>(&(volume.clone(), 0, 0, 0)).unwrap();
        let mut received = 0;
        while let Piece::Data(data) = stream.receive().unwrap() {
            received += data.len() as u64;
        }
        stream.finish().unwrap();
        assert_eq!(received, 256 * MIB);
    }
}

fn connect(socket: &Path) -> Client {
    let stream = UnixStream::connect(socket).unwrap();
    let client = Client::on(stream).unwrap();
    client.call::<calls::ConnectOpen>(&(Some("storage:///system".to_owned()), 0)).unwrap();
    client
}

/// Measures something on both, in turn. `prepare` is not measured, and what it and others have left to be written is on
/// the disk before.
fn both(what: &str, sides: &[Side; 2], prepare: impl Fn(&Side), work: impl Fn(&Side)) {
    let mut times = [Times::default(), Times::default()];
    for _ in 0..ROUNDS {
        for (side, times) in sides.iter().zip(&mut times) {
            prepare(side);
            rustix::fs::sync();
            times.measure(|| work(side));
        }
    }
    let [ours, theirs] = times;
    print_ratio(what, ours.median(), theirs.median());
}

/// Compares the daemons, with pools in `folder`.
pub(crate) fn compare(cenoted: &str, folder: &Path) {
    let mut starts = [Times::default(), Times::default()];
    let theirs = starts[1].measure(|| Libvirtd::start(&folder.join("libvirt")));
    let ours = starts[0].measure(|| Cenoted::start(cenoted, &folder.join("cenote")));
    let [our_start, their_start] = starts;
    print_ratio("start-up until a call is answered", our_start.median(), their_start.median());
    let sides = [
        Side::new(&ours.socket(), &folder.join("ours")),
        Side::new(&theirs.socket(), &folder.join("theirs")),
    ];
    // New names every time: a file system without a journal takes its time to find an inode where many have just been
    // freed.
    let round = Cell::new(0);
    let next = |_: &Side| round.set(round.get() + 1);
    both("create 100 qcow2", &sides, next, |side| {
        (0..100).for_each(|i| drop(side.create(&format!("q{}-{i}", round.get()), "qcow2", 1 << 30)));
    });
    both("create 500 sparse raw", &sides, next, |side| {
        (0..500).for_each(|i| drop(side.create(&format!("s{}-{i}", round.get()), "raw", 1 << 30)));
    });
    let remove_all = |side: &Side| {
        side.refresh();
        side.list().iter().for_each(|volume| side.delete(volume));
    };
    let fill = |side: &Side| {
        remove_all(side);
        (0..600).for_each(|i| drop(side.create(&format!("r{i}"), "raw", MIB)));
    };
    both("delete 600", &sides, fill, |side| {
        (0..600).for_each(|i| {
            side.delete(&VolumeId {
                pool: "bench".to_owned(),
                name: format!("r{i}"),
                key: format!("{}/r{i}", side.target.display()),
            });
        });
    });
    streams(&sides);
    many(&sides);
    print_ratio(
        "resident memory with 10,000 volumes (MiB)",
        Duration::from_millis(resident(ours.pid())),
        Duration::from_millis(resident(theirs.pid())),
    );
}

fn streams(sides: &[Side; 2]) {
    let piece: Vec<u8> = (0..MIB).map(|i| (i % 251) as u8).collect();
    for side in sides {
        let volume = side.create("data", "raw", 256 * MIB);
        side.upload(&volume, &piece, 256);
    }
    let data = |side: &Side| VolumeId {
        pool: "bench".to_owned(),
        name: "data".to_owned(),
        key: format!("{}/data", side.target.display()),
    };
    both("upload 256 MiB", sides, |_| {}, |side| side.upload(&data(side), &piece, 256));
    both("download 256 MiB", sides, |_| {}, |side| side.download(&data(side)));
    let without_copy = |side: &Side| {
        for volume in side.list().iter().filter(|volume| volume.name == "copy") {
            side.delete(volume);
        }
    };
    both("clone 256 MiB", sides, without_copy, |side| drop(side.copy("copy", "raw", &data(side))));
    both("convert 256 MiB to qcow2", sides, without_copy, |side| {
        drop(side.copy("copy", "qcow2", &data(side)))
    });
}

/// What there is to know of 10,000 volumes.
fn many(sides: &[Side; 2]) {
    for side in sides {
        side.list().iter().for_each(|volume| side.delete(volume));
        crate::make_files(&side.target);
        side.refresh();
        assert_eq!(side.list().len(), 10_000);
    }
    let touch = |side: &Side| {
        for entry in std::fs::read_dir(&side.target).unwrap() {
            let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(SystemTime::now()).unwrap();
        }
    };
    let forget = || {
        rustix::fs::sync();
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
    };
    both("refresh 10,000 files, all changed, warm", sides, touch, Side::refresh);
    both(
        "refresh 10,000 files, all changed, cold",
        sides,
        |side| {
            touch(side);
            forget()
        },
        Side::refresh,
    );
    // What has changed a moment ago is read again; then there is a scan that has seen it at rest.
    std::thread::sleep(Duration::from_secs(5));
    sides.iter().for_each(Side::refresh);
    both("refresh 10,000 files, unchanged, warm", sides, |_| {}, Side::refresh);
    both("refresh 10,000 files, unchanged, cold", sides, |_| forget(), Side::refresh);
    both("list 10,000 volumes", sides, |_| {}, |side| drop(side.list()));
    let volumes = sides.each_ref().map(|side| side.list()[..2000].to_vec());
    let of = |side: &Side| if std::ptr::eq(side, &sides[0]) { &volumes[0] } else { &volumes[1] };
    both(
        "2,000 info calls",
        sides,
        |_| {},
        |side| {
            for volume in of(side) {
                side.client.call::<calls::StorageVolGetInfo>(&(volume.clone(),)).unwrap();
            }
        },
    );
    both(
        "2,000 XML calls",
        sides,
        |_| {},
        |side| {
            for volume in of(side) {
                side.client.call::<calls::StorageVolGetXmlDesc>(&(volume.clone(), 0)).unwrap();
            }
        },
    );
}

/// What a process has in memory, in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
