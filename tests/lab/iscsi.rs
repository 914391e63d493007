//! Targets, served by tgtd.

use crate::{CENOTE, CENOTED, Client, LONG, in_the_lab};
use cenote_test_support::{Cenote, Cenoted, run, run_any};
use std::path::Path;
use std::time::{Duration, Instant};

const INITIATOR: &str = "iqn.2026-01.test:somebody";

fn tgtadm(args: &[&str]) {
    run("tgtadm", &[&["--lld", "iscsi"], args].concat());
}

/// Starts the server and this machine's initiator, unless they run.
fn serve() {
    in_the_lab();
    run("modprobe", &["iscsi_tcp"]);
    if !run_any("pidof", &["tgtd"]).status.success() {
        run("tgtd", &["--iscsi", "portal=0.0.0.0:3260,portal=0.0.0.0:3261"]);
    }
    if !run_any("pidof", &["iscsid"]).status.success() {
        run("iscsid", &[]);
    }
    let started = Instant::now();
    while !run_any("tgtadm", &["--lld", "iscsi", "--op", "show", "--mode", "target"]).status.success() {
        assert!(started.elapsed() < LONG, "tgtd does not answer");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A target with two LUNs for everybody.
fn target(number: &str, iqn: &str) {
    serve();
    tgtadm(&["--op", "new", "--mode", "target", "--tid", number, "-T", iqn]);
    for lun in ["1", "2"] {
        let file = format!("/srv/target-{number}-{lun}");
        std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        tgtadm(&["--op", "new", "--mode", "logicalunit", "--tid", number, "--lun", lun, "-b", &file]);
    }
    tgtadm(&["--op", "bind", "--mode", "target", "--tid", number, "-I", "ALL"]);
}

fn define(client: &Client<'_>, pool: &str, iqn: &str, hosts: &[&str], more: &str) {
    let hosts: String = hosts.iter().map(|host| format!("<host {host}/>")).collect();
    let xml = format!(
        "<pool type='iscsi'><name>{pool}</name><source>{hosts}<device path='{iqn}'/>{more}</source>\
         <target><path>/dev/disk/by-path</path></target></pool>"
    );
    client.define(&xml);
}

const HERE: &str = "name='127.0.0.1'";

/// How many sessions this machine has with a target.
fn sessions(iqn: &str) -> usize {
    let listed = run_any("iscsiadm", &["-m", "session"]);
    String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.contains(&format!(" {iqn} "))).count()
}

fn life(client: &Client<'_>, pool: &str, number: &str) {
    let iqn = format!("iqn.2026-01.test:{pool}");
    target(number, &iqn);
    let sources = client.run(&["find-storage-pool-sources-as", "iscsi", "127.0.0.1"]);
    assert!(sources.contains(&format!("<device path='{iqn}'/>")), "{sources}");
    define(client, pool, &iqn, &[HERE], "");
    client.run(&["pool-build", pool]);
    client.run(&["pool-start", pool]);
    assert_eq!(sessions(&iqn), 1);
    let list = client.run(&["vol-list", pool]);
    for lun in [1, 2] {
        let path = format!("/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-{iqn}-lun-{lun}");
        assert!(list.contains(&format!("unit:0:0:{lun}")) && list.contains(&path), "{list}");
    }
    client.write_and_read(pool, "unit:0:0:1");
    client.run(&["vol-wipe", "unit:0:0:1", "--pool", pool]);
    let info = client.run(&["pool-info", pool, "--bytes"]);
    assert!(info.contains(&format!("Capacity:       {}\n", 128 << 20)), "{info}");

    // A LUN that is added, and one that has grown.
    let file = format!("/srv/target-{number}-3");
    std::fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    tgtadm(&["--op", "new", "--mode", "logicalunit", "--tid", number, "--lun", "3", "-b", &file]);
    client.run(&["pool-refresh", pool]);
    assert!(client.has(pool, "unit:0:0:3"));

    // What is mounted keeps the session; another machine's name has a session of its own, which stays.
    let device = client.run(&["vol-path", "unit:0:0:1", "--pool", pool]);
    run("mkfs.ext4", &["-q", device.trim()]);
    std::fs::create_dir_all("/mnt/lun").unwrap();
    run("mount", &[device.trim(), "/mnt/lun"]);
    let refused = client.fail(&["pool-destroy", pool]);
    assert!(refused.contains("volume 'unit:0:0:1' is in use"), "{refused}");
    assert_eq!(sessions(&iqn), 1);
    run("umount", &["/mnt/lun"]);
    let named = format!("{pool}-named");
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);
    assert_eq!(sessions(&iqn), 0);

    let initiator = format!("<initiator><iqn name='{INITIATOR}'/></initiator>");
    define(client, &named, &iqn, &[HERE], &initiator);
    client.run(&["pool-start", &named]);
    let names = run("sh", &["-c", "cat /sys/class/iscsi_session/*/initiatorname"]);
    assert!(names.contains(INITIATOR), "{names}");
    let node = ["-m", "node", "-T", &iqn, "-p", "127.0.0.1:3261", "-I", "default"];
    run("iscsiadm", &[&node[..], &["-o", "new"]].concat());
    run("iscsiadm", &[&node[..], &["--login"]].concat());
    assert_eq!(sessions(&iqn), 2);
    client.run(&["pool-destroy", &named]);
    assert_eq!(sessions(&iqn), 1, "that of others stays");
    run("iscsiadm", &[&node[..], &["--logout"]].concat());
    client.run(&["pool-undefine", &named]);

    // Several portals, one of which answers nobody; then none does; then a target that there is not.
    define(client, pool, &iqn, &[HERE, "name='127.0.0.1' port='3261'", "name='127.0.0.1' port='3333'"], "");
    client.run(&["pool-start", pool]);
    assert_eq!(sessions(&iqn), 2);
    assert_eq!(client.run(&["vol-list", pool]).matches("unit:").count(), 3);
    client.run(&["pool-destroy", pool]);
    assert_eq!(sessions(&iqn), 0);
    client.run(&["pool-undefine", pool]);
    define(client, pool, &iqn, &["name='127.0.0.1' port='3333'"], "");
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains("cannot reach iSCSI portal '127.0.0.1:3333': Connection refused"), "{refused}");
    client.run(&["pool-undefine", pool]);
    define(client, pool, "iqn.2026-01.test:not-there", &[HERE], "");
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains("iqn.2026-01.test:not-there"), "{refused}");
    let kept = run_any("iscsiadm", &["-m", "node", "-T", "iqn.2026-01.test:not-there"]);
    assert!(!kept.status.success(), "a record of it is left");
    client.run(&["pool-undefine", pool]);
}

