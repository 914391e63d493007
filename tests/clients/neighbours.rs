//! cenoted among libvirt's other drivers: what asks it, and what it asks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_host::SecretValue;
use cenote_model::{Code, Uuid};
use cenote_rpc::client::Client;
use cenote_rpc::procedures::{TypedParam, TypedValue, calls};
use cenote_test_support::{Cenoted, Libvirtd, am_root, have, virsh_with_qemu};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn qemu_s_driver_finds_the_volume_of_a_disk() {
    if !am_root() || !have("virsh") || !have("libvirtd") || !have("qemu-system-x86_64") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("state");
    let cenoted = Cenoted::start(CENOTED, &prefix);
    let images = folder.path().join("images").to_str().unwrap().to_owned();
    text(&cenoted.virsh(&["pool-define-as", "images", "dir", "--target", &images]));
    text(&cenoted.virsh(&["pool-start", "images", "--build"]));
    text(&cenoted.virsh(&["vol-create-as", "images", "v", "10M", "--format", "qcow2"]));
    let argv = |volume: &str| {
        let xml = folder.path().join("domain.xml");
        fs::write(
            &xml,
            format!(
                "<domain type='qemu'><name>d</name><memory unit='MiB'>64</memory>\
                 <os><type arch='x86_64'>hvm</type></os><devices>\
                 <emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='volume' device='disk'>\
                 <driver name='qemu' type='qcow2'/><source pool='images' volume='{volume}'/>\
                 <target dev='vda'/></disk></devices></domain>"
            ),
        )
        .unwrap();
        virsh_with_qemu(&prefix, &["domxml-to-native", "qemu-argv", xml.to_str().unwrap()])
    };
    let found = text(&argv("v"));
    assert!(found.contains(&format!("\"driver\":\"file\",\"filename\":\"{images}/v\"")), "{found}");
    let missing = argv("nosuch");
    assert!(!missing.status.success());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("no storage vol with matching name 'nosuch'"), "{said}");
    text(&cenoted.virsh(&["pool-destroy", "images"]));
    let said = String::from_utf8_lossy(&argv("v").stderr).into_owned();
    assert!(said.contains("storage pool 'images' containing volume 'v' is not active"), "{said}");
}

/// The calls in their order, as virtqemud makes them when a guest starts whose disk is of `type='volume'` and encrypted:
/// recorded from libvirt 11.3.
#[test]
fn what_a_guest_s_disk_needs_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let cenoted = Cenoted::start(CENOTED, folder.path());
    let driver = if rustix::process::geteuid().is_root() { "system" } else { "session" };
    let open = |daemon: &str| {
        let stream = UnixStream::connect(folder.path().join("run/libvirt").join(daemon)).unwrap();
        let client = Client::on(stream).unwrap();
        assert_eq!(client.call::<calls::AuthList>(&()).unwrap(), (vec![0],));
        assert_eq!(client.call::<calls::ConnectSupportsFeature>(&(10,)).unwrap(), (1,));
        let scheme = if daemon == "virtsecretd-sock" { "secret" } else { "storage" };
        client.call::<calls::ConnectOpen>(&(Some(format!("{scheme}:///{driver}")), 0)).unwrap();
        for feature in [14, 15] {
            client.call::<calls::ConnectSupportsFeature>(&(feature,)).unwrap();
        }
        client
    };
    let text = |field: &str, text: &str| TypedParam {
        field: field.to_owned(),
        value: TypedValue::Text(text.to_owned()),
    };
    let number =
        |field: &str, number| TypedParam { field: field.to_owned(), value: TypedValue::Long(4, number) };
    let identity = || vec![text("user-name", "root"), number("unix-user-id", 0), number("process-id", 1)];

    let images = folder.path().join("images").to_str().unwrap().to_owned();
    let admin = open("virtstoraged-sock");
    let xml = format!("<pool type='dir'><name>images</name><target><path>{images}</path></target></pool>");
    let (pool,) = admin.call::<calls::StoragePoolCreateXml>(&(xml, 1)).unwrap();
    let xml = "<volume><name>v</name><capacity>1048576</capacity></volume>".to_owned();
    admin.call::<calls::StorageVolCreateXml>(&(pool.clone(), xml, 0)).unwrap();
    let xml = format!("<secret private='yes'><uuid>{UUID}</uuid></secret>");
    let (secret,) = admin.call::<calls::SecretDefineXml>(&(xml, 0)).unwrap();
    let value = SecretValue::copy_of(b"opensesame");
    admin.call::<calls::SecretSetValue>(&(secret, value, 0)).unwrap();

    let storage = open("virtstoraged-sock");
    storage.call::<calls::ConnectSetIdentity>(&(identity(), 0)).unwrap();
    let (found,) = storage.call::<calls::StoragePoolLookupByName>(&("images".to_owned(),)).unwrap();
    assert_eq!(found, pool);
    assert_eq!(storage.call::<calls::StoragePoolIsActive>(&(found.clone(),)).unwrap(), (1,));
    let (volume,) = storage.call::<calls::StorageVolLookupByName>(&(found.clone(), "v".to_owned())).unwrap();
    let (kind, capacity, _) = storage.call::<calls::StorageVolGetInfo>(&(volume.clone(),)).unwrap();
    assert_eq!((kind, capacity), (0, 1 << 20));
    let (xml,) = storage.call::<calls::StoragePoolGetXmlDesc>(&(found, 0)).unwrap();
    assert!(xml.starts_with("<pool type='dir'>"));
    assert_eq!(storage.call::<calls::StorageVolGetPath>(&(volume,)).unwrap(), (format!("{images}/v"),));
    storage.call::<calls::ConnectClose>(&()).unwrap();

    // A private value is for those who have this machine's token, whoever else they say they are.
    let secrets = open("virtsecretd-sock");
    let uuid = Uuid::parse(UUID).unwrap();
    let (secret,) = secrets.call::<calls::SecretLookupByUuid>(&(uuid,)).unwrap();
    let get = || secrets.call::<calls::SecretGetValue>(&(secret.clone(), 0));
    for token in ["", "0123456789abcdef0123456789abcdef"] {
        let identity = [identity(), vec![text("system.token", token)]].concat();
        secrets.call::<calls::ConnectSetIdentity>(&(identity, 0)).unwrap();
        assert_eq!(get().unwrap_err().code, Code::InvalidSecret);
    }
    let token = fs::read_to_string(folder.path().join("run/libvirt/common/system.token")).unwrap();
    let identity = [identity(), vec![text("system.token", &token)]].concat();
    secrets.call::<calls::ConnectSetIdentity>(&(identity, 0)).unwrap();
    assert_eq!(get().unwrap().0.expose(), b"opensesame");
    let too_many = vec![text("x", ""); 21];
    assert_eq!(secrets.call::<calls::ConnectSetIdentity>(&(too_many, 0)).unwrap_err().code, Code::Rpc);
    drop(cenoted);
}

