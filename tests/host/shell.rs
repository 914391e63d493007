//! The program itself: lines, JSON, signals, two at once, a terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, am_root, have};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");

fn json(cenote: &Cenote, args: &[&str]) -> Value {
    serde_json::from_str(&cenote.run(&[&["--json"], args].concat())).unwrap()
}

#[test]
fn everything_that_prints_data_prints_json() {
    let cenote = Cenote::new(CENOTE);
    assert_eq!(
        json(&cenote, &["vol-create-as", "default", "v", "1M", "--allocation", "0"])["result"],
        "created"
    );
    let pools = json(&cenote, &["pool-list", "--all"]);
    assert_eq!((&pools[0]["name"], &pools[0]["state"]), (&"default".into(), &"running".into()));
    assert_eq!(json(&cenote, &["pool-info", "default"])["autostart"], true);
    let volumes = json(&cenote, &["vol-list", "default"]);
    assert_eq!((&volumes[0]["capacity"], &volumes[0]["format"]), (&1_048_576.into(), &"raw".into()));
    assert_eq!(json(&cenote, &["vol-info", "v", "default"])["allocation"], 0);
    for (args, key) in [
        (&["pool-dumpxml", "default"][..], "xml"),
        (&["vol-dumpxml", "v", "default"], "xml"),
        (&["pool-uuid", "default"], "uuid"),
        (&["vol-path", "v", "default"], "path"),
        (&["vol-key", "v", "default"], "key"),
        (&["pool-capabilities"], "xml"),
        (&["uri"], "uri"),
        (&["hostname"], "hostname"),
        (&["version"], "version"),
        (&["help"], "help"),
        (&["pwd"], "directory"),
    ] {
        assert!(json(&cenote, args)[key].is_string(), "{args:?}");
    }
    let output = cenote.try_run(&["--json", "vol-info", "missing", "default"]);
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], 50);
    assert_eq!(error["error"]["domain"], 18);
}

#[test]
fn lines_come_from_standard_input() {
    let cenote = Cenote::new(CENOTE);
    let feed = |lines: &str| {
        let mut child = cenote
            .command(&["-q"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output =
        feed("vol-create-as default v 1M # one\nvol-key v default; vol-key v default\nquit\nbogus\n");
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let output = feed("bogus\nvol-delete v default\n");
    assert_eq!(output.status.code(), Some(1), "a script that failed somewhere has failed");
    assert!(Cenote::names(&cenote.images()).is_empty(), "and goes on after a failure");
}

#[test]
fn a_signal_stops_long_work_and_leaves_nothing() {
    if !am_root() || !have("kill") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["vol-create-as", "default", "big", "300M"]);
    std::fs::write(cenote.images().join("big"), vec![1u8; 300 << 20]).unwrap();
    for signal in ["-INT", "-TERM"] {
        // Gutmann's 35 passes take a while, so that the signal comes in the middle.
        let child = cenote
            .command(&["vol-wipe", "big", "default", "--algorithm", "gutmann"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(400));
        let started = Instant::now();
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("canceled by client"), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    let child = cenote
        .command(&["vol-create-as", "default", "clone", "3G", "--format", "vdi", "--allocation", "0"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    child.wait_with_output().unwrap();
    let names = Cenote::names(&cenote.images());
    assert!(names == ["big"] || names == ["big", "clone"], "{names:?}");
}

#[test]
fn two_at_once_take_turns() {
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let children: Vec<_> = (0..8)
        .map(|i| {
            cenote
                .command(&["vol-create-as", "default", &format!("v{i}"), "1M"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(Cenote::names(&cenote.images()).len(), 8);
}

#[test]
fn reading_does_not_wait_for_who_is_changing() {
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["vol-create-as", "default", "v", "200M"]);
    std::fs::write(cenote.images().join("v"), vec![1u8; 200 << 20]).unwrap();
    let mut child =
        cenote.command(&["vol-wipe", "v", "default", "--algorithm", "pfitzner33"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(cenote.run(&["vol-list", "default"]).contains("v"));
    assert!(child.try_wait().unwrap().is_none(), "the list was answered while the wipe went on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn events_of_other_commands_are_seen() {
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let watch = cenote
        .command(&["pool-event", "--event", "lifecycle", "--loop", "--timeout", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    cenote.run(&["pool-destroy", "default"]);
    std::thread::sleep(Duration::from_millis(500));
    cenote.run(&["pool-start", "default"]);
    let output = watch.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("event 'lifecycle' for storage pool default: Stopped\n"), "{said}");
    assert!(said.contains("event 'lifecycle' for storage pool default: Started\n"), "{said}");
    assert!(said.contains("event loop timed out\nevents received: 2\n"), "{said}");
    assert!(output.status.success());
}

#[test]
fn editing_a_definition() {
    let cenote = Cenote::new(CENOTE);
    let edit = |script: &str| {
        let folder = tempfile::tempdir().unwrap();
        let editor = folder.path().join("editor");
        std::fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
        cenote
            .command(&["pool-edit", "default"])
            .env("EDITOR", &editor)
            .env_remove("VISUAL")
            .output()
            .unwrap()
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said(&edit("true")), "Pool default XML configuration not changed.\n\n");
    let output = edit("sed -i 's#<path>.*</path>#<path>/elsewhere</path>#' \"$1\"");
    assert_eq!(said(&output), "Pool default XML configuration edited.\n\n");
    assert!(cenote.run(&["pool-dumpxml", "default", "--inactive"]).contains("/elsewhere"));
    assert_eq!(edit("echo broken > \"$1\"").status.code(), Some(1));
    assert_eq!(edit("exit 3").status.code(), Some(1));
}

/// Under a terminal of its own, that script(1) makes.
#[test]
fn a_terminal_has_history_completion_and_bars() {
    if !have("script") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["vol-create-as", "default", "a-volume", "300M"]);
    std::fs::write(cenote.images().join("a-volume"), vec![1u8; 300 << 20]).unwrap();
    let state = tempfile::tempdir().unwrap();
    let terminal = |keys: &[&str]| {
        let line = format!("{CENOTE} --prefix {}", cenote.prefix().display());
        let mut child = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("XDG_STATE_HOME", state.path())
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for key in keys {
            std::thread::sleep(Duration::from_millis(400));
            stdin.write_all(key.as_bytes()).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = terminal(&["vol-inf\t", "a-v\t", "default\r", "quit\r"]);
    assert!(shown.contains("Welcome to cenote"), "{shown}");
    assert!(shown.contains("Name:           a-volume"), "{shown}");
    let shown = terminal(&["\x1b[A", "\x1b[A", "\r", "quit\r"]);
    assert!(
        shown.contains("Name:           a-volume"),
        "the line before the last, from the history: {shown}"
    );
    let shown = terminal(&["vol-wipe a-volume default --algorithm dod\r", "", "", "", "", "quit\r"]);
    assert!(shown.contains("wiping volume 'a-volume' ["), "{shown}");
}
