//! What others do in a pool's directory is in the next list, without a refresh.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, Cenoted, am_root, have, run};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
/// How long is waited for what should take 200 ms.
const LONG: Duration = Duration::from_secs(20);

struct Scene {
    daemon: Cenoted,
    folder: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Cenoted::start(CENOTED, folder.path());
        let scene = Scene { daemon, folder };
        scene.cenote().run(&[
            "pool-create-as",
            "p",
            "dir",
            "--build",
            "--target",
            scene.pool().to_str().unwrap(),
        ]);
        scene
    }

    fn pool(&self) -> PathBuf {
        self.folder.path().join("p")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pool().join(name)
    }

    fn cenote(&self) -> Cenote {
        let program = Path::new(CENOTED).with_file_name("cenote");
        Cenote::at(program.to_str().unwrap(), self.folder.path())
    }

    fn names(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row[0].clone()).collect()
    }

    /// Names and capacities.
    fn rows(&self) -> Vec<Vec<String>> {
        let list = self.cenote().run(&["-q", "vol-list", "p", "--details"]);
        list.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    /// Waits until something is so; returns how long that took.
    fn eventually(&self, what: &str, is_so: impl Fn(&Scene) -> bool) -> Duration {
        let started = Instant::now();
        while !is_so(self) {
            assert!(started.elapsed() < LONG, "{what}: {:?}\n{}", self.names(), self.daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        started.elapsed()
    }

    fn volumes(&self) -> f64 {
        self.daemon.metric("cenote_pool_volumes{pool=\"p\",type=\"dir\"}").unwrap()
    }

    fn refreshes(&self) -> f64 {
        self.daemon.metric("cenote_pool_refreshes_total{pool=\"p\",type=\"dir\"}").unwrap()
    }
}

/// The lines of a command that goes on.
struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    fn of(mut command: Command) -> Lines {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Lines { child, lines }
    }

    fn expect(&self, line: &str) {
        let got = self.lines.recv_timeout(LONG).unwrap_or_else(|_| panic!("there was no '{line}'"));
        assert_eq!(got, line);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_appears_grows_is_renamed_or_goes_is_in_the_next_list() {
    let scene = Scene::new();
    let refreshes = scene.refreshes();
    let appeared = {
        fs::write(scene.file("a"), "x").unwrap();
        scene.eventually("a appears", |scene| scene.names() == ["a"])
    };
    let grew = {
        fs::File::options().write(true).open(scene.file("a")).unwrap().set_len(5 << 20).unwrap();
        scene.eventually("a grows", |scene| scene.rows()[0][3..5] == ["5.00", "MiB"])
    };
    let renamed = {
        fs::rename(scene.file("a"), scene.file("b")).unwrap();
        scene.eventually("a is b", |scene| scene.names() == ["b"])
    };
    let moved = {
        fs::rename(scene.file("b"), scene.folder.path().join("elsewhere")).unwrap();
        scene.eventually("b is gone", |scene| scene.names().is_empty())
    };
    println!("noticed after: appeared {appeared:?}, grew {grew:?}, renamed {renamed:?}, gone {moved:?}");
    assert_eq!(scene.refreshes(), refreshes, "it was refreshed");
}

#[test]
fn volume_events_tell_of_others_and_of_clients() {
    if !have("virsh") {
        return;
    }
    let scene = Scene::new();
    let events = Lines::of(scene.cenote().command(&["event", "--event", "volume", "--loop", "--pool", "p"]));
    let uri = scene.daemon.uri();
    // Into a pipe it would print when it has much to say.
    let mut virsh = Command::new("stdbuf");
    virsh.args(["-oL", "virsh", "-c", &uri, "pool-event", "--event", "refresh", "--loop"]);
    let refreshes = Lines::of(virsh);
    let tries = std::cell::Cell::new(0);
    let is_heard = |scene: &Scene| {
        // Who registers later does not hear of it. Each time it has another size, so that it is another file.
        tries.set(tries.get() + 1);
        fs::write(scene.file("first"), vec![0; tries.get()]).unwrap();
        let heard = events.lines.recv_timeout(Duration::from_millis(300)).is_ok();
        heard && refreshes.lines.recv_timeout(Duration::from_millis(300)).is_ok()
    };
    scene.eventually("both listen", is_heard);
    fs::remove_file(scene.file("first")).unwrap();
    scene.eventually("it is gone", |scene| scene.names().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    while events.lines.try_recv().is_ok() || refreshes.lines.try_recv().is_ok() {}

    let say = |what: &str, volume: &str| format!("event '{what}' for volume {volume} of storage pool p");
    fs::write(scene.file("a"), "x").unwrap();
    events.expect(&say("added", "a"));
    refreshes.expect("event 'refresh' for storage pool p");
    fs::write(scene.file("a"), "longer").unwrap();
    events.expect(&say("changed", "a"));
    refreshes.expect("event 'refresh' for storage pool p");
    fs::remove_file(scene.file("a")).unwrap();
    events.expect(&say("removed", "a"));
    refreshes.expect("event 'refresh' for storage pool p");
    // What clients do is told once, and is no refresh.
    scene.cenote().run(&["vol-create-as", "p", "v", "1M"]);
    events.expect(&say("added", "v"));
    scene.cenote().run(&["vol-resize", "v", "2M", "p"]);
    events.expect(&say("changed", "v"));
    scene.cenote().run(&["vol-delete", "v", "p"]);
    events.expect(&say("removed", "v"));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(events.lines.try_recv().ok(), None);
    assert_eq!(refreshes.lines.try_recv().ok(), None);
}

#[test]
fn what_a_guest_writes_is_no_event() {
    let scene = Scene::new();
    scene.cenote().run(&["vol-create-as", "p", "v", "8M", "--allocation", "0"]);
    let events = Lines::of(scene.cenote().command(&["event", "--event", "volume", "--loop"]));
    let started = Instant::now();
    for number in 1.. {
        fs::write(scene.file("first"), vec![0; number]).unwrap();
        if events.lines.recv_timeout(Duration::from_millis(300)).is_ok() {
            break;
        }
        assert!(started.elapsed() < LONG, "nobody listens");
    }
    let file = fs::File::options().write(true).open(scene.file("v")).unwrap();
    for at in 0..20u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], at << 16).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    scene.eventually("its allocation is seen", |scene| scene.rows()[1][5] != "0.00");
    // What comes next is about another file.
    fs::write(scene.file("last"), "x").unwrap();
    let told = std::iter::from_fn(|| events.lines.recv_timeout(LONG).ok());
    let told: Vec<_> = told.take_while(|line| !line.contains("volume last")).collect();
    assert!(told.iter().all(|line| line.contains("volume first")), "{told:?}");
}

#[test]
fn a_burst_is_seen_together() {
    let scene = Scene::new();
    const FILES: usize = 10_000;
    let events = Lines::of(scene.cenote().command(&["pool-event", "--event", "refresh", "--loop"]));
    std::thread::sleep(Duration::from_millis(300));
    let before = scene.refreshes();
    for number in 0..FILES {
        fs::write(scene.file(&format!("f{number:05}")), "x").unwrap();
    }
    let took = scene.eventually("all are there", |scene| scene.volumes() == FILES as f64);
    let refreshes = scene.refreshes() - before;
    let told = std::iter::from_fn(|| events.lines.recv_timeout(Duration::from_millis(500)).ok()).count();
    println!("{FILES} files: seen {took:?} after the last, in {refreshes} scans, told of {told} times");
    assert!(refreshes <= (FILES / 100) as f64, "{refreshes} scans");
    assert!((1..FILES / 100).contains(&told), "told of {told} times");
}

/// A setting of the kernel, until the value is dropped.
struct Sysctl {
    path: &'static str,
    before: String,
}

impl Sysctl {
    fn set(path: &'static str, value: &str) -> Sysctl {
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, value).unwrap();
        Sysctl { path, before }
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.before);
    }
}

