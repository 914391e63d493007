//! LUNs of a real iSCSI target, reached without the kernel's initiator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Caller, Tgt, am_root, content, have, run, run_any};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const INITIATOR: &str = "iqn.2026-01.test:this-side";
const MIB: u64 = 1 << 20;

fn can_run() -> bool {
    am_root() && ["tgtd", "tgtadm", "virsh", "qemu-img"].into_iter().all(have)
}

fn define(scene: &Caller, tgt: &Tgt, more: &str) {
    scene.define(&format!(
        "<pool type='iscsi-direct'><name>luns</name><source><host name='127.0.0.1' port='{}'/>\
         <device path='{}'/><initiator><iqn name='{INITIATOR}'/></initiator>{more}</source></pool>",
        tgt.port(),
        tgt.target()
    ));
}

fn life(scene: &Caller) {
    let mut tgt = Tgt::start(&[40 * MIB, 8 * MIB, 3 * MIB], None);
    let question = format!(
        "<source><host name='127.0.0.1' port='{}'/><initiator><iqn name='{INITIATOR}'/></initiator></source>",
        tgt.port()
    );
    std::fs::write(scene.file("question.xml"), question).unwrap();
    let found = scene.run(&["find-storage-pool-sources", "iscsi-direct", &scene.file("question.xml")]);
    assert!(found.contains(&format!("<device path='{}'/>", tgt.target())), "{found}");

    define(scene, &tgt, "");
    scene.run(&["pool-start", "luns"]);
    let info = scene.run(&["pool-info", "luns", "--bytes"]);
    assert!(info.contains(&format!("Capacity:       {}\n", 51 * MIB)), "{info}");
    let list = scene.run(&["vol-list", "luns"]);
    for lun in 1..=3 {
        assert!(list.contains(&format!("unit:0:0:{lun}")), "{list}");
    }
    // The target's own LUN 0 is no disk.
    assert!(!list.contains("unit:0:0:0"), "{list}");
    let xml = scene.run(&["vol-dumpxml", "unit:0:0:1", "luns"]);
    let path = format!("<path>ip-127.0.0.1:{}-iscsi-{}-lun-1</path>", tgt.port(), tgt.target());
    assert!(xml.contains("<volume type='network'>") && xml.contains(&path), "{xml}");
    assert!(xml.contains(&format!("<capacity unit='bytes'>{}</", 40 * MIB)), "{xml}");
    assert!(xml.contains("<key>3"), "{xml}");
    let key = xml.split("<key>").nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(scene.run(&["vol-name", key]).trim(), "unit:0:0:1");

    // What is written is on the other side, and QEMU reads it too; also where it neither begins nor ends with a block.
    let (file, back) = (scene.file("content"), scene.file("back"));
    let written = content(17_000_001);
    std::fs::write(&file, &written).unwrap();
    scene.run(&["vol-upload", "unit:0:0:1", &file, "luns", "--offset", "1001"]);
    let on_the_other_side = std::fs::read(tgt.file(1)).unwrap();
    assert!(on_the_other_side[1001..][..written.len()] == written);
    assert!(on_the_other_side[..1001].iter().all(|byte| *byte == 0));
    let uri = format!("iscsi://127.0.0.1:{}/{}/1", tgt.port(), tgt.target());
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, &back]);
    assert!(std::fs::read(&back).unwrap() == on_the_other_side);
    scene.run(&["vol-download", "unit:0:0:1", &back, "luns"]);
    assert!(std::fs::read(&back).unwrap() == on_the_other_side);
    run("qemu-io", &["-f", "raw", &uri, "-c", "write -P 0x5a 20M 1M"]);
    scene.run(&["vol-download", "unit:0:0:1", &back, "luns", "--offset", "20971519", "--length", "3"]);
    assert_eq!(std::fs::read(&back).unwrap(), [0, 0x5a, 0x5a]);
    let too_much = scene.fail(&["vol-upload", "unit:0:0:2", &file, "luns"]);
    assert!(too_much.contains("space"), "{too_much}");
    scene.run(&["vol-wipe", "unit:0:0:1", "luns"]);
    assert!(std::fs::read(tgt.file(1)).unwrap().iter().all(|byte| *byte == 0));
    assert!(
        scene.fail(&["vol-wipe", "unit:0:0:1", "luns", "--algorithm", "dod"]).contains("there is 'zero'")
    );
    let refused = scene.fail(&["vol-create-as", "luns", "new", "1M"]);
    assert!(refused.contains("does not support"), "{refused}");

    // A target that is away, and comes back.
    tgt.kill();
    let refused = scene.fail(&["pool-refresh", "luns"]);
    assert!(refused.contains(&format!("127.0.0.1:{}", tgt.port())), "{refused}");
    assert!(refused.contains("Connection refused") || refused.contains("refused"), "{refused}");
    let refused = scene.fail(&["vol-download", "unit:0:0:1", &back, "luns"]);
    assert!(refused.contains("refused"), "{refused}");
    tgt.start_again();
    scene.run(&["pool-refresh", "luns"]);
    scene.run(&["vol-download", "unit:0:0:3", &back, "luns"]);
    assert_eq!(std::fs::read(&back).unwrap().len() as u64, 3 * MIB);
    scene.run(&["pool-destroy", "luns"]);
    // No session is left.
    let sessions = run_any("ss", &["-tn", "state", "established"]);
    let port = format!("127.0.0.1:{}", tgt.port());
    assert!(!String::from_utf8_lossy(&sessions.stdout).contains(&port), "{sessions:?}");
}

