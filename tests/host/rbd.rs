//! Images of a real Ceph cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Authentication, Caller, Ceph, am_root, content, have};
use std::time::{Duration, Instant};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");

fn can_run() -> bool {
    am_root()
        && ["ceph-mgr", "ceph-mon", "ceph-osd", "ceph", "rbd", "virsh", "qemu-img"].into_iter().all(have)
}

/// A pool that asks for the cluster, with more in its source and around it.
fn pool(name: &str, port: u16, source: &str, more: &str) -> String {
    format!(
        "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>{name}</name>{more}\
         <source><host name='127.0.0.1' port='{port}'/>{source}</source>\
         <rbd:config_opts><rbd:option name='client_mount_timeout' value='3'/>\
         <rbd:option name='rados_mon_op_timeout' value='3'/><rbd:option name='rados_osd_op_timeout' value='3'/>\
         </rbd:config_opts></pool>"
    )
}

/// Waits until it is so.
fn wait_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not come to be");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn life(scene: &Caller, ceph: &Ceph, name: &str) {
    let question = format!("<source><host name='127.0.0.1' port='{}'/></source>", ceph.port());
    std::fs::write(scene.file("question.xml"), question).unwrap();
    let found = scene.run(&["find-storage-pool-sources", "rbd", &scene.file("question.xml")]);
    assert!(found.contains("<name>rbd</name>"), "{found}");
    scene.define(&pool(name, ceph.port(), "<name>rbd</name>", ""));
    scene.run(&["pool-start", name]);

    scene.run(&["vol-create-as", name, "one", "30M"]);
    let xml = scene.run(&["vol-dumpxml", "one", name]);
    for part in [
        "<volume type='network'>",
        "<key>rbd/one</key>",
        "<path>rbd/one</path>",
        "<format type='raw'/>",
        "<capacity unit='bytes'>31457280</",
        "<allocation unit='bytes'>0</",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
    // What is written by one is read by the others.
    let (file, back) = (scene.file("content"), scene.file("back"));
    let written = content(17_000_001);
    std::fs::write(&file, &written).unwrap();
    scene.run(&["vol-upload", "one", &file, name]);
    let uri = |image: &str| format!("rbd:rbd/{image}:conf={}", ceph.conf().display());
    ceph.run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri("one"), &back]);
    assert!(std::fs::read(&back).unwrap()[..written.len()] == written);
    scene.run(&["vol-download", "one", &back, name]);
    let read = std::fs::read(&back).unwrap();
    assert!(read.len() == 30 << 20 && read[..written.len()] == written);
    assert!(read[written.len()..].iter().all(|byte| *byte == 0));
    let part = scene.file("part");
    std::fs::write(&part, &written[..1000]).unwrap();
    scene.run(&["vol-upload", "one", &part, name, "--offset", "8388000"]);
    scene.run(&["vol-download", "one", &back, name, "--offset", "8387999", "--length", "1002"]);
    let expected = [&written[8_387_999..][..1], &written[..1000], &written[8_389_000..][..1]].concat();
    assert!(std::fs::read(&back).unwrap() == expected);
    scene.run(&["pool-refresh", name]);
    let xml = scene.run(&["vol-dumpxml", "one", name]);
    assert!(xml.contains("<allocation unit='bytes'>20971520</"), "{xml}");
    let too_much = scene.fail(&["vol-upload", "one", &file, name, "--offset", "20971520"]);
    assert!(too_much.contains("No space left") || too_much.contains("space"), "{too_much}");

    // With holes, in both directions.
    ceph.run("rbd", &["create", "theirs", "--size", "40M"]);
    ceph.run("qemu-io", &["-f", "raw", &uri("theirs"), "-c", "write -P 0x5a 20M 1M"]);
    scene.run(&["pool-refresh", name]);
    scene.run(&["vol-download", "theirs", &back, name, "--sparse"]);
    let read = std::fs::read(&back).unwrap();
    assert!(read.len() == 40 << 20 && read[20 << 20..21 << 20].iter().all(|byte| *byte == 0x5a));
    assert_eq!(read.iter().filter(|byte| **byte != 0).count(), 1 << 20);
    scene.run(&["vol-upload", "theirs", &back, name, "--sparse"]);
    scene.run(&["vol-download", "theirs", &scene.file("again"), name]);
    assert!(std::fs::read(scene.file("again")).unwrap() == read);

    // Clones share blocks, and go in any order that leaves nothing behind.
    scene.run(&["vol-clone", "one", "clone", name]);
    scene.run(&["vol-clone", "one", "clone2", name]);
    assert_eq!(ceph.run("rbd", &["snap", "ls", "one"]).matches("cenote-clone-").count(), 1);
    scene.run(&["vol-download", "clone", &back, name, "--length", "8000000"]);
    assert!(std::fs::read(&back).unwrap() == written[..8_000_000]);
    let refused = scene.fail(&["vol-delete", "one", name]);
    assert!(refused.contains("volumes are clones of it"), "{refused}");
    scene.run(&["vol-resize", "clone", "50M", name]);
    assert!(scene.run(&["vol-info", "clone", name, "--bytes"]).contains("52428800"));
    scene.run(&["vol-resize", "clone", "40M", name, "--shrink"]);
    scene.run(&["vol-delete", "clone", name]);
    scene.run(&["vol-delete", "clone2", name]);

    // With its snapshots a source goes while there are clones, which are whole then.
    scene.run(&["vol-clone", "one", "parent", name]);
    scene.run(&["vol-clone", "parent", "child", name]);
    scene.run(&["vol-delete", "parent", name, "--delete-snapshots"]);
    scene.run(&["vol-download", "child", &back, name, "--length", "8000000"]);
    assert!(std::fs::read(&back).unwrap() == written[..8_000_000]);
    scene.run(&["vol-delete", "child", name]);

    // To a pool of files, and back.
    let images = scene.file(&format!("{name}-files"));
    scene.run(&["pool-create-as", "files", "dir", "--target", &images, "--build"]);
    let xml = "<volume><name>copy</name><capacity>0</capacity></volume>";
    std::fs::write(scene.file("volume.xml"), xml).unwrap();
    scene.run(&["vol-create-from", "files", &scene.file("volume.xml"), "one", "--inputpool", name]);
    let copy = std::fs::read(format!("{images}/copy")).unwrap();
    assert!(copy.len() == 30 << 20 && copy[..8_000_000] == written[..8_000_000]);
    scene.run(&["vol-create-from", name, &scene.file("volume.xml"), "copy", "--inputpool", "files"]);
    scene.run(&["vol-download", "copy", &back, name]);
    assert!(std::fs::read(&back).unwrap() == copy);
    scene.run(&["vol-create-as", "files", "other", "1M", "--format", "qcow2"]);
    std::fs::write(scene.file("volume.xml"), xml.replace("copy", "copy2")).unwrap();
    let refused =
        scene.fail(&["vol-create-from", name, &scene.file("volume.xml"), "other", "--inputpool", "files"]);
    assert!(refused.contains("only raw volumes"), "{refused}");
    scene.run(&["vol-delete", "copy", name]);

    for algorithm in ["zero", "trim"] {
        scene.run(&["vol-upload", "one", &file, name]);
        scene.run(&["vol-wipe", "one", name, "--algorithm", algorithm]);
        scene.run(&["vol-download", "one", &back, name]);
        assert!(std::fs::read(&back).unwrap().iter().all(|byte| *byte == 0), "{algorithm}");
    }
    assert!(scene.fail(&["vol-wipe", "one", name, "--algorithm", "dod"]).contains("'zero' and 'trim'"));

    // Somebody else's snapshots are not deleted unasked, nor is what somebody has open.
    ceph.run("rbd", &["snap", "create", "theirs@before"]);
    let refused = scene.fail(&["vol-delete", "theirs", name]);
    assert!(refused.contains("has snapshots") && refused.contains("'before'"), "{refused}");
    scene.run(&["vol-delete", "theirs", name, "--delete-snapshots"]);
    ceph.run("rbd", &["create", "open", "--size", "8M"]);
    scene.run(&["pool-refresh", name]);
    let mut user = std::process::Command::new("rbd")
        .args(["watch", "open"])
        .env("CEPH_CONF", ceph.conf())
        // It ends when its input does.
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| ceph.run("rbd", &["status", "open"]).contains("watcher="));
    let refused = scene.fail(&["vol-delete", "open", name]);
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(refused.contains("it is in use by client."), "{refused}");
    ceph.run("rbd", &["trash", "mv", "open"]);
    scene.run(&["pool-refresh", name]);
    assert!(!scene.run(&["vol-list", name]).contains("open"));

    // Images of other kinds: without an object map, striped, of the first format.
    ceph.run("rbd", &["create", "plain", "--size", "12M", "--image-feature", "layering"]);
    ceph.run("qemu-io", &["-f", "raw", &uri("plain"), "-c", "write -P 1 5M 1M"]);
    let striped = ["--size", "12M", "--stripe-unit", "65536", "--stripe-count", "4"];
    ceph.run("rbd", &[&["create", "striped"][..], &striped].concat());
    scene.run(&["pool-refresh", name]);
    let list = scene.run(&["vol-list", name, "--details"]);
    assert!(list.contains("plain") && list.contains("striped"), "{list}");
    let xml = scene.run(&["vol-dumpxml", "plain", name]);
    assert!(xml.contains("<allocation unit='bytes'>4194304</"), "{xml}");
    scene.run(&["vol-clone", "striped", "striped2", name]);

    assert!(scene.fail(&["vol-create-as", name, "one", "1M"]).contains("exists"));
    assert!(scene.fail(&["vol-create-as", name, "a@b", "1M"]).contains("'a@b' cannot be the name"));
    assert!(scene.fail(&["vol-create-as", name, "q", "1M", "--format", "qcow2"]).contains("only RAW"));
    for volume in ["one", "plain", "striped2", "striped"] {
        scene.run(&["vol-delete", volume, name]);
    }
    assert_eq!(ceph.run("rbd", &["ls"]), "");
    scene.run(&["pool-destroy", name]);

    // Namespaces of the pool, and allocations that are not asked for.
    let refresh = "<refresh><volume allocation='capacity'/></refresh>";
    let more = format!("{name}-more");
    // Two addresses of the monitor, one for each of its protocols.
    let newer = format!("<host name='v2:127.0.0.1' port='{}'/><name>rbd/of its own</name>", ceph.port());
    let xml = pool(&more, ceph.older_port(), &newer, refresh);
    scene.define(&xml.replacen("name='127.0.0.1'", "name='v1:127.0.0.1'", 1));
    scene.run(&["pool-start", &more]);
    scene.run(&["vol-create-as", &more, "inside", "8M"]);
    assert_eq!(ceph.run("rbd", &["ls", "rbd/of its own"]), "inside\n");
    scene.run(&["pool-refresh", &more]);
    let xml = scene.run(&["vol-dumpxml", "inside", &more]);
    assert!(xml.contains("<path>rbd/of its own/inside</path>"), "{xml}");
    assert!(xml.contains("<allocation unit='bytes'>8388608</"), "{xml}");
    scene.run(&["vol-delete", "inside", &more]);
    scene.run(&["pool-destroy", &more]);
    scene.define(&pool("nowhere", ceph.port(), "<name>not-there</name>", ""));
    let refused = scene.fail(&["pool-start", "nowhere"]);
    assert!(refused.contains("Does the pool 'not-there' exist?"), "{refused}");
}

