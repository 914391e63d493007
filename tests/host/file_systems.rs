//! What some file systems can do: sharing blocks, no copy on write, labels, owners.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, Mounted, am_root, have, run};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");

fn pool_on(system: &Mounted, xml: &str) -> Cenote {
    let cenote = Cenote::new(CENOTE);
    let path = cenote.prefix().join("pool.xml");
    let target = system.path.join("pool");
    let xml = format!(
        "<pool type='dir'><name>p</name>{xml}<target><path>{}</path></target></pool>",
        target.display()
    );
    std::fs::write(&path, xml).unwrap();
    cenote.run(&["pool-create", path.to_str().unwrap(), "--build"]);
    cenote
}

fn free(path: &Path) -> u64 {
    run("stat", &["-f", "-c", "%f", path.to_str().unwrap()]).trim().parse::<u64>().unwrap() * 4096
}

/// A raw volume of 64 MiB of data.
fn source(cenote: &Cenote, system: &Mounted) {
    cenote.run(&["vol-create-as", "p", "source", "64M", "--allocation", "0"]);
    std::fs::write(system.path.join("pool/source"), vec![3u8; 64 << 20]).unwrap();
    run("sync", &["-f", system.path.to_str().unwrap()]);
}

fn clones_share_blocks(kind: &str) {
    if !am_root() || !have(&format!("mkfs.{kind}")) {
        return;
    }
    let system = Mounted::image(kind, 400 << 20);
    let cenote = pool_on(&system, "");
    source(&cenote, &system);
    let before = free(&system.path);
    for (name, args) in [("plain", &[][..]), ("must", &["--reflink"])] {
        cenote.run(&[&["vol-clone", "source", name, "p"][..], args].concat());
        run("sync", &["-f", system.path.to_str().unwrap()]);
        let taken = before.saturating_sub(free(&system.path));
        assert!(taken < 16 << 20, "{kind}: a clone took {taken} bytes");
        assert!(std::fs::read(system.path.join("pool").join(name)).unwrap() == vec![3u8; 64 << 20]);
    }
}

#[test]
fn clones_share_blocks_on_btrfs() {
    clones_share_blocks("btrfs");
}

#[test]
fn clones_share_blocks_on_xfs() {
    clones_share_blocks("xfs");
}

#[test]
fn clones_keep_holes_and_refuse_to_pretend_on_ext4() {
    if !am_root() || !have("mkfs.ext4") {
        return;
    }
    let system = Mounted::image("ext4", 400 << 20);
    let cenote = pool_on(&system, "");
    let said = {
        source(&cenote, &system);
        cenote.fail(&["vol-clone", "source", "shared", "p", "--reflink"])
    };
    assert!(said.contains("failed to clone files from"), "{said}");
    assert_eq!(Cenote::names(&system.path.join("pool")), ["source"]);

    cenote.run(&["vol-create-as", "p", "holes", "1G", "--allocation", "0"]);
    let holes = std::fs::File::options().write(true).open(system.path.join("pool/holes")).unwrap();
    for i in 0..16u64 {
        holes.write_all_at(&[i as u8 + 1; 4096], i << 26).unwrap();
    }
    cenote.run(&["vol-clone", "holes", "copy", "p"]);
    let copy = system.path.join("pool/copy").metadata().unwrap();
    assert_eq!(copy.len(), 1 << 30);
    assert!(copy.blocks() * 512 <= 1 << 20, "{} bytes", copy.blocks() * 512);
    run(
        "cmp",
        &[system.path.join("pool/holes").to_str().unwrap(), system.path.join("pool/copy").to_str().unwrap()],
    );
}

#[test]
fn no_copy_on_write_on_btrfs() {
    if !am_root() || !have("mkfs.btrfs") || !have("lsattr") {
        return;
    }
    let system = Mounted::image("btrfs", 200 << 20);
    let attributes = |path: &Path| run("lsattr", &["-d", path.to_str().unwrap()]);
    let cenote = pool_on(&system, "<features><cow state='no'/></features>");
    assert!(attributes(&system.path.join("pool")).split(' ').next().unwrap().contains('C'));
    drop(cenote);
    let cenote = Cenote::new(CENOTE);
    let target = system.path.join("other");
    cenote.run(&["pool-create-as", "q", "dir", "--target", target.to_str().unwrap(), "--build"]);
    let xml = cenote.prefix().join("v.xml");
    for (format, name) in [("raw", "r"), ("qcow2", "q")] {
        let text = format!(
            "<volume><name>{name}</name><capacity>1048576</capacity><target><format type='{format}'/><nocow/></target></volume>"
        );
        std::fs::write(&xml, text).unwrap();
        cenote.run(&["vol-create", "q", xml.to_str().unwrap()]);
        assert!(attributes(&target.join(name)).split(' ').next().unwrap().contains('C'));
    }
    cenote.run(&["vol-create-as", "q", "plain", "1M"]);
    assert!(!attributes(&target.join("plain")).split(' ').next().unwrap().contains('C'));
}