#[test]
fn life_through_virsh() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "is-virsh", "1");
}

#[test]
fn life_through_cenote() {
    life(&Client::Cenote(&Cenote::new(CENOTE)), "is-cenote", "2");
}

/// Defines a secret for this use; its UUID is returned.
fn define_secret(client: &Client<'_>, usage: &str) -> String {
    let xml = "<secret ephemeral='no' private='yes'><usage type='iscsi'>";
    std::fs::write("/tmp/secret.xml", format!("{xml}<target>{usage}</target></usage></secret>")).unwrap();
    let defined = client.run(&["secret-define", "/tmp/secret.xml"]);
    defined.split_whitespace().nth(1).unwrap().to_owned()
}

fn set_secret(client: &Client<'_>, uuid: &str, password: &str) {
    std::fs::write("/tmp/value", password).unwrap();
    client.run(&["secret-set-value", uuid, "--file", "/tmp/value", "--plain"]);
}

#[test]
fn a_password_and_a_killed_daemon() {
    let iqn = "iqn.2026-01.test:chap";
    target("3", iqn);
    tgtadm(&["--op", "new", "--mode", "account", "--user", "guest", "--password", "open-sesame-1"]);
    tgtadm(&["--op", "bind", "--mode", "account", "--tid", "3", "--user", "guest"]);
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    let auth = "<auth type='chap' username='guest'><secret usage='chap-secret'/></auth>";
    define(&client, "chap", iqn, &[HERE], auth);
    let missing = client.fail(&["pool-start", "chap"]);
    assert!(missing.contains("no secret with matching usage 'chap-secret'"), "{missing}");
    let secret = define_secret(&client, "chap-secret");
    set_secret(&client, &secret, "wrong-password");
    let refused = client.fail(&["pool-start", "chap"]);
    assert!(refused.contains("authorization failure"), "{refused}");
    set_secret(&client, &secret, "open-sesame-1");
    client.run(&["pool-start", "chap"]);
    client.write_and_read("chap", "unit:0:0:2");
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    assert!(client.has("chap", "unit:0:0:2"));
    assert_eq!(sessions(iqn), 1);
    client.run(&["pool-destroy", "chap"]);
    assert_eq!(sessions(iqn), 0);
    client.run(&["pool-undefine", "chap"]);

    // The target has to prove itself too: it cannot, then it does so with another password, then with the right one.
    let secret = define_secret(&client, "of-the-target");
    let both = "<auth type='chap' username='guest'><secret usage='chap-secret'/>\
                <cenote:target xmlns:cenote='urn:cenote:storagepool:1.0' username='host'>\
                <secret usage='of-the-target'/></cenote:target></auth>";
    define(&client, "chap", iqn, &[HERE], both);
    set_secret(&client, &secret, "wrong-password");
    let refused = client.fail(&["pool-start", "chap"]);
    assert!(refused.contains("may not have proved itself as 'host'"), "{refused}");
    tgtadm(&["--op", "new", "--mode", "account", "--user", "host", "--password", "i-am-the-host"]);
    tgtadm(&["--op", "bind", "--mode", "account", "--tid", "3", "--user", "host", "--outgoing"]);
    let refused = client.fail(&["pool-start", "chap"]);
    assert!(refused.contains("may not have proved itself as 'host'"), "{refused}");
    assert_eq!(sessions(iqn), 0);
    set_secret(&client, &secret, "i-am-the-host");
    client.run(&["pool-start", "chap"]);
    client.write_and_read("chap", "unit:0:0:2");
    client.run(&["pool-destroy", "chap"]);
    assert_eq!(sessions(iqn), 0);
    client.run(&["pool-undefine", "chap"]);

    // Nothing is asked of it any more.
    tgtadm(&["--op", "unbind", "--mode", "account", "--tid", "3", "--user", "host", "--outgoing"]);
    define(&client, "chap", iqn, &[HERE], auth);
    client.run(&["pool-start", "chap"]);
    client.run(&["pool-destroy", "chap"]);
    assert_eq!(sessions(iqn), 0);
}

const STATE: &str = "/var/lib/cenote-iscsi";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    target("9", "iqn.2026-01.test:rebooted");
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "is-rebooted", "iqn.2026-01.test:rebooted", &[HERE], "");
    client.start_for_good("is-rebooted");
    client.write_and_read("is-rebooted", "unit:0:0:1");
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    target("9", "iqn.2026-01.test:rebooted");
    crate::survived_reboot(STATE, "is-rebooted", "unit:0:0:1");
}
