//! Disks and their partitions.

use crate::{CENOTE, CENOTED, Client, in_the_lab};
use cenote_test_support::{Cenote, Cenoted, run, run_any};
use std::path::Path;

fn define(client: &Client<'_>, pool: &str, table: &str, device: &str, target: &str) {
    let xml = format!(
        "<pool type='disk'><name>{pool}</name><source><device path='{device}'/><format type='{table}'/></source>\
         <target><path>{target}</path></target></pool>"
    );
    client.define(&xml);
}

/// A loop device with partitions.
fn device(name: &str, mebibytes: u64) -> String {
    let device = crate::device(name, mebibytes);
    run("losetup", &["--detach", &device]);
    run("losetup", &["--find", "--show", "--partscan", &format!("/tmp/{name}")]).trim().to_owned()
}

/// The first byte and the length of a partition, as the kernel has them.
fn in_kernel(partition: &str) -> (u64, u64) {
    let read = |what: &str| -> u64 {
        let file = format!("/sys/class/block/{partition}/{what}");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().parse().unwrap()
    };
    (read("start") * 512, read("size") * 512)
}

/// A partition's type in its table, as blkid reads it.
fn type_of(partition: &str) -> String {
    let args = ["-p", "-o", "value", "-s", "PART_ENTRY_TYPE", &format!("/dev/{partition}")];
    run("blkid", &args).trim().to_owned()
}

/// `prefix` is what stands before the numbers of partitions.
fn gpt(client: &Client<'_>, pool: &str, device: &str, prefix: &str) {
    run("mkfs.ext4", &["-q", "-F", device]);
    define(client, pool, "gpt", device, "/dev");
    assert!(client.fail(&["pool-start", pool]).contains("unrecognized, requires build"));
    let refused = client.fail(&["pool-build", pool]);
    assert!(refused.contains("forced overwrite is necessary: there is 'ext4' on it"), "{refused}");
    client.run(&["pool-build", pool, "--overwrite"]);
    let refused = client.fail(&["pool-build", pool, "--no-overwrite"]);
    assert!(refused.contains("already formatted using 'gpt'"), "{refused}");
    client.run(&["pool-start", pool]);

    let name = |number: u32| format!("{prefix}{number}");
    let refused = client.fail(&["vol-create-as", pool, "data", "10M"]);
    assert!(refused.contains(&format!("invalid partition name 'data', expected '{}'", name(1))), "{refused}");
    client.run(&["vol-create-as", pool, &name(1), "20M", "--format", "linux"]);
    client.run(&["vol-create-as", pool, &name(2), "10M", "--format", "linux-swap"]);
    client.run(&["vol-create-as", pool, &name(3), "10000000", "--format", "linux-lvm"]);
    assert_eq!(in_kernel(&name(1)), (1 << 20, 20 << 20));
    assert_eq!(in_kernel(&name(3)), (31 << 20, 10_002_432));
    for (number, kind) in [(1, "0fc63daf"), (2, "0657fd6d"), (3, "e6d6d379")] {
        assert!(type_of(&name(number)).starts_with(kind), "{kind}");
    }
    client.write_and_read(pool, &name(1));
    let xml = client.run(&["vol-dumpxml", &name(2), "--pool", pool]);
    assert!(xml.contains(&format!("<device path='{device}'>")), "{xml}");
    assert!(xml.contains("<extent start='22020096' end='32505856'/>"), "{xml}");
    assert!(
        xml.contains("<format type='linux-swap'/>") && xml.contains("<capacity unit='bytes'>10485760</"),
        "{xml}"
    );

    client.run(&["vol-clone", &name(1), &name(4), "--pool", pool]);
    let read = |number: u32| std::fs::read(format!("/dev/{}", name(number))).unwrap();
    assert!(read(4) == read(1));
    client.run(&["vol-resize", &name(4), "30M", "--pool", pool]);
    assert_eq!(in_kernel(&name(4)).1, 30 << 20);
    client.run(&["vol-wipe", &name(4), "--pool", pool]);
    assert!(read(4).iter().all(|byte| *byte == 0));

    // A disk that is full, a partition in the way, one in use, one for a table that has none such.
    assert!(client.fail(&["vol-create-as", pool, &name(5), "1G"]).contains("no large enough free extent"));
    let refused = client.fail(&["vol-resize", &name(1), "25M", "--pool", pool]);
    assert!(refused.contains("not so much free space behind it"), "{refused}");
    assert!(
        client
            .fail(&["vol-create-as", pool, &name(5), "1M", "--format", "extended"])
            .contains("has no extended")
    );
    run("mkfs.ext4", &["-q", &format!("/dev/{}", name(4))]);
    std::fs::create_dir_all("/mnt/partition").unwrap();
    run("mount", &[&format!("/dev/{}", name(4)), "/mnt/partition"]);
    let refused = client.fail(&["vol-delete", &name(4), "--pool", pool]);
    assert!(refused.contains("being used"), "{refused}");
    let refused = client.fail(&["pool-build", pool, "--overwrite"]);
    assert!(refused.contains("active") || refused.contains("busy"), "{refused}");
    run("umount", &["/mnt/partition"]);

    // What parted makes behind our back is there after a refresh, if it was not before.
    run("parted", &["-s", device, "mkpart", "other", "80MiB", "90MiB"]);
    client.run(&["pool-refresh", pool]);
    assert!(client.has(pool, &name(5)));
    for number in [1, 2, 3, 4, 5] {
        client.run(&["vol-delete", &name(number), "--pool", pool]);
        assert!(!Path::new(&format!("/dev/{}", name(number))).exists());
    }
    let xml = client.run(&["pool-dumpxml", pool]);
    assert!(xml.contains("<freeExtent start='17408' end="), "{xml}");
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-delete", pool]);
    assert!(!run_any("blkid", &["-p", device]).status.success());
    assert!(client.fail(&["pool-start", pool]).contains("unrecognized, requires build"));
    client.run(&["pool-undefine", pool]);
}