#[test]
fn life_through_virsh_and_cenote() {
    if !can_run() {
        return;
    }
    let ceph = Ceph::start(Authentication::None);
    ceph.run("rbd", &["namespace", "create", "rbd/of its own"]);
    life(&Caller::virsh(CENOTED), &ceph, "virsh");
    life(&Caller::cenote(CENOTED), &ceph, "cenote");
}

#[test]
fn how_full_the_cluster_is() {
    if !can_run() {
        return;
    }
    let mut ceph = Ceph::start(Authentication::None);
    ceph.start_manager();
    let scene = Caller::virsh(CENOTED);
    scene.define(&pool("ceph", ceph.port(), "<name>rbd</name>", ""));
    scene.run(&["pool-start", "ceph"]);
    let file = scene.file("content");
    std::fs::write(&file, content(40 << 20)).unwrap();
    scene.run(&["vol-create-as", "ceph", "one", "64M"]);
    scene.run(&["vol-upload", "one", &file, "ceph"]);
    // Ceph counts from time to time, and tells others in KiB.
    wait_until(|| {
        let told: serde_json::Value =
            serde_json::from_str(&ceph.run("ceph", &["df", "--format", "json"])).unwrap();
        let number = |path: &str| told.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let is_pool = |pool: &&serde_json::Value| pool["name"] == "rbd";
        let pools = told["pools"].as_array().unwrap();
        let stored =
            pools.iter().find(is_pool).and_then(|pool| pool["stats"]["stored"].as_u64()).unwrap_or(0);
        let (size, available) = (number("/stats/total_bytes"), number("/stats/total_avail_bytes"));
        scene.run(&["pool-refresh", "ceph"]);
        let info = scene.run(&["pool-info", "ceph", "--bytes"]);
        size > 0
            && stored > 40 << 20
            && info.contains(&format!("Capacity:       {size}\n"))
            && info.contains(&format!("Allocation:     {stored}\n"))
            && info.contains(&format!("Available:      {}\n", available >> 10 << 10))
    });
}

