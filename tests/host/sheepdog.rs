//! Clusters of Sheepdog. The program is in no registry: a stand-in keeps state, and answers as the real one was seen to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Caller, content, have};
use std::path::Path;
use std::process::{Command, Stdio};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");

/// Who asks, of a cluster whose state is in a folder.
fn caller() -> Caller {
    Caller::new(CENOTED, "storage_timeout = 3\n", |folder| {
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/host/stand-ins");
        let path = format!("{}:{}", stand_ins.display(), std::env::var("PATH").unwrap());
        std::fs::create_dir(folder.join("cluster")).unwrap();
        vec![("PATH", path.into()), ("DOG_STATE", folder.join("cluster"))]
    })
}

fn start(scene: &Caller) {
    let source = ["--source-host", "127.0.0.1", "--source-name", "images"];
    scene.run(&[&["pool-define-as", "dog", "sheepdog"][..], &source].concat());
    scene.run(&["pool-start", "dog"]);
}

fn life(scene: &Caller) {
    start(scene);
    let info = scene.run(&["pool-info", "dog", "--bytes"]);
    assert!(info.contains("Capacity:       169971154944\n"), "{info}");
    scene.run(&["vol-create-as", "dog", "one", "9M"]);
    scene.run(&["vol-create-as", "dog", "whole", "8M", "--allocation", "8M"]);
    scene.run(&["vol-create-as", "dog", "with space", "4M"]);
    let xml = scene.run(&["vol-dumpxml", "one", "dog"]);
    for part in [
        "<volume type='network'>",
        "<key>images/one</key>",
        "<path>one</path>",
        "<capacity unit='bytes'>9437184</",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
    let whole = scene.run(&["vol-info", "whole", "dog", "--bytes"]);
    assert!(whole.contains("Allocation:     8388608 bytes"), "{whole}");

    // More than two pieces, and not a whole number of them.
    let (file, back) = (scene.file("content"), scene.file("back"));
    let content = content(9_000_001);
    std::fs::write(&file, &content).unwrap();
    let (file, back) = (file.as_str(), back.as_str());
    scene.run(&["vol-upload", "one", file, "dog"]);
    scene.run(&["vol-download", "one", back, "dog", "--length", "9000001"]);
    assert!(std::fs::read(back).unwrap() == content);
    let part = scene.file("part");
    std::fs::write(&part, &content[..100]).unwrap();
    scene.run(&["vol-upload", "one", &part, "dog", "--offset", "5000000"]);
    scene.run(&["vol-download", "one", back, "dog", "--offset", "4999999", "--length", "102"]);
    assert_eq!(
        std::fs::read(back).unwrap(),
        [&content[4_999_999..][..1], &content[..100], &content[5_000_100..][..1]].concat()
    );
    let log = std::fs::read_to_string(scene.file("cluster/log")).unwrap();
    assert!(log.contains("vdi write -a 127.0.0.1 one 4194304 4194304"), "{log}");

    scene.run(&["vol-clone", "one", "clone", "dog"]);
    scene.run(&["vol-download", "clone", back, "dog", "--length", "4999999"]);
    assert!(std::fs::read(back).unwrap() == content[..4_999_999]);
    let table = std::fs::read_to_string(scene.file("cluster/table.json")).unwrap();
    assert!(!table.contains("\"s\""), "a snapshot is left: {table}");
    scene.run(&["vol-resize", "clone", "20M", "dog"]);
    let refused = scene.fail(&["vol-resize", "clone", "9M", "dog", "--shrink"]);
    assert!(refused.contains("can grow only") || refused.contains("can't shrink"), "{refused}");
    scene.run(&["vol-wipe", "one", "dog"]);
    scene.run(&["vol-download", "one", back, "dog"]);
    assert!(std::fs::read(back).unwrap().iter().all(|byte| *byte == 0));
    assert!(scene.fail(&["vol-wipe", "one", "dog", "--algorithm", "dod"]).contains("there is 'zero'"));

    assert!(scene.fail(&["vol-create-as", "dog", "one", "1M"]).contains("exist"));
    assert!(scene.fail(&["vol-create-as", "dog", "huge", "5T"]).contains("larger than 4.0 TB"));
    assert!(scene.fail(&["vol-create-as", "dog", "one2", "1M", "--backing-vol", "one"]).contains("clone"));
    for name in ["one", "whole", "with space", "clone"] {
        scene.run(&["vol-delete", name, "dog"]);
    }
    assert!(!scene.run(&["vol-list", "dog"]).contains("one"));
}

/// Snapshots that others made.
fn snapshots(scene: &Caller) {
    start(scene);
    let dog = |args: &[&str]| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/host/stand-ins/dog");
        let output = Command::new(program)
            .args(args)
            .env("DOG_STATE", scene.file("cluster"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    let (file, back) = (scene.file("content"), scene.file("back"));
    scene.run(&["vol-create-as", "dog", "disk", "1M"]);
    let written = |byte: u8| {
        std::fs::write(&file, vec![byte; 1 << 20]).unwrap();
        scene.run(&["vol-upload", "disk", &file, "dog"]);
    };
    let is_all = |volume: &str, byte: u8| {
        scene.run(&["vol-download", volume, &back, "dog"]);
        assert!(std::fs::read(&back).unwrap() == vec![byte; 1 << 20], "{volume} is not {byte}");
    };
    written(1);
    dog(&["vdi", "snapshot", "-s", "before update", "disk"]);
    written(2);
    dog(&["vdi", "snapshot", "disk"]);
    written(3);
    scene.run(&["pool-refresh", "dog"]);
    let list = scene.run(&["vol-list", "dog"]);
    assert!(list.contains(" disk@before update ") && list.contains(" disk@2 "), "{list}");
    let info = scene.run(&["vol-info", "disk@2", "dog", "--bytes"]);
    assert!(info.contains("Allocation:     1048576 bytes"), "{info}");
    is_all("disk@before update", 1);
    is_all("disk@2", 2);
    is_all("disk", 3);

    for change in [
        &["vol-upload", "disk@2", file.as_str(), "dog"][..],
        &["vol-wipe", "disk@2", "dog"],
        &["vol-resize", "disk@2", "9M", "dog"],
    ] {
        let refused = scene.fail(change);
        assert!(refused.contains("volume 'disk@2' is a snapshot, which stays as it is"), "{refused}");
    }
    assert!(scene.fail(&["vol-create-as", "dog", "a@b", "1M"]).contains("the name of a snapshot"));
    scene.run(&["vol-clone", "disk@before update", "clone", "dog"]);
    is_all("clone", 1);
    scene.run(&["vol-delete", "disk@before update", "dog"]);
    is_all("clone", 1);
    scene.run(&["vol-delete", "disk", "dog", "--delete-snapshots"]);
    let list = scene.run(&["vol-list", "dog"]);
    assert!(list.contains(" clone ") && !list.contains("disk"), "{list}");
}

#[test]
fn snapshots_through_virsh_and_cenote() {
    if have("virsh") && have("python3") {
        snapshots(&caller().with_daemon());
        snapshots(&caller());
    }
}

#[test]
fn life_through_virsh() {
    if have("virsh") && have("python3") {
        life(&caller().with_daemon());
    }
}

#[test]
fn life_through_cenote() {
    if have("python3") {
        life(&caller());
    }
}

#[test]
fn a_cluster_that_is_down_or_slow() {
    if !have("virsh") || !have("python3") {
        return;
    }
    let scene = caller().with_daemon();
    start(&scene);
    scene.run(&["vol-create-as", "dog", "one", "4M"]);
    // A deletion by others, of which dog says that all is well.
    std::fs::write(scene.file("cluster/table.json"), "[]").unwrap();
    assert!(scene.fail(&["vol-delete", "one", "dog"]).contains("no storage vol with matching"));
    std::fs::write(scene.file("cluster/down"), "").unwrap();
    let refused = scene.fail(&["vol-create-as", "dog", "two", "4M"]);
    assert!(refused.contains("failed to connect to 127.0.0.1:7000: Connection refused"), "{refused}");
    std::fs::remove_file(scene.file("cluster/down")).unwrap();
    scene.run(&["vol-create-as", "dog", "two", "4M"]);
    std::fs::write(scene.file("cluster/slow"), "").unwrap();
    let refused = scene.fail(&["vol-create-as", "dog", "three", "4M"]);
    assert!(refused.contains("the storage of pool 'dog' has not answered for"), "{refused}");
    std::fs::remove_file(scene.file("cluster/slow")).unwrap();
}
