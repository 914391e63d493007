//! SCSI hosts, and devices with several paths.

use crate::{CENOTE, CENOTED, Client, LONG, in_the_lab, scsi_disk};
use cenote_test_support::{Cenote, Cenoted, run, run_any};
use std::path::Path;
use std::time::{Duration, Instant};

/// The host that has the SCSI disk, and the PCI address of what it is on.
fn host_of_disk() -> (String, String) {
    let device = std::fs::canonicalize(format!("/sys/block/{}/device", scsi_disk())).unwrap();
    let parts: Vec<_> = device.iter().map(|part| part.to_str().unwrap()).collect();
    let host = parts.iter().find(|part| part.starts_with("host")).unwrap();
    let address = parts.iter().rev().find(|part| part.starts_with("0000:") && part.contains('.')).unwrap();
    (host.trim_start_matches("host").to_owned(), (*address).to_owned())
}

/// An adapter that names the host of the SCSI disk by where it is.
fn by_address() -> String {
    let (host, address) = host_of_disk();
    let (slot, function) = address["0000:00:".len()..].split_once('.').unwrap();
    let unique = std::fs::read_to_string(format!("/sys/class/scsi_host/host{host}/unique_id")).unwrap();
    format!(
        "<adapter type='scsi_host'><parentaddr unique_id='{}'><address domain='0x0000' bus='0x00' slot='0x{slot}' \
         function='0x{function}'/></parentaddr></adapter>",
        unique.trim()
    )
}

fn define(client: &Client<'_>, pool: &str, adapter: &str, target: &str) {
    let xml = format!(
        "<pool type='scsi'><name>{pool}</name><source>{adapter}</source><target><path>{target}</path></target></pool>"
    );
    client.define(&xml);
}

fn life(client: &Client<'_>, pool: &str) {
    let (host, _) = host_of_disk();
    define(client, pool, &format!("<adapter type='scsi_host' name='scsi_host{host}'/>"), "/dev/disk/by-path");
    client.run(&["pool-build", pool]);
    client.run(&["pool-start", pool]);
    assert!(client.has(pool, "unit:0:0:0"));
    let path = client.run(&["vol-path", "unit:0:0:0", "--pool", pool]);
    assert!(path.starts_with("/dev/disk/by-path/pci-"), "{path}");
    let key = client.run(&["vol-key", "unit:0:0:0", "--pool", pool]);
    let device = format!("/dev/{}", scsi_disk());
    let args = ["--replace-whitespace", "--whitelisted", "--device", &device];
    assert_eq!(key.trim(), run("/lib/udev/scsi_id", &args).trim());
    client.write_and_read(pool, "unit:0:0:0");
    client.run(&["vol-wipe", "unit:0:0:0", "--pool", pool]);
    assert!(std::fs::read(&device).unwrap().iter().all(|byte| *byte == 0));
    let info = client.run(&["pool-info", pool, "--bytes"]);
    assert!(info.contains(&format!("Capacity:       {}\n", 256 << 20)), "{info}");
    assert!(info.contains("Available:      0\n"), "{info}");
    let refused = client.fail(&["vol-create-as", pool, "v", "1M"]);
    assert!(refused.contains("storage pool does not support volume creation"), "{refused}");
    // What has been taken away is found again.
    std::fs::write(format!("/sys/block/{}/device/delete", scsi_disk()), "1").unwrap();
    client.run(&["pool-refresh", pool]);
    assert!(client.has(pool, "unit:0:0:0"));
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);

    define(client, pool, &by_address(), "/dev");
    client.run(&["pool-start", pool]);
    let path = client.run(&["vol-path", "unit:0:0:0", "--pool", pool]);
    assert!(path.starts_with("/dev/sd"), "{path}");
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);

    define(client, pool, "<adapter type='scsi_host' name='scsi_host99'/>", "/dev");
    assert!(client.fail(&["pool-start", pool]).contains("Failed to find SCSI host 'scsi_host99'"));
    client.run(&["pool-undefine", pool]);
    define(client, pool, &format!("<adapter type='scsi_host' name='host{host}'/>"), "/srv");
    assert!(client.fail(&["pool-start", pool]).contains("unable to use target path '/srv'"));
    client.run(&["pool-undefine", pool]);
}

