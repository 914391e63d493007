//! An administrator's day: from libvirtd to cenoted and back, looking on, breaking off.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenoted, Libvirtd, am_root, have};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const LASTING: &str = "11111111-2222-3333-4444-555555555555";
const LATER: &str = "22222222-2222-3333-4444-555555555555";

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// cenote on a prefix. It is built with the workspace, beside cenoted.
fn cenote(prefix: &Path) -> Command {
    let mut cenote = Command::new(Path::new(CENOTED).with_file_name("cenote"));
    cenote.arg("--prefix").arg(prefix).stdin(Stdio::null());
    cenote
}

/// What both daemons are asked, in words that must be the same.
fn everything(virsh: &dyn Fn(&[&str]) -> Output) -> String {
    let mut all = String::new();
    for args in [
        &["pool-list", "--all"][..],
        &["pool-dumpxml", "resting"],
        &["pool-info", "resting"],
        &["vol-list", "kept", "--details"],
        &["vol-info", "v", "kept"],
        &["vol-list", "passing"],
        &["secret-list"],
        &["secret-dumpxml", LASTING],
        &["secret-get-value", LASTING],
    ] {
        all += &text(&virsh(args));
    }
    all
}

#[test]
fn from_one_daemon_to_the_other_and_back() {
    if !am_root() || !have("libvirtd") || !have("virsh") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("state");
    let target = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, content: &str| {
        std::fs::write(target(name), content).unwrap();
        target(name)
    };
    let secret = |uuid: &str| {
        let usage = "<usage type='ceph'><name>client.admin</name></usage>".replace("admin", uuid);
        write("secret.xml", &format!("<secret><uuid>{uuid}</uuid>{usage}</secret>"))
    };
    let libvirtd = Libvirtd::start(&prefix);
    for args in [
        &["pool-define-as", "kept", "dir", "--target", &target("kept")][..],
        &["pool-build", "kept"],
        &["pool-start", "kept"],
        &["pool-autostart", "kept"],
        &["pool-define-as", "resting", "dir", "--target", &target("resting")],
        &["pool-create-as", "passing", "dir", "--target", &target("passing"), "--build"],
        &["vol-create-as", "kept", "v", "1M", "--format", "qcow2"],
        &["vol-create-as", "passing", "w", "1M"],
        &["pool-refresh", "kept"],
        &["secret-define", &secret(LASTING)],
        &["secret-set-value", LASTING, "--plain", "--file", &write("value", "opensesame")],
    ] {
        text(&libvirtd.virsh(args));
    }
    let before = everything(&|args| libvirtd.virsh(args));
    // Both cannot have the state at once.
    let second = Command::new(CENOTED).arg("--prefix").arg(&prefix).output().unwrap();
    assert!(!second.status.success());
    drop(libvirtd);

    let cenoted = Cenoted::start(CENOTED, &prefix);
    assert_eq!(everything(&|args| cenoted.virsh(args)), before);
    for args in [
        &["pool-start", "resting", "--build"][..],
        &["pool-autostart", "resting"],
        &["pool-destroy", "passing"],
        &["vol-delete", "v", "kept"],
        &["vol-create-as", "kept", "v", "2M"],
        &["secret-undefine", LASTING],
        &["secret-define", &secret(LATER)],
        &["secret-set-value", LATER, "--plain", "--file", &write("value", "open barley")],
    ] {
        text(&cenoted.virsh(args));
    }
    let list = text(&cenoted.virsh(&["pool-list", "--all"]));
    let volumes = text(&cenoted.virsh(&["vol-list", "kept", "--details"]));
    let secrets = text(&cenoted.virsh(&["secret-list"]));
    let value = text(&cenoted.virsh(&["secret-get-value", LATER]));
    assert!(cenoted.stop(Duration::from_secs(20)));

    let libvirtd = Libvirtd::start(&prefix);
    assert_eq!(text(&libvirtd.virsh(&["secret-list"])), secrets);
    assert_eq!(text(&libvirtd.virsh(&["secret-get-value", LATER])), value);
    assert_eq!(text(&libvirtd.virsh(&["pool-list", "--all"])), list);
    assert_eq!(text(&libvirtd.virsh(&["vol-list", "kept", "--details"])), volumes);
}

