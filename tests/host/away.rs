//! Servers that go away in the middle of what is done with them, and come back. `CENOTE_AWAY_ROUNDS` says how often.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Authentication, Caller, Ceph, Gluster, Tgt, am_root, have};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
/// So long may storage be silent before whoever waits for it is told. Ceph gives up each step after three seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a call may take beyond that.
const SLACK: Duration = Duration::from_secs(15);

fn rounds() -> usize {
    std::env::var("CENOTE_AWAY_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap())
}

/// Numbers that look as if they came by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// virsh, at a daemon that tells soon when storage is silent.
fn caller() -> Caller {
    let settings = format!("storage_timeout = {}\n", PATIENCE.as_secs());
    Caller::new(CENOTED, &settings, |_| Vec::new()).with_daemon()
}

/// Does something, takes the server away a moment later, and brings it back when that has ended or a while is over.
/// Returns whether it ended well, and what it said.
fn interrupted(
    caller: &Caller,
    args: &[&str],
    after: Duration,
    take_away: impl FnOnce(),
    bring_back: impl FnOnce(),
    back_after: Option<Duration>,
) -> (bool, String) {
    let started = Instant::now();
    let mut child = caller.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    take_away();
    let away = Instant::now();
    let mut bring_back = Some(bring_back);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if back_after.is_some_and(|back_after| away.elapsed() > back_after)
            && let Some(bring_back) = bring_back.take()
        {
            bring_back();
        }
        assert!(started.elapsed() < PATIENCE + SLACK, "{args:?} hangs");
        std::thread::sleep(Duration::from_millis(20));
    };
    if let Some(bring_back) = bring_back {
        bring_back();
    }
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    (status.success(), said)
}

#[test]
fn a_monitor_and_disks_of_ceph() {
    if !am_root() || !["ceph-mon", "ceph-osd", "ceph", "rbd", "virsh"].into_iter().all(have) {
        return;
    }
    let mut ceph = Ceph::start(Authentication::None);
    let caller = caller();
    let option = |name: &str| format!("<rbd:option name='{name}' value='3'/>");
    let options = ["client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"].map(option);
    caller.define(&format!(
        "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>ceph</name>\
         <source><host name='127.0.0.1' port='{}'/><name>rbd</name></source>\
         <rbd:config_opts>{}</rbd:config_opts></pool>",
        ceph.port(),
        options.concat()
    ));
    caller.run(&["pool-start", "ceph"]);
    caller.run(&["pool-create-as", "near", "dir", "--target", &caller.file("near"), "--build"]);
    let (content, back) = (caller.file("content"), caller.file("back"));
    std::fs::write(&content, vec![0x5a; 24 << 20]).unwrap();
    caller.run(&["vol-create-as", "ceph", "kept", "24M"]);
    caller.run(&["vol-upload", "kept", &content, "ceph"]);
    caller.run(&["vol-create-as", "ceph", "scratch", "24M"]);
    let mut chance = Chance(1);
    let mut failures = 0;
    for round in 0..rounds() {
        let new = format!("new{round}");
        let calls: [&[&str]; 8] = [
            &["pool-refresh", "ceph"],
            &["vol-create-as", "ceph", &new, "8M"],
            &["vol-clone", "kept", &new, "ceph"],
            &["vol-upload", "scratch", &content, "ceph"],
            &["vol-download", "kept", &back, "ceph"],
            &["vol-wipe", "scratch", "ceph"],
            &["vol-resize", "scratch", if round % 2 == 0 { "32M" } else { "28M" }, "ceph", "--shrink"],
            &["vol-delete", "scratch", "ceph"],
        ];
        let args = calls[round % calls.len()];
        let after = Duration::from_millis(chance.below(120));
        let (is_well, said) = if chance.below(2) == 0 {
            let is_long = (chance.below(2) == 0).then_some(Duration::from_millis(500));
            interrupted(&caller, args, after, || ceph.hold_disks(), || ceph.release_disks(), is_long)
        } else {
            let ceph = std::cell::RefCell::new(&mut ceph);
            interrupted(
                &caller,
                args,
                after,
                || ceph.borrow_mut().kill_monitor(),
                || ceph.borrow_mut().start_monitor(),
                Some(Duration::from_secs(1)),
            )
        };
        if !is_well {
            failures += 1;
            let why = ["127.0.0.1", "no storage vol", "the storage of pool 'ceph' has not answered"];
            assert!(why.iter().any(|why| said.contains(why)), "{args:?}: {said}");
        }
        // Other pools never notice, and this one is as it was when the cluster is back.
        caller.run(&["vol-list", "near"]);
        let started = Instant::now();
        while !caller.output(&["pool-refresh", "ceph"]).status.success() {
            assert!(started.elapsed() < PATIENCE + SLACK, "the pool does not come back");
        }
        let list = caller.run(&["vol-list", "ceph"]);
        let listed: Vec<_> = list.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
        let images = ceph.run("rbd", &["ls"]);
        assert_eq!(images.lines().collect::<Vec<_>>(), listed, "{args:?}");
        assert!(listed.contains(&"kept"));
        caller.run(&["vol-download", "kept", &back, "ceph"]);
        assert!(std::fs::read(&back).unwrap().iter().all(|byte| *byte == 0x5a), "{args:?}");
        if listed.contains(&new.as_str()) {
            caller.run(&["vol-download", &new, &back, "ceph"]);
            let length = std::fs::metadata(&back).unwrap().len();
            assert_eq!(length, if args[0] == "vol-clone" { 24 << 20 } else { 8 << 20 });
            caller.run(&["vol-delete", &new, "ceph"]);
        } else if args[0] == "vol-create-as" {
            caller.run(&["vol-create-as", "ceph", &new, "8M"]);
            caller.run(&["vol-delete", &new, "ceph"]);
        }
        if !listed.contains(&"scratch") {
            caller.run(&["vol-create-as", "ceph", "scratch", "24M"]);
        }
    }
    eprintln!("{failures} of {} calls did not survive it", rounds());
}

