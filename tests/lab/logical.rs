//! Volume groups.

use crate::{CENOTE, CENOTED, Client, device, in_the_lab};
use cenote_test_support::{Cenote, Cenoted, run};
use std::path::Path;

fn define(client: &Client<'_>, group: &str, devices: &[&str]) {
    let devices: String = devices.iter().map(|path| format!("<device path='{path}'/>")).collect();
    let xml = format!("<pool type='logical'><name>{group}</name><source>{devices}</source></pool>");
    client.define(&xml);
}

fn allocation(xml: &str) -> u64 {
    let rest = xml.split("<allocation unit='bytes'>").nth(1).unwrap();
    rest.split('<').next().unwrap().parse().unwrap()
}

fn life(client: &Client<'_>, group: &str) {
    in_the_lab();
    run("modprobe", &["-a", "dm_mod", "dm_thin_pool", "dm_snapshot"]);
    let (one, two) = (device(&format!("{group}1"), 200), device(&format!("{group}2"), 100));
    define(client, group, &[&one, &two]);
    run("mkfs.ext4", &["-q", &two]);
    let refused = client.fail(&["pool-build", group]);
    assert!(refused.contains("forced overwrite is necessary: there is 'ext4' on it"), "{refused}");
    client.run(&["pool-build", group, "--overwrite"]);
    client.run(&["pool-start", group]);
    let sources = client.run(&["find-storage-pool-sources", "logical"]);
    assert!(sources.contains(&one) && sources.contains(&format!("<name>{group}</name>")), "{sources}");

    client.run(&["vol-create-as", group, "plain-1", "20M"]);
    client.write_and_read(group, "plain-1");
    let xml = client.run(&["vol-dumpxml", "plain-1", "--pool", group]);
    assert!(xml.contains("<capacity unit='bytes'>20971520</capacity>"), "{xml}");
    assert!(
        xml.contains(&format!("<path>/dev/{group}/plain-1</path>")) && xml.contains("<extent start="),
        "{xml}"
    );

    client.run(&["vol-clone", "plain-1", "clone", "--pool", group]);
    let read = |name: &str| std::fs::read(format!("/dev/{group}/{name}")).unwrap();
    assert!(read("clone") == read("plain-1"));
    client.run(&["vol-resize", "clone", "40M", "--pool", group]);
    assert_eq!(read("clone").len(), 40 << 20);

    let backing = format!("/dev/{group}/plain-1");
    client.run(&["vol-create-as", group, "snap", "20M", "--allocation", "8M", "--backing-vol", &backing]);
    let xml = client.run(&["vol-dumpxml", "snap", "--pool", group]);
    assert!(xml.contains("<backingStore>") && xml.contains(&backing), "{xml}");
    let refused = client.fail(&["vol-wipe", "snap", "--pool", group]);
    assert!(refused.contains("is sparse, volume wipe not supported"), "{refused}");
    client.run(&["vol-delete", "snap", "--pool", group]);

    // What is thin takes what is written of it.
    client.run(&["vol-create-as", group, "thins", "24M", "--format", "thin-pool"]);
    client.run(&["vol-create-as", group, "thin", "128M", "--allocation", "0"]);
    client.write_and_read(group, "thin");
    client.run(&["pool-refresh", group]);
    let xml = client.run(&["vol-dumpxml", "thin", "--pool", group]);
    assert!(xml.contains("<capacity unit='bytes'>134217728</capacity>"), "{xml}");
    assert!((2 << 20..5 << 20).contains(&allocation(&xml)), "{xml}");
    let pool = client.run(&["vol-dumpxml", "thins", "--pool", group]);
    assert!(pool.contains("<format type='thin-pool'/>") && pool.contains(">25165824</capacity>"), "{pool}");
    assert!((2 << 20..5 << 20).contains(&allocation(&pool)), "{pool}");
    for args in [&["vol-wipe", "thins"][..], &["vol-clone", "thins", "copy"]] {
        let refused = client.fail(&[args, &["--pool", group]].concat());
        assert!(refused.contains("'thins' is a thin pool"), "{refused}");
    }
    let refused = client.fail(&["vol-delete", "thins", "--pool", group]);
    assert!(refused.contains("have to be deleted first: 'thin'"), "{refused}");
    client.run(&["vol-resize", "thins", "28M", "--pool", group]);
    client.run(&["vol-wipe", "thin", "--pool", group]);
    assert!(std::fs::read(format!("/dev/{group}/thin")).unwrap().iter().all(|byte| *byte == 0));
    client.run(&["vol-delete", "thin", "--pool", group]);
    client.run(&["vol-delete", "thins", "--pool", group]);
    assert!(!client.has(group, "thins"));

    // A group that is full, and a name that could be an option.
    let refused = client.fail(&["vol-create-as", group, "large", "1G"]);
    assert!(refused.contains("insufficient free space"), "{refused}");
    assert!(!client.has(group, "large") && client.has(group, "plain-1"));
    let xml = "<volume><name>-rf</name><capacity>1</capacity></volume>";
    std::fs::write("/tmp/volume.xml", xml).unwrap();
    let refused = client.fail(&["vol-create", group, "/tmp/volume.xml"]);
    assert!(refused.contains("LVM allows no volume named '-rf'"), "{refused}");

    // A volume that others use stays; so does the pool.
    let user = std::fs::File::open(format!("/dev/{group}/clone")).unwrap();
    let refused = client.fail(&["vol-delete", "clone", "--pool", group]);
    assert!(refused.contains("in use"), "{refused}");
    assert!(client.fail(&["pool-destroy", group]).contains("Can't deactivate volume group"));
    drop(user);
    client.run(&["pool-destroy", group]);
    client.run(&["pool-start", group]);
    assert!(client.has(group, "plain-1") && client.has(group, "clone"));
    client.run(&["vol-delete", "clone", "--pool", group]);
    client.run(&["pool-destroy", group]);
    client.run(&["pool-delete", group]);
    assert!(client.fail(&["pool-start", group]).contains("cannot find logical volume group name"));
    client.run(&["pool-undefine", group]);
}

