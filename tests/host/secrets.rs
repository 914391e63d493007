//! Where the value of a secret can be found, and where not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_host::SecretValue;
use cenote_model::Uuid;
use cenote_rpc::client::Client;
use cenote_rpc::procedures::calls;
use cenote_test_support::{Cenoted, have, run, run_any};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
/// What is in the daemon's memory, and may be seen there.
const MARKER: &str = "the description that everybody may see";
const PERSISTENT: &str = "11111111-2222-3333-4444-555555555555";
const EPHEMERAL: &str = "99999999-2222-3333-4444-555555555555";

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// The forms in which a value could be seen.
struct Traces(Vec<Vec<u8>>);

impl Traces {
    fn of(values: &[&str]) -> Traces {
        let base64 = |value: &str| SecretValue::copy_of(value.as_bytes()).to_base64();
        // The beginning is enough to know a value by, and less likely to have been written over.
        let beginnings = values
            .iter()
            .flat_map(|value| [value.as_bytes()[..16].to_vec(), base64(value).expose()[..20].to_vec()]);
        Traces(beginnings.collect())
    }

    fn are_in(&self, hay: &[u8]) -> bool {
        self.0.iter().any(|trace| contains(hay, trace))
    }
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let under = |path: PathBuf| match fs::symlink_metadata(&path).unwrap().file_type() {
        kind if kind.is_dir() => files_under(&path),
        kind if kind.is_file() => vec![path],
        _ => Vec::new(),
    };
    entries.flat_map(under).collect()
}

/// The arguments and environments of all processes.
fn processes() -> Vec<u8> {
    let mut all = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if process.file_name().to_string_lossy().bytes().all(|c| c.is_ascii_digit()) {
            for file in ["cmdline", "environ"] {
                all.extend(fs::read(process.path().join(file)).unwrap_or_default());
            }
        }
    }
    all
}

fn said(output: &Output) -> Vec<u8> {
    [&output.stdout[..], &output.stderr].concat()
}

