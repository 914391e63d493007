//! The same programs, written against libvirt's bindings, on libvirtd and on cenoted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::lines::normalize;
use cenote_test_support::{Cenoted, Libvirtd, am_root, have, have_file, runs};
use std::path::Path;
use std::process::Command;

/// Runs a program with a daemon's address and a directory, and returns what it printed.
fn run(program: &[&str], address: &str, root: &Path) -> String {
    std::fs::create_dir(root).unwrap();
    let output = Command::new(program[0])
        .args(&program[1..])
        .arg(address)
        .arg(root)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|e| panic!("{program:?}: {e}"));
    let text = |bytes: &[u8]| normalize(&String::from_utf8_lossy(bytes), root);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{program:?} {address}: {}\n{said}", output.status);
    said
}

/// Runs a program on both daemons.
fn compare(program: &[&str], address: impl Fn(&str, &Path) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), &folder.path().join("cenote"));
    let theirs = run(program, &address(&libvirtd.uri(), &libvirtd.socket()), &folder.path().join("a"));
    let ours = run(program, &address(&cenoted.uri(), &cenoted.socket()), &folder.path().join("b"));
    for (number, (theirs, ours)) in theirs.lines().zip(ours.lines()).enumerate() {
        assert_eq!(theirs, ours, "line {}", number + 1);
    }
    assert_eq!(theirs, ours);
    assert!(ours.lines().count() > 20, "{ours}");
}

fn script(name: &str) -> String {
    format!("{}/../../tests/clients/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn python() {
    if !am_root() || !have("libvirtd") || !runs("/usr/bin/python3", &["-c", "import libvirt"]) {
        return;
    }
    compare(&["/usr/bin/python3", &script("storage.py")], |uri, _| uri.to_owned());
}

#[test]
fn python_secrets() {
    if !am_root() || !have("libvirtd") || !runs("/usr/bin/python3", &["-c", "import libvirt"]) {
        return;
    }
    compare(&["/usr/bin/python3", &script("secrets.py")], |uri, _| uri.replacen("storage", "secret", 1));
    // The sockets of storage and of secrets serve both.
    let folder = tempfile::tempdir().unwrap();
    let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), &folder.path().join("cenote"));
    let [on_storage, on_secrets] = [
        ("a", cenoted.uri()),
        ("b", cenoted.uri().replacen("storage", "secret", 1).replace("virtstoraged", "virtsecretd")),
    ]
    .map(|(name, uri)| run(&["/usr/bin/python3", &script("secrets.py")], &uri, &folder.path().join(name)));
    assert_eq!(on_storage, on_secrets);
}

#[test]
fn perl() {
    if !am_root() || !have("libvirtd") || !runs("perl", &["-MSys::Virt", "-e", "1"]) {
        return;
    }
    compare(&["perl", &script("storage.pl")], |uri, _| uri.to_owned());
}

#[test]
fn go() {
    const LIBRARY: &str = "/usr/share/gocode/src/github.com/digitalocean/go-libvirt/libvirt.go";
    if !am_root() || !have("libvirtd") || !have("go") || !have_file(LIBRARY) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("storage");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(script("storage.go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", folder.path().join("cache"))
        .status()
        .unwrap();
    assert!(built.success());
    compare(&[program.to_str().unwrap()], |_, socket| socket.display().to_string());
}
