//! Clients that are told nothing but `storage:///system` or `storage:///session` find the daemon where libvirt's is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{am_root, have, in_place_of_system, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

/// Whoever is not root here.
const NOBODY: u32 = 65534;

/// Starts cenoted (`$1`) and asks it through virsh, under the name of a driver and the path `$2`.
const ASK: &str = "\"$1\" 2>\"$0/log\" & daemon=$!; \
    for i in $(seq 100); do virsh -c \"storage:///$2\" uri >\"$0/uri\" 2>&1 && break; sleep 0.1; done; cat \"$0/uri\"; \
    virsh -c \"storage:///$2\" pool-define-as p dir --target \"$0/pool\" && \
    virsh -c \"storage:///$2\" pool-start p --build && virsh -c \"storage:///$2\" vol-create-as p v 1M && \
    virsh -c \"secret:///$2?mode=direct\" secret-list; asked=$?; kill $daemon; wait $daemon || \
    cat \"$0/log\" >&2; exit $asked";

fn program(folder: &Path) -> String {
    // Where everybody may run it.
    let program = folder.join("cenoted");
    // Written by this process it could be busy: the other test's children hold what is open when they are started.
    run("cp", &[env!("CARGO_BIN_EXE_cenoted"), program.to_str().unwrap()]);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    program.to_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_user_s_daemon() {
    if !am_root() || !have("virsh") || !have("setpriv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let place = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        path
    };
    let (home, runtime) = (place("home"), place("run"));
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            &NOBODY.to_string(),
            "--regid",
            &NOBODY.to_string(),
            "--clear-groups",
            "sh",
            "-c",
            ASK,
        ])
        .args([&home.display().to_string(), &program, "session"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &runtime)
        .output()
        .unwrap();
    assert!(said(&output).starts_with("storage:///session\n"));
    assert!(home.join(".config/libvirt/storage/p.xml").exists());
    assert!(home.join("pool/v").exists());
    // The state of what is active is where libvirt's session daemon has it.
    assert!(runtime.join("libvirt/storage/run/p.xml").exists());
    assert!(!runtime.join("libvirt/virtstoraged-sock").exists(), "its sockets are left behind");
}

#[test]
fn the_system_s_daemon() {
    if !am_root() || !have("virsh") || !have("unshare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let output = in_place_of_system(folder.path(), &format!("{{ {ASK}; }}"))
        .args([&program, "system"])
        .output()
        .unwrap();
    assert!(said(&output).starts_with("storage:///system\n"));
    assert!(folder.path().join("etc/libvirt/storage/p.xml").exists());
    assert!(folder.path().join("run/libvirt/storage/p.xml").exists());
}
