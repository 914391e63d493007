//! `compare CENOTE CENOTED [files|ceph]`: how fast cenote is beside what there is, as ratios. Both sides run in turn, so that a machine
//! whose speed changes changes both; the medians are compared.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

mod ceph;
mod daemons;

use cenote_engine::{Access, Engine, Layout, NoSecrets, Setup};
use cenote_model::flags::{BuildFirst, Overwrite};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Each side is measured so many times.
const ROUNDS: usize = 7;

fn main() {
    let usage = "usage: compare CENOTE CENOTED [files|ceph]";
    let cenote = std::env::args().nth(1).expect(usage);
    let cenoted = std::env::args().nth(2).expect(usage);
    let part = std::env::args().nth(3);
    let is_wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let folders = std::env::var("CENOTE_BENCH_DIRS").unwrap_or_else(|_| "/dev/shm:/tmp".to_owned());
    println!("{:<44} {:>10} {:>10} {:>8}", "", "cenote", "other", "ratio");
    if is_wanted("ceph") {
        println!("a pool of Ceph");
        ceph::compare(&cenoted, tempfile::tempdir().unwrap().path());
    }
    for folder in folders.split(':').filter(|_| is_wanted("files")) {
        let folder = tempfile::tempdir_in(folder).unwrap();
        println!("in {} ({})", folder.path().parent().unwrap().display(), file_system(folder.path()));
        println!("cenoted / libvirtd");
        daemons::compare(&cenoted, folder.path());
        println!("cenote / tools");
        create(&cenote, folder.path());
        refresh(folder.path());
        clone(&cenote, folder.path());
    }
}

fn file_system(path: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Measures both sides in turn and prints the medians and how many times as long the other takes.
fn compare(what: &str, ours: impl FnMut(), other: impl FnMut()) {
    compare_parts(what, ours, other, 1);
}

/// Like [`compare`], where the other side does one part in so many.
fn compare_parts(what: &str, mut ours: impl FnMut(), mut other: impl FnMut(), parts: u32) {
    let (mut our_times, mut other_times) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        our_times.measure(&mut ours);
        other_times.measure(&mut other);
    }
    print_ratio(what, our_times.median(), other_times.median() * parts);
}

fn print_ratio(what: &str, ours: Duration, other: Duration) {
    let ratio = other.as_secs_f64() / ours.as_secs_f64();
    println!(
        "{what:<44} {:>7.1} ms {:>7.1} ms {ratio:>8.2}",
        ours.as_secs_f64() * 1e3,
        other.as_secs_f64() * 1e3
    );
}

/// How long something took, again and again.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let made = work();
        self.0.push(started.elapsed());
        made
    }

    fn median(mut self) -> Duration {
        self.0.sort();
        self.0[self.0.len() / 2]
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

/// 1,000 qcow2 volumes through one cenote, and 100 through a qemu-img each, taken ten times.
fn create(cenote: &str, folder: &Path) {
    const OURS: usize = 1000;
    const THEIRS: usize = 100;
    let script: String =
        (0..OURS).map(|i| format!("vol-create-as default v{i} 1G --format qcow2\n")).collect();
    let mut round = 0;
    let ours = || {
        round += 1;
        let prefix = folder.join(format!("create-{round}"));
        let mut child = Command::new(cenote)
            .arg("-q")
            .arg("--prefix")
            .arg(&prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    let mut theirs_round = 0;
    let other = || {
        theirs_round += 1;
        let images = folder.join(format!("qemu-{theirs_round}"));
        std::fs::create_dir(&images).unwrap();
        for i in 0..THEIRS {
            let image = images.join(format!("v{i}"));
            run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(image).arg("1G"));
        }
    };
    compare_parts("create 1,000 qcow2 / qemu-img create", ours, other, (OURS / THEIRS) as u32);
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

/// 10,000 files, one in ten a qcow2 image, and the loop that does the least.
fn refresh(folder: &Path) {
    let pool_dir = folder.join("pool");
    std::fs::create_dir(&pool_dir).unwrap();
    make_files(&pool_dir);
    let layout = Layout::under(&folder.join("state"));
    let engine = Engine::open(Setup::new(layout, Arc::new(NoSecrets), Access::Write)).unwrap();
    let xml =
        format!("<pool type='dir'><name>p</name><target><path>{}</path></target></pool>", pool_dir.display());
    let pool = engine.create_pool(&xml, BuildFirst::Yes(Overwrite::Default)).unwrap();
    compare(
        "refresh 10,000 files / open+fstat+pread",
        || engine.refresh_pool(&pool).unwrap(),
        || {
            bare_loop(&pool_dir);
        },
    );
    assert_eq!(engine.volumes(&pool).unwrap().len(), 10_000);
}

fn make_files(folder: &Path) {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.resize(112, 0);
    header[20..24].copy_from_slice(&16u32.to_be_bytes());
    header[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    for i in 0..10_000 {
        let file = File::create(folder.join(format!("volume-{i}.img"))).unwrap();
        if i % 10 == 0 {
            file.write_all_at(&header, 0).unwrap();
        }
        file.set_len(1 << 20).unwrap();
    }
}

fn bare_loop(folder: &Path) {
    use rustix::fs::{Dir, Mode, OFlags, fstat, open, openat};
    let fd = open(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut header = [0u8; 4096];
    for entry in Dir::read_from(&fd).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_bytes().starts_with(b".") {
            continue;
        }
        let file = File::from(openat(&fd, entry.file_name(), OFlags::RDONLY, Mode::empty()).unwrap());
        black_box(fstat(&file).unwrap());
        black_box(file.read_at(&mut header, 0).unwrap());
    }
}

/// 1 GiB of which a quarter is data, in pieces of 1 MiB.
fn clone(cenote: &str, folder: &Path) {
    let prefix = folder.join("clone");
    let command = |args: &[&str]| {
        let mut command = Command::new(cenote);
        command.arg("-q").arg("--prefix").arg(&prefix).args(args);
        command
    };
    run(&mut command(&["vol-create-as", "default", "source", "1G", "--allocation", "0"]));
    let images = prefix.join("var/lib/libvirt/images");
    let source = File::options().write(true).open(images.join("source")).unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    for i in (0..1024).step_by(4) {
        source.write_all_at(&piece, i << 20).unwrap();
    }
    source.sync_all().unwrap();
    let mut round = 0;
    let mut ours = || {
        round += 1;
        let name = format!("clone-{round}");
        run(&mut command(&["vol-clone", "source", &name, "default"]));
        let _ = std::fs::remove_file(images.join(name));
    };
    let copy = |sync: &str| {
        let script = format!("cp --sparse=always --reflink=auto source copy{sync}; rm copy");
        run(Command::new("sh").args(["-c", &script]).current_dir(&images));
    };
    compare("clone 1 GiB, 256 MiB of data / cp", &mut ours, || copy(""));
    compare("clone 1 GiB, 256 MiB of data / cp, sync", &mut ours, || copy(" && sync copy"));
}