#[test]
fn life_through_virsh_and_cenote() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "scsi-virsh");
    life(&Client::Cenote(&Cenote::new(CENOTE)), "scsi-cenote");
}

/// Has multipathd make one device of the two paths, and returns its name.
fn multipath() -> String {
    in_the_lab();
    run("modprobe", &["-a", "dm_multipath", "dm_mod"]);
    std::fs::write("/etc/multipath.conf", "defaults {\n user_friendly_names yes\n find_multipaths yes\n}\n")
        .unwrap();
    run("multipath", &[]);
    let started = Instant::now();
    loop {
        let maps = run("multipath", &["-l", "-v1"]);
        if let Some(name) = maps.lines().next() {
            return name.to_owned();
        }
        assert!(started.elapsed() < LONG, "no multipath device appears");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn life_of_multipath(client: &Client<'_>, pool: &str) {
    let name = multipath();
    client.run(&["pool-define-as", pool, "mpath", "--target", "/dev/mapper"]);
    client.run(&["pool-start", pool]);
    let minor = run("dmsetup", &["info", "--columns", "--noheadings", "-o", "minor", &name]);
    let volume = format!("dm-{}", minor.trim());
    assert!(client.has(pool, &volume));
    // A volume that is no multipath device, though the device mapper has it.
    run("dmsetup", &["create", "not-multipath", "--table", "0 2048 zero"]);
    client.run(&["pool-refresh", pool]);
    assert_eq!(client.run(&["vol-list", pool]).matches("/dev/mapper/").count(), 1);
    run("dmsetup", &["remove", "not-multipath"]);
    let path = client.run(&["vol-path", &volume, "--pool", pool]);
    assert_eq!(path.trim(), format!("/dev/mapper/{name}"));
    client.write_and_read(pool, &volume);
    let refused = client.fail(&["vol-delete", &volume, "--pool", pool]);
    assert!(refused.contains("storage pool does not support vol deletion"), "{refused}");

    // Its partitions.
    let xml = format!(
        "<pool type='disk'><name>parts</name><source><device path='/dev/mapper/{name}' part_separator='no'/>\
         <format type='gpt'/></source><target><path>/dev/mapper</path></target></pool>"
    );
    client.define(&xml);
    client.run(&["pool-build", "parts", "--overwrite"]);
    client.run(&["pool-start", "parts"]);
    let part = format!("{name}1");
    client.run(&["vol-create-as", "parts", &part, "16M"]);
    client.write_and_read("parts", &part);
    let device = client.run(&["vol-path", &part, "--pool", "parts"]);
    client.run(&["vol-delete", &part, "--pool", "parts"]);
    assert!(!Path::new(device.trim()).exists());
    client.run(&["pool-destroy", "parts"]);
    client.run(&["pool-delete", "parts"]);
    client.run(&["pool-undefine", "parts"]);

    // With no device left there is an empty pool.
    crate::wait_until(|| run_any("multipath", &["-F"]).status.success());
    client.run(&["pool-refresh", pool]);
    assert!(!client.has(pool, &volume));
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);
}

#[test]
fn multipath_through_virsh_and_cenote() {
    let folder = tempfile::tempdir().unwrap();
    life_of_multipath(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "mp-virsh");
    life_of_multipath(&Client::Cenote(&Cenote::new(CENOTE)), "mp-cenote");
}

const STATE: &str = "/var/lib/cenote-scsi";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    // Its number may be another one afterwards.
    define(&client, "scsi-rebooted", &by_address(), "/dev/disk/by-path");
    client.start_for_good("scsi-rebooted");
    multipath();
    client.run(&["pool-define-as", "mp-rebooted", "mpath", "--target", "/dev/mapper"]);
    client.start_for_good("mp-rebooted");
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    assert!(client.has("scsi-rebooted", "unit:0:0:0"));
    assert!(client.run(&["vol-list", "mp-rebooted"]).contains("/dev/mapper/"));
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    multipath();
    let daemon = crate::after_reboot(STATE);
    let client = Client::Virsh(&daemon);
    assert!(client.has("scsi-rebooted", "unit:0:0:0"), "{}", daemon.log());
    client.write_and_read("scsi-rebooted", "unit:0:0:0");
    assert!(client.run(&["vol-list", "mp-rebooted"]).contains("/dev/mapper/"));
}
