//! `cenote doctor`: what it finds is gone when its remedies have been typed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, am_root, have, in_place_of_system, run_any};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");
const NOBODY: u32 = 65534;

/// What is found that matters: what, and its remedy.
fn findings(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let all = json["findings"].as_array().unwrap().iter();
    let matter = all.filter(|finding| finding["weight"] != "hint");
    let part = |finding: &Value, part: &str| finding[part].as_str().unwrap().to_owned();
    matter.map(|finding| (part(finding, "what"), part(finding, "remedy"))).collect()
}

/// Types a remedy, as somebody who may.
fn type_in(remedy: &str) {
    let typed = run_any("sh", &["-c", &format!("sudo() {{ \"$@\"; }}; {remedy}")]);
    assert!(typed.status.success(), "{remedy}: {}", String::from_utf8_lossy(&typed.stderr));
}

/// Types all remedies, until nothing is found any more. Returns what was found.
fn cure(doctor: impl Fn() -> Output) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..20 {
        let Some((what, remedy)) = findings(&doctor()).into_iter().next() else { return found };
        assert!(!found.contains(&what), "still there after '{remedy}': {what}");
        type_in(&remedy);
        found.push(what);
    }
    panic!("there is no end of it: {found:#?}");
}

fn expect(found: &[String], parts: &[&str]) {
    for part in parts {
        assert!(found.iter().any(|what| what.contains(part)), "'{part}' is not found: {found:#?}");
    }
    assert_eq!(found.len(), parts.len(), "{found:#?}");
}

