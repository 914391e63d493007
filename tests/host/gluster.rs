//! Files of a real Gluster volume.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Caller, Gluster, am_root, content, have, run};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");

fn life(caller: &Caller, gluster: &Gluster, dir: &str) {
    let brick = gluster.brick().join(dir);
    std::fs::create_dir_all(&brick).unwrap();
    let question = format!("<source><host name='{}'/></source>", gluster.address());
    std::fs::write(caller.file("question.xml"), question).unwrap();
    let found = caller.run(&["find-storage-pool-sources", "gluster", &caller.file("question.xml")]);
    assert!(found.contains("<name>vol1</name>"), "{found}");

    let source = |name: &str, dir: &str| {
        format!(
            "<pool type='gluster'><name>{name}</name><source><host name='{}'/><name>vol1</name><dir path='{dir}'/>\
             </source></pool>",
            gluster.address()
        )
    };
    caller.define(&source("nowhere", "/not/there"));
    let refused = caller.fail(&["pool-start", "nowhere"]);
    assert!(refused.contains("failed to change to directory '/not/there/' in 'vol1'"), "{refused}");
    let several = source("several", "/").replace("<source>", "<source><host name='127.0.0.1'/>");
    caller.define(&several);
    caller.run(&["pool-start", "several"]);
    caller.run(&["pool-destroy", "several"]);
    caller.define(&source("files", &format!("/{dir}")));
    caller.run(&["pool-start", "files"]);
    let info = caller.run(&["pool-info", "files", "--bytes"]);
    let capacity = info.lines().find_map(|line| line.strip_prefix("Capacity:")).unwrap();
    assert!(capacity.trim().parse::<u64>().unwrap() > 300 << 20, "{info}");

    caller.run(&["vol-create-as", "files", "raw file", "20M", "--allocation", "0"]);
    let xml = caller.run(&["vol-dumpxml", "raw file", "files"]);
    let uri = format!("gluster://{}/vol1/{dir}/raw%20file", gluster.address());
    for part in [
        "<volume type='network'>",
        "<format type='raw'/>",
        "<capacity unit='bytes'>20971520</",
        "<mode>0600<",
    ] {
        assert!(xml.contains(part), "{xml}");
    }
    assert!(
        xml.contains(&format!("<path>{uri}</path>")) && xml.contains(&format!("<key>{uri}</key>")),
        "{xml}"
    );
    caller.run(&["vol-create-as", "files", "whole", "8M"]);
    let whole = caller.run(&["vol-info", "whole", "files", "--bytes"]);
    assert!(whole.contains("Allocation:     8388608 bytes"), "{whole}");

    // What is written is in the brick, and QEMU reads it too. It takes ten seconds to end each time.
    let (file, back) = (caller.file("content"), caller.file("back"));
    let written = content(9_000_001);
    std::fs::write(&file, &written).unwrap();
    caller.run(&["vol-upload", "raw file", &file, "files", "--offset", "4097"]);
    let in_the_brick = std::fs::read(brick.join("raw file")).unwrap();
    assert!(in_the_brick.len() == 20 << 20 && in_the_brick[4097..][..written.len()] == written);
    caller.run(&["vol-download", "raw file", &back, "files", "--sparse"]);
    assert!(std::fs::read(&back).unwrap() == in_the_brick);
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, &back]);
    assert!(std::fs::read(&back).unwrap() == in_the_brick);

    // Images, ours and those of others, whose format is found out over the network.
    caller.run(&["vol-create-as", "files", "ours.qcow2", "64M", "--format", "qcow2"]);
    let ours = format!("gluster://{}/vol1/{dir}/ours.qcow2", gluster.address());
    let in_brick = |name: &str| brick.join(name).to_str().unwrap().to_owned();
    run("qemu-img", &["check", &in_brick("ours.qcow2")]);
    run("qemu-io", &["-f", "qcow2", &ours, "-c", "write -P 0x5a 1M 1M"]);
    caller.run(&["pool-refresh", "files"]);
    let xml = caller.run(&["vol-dumpxml", "ours.qcow2", "files"]);
    assert!(xml.contains("<format type='qcow2'/>") && xml.contains(">67108864</capacity>"), "{xml}");
    let local = caller.file("local.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &local, "32M"]);
    caller.run(&["vol-upload", "whole", &local, "files"]);
    let xml = caller.run(&["vol-dumpxml", "whole", "files"]);
    assert!(xml.contains("<format type='qcow2'/>") && xml.contains(">33554432</capacity>"), "{xml}");
    caller.run(&["vol-clone", "ours.qcow2", "clone.qcow2", "files"]);
    run("qemu-img", &["compare", &in_brick("ours.qcow2"), &in_brick("clone.qcow2")]);
    caller.run(&["vol-resize", "ours.qcow2", "80M", "files"]);
    assert!(caller.run(&["vol-dumpxml", "ours.qcow2", "files"]).contains(">83886080</capacity>"));
    run("qemu-img", &["check", &in_brick("ours.qcow2")]);
    run("qemu-io", &["-f", "qcow2", &ours, "-c", "read -P 0x5a 1M 1M", "-c", "write -P 0x5a 79M 1M"]);
    let refused = caller.fail(&["vol-resize", "ours.qcow2", "70M", "files", "--shrink"]);
    assert!(refused.contains("data beyond the new end has to be given up"), "{refused}");
    let refused = caller.fail(&["vol-resize", "ours.qcow2", "90M", "files", "--allocate"]);
    assert!(refused.contains("only a raw volume"), "{refused}");

    caller.run(&["vol-clone", "raw file", "copy", "files"]);
    assert!(std::fs::read(brick.join("copy")).unwrap() == in_the_brick);
    caller.run(&["vol-resize", "copy", "30M", "files"]);
    assert_eq!(std::fs::metadata(brick.join("copy")).unwrap().len(), 30 << 20);
    for algorithm in ["zero", "trim"] {
        caller.run(&["vol-upload", "copy", &file, "files"]);
        caller.run(&["vol-wipe", "copy", "files", "--algorithm", algorithm]);
        assert!(std::fs::read(brick.join("copy")).unwrap().iter().all(|byte| *byte == 0), "{algorithm}");
    }
    assert!(caller.fail(&["vol-wipe", "copy", "files", "--algorithm", "dod"]).contains("'zero' and 'trim'"));

    caller.run(&["vol-create-as", "files", "folder", "0", "--format", "dir"]);
    let xml = caller.run(&["vol-dumpxml", "folder", "files"]);
    assert!(xml.contains("<volume type='netdir'>") && xml.contains("<format type='dir'/>"), "{xml}");
    assert!(caller.fail(&["vol-download", "folder", &back, "files"]).contains("is a directory"));
    std::fs::write(brick.join("folder/inside"), "").unwrap();
    let refused = caller.fail(&["vol-delete", "folder", "files"]);
    assert!(refused.contains("not empty"), "{refused}");
    std::fs::remove_file(brick.join("folder/inside")).unwrap();

    assert!(caller.fail(&["vol-create-as", "files", "copy", "1M"]).contains("exists"));
    let refused = caller.fail(&["vol-create-as", "files", "large", "10G", "--allocation", "10G"]);
    assert!(refused.contains("No space left"), "{refused}");
    assert!(!brick.join("large").exists());
    for volume in ["raw file", "whole", "ours.qcow2", "clone.qcow2", "copy", "folder"] {
        caller.run(&["vol-delete", volume, "files"]);
    }
    assert_eq!(std::fs::read_dir(&brick).unwrap().count(), 0);
    caller.run(&["pool-destroy", "files"]);
}

#[test]
fn life_through_virsh_and_cenote() {
    if !am_root() || !["glusterd", "gluster", "ip", "mkfs.xfs", "virsh", "qemu-img"].into_iter().all(have) {
        return;
    }
    let gluster = Gluster::start();
    life(&Caller::virsh(CENOTED), &gluster, "virsh");
    life(&Caller::cenote(CENOTED), &gluster, "cenote");
}
