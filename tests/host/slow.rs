//! Storage that hangs, is slow or broken: what goes wrong with one pool stays with it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Call, Cenote, Cenoted, Fault, FaultyFs, am_root, have, have_file};
use rustix::fs::FlockOperation;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");

/// What waits in vain would wait for ever; what does not is done by then.
const LONG: Duration = Duration::from_secs(30);

/// A daemon with a pool on a file system that can be made to fail, and one on another.
struct Scene {
    daemon: Cenoted,
    bad: FaultyFs,
    folder: TempDir,
}

impl Scene {
    /// Storage may be silent for so many seconds.
    fn new(timeout: u64) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("etc/libvirt/cenote.conf");
        std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
        std::fs::write(conf, format!("storage_timeout = {timeout}\n")).unwrap();
        let bad = FaultyFs::new();
        let scene = Scene { daemon: Cenoted::start(CENOTED, folder.path()), bad, folder };
        scene.run(&["pool-create-as", "good", "dir", "--build", "--target", scene.good().to_str().unwrap()]);
        scene.run(&["pool-define-as", "bad", "dir", "--target", scene.bad.path().to_str().unwrap()]);
        scene.run(&["pool-start", "bad"]);
        for pool in ["good", "bad"] {
            scene.run(&["vol-create-as", pool, "v", "1M", "--allocation", "0"]);
        }
        scene
    }

    fn good(&self) -> std::path::PathBuf {
        self.folder.path().join("good")
    }

    fn virsh(&self, args: &[&str]) -> Output {
        self.daemon.virsh(args)
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.virsh(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fail(&self, args: &[&str]) -> String {
        let output = self.virsh(args);
        assert!(!output.status.success(), "{args:?} did not fail");
        String::from_utf8(output.stderr).unwrap()
    }

    /// cenote as a client of the daemon.
    fn cenote(&self) -> Cenote {
        let program = Path::new(CENOTED).with_file_name("cenote");
        Cenote::at(program.to_str().unwrap(), self.folder.path())
    }

    /// Waits until a command does what it should.
    fn eventually(&self, args: &[&str], is_right: impl Fn(&Output) -> bool) {
        let started = Instant::now();
        loop {
            let output = self.virsh(args);
            if is_right(&output) {
                return;
            }
            assert!(started.elapsed() < LONG, "{args:?}: {output:?}\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn can_run() -> bool {
    am_root() && have("virsh") && have_file("/dev/fuse")
}

#[test]
fn a_pool_that_hangs_stays_alone_and_recovers() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(2);
    let before: Vec<_> = LOOKS.iter().map(|args| scene.run(args)).collect();
    scene.bad.fault(&Call::ALL, Fault::Hangs);

    // What is known is told, from the first call on, and how old it is.
    for (args, before) in LOOKS.iter().zip(&before) {
        assert_eq!(&scene.run(args), before, "{args:?}");
    }
    let file = scene.folder.path().join("data");
    std::fs::write(&file, vec![1; 1 << 20]).unwrap();
    let file = file.to_str().unwrap();
    for args in [
        &["vol-create-as", "bad", "w", "1M"][..],
        &["vol-delete", "v", "bad"],
        &["vol-resize", "v", "2M", "bad"],
        &["vol-wipe", "v", "bad"],
        &["vol-upload", "v", file, "bad"],
        &["vol-download", "v", "/dev/null", "bad"],
        &["vol-clone", "v", "w", "bad"],
        &["pool-refresh", "bad"],
        &["pool-destroy", "bad"],
    ] {
        let error = scene.fail(args);
        assert!(error.contains("the storage of pool 'bad' has not answered for"), "{args:?}: {error}");
        assert!(error.contains("storage_timeout"), "{error}");
    }
    let info = scene.cenote().run(&["pool-info", "bad"]);
    assert!(info.contains("Storage:        does not answer\n"), "{info}");
    assert!(info.contains("Known since:    ") && info.ends_with("s ago\n\n"), "{info}");
    for (args, before) in LOOKS.iter().zip(&before) {
        assert_eq!(&scene.run(args), before, "{args:?}");
    }
    // The other pool is as it was.
    scene.run(&["vol-create-as", "good", "w", "1M", "--format", "qcow2"]);
    scene.run(&["vol-clone", "v", "x", "good"]);
    scene.run(&["vol-upload", "x", file, "good"]);
    scene.run(&["pool-refresh", "good"]);
    scene.run(&["vol-delete", "w", "good"]);

    std::fs::write(scene.bad.behind().join("from-outside"), "x").unwrap();
    scene.bad.heal();
    scene.eventually(&["vol-list", "bad"], |list| {
        String::from_utf8_lossy(&list.stdout).contains("from-outside")
    });
    scene.eventually(&["vol-create-as", "bad", "after", "1M"], |made| made.status.success());
    // What nobody waited for any more is undone.
    scene.eventually(&["vol-list", "bad"], |list| !String::from_utf8_lossy(&list.stdout).contains("\n w "));
    assert!(!scene.cenote().run(&["pool-info", "bad"]).contains("Storage:"));
    assert_eq!(Cenote::names(scene.bad.behind()), ["after", "from-outside", "v"]);
}

/// What is answered from what is known.
const LOOKS: [&[&str]; 7] = [
    &["vol-list", "bad"],
    &["vol-list", "bad", "--details"],
    &["pool-dumpxml", "bad"],
    &["pool-info", "bad"],
    &["pool-list", "--all", "--details"],
    &["vol-dumpxml", "v", "bad"],
    &["vol-info", "v", "bad"],
];

#[test]
fn each_call_that_hangs_ends() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(1);
    for call in [Call::Create, Call::Write, Call::Fsync, Call::Fallocate, Call::Rename, Call::Statfs] {
        scene.bad.fault(&[call], Fault::Hangs);
        let made = scene.virsh(&["vol-create-as", "bad", "w", "4M", "--format", "raw"]);
        if !made.status.success() {
            let error = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(error.contains("has not answered"), "{call:?}: {error}");
        }
        scene.run(&["vol-list", "good"]);
        scene.bad.heal();
        scene.eventually(&["pool-refresh", "bad"], |refreshed| refreshed.status.success());
        scene.eventually(&["vol-list", "bad"], |list| {
            let is_listed = String::from_utf8_lossy(&list.stdout).contains(" w ");
            is_listed == made.status.success()
        });
        if made.status.success() {
            scene.run(&["vol-delete", "w", "bad"]);
        }
        assert_eq!(Cenote::names(scene.bad.behind()), ["v"], "{call:?}");
    }
}

#[test]
fn what_was_given_up_before_it_began_is_not_done_later() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(1);
    scene.bad.fault(&[Call::Open], Fault::Hangs);
    assert!(scene.fail(&["vol-resize", "v", "8M", "bad"]).contains("has not answered"));
    scene.bad.heal();
    // The thread that hung is back when this is answered.
    scene.eventually(&["pool-refresh", "bad"], |refreshed| refreshed.status.success());
    scene.eventually(&["vol-delete", "v", "bad"], |deleted| {
        assert_eq!(std::fs::metadata(scene.bad.behind().join("v")).map_or(1 << 20, |v| v.len()), 1 << 20);
        deleted.status.success()
    });
}

#[test]
fn a_daemon_ends_and_another_one_starts_while_storage_hangs() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(1);
    scene.run(&["pool-autostart", "bad"]);
    scene.bad.fault(&Call::ALL, Fault::Hangs);
    scene.fail(&["vol-create-as", "bad", "w", "1M"]);
    let Scene { daemon, bad, folder } = scene;
    // The system keeps the process while its threads hang, but it has given everything up.
    let pid = daemon.pid().to_string();
    cenote_test_support::run("kill", &[&pid]);
    let started = Instant::now();
    let is_held = |lock: &str| {
        let lock =
            std::fs::File::options().write(true).open(folder.path().join("run/libvirt").join(lock)).unwrap();
        rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
    };
    while daemon.socket().exists() || is_held("storage/driver.pid") || is_held("secrets/driver.pid") {
        assert!(started.elapsed() < LONG, "it holds its state");
        std::thread::sleep(Duration::from_millis(50));
    }
    let next = Cenoted::start(CENOTED, folder.path());
    let list = next.virsh(&["vol-list", "good"]);
    assert!(list.status.success(), "{}{}", String::from_utf8_lossy(&list.stderr), next.log());
    let list = next.virsh(&["pool-list", "--all"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("bad") && list.contains("good"), "{list}");
    bad.heal();
    let scene = Scene { daemon: next, bad, folder };
    scene.eventually(&["vol-list", "bad"], |list| String::from_utf8_lossy(&list.stdout).contains(" v "));
    drop(daemon);
}

#[test]
fn a_broken_medium_and_a_full_one_are_told_and_nothing_is_left() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(60);
    let file = scene.folder.path().join("data");
    std::fs::write(&file, vec![1; 1 << 20]).unwrap();
    let file = file.to_str().unwrap();
    for (fault, says) in [(Fault::Eio, "Input/output error"), (Fault::Enospc, "No space left on device")] {
        for call in [Call::Create, Call::Write, Call::Fallocate, Call::Rename] {
            scene.bad.fault(&[call], fault);
            for format in ["raw", "qcow2"] {
                let made = scene.virsh(&["vol-create-as", "bad", "w", "4M", "--format", format]);
                // Not every format needs every call.
                if made.status.success() {
                    scene.bad.heal();
                    scene.run(&["vol-delete", "w", "bad"]);
                    scene.bad.fault(&[call], fault);
                } else {
                    let error = String::from_utf8_lossy(&made.stderr).into_owned();
                    assert!(error.contains(says) && error.contains("/w'"), "{call:?} {fault:?}: {error}");
                }
                assert_eq!(Cenote::names(scene.bad.behind()), ["v"], "{call:?} {fault:?}");
            }
        }
        scene.bad.heal();
        scene.bad.fault(&[Call::Write], fault);
        let error = scene.fail(&["vol-upload", "v", file, "bad"]);
        assert!(error.contains(says), "{error}");
        scene.bad.heal();
    }
    scene.bad.fault(&[Call::Readdir], Fault::Eio);
    assert!(scene.fail(&["pool-refresh", "bad"]).contains("Input/output error"));
    scene.bad.heal();
    scene.run(&["pool-start", "bad"]);
    scene.run(&["vol-dumpxml", "v", "bad"]);
}

