//! The same command lines through virsh, against libvirtd, and through cenote.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::lines::compare_with_virsh;
use cenote_test_support::{am_root, have};
use std::process::{Command, Stdio};

#[test]
fn virsh_and_cenote_answer_alike() {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // There is no `default` pool where definitions have been kept before.
    let state = folder.path().join("cenote");
    std::fs::create_dir_all(state.join("etc/libvirt/storage")).unwrap();
    compare_with_virsh("embedded", folder.path(), &|args| {
        let mut cenote = Command::new(env!("CARGO_BIN_EXE_cenote"));
        cenote.arg("--prefix").arg(&state).args(args).stdin(Stdio::null()).output().unwrap()
    });
}