#[test]
fn a_machine_on_which_all_is_well() {
    if !have("qemu-img") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    fs::set_permissions(cenote.prefix(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = cenote.try_run(&["--json", "doctor"]);
    assert!(output.status.success());
    assert_eq!(findings(&output), []);
    assert!(cenote.run(&["doctor"]).starts_with(" Type           State                Missing\n"));
}

#[test]
fn broken_permissions_and_what_else_is_in_the_way() {
    if !am_root() || !have("qemu-img") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let at = |path: &str| cenote.prefix().join(path);
    let set_mode =
        |path: &str, mode: u32| fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    cenote.run(&["pool-define-as", "absent", "dir", "--target", at("absent").to_str().unwrap()]);
    fs::create_dir(at("etc/libvirt/secrets")).unwrap();
    set_mode("etc/libvirt/secrets", 0o755);
    let value = "etc/libvirt/secrets/00000000-0000-0000-0000-000000000001.base64";
    fs::write(at(value), "eA==").unwrap();
    set_mode(value, 0o644);
    fs::write(at("etc/libvirt/cenote.conf"), "# a comment\nstorage_timeout = \"soon\"\n").unwrap();
    fs::write(at("etc/libvirt/storage/bad.xml"), "<pool").unwrap();
    drop(UnixListener::bind(at("run/libvirt/virtstoraged-sock")).unwrap());
    let mut parts = vec![
        "the directory of secrets",
        "the value of a secret",
        "storage_timeout is a number of seconds",
        "a definition is passed over",
        "pool 'absent' needs the directory",
        "nobody serves the socket",
    ];
    // Where there is a user for guests, it has to get to its disks.
    if have("libvirtd") {
        set_mode("var/lib", 0o700);
        parts.push("who may not pass through");
        fs::set_permissions(cenote.prefix(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The settings stand in the way of all other commands, not of this one.
    let found = cure(|| cenote.try_run(&["--json", "doctor"]));
    expect(&found, &parts);
    let mode = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc/libvirt/secrets"), mode(value)), (0o700, 0o600));
    cenote.run(&["pool-list"]);
}

#[test]
fn a_user_whose_state_is_another_s() {
    if !am_root() || !have("setpriv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("cenote");
    cenote_test_support::run("cp", &[CENOTE, program.to_str().unwrap()]);
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    // Somebody has used it as root.
    let state = home.join(".local/share/cenote");
    fs::create_dir_all(&state).unwrap();
    let as_nobody = |args: &[&str]| {
        let id = NOBODY.to_string();
        let env = ["--reuid", &id, "--regid", &id, "--clear-groups", "env", "-u", "XDG_DATA_HOME"];
        let home = format!("HOME={}", home.display());
        run_any("setpriv", &[&env[..], &[&home, program.to_str().unwrap()], args].concat())
    };
    assert!(!as_nobody(&["pool-list"]).status.success());
    let doctor = || as_nobody(&["--json", "doctor"]);
    assert!(!doctor().status.success());
    let found = cure(doctor);
    assert!(
        !found.is_empty() && found.iter().all(|what| what.contains("this user cannot use the directory")),
        "{found:?}"
    );
    let list = as_nobody(&["pool-list"]);
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
}

/// Runs the doctor in place of the system, where libvirtd runs; types what it says; runs it again.
const WITH_LIBVIRTD: &str = "mkdir -p /run/libvirt; libvirtd --daemon --pid-file \"$0/pid\"; \
    for i in $(seq 100); do virsh -c storage:///system uri >/dev/null 2>&1 && break; sleep 0.1; done; \
    \"$1\" --json -c embedded: doctor > \"$0/before\"; \
    remedy=$(python3 -c 'import json,sys; \
        print([f[\"remedy\"] for f in json.load(open(sys.argv[1]))[\"findings\"] if \"libvirtd\" in f[\"what\"]][0])' \"$0/before\"); \
    echo \"$remedy\"; sh -c \"$remedy\"; while kill -0 $(cat \"$0/pid\") 2>/dev/null; do sleep 0.1; done; \
    \"$1\" --json doctor > \"$0/after\"; true";

#[test]
fn a_machine_on_which_libvirtd_runs() {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("unshare") || !have("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output =
        in_place_of_system(folder.path(), &format!("{{ {WITH_LIBVIRTD}; }}")).arg(CENOTE).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("kill "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let has = |file: &str| {
        fs::read_to_string(folder.path().join(file)).unwrap().contains("has the storage of this place")
    };
    assert!(has("before"));
    assert!(!has("after"));
}

/// The same machine without its packages: what is changed in it goes when this ends.
const BARE: &str = "mount -t tmpfs tmpfs \"$0\" && cd \"$0\" && mkdir upper work root && \
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root && \
    mount --rbind /dev root/dev && mount --rbind /proc root/proc && mkdir -p root/tmp && cp \"$1\" root/cenote && \
    exec chroot root sh -c 'dpkg --force-depends --remove qemu-utils >/dev/null 2>&1; \
        /cenote --json --prefix /state doctor > /before; cat /before; echo; echo =====; \
        python3 -c \"import json; print([f[\\\"remedy\\\"] for f in json.load(open(\\\"/before\\\"))[\\\"findings\\\"] \
            if \\\"qemu-img\\\" in f[\\\"what\\\"]][0])\" > /remedy; \
        DEBIAN_FRONTEND=noninteractive sh -e /remedy >/log 2>&1 || cat /log; \
        /cenote --json --prefix /state doctor'";

#[test]
fn a_bare_machine() {
    if !am_root() || !have("unshare") || !have("dpkg") || !have("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let output =
        run_any("unshare", &["--mount", "--propagation", "private", "sh", "-c", BARE, folder, CENOTE]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (before, after) = said.split_once("=====").unwrap_or_else(|| panic!("{output:?}"));
    let what = "not installed: qemu-img (type dir: formats other than raw and qcow2)";
    assert!(before.contains(what), "{before}");
    assert!(!after.contains("qemu-img") && after.contains("findings"), "{after}");
}

#[test]
fn every_package_that_is_named_can_be_installed() {
    if !am_root() || !have("apt-get") {
        return;
    }
    let output = Cenote::new(CENOTE).try_run(&["--json", "doctor"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    for finding in json["findings"].as_array().unwrap() {
        let remedy = finding["remedy"].as_str().unwrap();
        // One that needs more of the archive changes where packages come from: it is not typed here.
        if let Some((_, package)) = remedy.split_once("install --yes ")
            && !remedy.contains("contrib")
        {
            let tried = run_any("apt-get", &["install", "--simulate", "--yes", package]);
            assert!(tried.status.success(), "{remedy}: {}", String::from_utf8_lossy(&tried.stderr));
        }
    }
    assert!(Path::new("/etc/apt").exists());
}