#[test]
fn life_through_virsh() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "vg-virsh");
}

#[test]
fn life_through_cenote() {
    life(&Client::Cenote(&Cenote::new(CENOTE)), "vg_cenote");
}

#[test]
fn what_is_active_is_found_again_after_the_daemon_is_killed() {
    in_the_lab();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let one = device("killed", 64);
    define(&Client::Virsh(&daemon), "killed", &[&one]);
    Client::Virsh(&daemon).run(&["pool-build", "killed"]);
    Client::Virsh(&daemon).run(&["pool-start", "killed"]);
    Client::Virsh(&daemon).run(&["vol-create-as", "killed", "kept", "8M"]);
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    assert!(Client::Virsh(&daemon).has("killed", "kept"));
    // What others make is seen without a refresh.
    run("lvcreate", &["-q", "-y", "-L", "8M", "-n", "by-others", "killed"]);
    crate::wait_until(|| Client::Virsh(&daemon).has("killed", "by-others"));
    run("lvremove", &["-q", "-y", "killed/by-others"]);
    crate::wait_until(|| !Client::Virsh(&daemon).has("killed", "by-others"));
    // The group goes behind the daemon's back.
    run("vgremove", &["--force", "--yes", "killed"]);
    let refused = Client::Virsh(&daemon).fail(&["pool-refresh", "killed"]);
    assert!(refused.contains("\"killed\" not found") || refused.contains("not active"), "{refused}");
}

/// The disk that keeps a group over the lab's reboot, and where the daemon's state is.
const DISK: &str = "/dev/vdb";
const STATE: &str = "/var/lib/cenote-logical";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    in_the_lab();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "rebooted", &[DISK]);
    client.run(&["pool-build", "rebooted"]);
    client.start_for_good("rebooted");
    client.run(&["vol-create-as", "rebooted", "kept", "16M"]);
    client.write_and_read("rebooted", "kept");
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    crate::survived_reboot(STATE, "rebooted", "kept");
}
