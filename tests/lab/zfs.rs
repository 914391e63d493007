//! Datasets and their zvols.

use crate::{CENOTE, CENOTED, Client, device, in_the_lab};
use cenote_test_support::{Cenote, Cenoted, run};
use std::path::Path;

fn define(client: &Client<'_>, name: &str, dataset: &str, devices: &[&str]) {
    let devices: String = devices.iter().map(|path| format!("<device path='{path}'/>")).collect();
    let xml = format!(
        "<pool type='zfs'><name>{name}</name><source><name>{dataset}</name>{devices}</source></pool>"
    );
    client.define(&xml);
}

fn life(client: &Client<'_>, tank: &str) {
    in_the_lab();
    run("modprobe", &["zfs"]);
    let (one, two) = (device(&format!("{tank}1"), 160), device(&format!("{tank}2"), 160));
    define(client, tank, tank, &[&one, &two]);
    client.run(&["pool-build", tank]);
    client.run(&["pool-start", tank]);
    let path = format!("{tank}/path");
    define(client, "zfsimages", &path, &[]);
    client.run(&["pool-build", "zfsimages"]);
    client.run(&["pool-start", "zfsimages"]);

    client.run(&[
        "vol-create-as",
        "--pool",
        "zfsimages",
        "--name",
        "vol1",
        "--capacity",
        "1G",
        "--allocation",
        "0",
    ]);
    assert!(std::fs::metadata(format!("/dev/zvol/{path}/vol1")).is_ok());
    client.write_and_read("zfsimages", "vol1");
    run("zpool", &["sync", tank]);
    client.run(&["pool-refresh", "zfsimages"]);
    let xml = client.run(&["vol-dumpxml", "vol1", "--pool", "zfsimages"]);
    assert!(xml.contains("<capacity unit='bytes'>1073741824</capacity>"), "{xml}");
    let used = run("zfs", &["get", "-Hp", "-o", "value", "used", &format!("{path}/vol1")]);
    assert!(xml.contains(&format!("<allocation unit='bytes'>{}</allocation>", used.trim())), "{xml} {used}");
    assert!(xml.contains(&format!("<key>{path}/vol1</key>")), "{xml}");

    client.run(&["vol-create-as", "zfsimages", "full", "16M"]);
    client.write_and_read("zfsimages", "full");
    client.run(&["vol-clone", "full", "clone", "--pool", "zfsimages"]);
    let read = |name: &str| std::fs::read(format!("/dev/zvol/{path}/{name}")).unwrap();
    assert!(read("clone") == read("full"));
    client.run(&["vol-resize", "clone", "24M", "--pool", "zfsimages"]);
    let volsize = run("zfs", &["get", "-Hp", "-o", "value", "volsize", &format!("{path}/clone")]);
    assert_eq!(volsize.trim(), "25165824");
    client.run(&["vol-wipe", "full", "--pool", "zfsimages"]);
    assert!(read("full").iter().all(|byte| *byte == 0));

    // A pool that is full; a volume with a snapshot; a pool that was exported is imported; a dataset that is gone.
    let refused = client.fail(&["vol-create-as", "zfsimages", "large", "10G"]);
    assert!(refused.contains("out of space"), "{refused}");
    assert!(!client.has("zfsimages", "large"));
    run("zfs", &["snapshot", &format!("{path}/full@one")]);
    let refused = client.fail(&["vol-delete", "full", "--pool", "zfsimages"]);
    assert!(refused.contains("has children"), "{refused}");
    run("zfs", &["destroy", &format!("{path}/full@one")]);
    client.run(&["pool-destroy", "zfsimages"]);
    run("zpool", &["export", tank]);
    client.run(&["pool-start", "zfsimages"]);
    assert!(client.has("zfsimages", "vol1"));
    define(client, "gone", &format!("{tank}/gone"), &[]);
    assert!(client.fail(&["pool-start", "gone"]).contains("there is no dataset"));
    client.run(&["pool-undefine", "gone"]);
    for volume in ["vol1", "full", "clone"] {
        client.run(&["vol-delete", volume, "--pool", "zfsimages"]);
    }
    for pool in ["zfsimages", tank] {
        client.run(&["pool-destroy", pool]);
        client.run(&["pool-delete", pool]);
        client.run(&["pool-undefine", pool]);
    }
    assert!(!run("zpool", &["list", "-H"]).contains(tank));
}

#[test]
fn life_through_virsh() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "tankv");
}

#[test]
fn life_through_cenote() {
    life(&Client::Cenote(&Cenote::new(CENOTE)), "tankc");
}

#[test]
fn what_is_active_is_found_again_after_the_daemon_is_killed() {
    in_the_lab();
    run("modprobe", &["zfs"]);
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    let one = device("zfs-killed", 128);
    define(&client, "zkilled", "zkilled", &[&one]);
    client.run(&["pool-build", "zkilled"]);
    client.run(&["pool-start", "zkilled"]);
    client.run(&["vol-create-as", "zkilled", "kept", "8M"]);
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    assert!(client.has("zkilled", "kept"));
    client.write_and_read("zkilled", "kept");
    run("zfs", &["create", "-V", "8M", "zkilled/by-others"]);
    crate::wait_until(|| client.has("zkilled", "by-others"));
    client.run(&["pool-destroy", "zkilled"]);
    client.run(&["pool-start", "zkilled"]);
    client.run(&["pool-destroy", "zkilled"]);
    client.run(&["pool-delete", "zkilled"]);
}

/// The disk that keeps a pool over the lab's reboot, and where the daemon's state is.
const DISK: &str = "/dev/nvme0n1";
const STATE: &str = "/var/lib/cenote-zfs";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    in_the_lab();
    run("modprobe", &["zfs"]);
    // What other tests have left of it.
    run("wipefs", &["--all", "--quiet", DISK]);
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "zrebooted", "zrebooted", &[DISK]);
    client.run(&["pool-build", "zrebooted"]);
    client.start_for_good("zrebooted");
    client.run(&["vol-create-as", "zrebooted", "kept", "16M"]);
    client.write_and_read("zrebooted", "kept");
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    in_the_lab();
    run("modprobe", &["zfs"]);
    crate::survived_reboot(STATE, "zrebooted", "kept");
}