#[test]
fn a_cluster_of_sheepdog() {
    if !["virsh", "python3"].into_iter().all(have) {
        return;
    }
    let settings = "storage_timeout = 2\n";
    let caller = Caller::new(CENOTED, settings, |folder| {
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/host/stand-ins");
        let path = format!("{}:{}", stand_ins.display(), std::env::var("PATH").unwrap());
        std::fs::create_dir(folder.join("cluster")).unwrap();
        vec![("PATH", path.into()), ("DOG_STATE", folder.join("cluster"))]
    })
    .with_daemon();
    let source = ["--source-host", "127.0.0.1", "--source-name", "images"];
    caller.run(&[&["pool-create-as", "dog", "sheepdog"][..], &source].concat());
    let (content, back) = (caller.file("content"), caller.file("back"));
    std::fs::write(&content, vec![0x5a; 12 << 20]).unwrap();
    caller.run(&["vol-create-as", "dog", "kept", "12M"]);
    caller.run(&["vol-upload", "kept", &content, "dog"]);
    caller.run(&["vol-create-as", "dog", "scratch", "12M"]);
    let mut chance = Chance(4);
    let mut failures = 0;
    for round in 0..rounds() {
        let new = format!("new{round}");
        let calls: [&[&str]; 7] = [
            &["pool-refresh", "dog"],
            &["vol-create-as", "dog", &new, "8M"],
            &["vol-clone", "kept", &new, "dog"],
            &["vol-upload", "scratch", &content, "dog"],
            &["vol-download", "kept", &back, "dog"],
            &["vol-wipe", "scratch", "dog"],
            &["vol-delete", "scratch", "dog"],
        ];
        let args = calls[round % calls.len()];
        let sign = caller.file(if chance.below(4) == 0 { "cluster/slow" } else { "cluster/down" });
        let (after, remove) =
            (Duration::from_millis(chance.below(150)), || std::fs::remove_file(&sign).unwrap());
        let (is_well, said) =
            interrupted(&caller, args, after, || std::fs::write(&sign, "").unwrap(), remove, None);
        if !is_well {
            failures += 1;
            let why = ["127.0.0.1:7000", "no storage vol", "the storage of pool 'dog' has not answered"];
            assert!(why.iter().any(|why| said.contains(why)), "{args:?}: {said}");
        }
        let started = Instant::now();
        while !caller.output(&["pool-refresh", "dog"]).status.success() {
            assert!(
                started.elapsed() < PATIENCE + SLACK,
                "the pool does not come back after {args:?}: {said}"
            );
        }
        caller.run(&["vol-download", "kept", &back, "dog"]);
        assert!(std::fs::read(&back).unwrap().iter().all(|byte| *byte == 0x5a), "{args:?}");
        for left in [new.as_str(), "scratch"] {
            if caller.run(&["vol-list", "dog"]).contains(left) && args.contains(&left) {
                caller.run(&["vol-delete", left, "dog"]);
            }
        }
        if !caller.run(&["vol-list", "dog"]).contains("scratch") {
            caller.run(&["vol-create-as", "dog", "scratch", "12M"]);
        }
    }
    eprintln!("{failures} of {} calls did not survive it", rounds());
}