#[test]
fn a_value_is_in_its_file_and_nowhere_else() {
    if !have("virsh") || !have("qemu-img") || !have("gcore") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (lasting, passing) = (new_value(), new_value());
    let traces = Traces::of(&[&lasting, &passing]);
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let state = folder.path().join("state");
    let cenoted = Cenoted::start(CENOTED, &state);
    let virsh = |args: &[&str]| {
        let output = cenoted.virsh(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    };

    let images = state.join("images");
    for (uuid, ephemeral, value) in [(PERSISTENT, "no", &lasting), (EPHEMERAL, "yes", &passing)] {
        let xml = format!(
            "<secret ephemeral='{ephemeral}'><uuid>{uuid}</uuid><description>{MARKER}</description>\
             <usage type='volume'><volume>{}/{uuid}</volume></usage></secret>",
            images.display()
        );
        virsh(&["secret-define", &write("secret.xml", &xml)]);
        virsh(&["secret-set-value", uuid, "--plain", "--file", &write("value", value)]);
        assert!(traces.are_in(&said(&virsh(&["secret-get-value", uuid]))));
    }
    fs::remove_file(folder.path().join("value")).unwrap();

    // Encrypted volumes are made and copied, by a tool that is watched.
    let images = images.to_str().unwrap();
    virsh(&["pool-create-as", "p", "dir", "--target", images, "--build"]);
    let is_over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut looks, mut saw_the_tool) = (0, false);
            while !is_over.load(Ordering::Acquire) {
                let seen = processes();
                assert!(!traces.are_in(&seen), "a process shows a value");
                saw_the_tool |= contains(&seen, b"luks");
                looks += 1;
            }
            assert!(saw_the_tool);
            looks
        });
        for (name, uuid) in [("a", PERSISTENT), ("b", EPHEMERAL)] {
            let xml = format!(
                "<volume><name>{name}</name><capacity unit='M'>1</capacity><target><encryption format='luks'>\
                 <secret type='passphrase' uuid='{uuid}'/></encryption></target></volume>"
            );
            virsh(&["vol-create", "p", &write("volume.xml", &xml)]);
        }
        is_over.store(true, Ordering::Release);
        watching.join().unwrap()
    });
    assert!(looks > 2);

    // What fails says why, and not what.
    let private = write(
        "private.xml",
        &format!("<secret private='yes'><uuid>{}</uuid></secret>", PERSISTENT.replace('1', "7")),
    );
    virsh(&["secret-define", &private]);
    let long = write("long", &format!("{lasting}{}", "v".repeat(1000)));
    for args in [
        &["secret-get-value", &PERSISTENT.replace('1', "7")][..],
        &["secret-set-value", &PERSISTENT.replace('1', "8"), "--plain", "--file", &long],
        &["secret-set-value", PERSISTENT, "--plain", "--file", &write("volume.xml", &lasting.repeat(100))],
    ] {
        let output = cenoted.virsh(args);
        assert!(!output.status.success() && !traces.are_in(&said(&output)), "{args:?}");
    }
    for name in ["long", "volume.xml"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }

    // Nothing comes after the value on this connection, which would take its place in a buffer.
    let stream = UnixStream::connect(cenoted.socket()).unwrap();
    let idle = Client::on(stream).unwrap();
    idle.call::<calls::ConnectOpen>(&(None, 0)).unwrap();
    let (secret,) = idle.call::<calls::SecretLookupByUuid>(&(Uuid::parse(EPHEMERAL).unwrap(),)).unwrap();
    idle.call::<calls::SecretSetValue>(&(secret, SecretValue::copy_of(passing.as_bytes()), 0)).unwrap();

    let core = folder.path().join("core");
    let pid = cenoted.pid().to_string();
    run("gcore", &["-o", core.to_str().unwrap(), &pid]);
    let core = folder.path().join(format!("core.{pid}"));
    let is_in_core = |what: &[u8]| {
        // A core file is too large for what can be done here without optimization.
        let what = std::str::from_utf8(what).unwrap();
        run_any("grep", &["-aqF", "-e", what, core.to_str().unwrap()]).status.success()
    };
    assert!(is_in_core(MARKER.as_bytes()), "there is nothing in the core file");
    for trace in &traces.0 {
        assert!(!is_in_core(trace), "the core file shows a value");
    }
    fs::remove_file(&core).unwrap();

    assert!(!traces.are_in(cenoted.log().as_bytes()));
    let showing: Vec<_> = files_under(folder.path())
        .into_iter()
        .filter(|path| traces.are_in(&fs::read(path).unwrap()))
        .collect();
    let expected = state.join(format!("etc/libvirt/secrets/{PERSISTENT}.base64"));
    assert_eq!(showing, std::slice::from_ref(&expected));
    assert_eq!(fs::metadata(&expected).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_credential_of_systemd_s_encrypts_what_is_on_disk() {
    if !have("virsh") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(folder.path().join("secrets-encryption-key"), [7; 32]).unwrap();
    let credentials = [("CREDENTIALS_DIRECTORY", folder.path())];
    let xml = folder.path().join("secret.xml");
    fs::write(&xml, format!("<secret><uuid>{PERSISTENT}</uuid></secret>")).unwrap();
    let value = folder.path().join("value");
    fs::write(&value, new_value()).unwrap();
    let traces = Traces::of(&[&fs::read_to_string(&value).unwrap()]);
    {
        let cenoted = Cenoted::start_with(CENOTED, &state, &credentials);
        for args in [
            &["secret-define", xml.to_str().unwrap()][..],
            &["secret-set-value", PERSISTENT, "--plain", "--file", value.to_str().unwrap()],
        ] {
            assert!(cenoted.virsh(args).status.success(), "{args:?}");
        }
    }
    fs::remove_file(&value).unwrap();
    assert!(state.join(format!("etc/libvirt/secrets/{PERSISTENT}.aes256cbc")).exists());
    assert!(files_under(folder.path()).iter().all(|path| !traces.are_in(&fs::read(path).unwrap())));
    {
        let cenoted = Cenoted::start_with(CENOTED, &state, &credentials);
        assert!(traces.are_in(&cenoted.virsh(&["secret-get-value", PERSISTENT]).stdout));
    }
    let without = Cenoted::start(CENOTED, &state);
    let refused = without.virsh(&["secret-get-value", PERSISTENT]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is encrypted, and secret.conf names no key for it"), "{said}");
}

/// A text that is nowhere yet.
fn new_value() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().repeat(2)
}
