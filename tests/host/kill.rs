//! SIGKILL in the middle of every operation: the next start is clean, and nothing else was touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, am_root, have, run};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::Duration;

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");

/// Each operation is killed so many times, after delays that are spread over its time.
const ROUNDS: u64 = 12;

struct Scene {
    cenote: Cenote,
    other: Vec<u8>,
}

impl Scene {
    fn new() -> Scene {
        let cenote = Cenote::new(CENOTE);
        cenote.run(&["vol-create-as", "default", "other", "1M"]);
        let other = vec![5u8; 1 << 20];
        std::fs::write(cenote.images().join("other"), &other).unwrap();
        cenote.run(&["vol-create-as", "default", "source", "64M", "--allocation", "0"]);
        let source = std::fs::File::options().write(true).open(cenote.images().join("source")).unwrap();
        for i in 0..48 {
            source.write_all_at(&vec![i as u8 + 1; 1 << 20], i << 20).unwrap();
        }
        cenote.run(&["vol-clone", "source", "base", "default"]);
        Scene { cenote, other }
    }

    /// Starts a command and kills it after a while; then looks at what is left.
    fn killed(&self, args: &[&str], after: Duration, made: &str) {
        if args[0] == "vol-delete" && !self.cenote.images().join("base").exists() {
            self.cenote.run(&["vol-clone", "source", "base", "default"]);
        }
        let mut child = self.cenote.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();

        let images = self.cenote.images();
        let mut list = self.cenote.run(&["-q", "vol-list", "default"]);
        // A tool gets its own SIGKILL from the system and may take a moment to die.
        for _ in 0..50 {
            if !Cenote::names(&images).iter().any(|name| name.starts_with(".cenote")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            list = self.cenote.run(&["-q", "vol-list", "default"]);
        }
        for name in Cenote::names(&images) {
            assert!(!name.starts_with(".cenote"), "{args:?} left {name}");
            assert!(list.contains(&name), "{name} is not in the list: {list}");
        }
        assert!(
            std::fs::read(images.join("other")).unwrap() == self.other,
            "{args:?} touched another volume"
        );
        let path = images.join(made);
        if path.exists() {
            self.is_whole(args, made);
            self.cenote.run(&["vol-delete", made, "default"]);
        }
    }

    /// A volume that is there is there as a whole.
    fn is_whole(&self, args: &[&str], made: &str) {
        let path = self.cenote.images().join(made);
        let path = path.to_str().unwrap();
        if args.contains(&"qcow2") || args.contains(&"vdi") {
            let format = if args.contains(&"qcow2") { "qcow2" } else { "vdi" };
            run("qemu-img", &["check", "-q", "-f", format, path]);
        }
        if args[0] == "vol-clone" {
            let source = self.cenote.images().join("source");
            assert!(std::fs::read(path).unwrap() == std::fs::read(source).unwrap(), "half a clone");
        }
    }
}

#[test]
fn nothing_half_made_is_left() {
    if !am_root() || !have("qemu-img") {
        return;
    }
    let scene = Scene::new();
    let from = |format: &str| {
        let path = scene.cenote.prefix().join(format!("{format}.xml"));
        let text = format!(
            "<volume><name>made</name><capacity>0</capacity><target><format type='{format}'/></target></volume>"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (qcow2, vmdk) = (from("qcow2"), from("vmdk"));
    let operations: [(&[&str], u64); 8] = [
        (&["vol-create-as", "default", "made", "1G"], 6),
        (&["vol-create-as", "default", "made", "1G", "--format", "qcow2"], 4),
        (
            &[
                "vol-create-as",
                "default",
                "made",
                "1G",
                "--format",
                "qcow2",
                "--prealloc-metadata",
                "--allocation",
                "0",
            ],
            8,
        ),
        (&["vol-create-as", "default", "made", "1G", "--format", "vdi"], 20),
        (&["vol-clone", "source", "made", "default"], 60),
        (&["vol-create-from", "default", &qcow2, "source", "--inputpool", "default"], 120),
        (&["vol-create-from", "default", &vmdk, "source", "--inputpool", "default"], 120),
        (&["vol-delete", "base", "default"], 4),
    ];
    for (args, milliseconds) in operations {
        for round in 0..ROUNDS {
            let after = Duration::from_micros(milliseconds * 1000 * round / ROUNDS);
            let made = if args[0] == "vol-delete" { "nothing" } else { "made" };
            scene.killed(args, after, made);
        }
    }
}

#[test]
fn definitions_survive() {
    if !am_root() {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let folder = tempfile::tempdir().unwrap();
    let mut defined = Vec::new();
    for round in 0..40u64 {
        let name = format!("p{round}");
        let target = folder.path().join(&name);
        let args = ["pool-define-as", &name, "dir", "--target", target.to_str().unwrap()];
        let mut child = cenote.command(&args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(150 * round));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.stdout.is_empty() {
            defined.push(name);
        }
        let list = cenote.run(&["-q", "pool-list", "--all", "--name"]);
        assert!(list.contains("default\n"));
        for name in &defined {
            assert!(list.contains(&format!("{name}\n")), "{name} was defined and is lost: {list}");
        }
    }
    cenote.run(&["pool-autostart", "default"]);
    let config = cenote.prefix().join("etc/libvirt/storage");
    assert!(Cenote::names(&config).iter().all(|name| !name.ends_with(".new")));
}

#[test]
fn resizing_is_done_or_not() {
    if !am_root() || !have("qemu-img") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    for (name, format) in [("q", "qcow2"), ("r", "raw")] {
        cenote.run(&["vol-create-as", "default", name, "10M", "--allocation", "0", "--format", format]);
        for round in 0..30u64 {
            let size = format!("{}M", 10 + round);
            let mut child = cenote
                .command(&["vol-resize", name, &size, "default"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(200 * round));
            child.kill().unwrap();
            child.wait().unwrap();
            let path = cenote.images().join(name);
            if format == "qcow2" {
                run("qemu-img", &["check", "-q", path.to_str().unwrap()]);
            }
            let info = cenote.run(&["vol-info", name, "default", "--bytes"]);
            let capacity: u64 = info
                .lines()
                .find_map(|line| line.strip_prefix("Capacity:"))
                .unwrap()
                .trim()
                .trim_end_matches(" bytes")
                .parse()
                .unwrap();
            assert_eq!(capacity % (1 << 20), 0);
        }
    }
}

#[test]
fn a_tool_dies_with_its_maker() {
    if !am_root() || !have("qemu-img") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let tools = tempfile::tempdir().unwrap();
    let (slow, pid) = (tools.path().join("qemu-img"), tools.path().join("pid"));
    std::fs::write(
        &slow,
        format!("#!/bin/sh\necho $$ >{0}.new; mv {0}.new {0}\nexec sleep 300\n", pid.display()),
    )
    .unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let args = ["vol-create-as", "default", "made", "1M", "--format", "vdi"];
    let mut child = cenote.command(&args).env("PATH", path).spawn().unwrap();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}");
    };
    until("the tool was not started", &|| pid.exists());
    let tool = std::fs::read_to_string(&pid).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let stat = format!("/proc/{}/stat", tool.trim());
    until("the tool lives on", &|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
}
