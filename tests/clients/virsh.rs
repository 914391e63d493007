//! The same command lines through virsh, against libvirtd, and through cenote.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::lines::{Side, compare};
use cenote_test_support::{Libvirtd, am_root, have};
use std::process::{Command, Stdio};

const COMMANDS: &str = include_str!("commands.txt");
const DIFFERENCES: &str = include_str!("../../docs/differences.md");

#[test]
fn virsh_and_cenote_answer_alike() {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("a"), folder.path().join("b"));
    for root in [&theirs, &ours] {
        std::fs::create_dir(root).unwrap();
    }
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    // There is no `default` pool where definitions have been kept before.
    let state = folder.path().join("cenote");
    std::fs::create_dir_all(state.join("etc/libvirt/storage")).unwrap();
    let virsh = |args: &[String]| libvirtd.virsh(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let cenote = |args: &[String]| {
        let mut cenote = Command::new(env!("CARGO_BIN_EXE_cenote"));
        cenote.arg("--prefix").arg(&state).args(args).stdin(Stdio::null()).output().unwrap()
    };
    compare(
        COMMANDS,
        DIFFERENCES,
        "embedded",
        &Side { root: &theirs, run: &virsh },
        &Side { root: &ours, run: &cenote },
    );
}
