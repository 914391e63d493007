//! State that libvirtd wrote is read by cenote, and the other way round.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, Libvirtd, am_root, have};
use std::path::Path;

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");

fn virsh(libvirtd: &Libvirtd, args: &[&str]) -> String {
    let output = libvirtd.virsh(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A prefix that has been used before, so that no `default` pool is made in it.
fn prefix(folder: &Path) -> std::path::PathBuf {
    let prefix = folder.join("prefix");
    std::fs::create_dir_all(prefix.join("etc/libvirt/storage")).unwrap();
    prefix
}

/// What both say of the pools: name, state, autostart, and their volumes.
fn picture(run: impl Fn(&[&str]) -> String) -> String {
    let mut picture = run(&["pool-list", "--all"]);
    for pool in ["persistent", "transient"] {
        picture += &run(&["pool-dumpxml", pool, "--xpath", "//target/path"]);
        picture += &run(&["pool-uuid", pool]);
        picture += &run(&["vol-list", pool]);
    }
    picture + &run(&["pool-dumpxml", "inactive"])
}

fn make(run: impl Fn(&[&str]) -> String, folder: &Path) {
    let target = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    run(&["pool-define-as", "persistent", "dir", "--target", &target("a")]);
    run(&["pool-build", "persistent"]);
    run(&["pool-start", "persistent"]);
    run(&["pool-autostart", "persistent"]);
    run(&["pool-create-as", "transient", "dir", "--target", &target("b"), "--build"]);
    run(&["pool-define-as", "inactive", "dir", "--target", &target("c with blank & <more>")]);
    run(&["vol-create-as", "persistent", "one", "1M"]);
    run(&["vol-create-as", "persistent", "two", "1M", "--format", "qcow2"]);
    run(&["vol-create-as", "transient", "three", "1M"]);
}

#[test]
fn what_libvirtd_wrote_is_there_and_back() {
    if !am_root() || !have("libvirtd") || !have("virsh") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = prefix(folder.path());
    let cenote = Cenote::at(CENOTE, &prefix);
    let ours = |args: &[&str]| cenote.run(args);

    let libvirtd = Libvirtd::start(&prefix);
    // virsh passes names on as they are.
    let escaped = |args: &[&str]| {
        let args: Vec<String> =
            args.iter().map(|arg| arg.replace('&', "&amp;").replace('<', "&lt;")).collect();
        virsh(&libvirtd, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    make(escaped, folder.path());
    let before = picture(|args| virsh(&libvirtd, args));
    let said = cenote.fail(&["pool-destroy", "transient"]);
    assert!(said.contains("in use by") && said.contains("libvirtd"), "two at once: {said}");
    assert_eq!(picture(ours), before, "reading is allowed");
    drop(libvirtd);

    assert_eq!(picture(ours), before);
    cenote.run(&["vol-create-as", "persistent", "four", "2M", "--format", "qcow2"]);
    cenote.run(&["pool-autostart", "persistent", "--disable"]);
    cenote.run(&["pool-autostart", "inactive"]);
    let changed = picture(ours);
    assert_ne!(changed, before);

    let libvirtd = Libvirtd::start(&prefix);
    assert_eq!(picture(|args| virsh(&libvirtd, args)), changed);
}

#[test]
fn what_cenote_wrote_is_there_and_back() {
    if !am_root() || !have("libvirtd") || !have("virsh") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = prefix(folder.path());
    let cenote = Cenote::at(CENOTE, &prefix);
    make(|args| cenote.run(args), folder.path());
    let before = picture(|args| cenote.run(args));
    let file = std::fs::read_to_string(prefix.join("etc/libvirt/storage/persistent.xml")).unwrap();

    let libvirtd = Libvirtd::start(&prefix);
    assert_eq!(picture(|args| virsh(&libvirtd, args)), before);
    virsh(&libvirtd, &["pool-destroy", "persistent"]);
    virsh(&libvirtd, &["pool-undefine", "inactive"]);
    // The same definition, written by the other, is the same file.
    let xml = prefix.join("again.xml");
    std::fs::write(&xml, &file).unwrap();
    virsh(&libvirtd, &["pool-define", xml.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(prefix.join("etc/libvirt/storage/persistent.xml")).unwrap(), file);
    drop(libvirtd);
    let list = cenote.run(&["-q", "pool-list", "--all"]);
    assert_eq!(list, " persistent   inactive   yes\n transient    active     no\n");
}
