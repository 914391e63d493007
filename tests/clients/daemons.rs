//! The same command lines through virsh, against libvirtd and against cenoted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::lines::{Side, compare};
use cenote_test_support::{Cenoted, Libvirtd, am_root, have};

const COMMANDS: &str = include_str!("commands.txt");
const DIFFERENCES: &str = include_str!("../../docs/differences.md");

#[test]
fn libvirtd_and_cenoted_answer_virsh_alike() {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("a"), folder.path().join("b"));
    for root in [&theirs, &ours] {
        std::fs::create_dir(root).unwrap();
    }
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), &folder.path().join("cenote"));
    let on_libvirtd = |args: &[String]| libvirtd.virsh(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let on_cenoted = |args: &[String]| cenoted.virsh(&args.iter().map(String::as_str).collect::<Vec<_>>());
    compare(
        COMMANDS,
        DIFFERENCES,
        "cenoted",
        &Side { root: &theirs, run: &on_libvirtd },
        &Side { root: &ours, run: &on_cenoted },
    );
}