fn dos(client: &Client<'_>, pool: &str, device: &str, prefix: &str) {
    define(client, pool, "dos", device, "/dev");
    client.run(&["pool-build", pool]);
    client.run(&["pool-start", pool]);
    let name = |number: u32| format!("{prefix}{number}");
    let create = |number: u32, size: &str, format: &str| {
        client.run(&["vol-create-as", pool, &name(number), size, "--format", format]);
    };
    create(1, "8M", "linux");
    create(2, "50M", "extended");
    create(3, "8M", "fat32");
    create(4, "8M", "linux-raid");
    let refused = client.fail(&["vol-create-as", pool, &name(5), "1M", "--format", "extended"]);
    assert!(refused.contains("extended partition already exists"), "{refused}");
    create(5, "8M", "linux");
    create(6, "10M", "linux-swap");
    create(7, "8M", "fat16");
    client.write_and_read(pool, &name(6));
    let xml = client.run(&["vol-dumpxml", &name(2), "--pool", pool]);
    assert!(
        xml.contains("<capacity unit='bytes'>52428800</") && xml.contains("<format type='extended'/>"),
        "{xml}"
    );
    assert!(xml.contains(&format!("<allocation unit='bytes'>{}</", 26 << 20)), "{xml}");
    for (number, kind) in [(1, "0x83"), (4, "0xfd"), (6, "0x82")] {
        assert_eq!(type_of(&name(number)), kind);
    }
    for (number, format) in [(3, "fat32"), (4, "linux-raid"), (5, "linux"), (6, "linux-swap"), (7, "fat16")] {
        let xml = client.run(&["vol-dumpxml", &name(number), "--pool", pool]);
        assert!(xml.contains(&format!("<format type='{format}'/>")), "{xml}");
        let (start, length) = in_kernel(&name(number));
        assert!(xml.contains(&format!("<extent start='{start}' end='{}'/>", start + length)), "{xml}");
    }
    let refused = client.fail(&["vol-wipe", &name(2), "--pool", pool]);
    assert!(refused.contains("extended partition") && refused.contains("cannot be wiped"), "{refused}");
    let refused = client.fail(&["vol-delete", &name(2), "--pool", pool]);
    assert!(refused.contains("holds logical partitions"), "{refused}");
    // Those behind it are numbered anew.
    client.run(&["vol-delete", &name(5), "--pool", pool]);
    let list = client.run(&["vol-list", pool]);
    assert!(client.has(pool, &name(6)) && !client.has(pool, &name(7)), "{list}");
    let xml = client.run(&["vol-dumpxml", &name(5), "--pool", pool]);
    assert!(xml.contains("<format type='linux-swap'/>"), "{xml}");
    for number in [6, 5, 2, 1] {
        client.run(&["vol-delete", &name(number), "--pool", pool]);
    }
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);
    // A pool for another table does not start on it.
    define(client, pool, "gpt", device, "/dev");
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains("does not match the expected format 'gpt': it is 'dos'"), "{refused}");
    client.run(&["pool-undefine", pool]);
}