/// Reads until what was read contains `end`.
fn read_until(child: &mut Child, end: &str) -> String {
    let out = child.stdout.as_mut().unwrap();
    let mut read = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&read).contains(end) {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// Changes something until an event of it is seen.
fn wait_until_watching(watching: &mut Child, virsh: &dyn Fn(&[&str]) -> Output) {
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let reading = scope.spawn(move || {
            read_until(watching, "storage pool first: Undefined\n");
            drop(stop);
        });
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            text(&virsh(&["pool-define-as", "first", "dir", "--target", "/nowhere"]));
            text(&virsh(&["pool-undefine", "first"]));
        }
        reading.join().unwrap();
    });
}

#[test]
fn virsh_sees_the_same_events_and_shells_on_both() {
    if !am_root() || !have("libvirtd") || !have("virsh") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    let cenoted = Cenoted::start(CENOTED, &folder.path().join("cenote"));
    let day = |uri: &str, virsh: &dyn Fn(&[&str]) -> Output| {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("p").to_str().unwrap().to_owned();
        // stdbuf, as virsh keeps lines back where it writes to a pipe.
        let mut watching = Command::new("stdbuf")
            .args(["-oL", "virsh", "pool-event", "--event", "lifecycle", "--loop", "--timeout", "60"])
            .env("LIBVIRT_DEFAULT_URI", uri)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Nothing says when it begins to watch: something happens until it has seen it.
        wait_until_watching(&mut watching, virsh);
        for args in [
            &["pool-define-as", "p", "dir", "--target", &target][..],
            &["pool-build", "p"],
            &["pool-start", "p"],
            &["pool-refresh", "p"],
            &["pool-destroy", "p"],
            &["pool-delete", "p"],
            &["pool-undefine", "p"],
        ] {
            text(&virsh(args));
        }
        let events = read_until(&mut watching, "storage pool p: Undefined");
        let mut seen: String = events.lines().filter(|line| !line.contains("pool first:")).collect();
        watching.kill().unwrap();
        watching.wait().unwrap();

        let mut shell = Command::new("virsh")
            .env("LIBVIRT_DEFAULT_URI", uri)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = format!(
            "pool-create-as q dir --target {target} --build\nvol-create-as q v 1M; vol-list q\npool-list --name\n\
             vol-info nosuch q\nvol-delete v q\npool-destroy q\nquit\n"
        );
        shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
        seen.replace(root.path().to_str().unwrap(), "{D}")
    };
    let theirs = day(&libvirtd.uri(), &|args| libvirtd.virsh(args));
    let ours = day(&cenoted.uri(), &|args| cenoted.virsh(args));
    assert_eq!(theirs, ours);
    assert!(ours.contains("event 'lifecycle' for storage pool p: Started"), "{ours}");
}

#[test]
fn cenote_finds_the_daemon_and_breaks_its_jobs_off() {
    if !am_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("state");
    let run = |args: &[&str]| text(&cenote(&prefix).args(args).output().unwrap());
    assert!(run(&["uri"]).starts_with("embedded:"));
    run(&["vol-create-as", "default", "v", "256M"]);
    // Only what has been written is wiped.
    std::fs::write(prefix.join("var/lib/libvirt/images/v"), vec![1; 256 << 20]).unwrap();
    let cenoted = Cenoted::start(CENOTED, &prefix);
    assert_eq!(run(&["uri"]).trim(), cenoted.uri().replace("mode=legacy&", ""));
    assert!(run(&["vol-list", "default"]).contains(" v "));

    let wiping = cenote(&prefix)
        .args(["vol-wipe", "v", "default", "--algorithm", "gutmann"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let job = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let list = run(&["-q", "job-list"]);
        let line = list.lines().find(|line| line.contains("wiping volume 'v'"))?;
        line.split_whitespace().next().map(str::to_owned)
    });
    assert!(run(&["--json", "job-list"]).contains("\"job\": \"wiping volume 'v'\""));
    run(&["job-abort", &job.expect("the job is not listed")]);
    let wiped = wiping.wait_with_output().unwrap();
    assert!(!wiped.status.success());
    assert!(String::from_utf8_lossy(&wiped.stderr).contains("operation aborted"));
    run(&["vol-delete", "v", "default"]);
    assert!(cenoted.stop(Duration::from_secs(20)));
    assert!(run(&["uri"]).starts_with("embedded:"));
}
