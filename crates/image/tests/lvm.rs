//! Physical volumes that lvm makes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::lvm;
use cenote_test_support::{am_root, have, run};
use std::fs::File;

#[test]
fn the_group_of_a_device() {
    if !am_root() || !have("lvm") || !have("losetup") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let device = run("losetup", &["--find", "--show", file.to_str().unwrap()]).trim().to_owned();
    let read = || lvm::read(&File::open(&file).unwrap()).unwrap();
    assert_eq!(read(), None);
    let group = format!("cenote-{}", std::process::id());
    // Without the kernel's part: only metadata is written.
    let made = std::panic::catch_unwind(|| {
        run("lvm", &["pvcreate", "--driverloaded", "n", "--yes", "--metadatasize", "64k", &device]);
        run("lvm", &["vgcreate", "--driverloaded", "n", &group, &device]);
        let id = run("lvm", &["pvs", "--driverloaded", "n", "--noheadings", "-o", "pv_uuid", &device]);
        // Often enough for the text to go round its area.
        let mut seen = Vec::new();
        for number in 0..16 {
            let tag = format!("{}{number}", "long".repeat(200));
            run("lvm", &["vgchange", "--driverloaded", "n", "--addtag", &tag, &group]);
            seen.push(read());
        }
        (id, seen)
    });
    run("losetup", &["--detach", &device]);
    let (id, seen) = made.unwrap();
    for (before, found) in seen.into_iter().enumerate() {
        let found = found.unwrap();
        assert_eq!(found.id, id.trim().replace('-', ""));
        assert_eq!((found.group.name.as_str(), found.group.sequence), (group.as_str(), before as u64 + 2));
        assert_eq!(found.group.devices[0].path.as_deref(), Some(device.as_str()));
    }
}