#[test]
fn what_the_kernel_could_not_remember_is_found_by_one_scan() {
    if !am_root() {
        return;
    }
    // A watch has the length of its queue from the moment it begins.
    let short = Sysctl::set("/proc/sys/fs/inotify/max_queued_events", "16");
    let scene = Scene::new();
    drop(short);
    let before = scene.refreshes();
    let pid = scene.daemon.pid().to_string();
    run("kill", &["-STOP", &pid]);
    for number in 0..100 {
        fs::write(scene.file(&format!("f{number}")), "x").unwrap();
    }
    run("kill", &["-CONT", &pid]);
    scene.eventually("all are there", |scene| scene.names().len() == 100);
    assert_eq!(scene.refreshes() - before, 1.0);
}

#[test]
fn a_directory_that_is_put_back_is_seen() {
    let scene = Scene::new();
    let aside = scene.folder.path().join("aside");
    fs::rename(scene.pool(), &aside).unwrap();
    fs::create_dir(scene.pool()).unwrap();
    fs::write(scene.file("new"), "x").unwrap();
    scene.eventually("the new one is seen", |scene| scene.names() == ["new"]);
    fs::write(scene.file("newer"), "x").unwrap();
    scene.eventually("it is watched", |scene| scene.names() == ["new", "newer"]);
}

#[test]
fn embedded_events_tell_of_others() {
    let cenote = Path::new(CENOTED).with_file_name("cenote");
    let cenote = Cenote::new(cenote.to_str().unwrap());
    cenote.run(&["pool-list"]);
    let events = Lines::of(cenote.command(&["event", "--event", "added", "--loop"]));
    let started = Instant::now();
    for number in 0.. {
        fs::write(cenote.images().join(format!("f{number}")), "x").unwrap();
        if let Ok(line) = events.lines.recv_timeout(Duration::from_millis(200)) {
            assert!(line.starts_with("event 'added' for volume f"), "{line}");
            break;
        }
        assert!(started.elapsed() < LONG);
    }
}