#[test]
fn who_asks_is_known_by_a_secret() {
    if !can_run() {
        return;
    }
    let ceph = Ceph::start(Authentication::Cephx);
    let caps = ["mon", "profile rbd", "osd", "profile rbd pool=rbd"];
    ceph.run("ceph", &[&["auth", "get-or-create", "client.images"][..], &caps].concat());
    let key = ceph.run("ceph", &["auth", "print-key", "client.images"]);
    for scene in [Caller::virsh(CENOTED), Caller::cenote(CENOTED)] {
        let secret = "<secret ephemeral='no' private='yes'><uuid>5a9ddaca-5aa3-4a32-8a5a-3c0ff7a49e29</uuid>\
                      <usage type='ceph'><name>of images</name></usage></secret>";
        std::fs::write(scene.file("secret.xml"), secret).unwrap();
        scene.run(&["secret-define", &scene.file("secret.xml")]);
        let auth = "<name>rbd</name><auth type='ceph' username='images'><secret usage='of images'/></auth>";
        scene.define(&pool("ceph", ceph.port(), auth, ""));
        let refused = scene.fail(&["pool-start", "ceph"]);
        assert!(refused.contains("secret") && refused.contains("does not have a value"), "{refused}");
        let set = |key: &str| {
            scene.run(&["secret-set-value", "5a9ddaca-5aa3-4a32-8a5a-3c0ff7a49e29", "--base64", key]);
        };
        set("AQBkBydgAAAAABAAsIzJ3ypOmMMd9mDTPdmbcA==");
        let refused = scene.fail(&["pool-start", "ceph"]);
        assert!(refused.contains("failed to connect to the RADOS monitor on: 127.0.0.1"), "{refused}");
        set(key.trim());
        scene.run(&["pool-start", "ceph"]);
        scene.run(&["vol-create-as", "ceph", "one", "8M"]);
        assert!(ceph.run("rbd", &["ls"]).contains("one"));
        scene.run(&["vol-delete", "one", "ceph"]);
    }
}