#[test]
fn pools_start_side_by_side() {
    if !can_run() {
        return;
    }
    let slow: Vec<_> = (0..4).map(|_| FaultyFs::new()).collect();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let run = |daemon: &Cenoted, args: &[&str]| {
        let output = daemon.virsh(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (number, fs) in slow.iter().enumerate() {
        let name = format!("p{number}");
        run(&daemon, &["pool-define-as", &name, "dir", "--target", fs.path().to_str().unwrap()]);
        run(&daemon, &["pool-autostart", &name]);
    }
    drop(daemon);
    // Another boot.
    for name in ["boot-id", "autostarted"] {
        let _ = std::fs::remove_file(folder.path().join("run/libvirt/storage").join(name));
    }
    slow.iter().for_each(|fs| fs.fault(&[Call::Readdir], Fault::Hangs));
    let daemon = Cenoted::start(CENOTED, folder.path());
    // All of them are at it, and those who come are served meanwhile.
    let changing = || daemon.metric("cenote_pools{state=\"changing\"}").unwrap();
    let started = Instant::now();
    while changing() != slow.len() as f64 {
        assert!(started.elapsed() < LONG, "{} pools are being started", changing());
        std::thread::sleep(Duration::from_millis(50));
    }
    slow.iter().for_each(FaultyFs::heal);
    while daemon.metric("cenote_pools{state=\"active\"}").unwrap() != slow.len() as f64 {
        assert!(started.elapsed() < LONG, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_a_daemon_a_command_ends_too() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(CENOTED).with_file_name("cenote");
    let cenote = Cenote::at(program.to_str().unwrap(), folder.path());
    let bad = FaultyFs::new();
    cenote.run(&["pool-create-as", "bad", "dir", "--target", bad.path().to_str().unwrap()]);
    cenote.run(&["vol-create-as", "bad", "v", "1M"]);
    std::fs::write(folder.path().join("etc/libvirt/cenote.conf"), "storage_timeout = 1\n").unwrap();
    bad.fault(&Call::ALL, Fault::Hangs);
    for args in [&["vol-create-as", "bad", "w", "1M"][..], &["vol-list", "bad"], &["pool-refresh", "bad"]] {
        // Its threads hang: the kernel keeps the process, so that what it says is read from a file.
        let said = folder.path().join("said");
        let output = std::fs::File::create(&said).unwrap();
        let mut child =
            cenote.command(args).stdout(std::process::Stdio::null()).stderr(output).spawn().unwrap();
        let started = Instant::now();
        while !std::fs::read_to_string(&said).unwrap().contains("has not answered for") {
            assert!(started.elapsed() < LONG, "{args:?}: {}", std::fs::read_to_string(&said).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        // The default pool is not affected.
        cenote.run(&["vol-list", "default"]);
        bad.heal();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}");
        bad.fault(&Call::ALL, Fault::Hangs);
    }
    bad.heal();
    assert!(cenote.run(&["-q", "vol-list", "bad"]).contains(" v "));
    assert_eq!(Cenote::names(bad.behind()), ["v"]);
}