fn others(client: &Client<'_>, pool: &str, device: &str, prefix: &str) {
    for table in ["mac", "bsd", "sun", "dvh"] {
        define(client, pool, table, device, "/dev");
        client.run(&["pool-build", pool, "--overwrite"]);
        client.run(&["pool-start", pool]);
        let number = if table == "mac" { 2 } else { 1 };
        let name = format!("{prefix}{number}");
        client.run(&["vol-create-as", pool, &name, "16M"]);
        client.write_and_read(pool, &name);
        assert!(client.has(pool, &name), "{table}");
        client.run(&["vol-delete", &name, "--pool", pool]);
        client.run(&["pool-destroy", pool]);
        client.run(&["pool-undefine", pool]);
    }
    // A table that this kernel does not know: what was made is taken back.
    define(client, pool, "pc98", device, "/dev");
    client.run(&["pool-build", pool, "--overwrite"]);
    client.run(&["pool-start", pool]);
    let refused = client.fail(&["vol-create-as", pool, &format!("{prefix}1"), "16M"]);
    assert!(refused.contains("the kernel does not know what it is"), "{refused}");
    assert!(!run("parted", &["-sm", device, "print"]).contains("\n1:"));
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);
    define(client, pool, "lvm2", device, "/dev");
    let refused = client.fail(&["pool-build", pool, "--overwrite"]);
    assert!(refused.contains("no partition table: define a pool of type 'logical'"), "{refused}");
    client.run(&["pool-undefine", pool]);
    define(client, pool, "dos", "/dev/not-there", "/dev");
    assert!(client.fail(&["pool-start", pool]).contains("device path '/dev/not-there' doesn't exist"));
    client.run(&["pool-undefine", pool]);
}

#[test]
fn life_through_virsh() {
    in_the_lab();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    let loop_device = device("disk-virsh", 128);
    gpt(&client, "gpt", &loop_device, &format!("{}p", loop_device.trim_start_matches("/dev/")));
    dos(&client, "dos", "/dev/vdd", "vdd");
}

#[test]
fn life_through_cenote() {
    in_the_lab();
    let cenote = Cenote::new(CENOTE);
    let client = Client::Cenote(&cenote);
    gpt(&client, "gpt", "/dev/sda", "sda");
    dos(&client, "dos", "/dev/nvme0n1", "nvme0n1p");
    others(&client, "other", "/dev/nvme0n1", "nvme0n1p");
}

#[test]
fn names_that_stay_and_a_killed_daemon() {
    in_the_lab();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    define(&client, "stable", "unknown", "/dev/sda", "/dev/disk/by-path");
    client.run(&["pool-build", "stable", "--overwrite"]);
    client.run(&["pool-start", "stable"]);
    client.run(&["vol-create-as", "stable", "sda1", "16M"]);
    let path = client.run(&["vol-path", "sda1", "--pool", "stable"]);
    assert!(path.starts_with("/dev/disk/by-path/") && path.trim().ends_with("-part1"), "{path}");
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    client.write_and_read("stable", "sda1");
    run("parted", &["-s", "/dev/sda", "mkpart", "primary", "80MiB", "90MiB"]);
    crate::wait_until(|| client.has("stable", "sda2"));
    run("parted", &["-s", "/dev/sda", "rm", "2"]);
    crate::wait_until(|| !client.has("stable", "sda2"));
    client.run(&["vol-delete", "sda1", "--pool", "stable"]);
    client.run(&["pool-destroy", "stable"]);
    client.run(&["pool-delete", "stable"]);
}

const STATE: &str = "/var/lib/cenote-disk";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    in_the_lab();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "disk-rebooted", "gpt", "/dev/vde", "/dev");
    client.run(&["pool-build", "disk-rebooted", "--overwrite"]);
    client.start_for_good("disk-rebooted");
    client.run(&["vol-create-as", "disk-rebooted", "vde1", "16M"]);
    client.write_and_read("disk-rebooted", "vde1");
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    crate::survived_reboot(STATE, "disk-rebooted", "vde1");
}