#[test]
fn life_through_virsh() {
    if can_run() {
        life(&Caller::virsh(CENOTED));
    }
}

#[test]
fn life_through_cenote() {
    if can_run() {
        life(&Caller::cenote(CENOTED));
    }
}

/// Defines a secret, or gives it another value.
fn set_secret(scene: &Caller, usage: &str, password: &str) {
    let (secret, value) = (scene.file("secret.xml"), scene.file("password"));
    let known = scene.run(&["secret-list"]);
    if !known.contains(usage) {
        let xml = "<secret ephemeral='no' private='yes'><usage type='iscsi'>";
        std::fs::write(&secret, format!("{xml}<target>{usage}</target></usage></secret>")).unwrap();
        scene.run(&["secret-define", &secret]);
    }
    let known = scene.run(&["secret-list"]);
    let line = known.lines().find(|line| line.contains(usage)).unwrap();
    let uuid = line.split_whitespace().next().unwrap();
    std::fs::write(&value, password).unwrap();
    scene.run(&["secret-set-value", uuid, "--file", &value, "--plain"]);
}

#[test]
fn who_logs_in_proves_it() {
    if !can_run() {
        return;
    }
    let tgt = Tgt::start(&[8 * MIB], Some(("somebody", "a long password")));
    let scene = Caller::virsh(CENOTED);
    define(&scene, &tgt, "<auth type='chap' username='somebody'><secret usage='of-this-side'/></auth>");
    set_secret(&scene, "of-this-side", "a wrong password");
    let refused = scene.fail(&["pool-start", "luns"]);
    assert!(refused.contains("Failed to log in to 'iqn.2026-01.test:direct'"), "{refused}");
    set_secret(&scene, "of-this-side", &"long".repeat(64));
    let refused = scene.fail(&["pool-start", "luns"]);
    assert!(refused.contains("the name and the password of 'somebody' need 1 to 255 bytes"), "{refused}");
    set_secret(&scene, "of-this-side", "a long password");
    scene.run(&["pool-start", "luns"]);
    assert!(scene.run(&["vol-list", "luns"]).contains("unit:0:0:1"));
}

#[test]
fn the_target_proves_itself_too() {
    if !can_run() {
        return;
    }
    let mut tgt = Tgt::start(&[8 * MIB], Some(("somebody", "a long password")));
    let scene = Caller::virsh(CENOTED);
    let auth = "<auth type='chap' username='somebody'><secret usage='of-this-side'/>\
                <c:target xmlns:c='urn:cenote:storagepool:1.0' username='store'><secret usage='of-the-target'/>\
                </c:target></auth>";
    define(&scene, &tgt, auth);
    set_secret(&scene, "of-this-side", "a long password");
    set_secret(&scene, "of-the-target", "a long password");
    let refused = scene.fail(&["pool-start", "luns"]);
    assert!(refused.contains("'somebody' and its target have the same password"), "{refused}");
    set_secret(&scene, "of-the-target", "its own password");
    let refused = scene.fail(&["pool-start", "luns"]);
    assert!(refused.contains("Failed to log in"), "the target proves nothing: {refused}");
    tgt.prove_as("store", "its own password");
    scene.run(&["pool-start", "luns"]);
    assert!(scene.run(&["vol-list", "luns"]).contains("unit:0:0:1"));
    set_secret(&scene, "of-the-target", "another password");
    let refused = scene.fail(&["pool-refresh", "luns"]);
    assert!(refused.contains("Invalid CHAP_R"), "{refused}");

    // One that asks for no password at all is not believed either.
    let open = Tgt::start(&[8 * MIB], None);
    scene.run(&["pool-destroy", "luns"]);
    scene.run(&["pool-undefine", "luns"]);
    define(&scene, &open, auth);
    let refused = scene.fail(&["pool-start", "luns"]);
    assert!(refused.contains("Failed to log in"), "{refused}");
}
