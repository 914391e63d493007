//! Physical volumes that lvm makes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::lvm;
use cenote_test_support::{am_root, have, run};
use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn the_group_and_when_it_was_changed() {
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Without the kernel's part: only metadata is written.
    let made = std::panic::catch_unwind(|| {
        run("lvm", &["pvcreate", "--driverloaded", "n", "--yes", &device]);
        run("lvm", &["vgcreate", "--driverloaded", "n", &group, &device]);
        // Often enough for the text to go round its area.
        for tag in ["one", "two", "three"] {
            run("lvm", &["vgchange", "--driverloaded", "n", "--addtag", tag, &group]);
        }
        read()
    });
    run("losetup", &["--detach", &device]);
    let found = made.unwrap().unwrap();
    assert_eq!(found.group, group);
    assert!((now..now + 600).contains(&found.changed), "{found:?}");
}
