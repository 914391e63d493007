//! The same command lines through virsh, against libvirtd and against cenoted; and through cenote, against each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::lines::compare_with_virsh;
use cenote_test_support::{Cenoted, Libvirtd, am_root, have, of_driver};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Sends the list through virsh on libvirtd, and through another client, which is given the addresses of cenoted and
/// of a libvirtd, and the words of the command.
fn compare_with(who: &str, client: &dyn Fn(&Cenoted, &Libvirtd, &[String]) -> Output) {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let other = Libvirtd::start(&folder.path().join("other"));
    let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), &folder.path().join("cenote"));
    compare_with_virsh(who, folder.path(), &|args| client(&cenoted, &other, args));
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// cenote with an address. It is built with the workspace, beside cenoted.
fn cenote(uri: &str, args: &[String]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_cenoted")).with_file_name("cenote");
    let mut cenote = Command::new(&program);
    cenote.env("CENOTE_URI", of_driver(uri, args)).args(args).stdin(Stdio::null());
    cenote.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()))
}

#[test]
fn virsh_on_cenoted() {
    compare_with("cenoted", &|cenoted, _, args| cenoted.virsh(&words(args)));
}

#[test]
fn cenote_on_cenoted() {
    compare_with("remote", &|cenoted, _, args| cenote(&cenoted.uri(), args));
}

#[test]
fn cenote_on_libvirtd() {
    compare_with("libvirtd", &|_, libvirtd, args| cenote(&libvirtd.uri(), args));
}