#[test]
fn a_brick() {
    if !am_root() || !["glusterd", "gluster", "ip", "mkfs.xfs", "virsh"].into_iter().all(have) {
        return;
    }
    let gluster = Gluster::start();
    let caller = caller();
    caller.define(&format!(
        "<pool type='gluster'><name>files</name><source><host name='{}'/><name>vol1</name></source></pool>",
        gluster.address()
    ));
    caller.run(&["pool-start", "files"]);
    let (content, back) = (caller.file("content"), caller.file("back"));
    std::fs::write(&content, vec![0x5a; 24 << 20]).unwrap();
    caller.run(&["vol-create-as", "files", "kept", "24M"]);
    caller.run(&["vol-upload", "kept", &content, "files"]);
    caller.run(&["vol-create-as", "files", "scratch", "24M"]);
    let mut chance = Chance(3);
    let mut failures = 0;
    for round in 0..rounds() {
        let new = format!("new{round}");
        let calls: [&[&str]; 7] = [
            &["pool-refresh", "files"],
            &["vol-create-as", "files", &new, "8M"],
            &["vol-clone", "kept", &new, "files"],
            &["vol-upload", "scratch", &content, "files"],
            &["vol-download", "kept", &back, "files"],
            &["vol-wipe", "scratch", "files"],
            &["vol-delete", "scratch", "files"],
        ];
        let args = calls[round % calls.len()];
        let after = Duration::from_millis(chance.below(120));
        let (is_well, said) = if chance.below(2) == 0 {
            let back_after = (chance.below(2) == 0).then_some(Duration::from_millis(500));
            interrupted(&caller, args, after, || gluster.hold_brick(), || gluster.release_brick(), back_after)
        } else {
            interrupted(&caller, args, after, || gluster.kill_brick(), || gluster.start_brick(), None)
        };
        if !is_well {
            failures += 1;
            let why = [gluster.address(), "no storage vol", "the storage of pool 'files' has not answered"];
            assert!(why.iter().any(|why| said.contains(why)), "{args:?}: {said}");
        }
        let started = Instant::now();
        while !caller.output(&["pool-refresh", "files"]).status.success() {
            assert!(
                started.elapsed() < PATIENCE + SLACK,
                "the pool does not come back after {args:?}: {said}"
            );
        }
        caller.run(&["vol-download", "kept", &back, "files"]);
        assert!(std::fs::read(&back).unwrap().iter().all(|byte| *byte == 0x5a), "{args:?}");
        let is_listed = |name: &str| caller.run(&["vol-list", "files"]).contains(name);
        if is_listed(&new) {
            let length = std::fs::metadata(gluster.brick().join(&new)).unwrap().len();
            assert_eq!(length, if args[0] == "vol-clone" { 24 << 20 } else { 8 << 20 }, "{args:?}");
            caller.run(&["vol-delete", &new, "files"]);
        } else if args[0] == "vol-create-as" {
            caller.run(&["vol-create-as", "files", &new, "8M"]);
            caller.run(&["vol-delete", &new, "files"]);
        }
        if !is_listed("scratch") {
            caller.run(&["vol-create-as", "files", "scratch", "24M"]);
        }
    }
    eprintln!("{failures} of {} calls did not survive it", rounds());
}

#[test]
fn a_target() {
    if !am_root() || !["tgtd", "tgtadm", "virsh"].into_iter().all(have) {
        return;
    }
    let mut tgt = Tgt::start(&[24 << 20, 8 << 20], None);
    let caller = caller();
    caller.define(&format!(
        "<pool type='iscsi-direct'><name>luns</name><source><host name='127.0.0.1' port='{}'/>\
         <device path='{}'/><initiator><iqn name='iqn.2026-01.test:away'/></initiator></source></pool>",
        tgt.port(),
        tgt.target()
    ));
    caller.run(&["pool-start", "luns"]);
    let (content, back) = (caller.file("content"), caller.file("back"));
    std::fs::write(&content, vec![0x5a; 24 << 20]).unwrap();
    caller.run(&["vol-upload", "unit:0:0:1", &content, "luns"]);
    let mut chance = Chance(2);
    let mut failures = 0;
    for round in 0..rounds() {
        let calls: [&[&str]; 4] = [
            &["pool-refresh", "luns"],
            &["vol-upload", "unit:0:0:1", &content, "luns"],
            &["vol-download", "unit:0:0:1", &back, "luns"],
            &["vol-wipe", "unit:0:0:2", "luns"],
        ];
        let args = calls[round % calls.len()];
        let after = Duration::from_millis(chance.below(60));
        let is_held = chance.below(3) == 0;
        let (is_well, said) = if is_held {
            let back_after = Some(Duration::from_secs(1));
            interrupted(&caller, args, after, || tgt.hold(), || tgt.release(), back_after)
        } else {
            let tgt = std::cell::RefCell::new(&mut tgt);
            let start = || tgt.borrow_mut().start_again();
            interrupted(&caller, args, after, || tgt.borrow_mut().kill(), start, None)
        };
        assert!(is_well || !is_held, "{args:?}: {said}");
        if !is_well {
            failures += 1;
            assert!(said.contains(&format!("127.0.0.1:{}", tgt.port())), "{args:?}: {said}");
        }
        caller.run(&["pool-refresh", "luns"]);
        caller.run(&["vol-download", "unit:0:0:1", &back, "luns"]);
        assert!(std::fs::read(&back).unwrap().iter().all(|byte| *byte == 0x5a), "{args:?}");
    }
    eprintln!("{failures} of {} calls did not survive it", rounds());
}