#[test]
fn secrets_stay_with_the_daemon_that_has_them() {
    if !am_root() || !have("virsh") || !have("libvirtd") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("state");
    let libvirtd = Libvirtd::start_without_storage(&prefix);
    let cenoted = Cenoted::start(CENOTED, &prefix);
    assert!(!prefix.join("run/libvirt/virtsecretd-sock").exists());
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };

    // What happens on either side is told to who watches on this one.
    let mut watching = Command::new("stdbuf")
        .args(["-oL", "virsh", "secret-event", "--event", "lifecycle", "--loop", "--timeout", "120"])
        .env("LIBVIRT_DEFAULT_URI", cenoted.uri())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let images = folder.path().join("images").to_str().unwrap().to_owned();
    let xml = format!(
        "<secret private='yes'><uuid>{UUID}</uuid><usage type='volume'><volume>{images}/v</volume></usage></secret>"
    );
    let secret = write("secret.xml", &xml);
    let passing = write("passing.xml", &xml.replace("1111", "9999").replace("/v<", "/passing<"));
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let out = watching.stdout.as_mut().unwrap();
        let reading = scope.spawn(move || {
            let mut byte = [0];
            while !String::from_utf8_lossy(&seen).contains("99999999-2222-3333-4444-555555555555: Undefined")
            {
                assert_eq!(out.read(&mut byte).unwrap(), 1);
                seen.push(byte[0]);
            }
        });
        // Nothing says when it begins to watch.
        while !reading.is_finished() {
            text(&libvirtd.virsh(&["secret-define", &passing]));
            text(&libvirtd.virsh(&["secret-undefine", "99999999-2222-3333-4444-555555555555"]));
        }
        reading.join().unwrap();
    });
    watching.kill().unwrap();
    watching.wait().unwrap();

    // Defined there and set here, and the other way round.
    text(&libvirtd.virsh(&["secret-define", &secret]));
    text(&cenoted.virsh(&["secret-set-value", UUID, "--plain", "--file", &write("value", "opensesame")]));
    assert_eq!(text(&cenoted.virsh(&["secret-list"])), text(&libvirtd.virsh(&["secret-list"])));
    assert_eq!(
        text(&cenoted.virsh(&["secret-dumpxml", UUID])),
        text(&libvirtd.virsh(&["secret-dumpxml", UUID]))
    );
    let refused = cenoted.virsh(&["secret-get-value", UUID]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("secret is private"));

    // A pool is given the private value: this daemon acts for the machine.
    let volume = write(
        "volume.xml",
        &format!(
            "<volume><name>v</name><capacity unit='M'>1</capacity><target><encryption format='luks'>\
             <secret type='passphrase' uuid='{UUID}'/></encryption></target></volume>"
        ),
    );
    text(&cenoted.virsh(&["pool-create-as", "images", "dir", "--target", &images, "--build"]));
    text(&cenoted.virsh(&["vol-create", "images", &volume]));
    text(&cenoted.virsh(&["pool-refresh", "images"]));
    assert!(text(&cenoted.virsh(&["vol-dumpxml", "v", "images"])).contains(UUID));
    let value = folder.path().join("value");
    let object = format!("secret,id=s,file={}", value.display());
    let image = format!("driver=luks,key-secret=s,file.filename={images}/v");
    let opened = Command::new("qemu-img")
        .args(["info", "--object", &object, "--image-opts", &image])
        .output()
        .unwrap();
    text(&opened);

    // The daemon goes: storage is served, and a call about secrets says what is the matter.
    drop(libvirtd);
    let refused = cenoted.virsh(&["secret-list"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("cannot reach the daemon that has the secrets, at '"), "{said}");
    assert!(text(&cenoted.virsh(&["vol-list", "images"])).contains(" v "));
    drop(cenoted);

    // Without it they are served here, with the value that was set.
    let cenoted = Cenoted::start(CENOTED, &prefix);
    assert!(prefix.join("run/libvirt/virtsecretd-sock").exists());
    assert!(text(&cenoted.virsh(&["secret-list"])).contains(UUID));
    text(&cenoted.virsh(&["vol-delete", "v", "images"]));
    text(&cenoted.virsh(&["vol-create", "images", &volume]));
}
