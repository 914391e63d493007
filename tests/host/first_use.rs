//! What a person does first: a disk in the default pool, as an ordinary user with an empty home and no QEMU.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{am_root, have, run};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");
/// An ordinary user: nobody.
const USER: u32 = 65534;

/// Runs cenote as an ordinary user with this home and nothing on the path.
fn as_user(binary: &Path, home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(binary).args(args).env_clear().env("HOME", home).env("PATH", "/nonexistent");
    command.output().unwrap()
}

#[test]
fn a_disk_without_root_daemon_or_qemu() {
    if !am_root() || !have("setpriv") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (binary, home) = (folder.path().join("cenote"), folder.path().join("home"));
    std::fs::copy(CENOTE, &binary).unwrap();
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();

    let args = ["vol-create-as", "default", "vol1", "1G", "--format", "qcow2"];
    let output = as_user(&binary, &home, &args);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"Vol vol1 created\n\n");
    let path = home.join(".local/share/cenote/images/vol1");
    assert_eq!(path.metadata().unwrap().uid(), USER);
    run("qemu-img", &["check", "-q", path.to_str().unwrap()]);

    let output = as_user(&binary, &home, &["vol-list", "default", "--details"]);
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(list.contains("vol1") && list.contains("1.00 GiB"), "{list}");
    for args in [
        &["vol-create-as", "default", "raw1", "10M"][..],
        &["vol-clone", "vol1", "vol2", "default"],
        &["vol-resize", "vol1", "2G", "default"],
        &["vol-upload", "raw1", CENOTE, "default", "--length", "1000"],
        &["vol-wipe", "raw1", "default"],
        &["vol-delete", "vol2", "default"],
    ] {
        let output = as_user(&binary, &home, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    // What needs QEMU says so.
    let output = as_user(&binary, &home, &["vol-create-as", "default", "v", "1M", "--format", "vmdk"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("qemu-img, which is not installed: install the package qemu-utils"), "{said}");
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    if !am_root() || !have("setpriv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("cenote");
    std::fs::copy(CENOTE, &binary).unwrap();
    let output = as_user(&binary, folder.path(), &["pool-list"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot create directory") && said.contains("Permission denied"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