#[test]
fn owners_modes_and_labels() {
    if !am_root() || !have("mkfs.ext4") || !have("getfattr") {
        return;
    }
    let system = Mounted::image("ext4", 64 << 20);
    let cenote = Cenote::new(CENOTE);
    let target = system.path.join("deep/pool");
    let xml = cenote.prefix().join("x.xml");
    let permissions = |mode: &str, owner: u32, label: &str| {
        format!(
            "<permissions><mode>{mode}</mode><owner>{owner}</owner><group>64055</group><label>{label}</label></permissions>"
        )
    };
    let text = format!(
        "<pool type='dir'><name>p</name><target><path>{}</path>{}</target></pool>",
        target.display(),
        permissions("0750", 107, "system_u:object_r:virt_image_t:s0")
    );
    std::fs::write(&xml, text).unwrap();
    cenote.run(&["pool-create", xml.to_str().unwrap(), "--build"]);
    let found = target.metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o750, 107, 64055));

    for format in ["raw", "qcow2", "vmdk", "dir"] {
        let text = format!(
            "<volume><name>{format}</name><capacity>1048576</capacity><target><format type='{format}'/>{}</target></volume>",
            permissions("0640", 1000, "system_u:object_r:svirt_t:s0")
        );
        std::fs::write(&xml, text).unwrap();
        cenote.run(&["vol-create", "p", xml.to_str().unwrap()]);
        let path = target.join(format);
        let found = path.metadata().unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o640, 1000, 64055), "{format}");
        let label = run(
            "getfattr",
            &["--absolute-names", "--only-values", "-n", "security.selinux", path.to_str().unwrap()],
        );
        assert_eq!(label.trim_end_matches('\0'), "system_u:object_r:svirt_t:s0");
        let shown = cenote.run(&["vol-dumpxml", format, "p"]);
        assert!(shown.contains("<label>system_u:object_r:svirt_t:s0</label>"), "{shown}");
        assert!(shown.contains("<owner>1000</owner>"), "{shown}");
    }
}

#[test]
fn odd_names_and_sizes() {
    if !am_root() || !have("mkfs.xfs") {
        return;
    }
    // xfs has no limit of its own below 8 EiB.
    let system = Mounted::image("xfs", 400 << 20);
    let cenote = pool_on(&system, "");
    for name in ["with blanks", "quo'te\"s", "<&>", "ümläut 日本", "-dash", "..."] {
        cenote.run(&[
            "vol-create-as",
            "--pool",
            "p",
            "--name",
            name,
            "--capacity",
            "1M",
            "--format",
            "qcow2",
        ]);
        assert!(system.path.join("pool").join(name).exists());
        let shown = cenote.run(&["vol-dumpxml", "--vol", name, "--pool", "p"]);
        assert!(shown.contains("<format type='qcow2'/>"));
        cenote.run(&["vol-clone", "--vol", name, "--newname", &format!("{name} copy"), "--pool", "p"]);
        cenote.run(&["vol-delete", "--vol", name, "--pool", "p"]);
    }
    cenote.run(&["vol-create-as", "p", "huge", "9223372036854775807", "--allocation", "0"]);
    assert_eq!(system.path.join("pool/huge").metadata().unwrap().len(), i64::MAX as u64);
    assert!(cenote.run(&["vol-info", "huge", "p"]).contains("8.00 EiB"));
    let said = cenote.fail(&["vol-create-as", "p", "larger", "8E"]);
    assert!(said.contains("value too large"), "{said}");

    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(system.path.join("pool").join(OsStr::from_bytes(b"bad\xff")), "").unwrap();
    assert!(!cenote.run(&["vol-list", "p"]).contains("bad"));
    let output = cenote.command(&["vol-info"]).arg(OsStr::from_bytes(b"bad\xff")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is no text in UTF-8"), "{said}");
}
