//! Clusters of Virtuozzo Storage. The product cannot be had: a stand-in mounts a directory, as the contract has it.

use crate::{CENOTE, CENOTED, Client, in_the_lab, mounted, use_files};
use cenote_test_support::{Cenote, Cenoted, run};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Mounts the cluster `lab` where it is told, and refuses others; what it was told is kept.
const STAND_IN: &str = "#!/bin/sh
echo \"$@\" > /tmp/vstorage-args
[ \"$1\" = -c ] || exit 2
if [ \"$2\" != lab ]; then echo \"unknown cluster '$2'\" >&2; exit 1; fi
mkdir -p /srv/vstorage/upper /srv/vstorage/work /srv/vstorage/lower
exec mount -t overlay -o lowerdir=/srv/vstorage/lower,upperdir=/srv/vstorage/upper,workdir=/srv/vstorage/work \\
    \"vstorage://$2\" \"$3\"
";

fn define(client: &Client<'_>, pool: &str, cluster: &str) {
    let xml = format!(
        "<pool type='vstorage'><name>{pool}</name><source><name>{cluster}</name></source>\
         <target><path>/mnt/{pool}</path><permissions><mode>0750</mode><owner>0</owner><group>6</group>\
         </permissions></target></pool>"
    );
    client.define(&xml);
}

fn install() {
    std::fs::write("/usr/sbin/vstorage-mount", STAND_IN).unwrap();
    std::fs::set_permissions("/usr/sbin/vstorage-mount", PermissionsExt::from_mode(0o755)).unwrap();
}

fn life(client: &Client<'_>, pool: &str) {
    in_the_lab();
    define(client, pool, "lab");
    let _ = std::fs::remove_file("/usr/sbin/vstorage-mount");
    client.run(&["pool-build", pool]);
    assert!(client.fail(&["pool-start", pool]).contains("this needs vstorage-mount, which is not installed"));
    // What appears later is noticed.
    install();
    client.run(&["pool-start", pool]);
    let told = std::fs::read_to_string("/tmp/vstorage-args").unwrap();
    assert_eq!(told, format!("-c lab /mnt/{pool} -m 750 -g disk -u root\n"));
    assert!(mounted(&format!("/mnt/{pool}")).unwrap().contains(" vstorage://lab "));
    use_files(client, pool);
    let user = std::fs::File::open(format!("/mnt/{pool}/plain")).unwrap();
    assert!(client.fail(&["pool-destroy", pool]).contains("target is busy"));
    drop(user);
    client.run(&["pool-destroy", pool]);
    assert!(mounted(&format!("/mnt/{pool}")).is_none());
    run("rm", &["-r", "/srv/vstorage"]);
    client.run(&["pool-undefine", pool]);
    define(client, pool, "other");
    assert!(client.fail(&["pool-start", pool]).contains("unknown cluster 'other'"));
    client.run(&["pool-delete", pool]);
    client.run(&["pool-undefine", pool]);
}

#[test]
fn life_through_virsh_and_cenote() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "vs-virsh");
    life(&Client::Cenote(&Cenote::new(CENOTE)), "vs-cenote");
}

const STATE: &str = "/var/lib/cenote-vstorage";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    in_the_lab();
    install();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "vs-rebooted", "lab");
    client.run(&["pool-build", "vs-rebooted"]);
    client.start_for_good("vs-rebooted");
    client.run(&["vol-create-as", "vs-rebooted", "kept", "1M"]);
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    assert!(Client::Virsh(&daemon).has("vs-rebooted", "kept"));
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    let daemon = crate::after_reboot(STATE);
    assert!(Client::Virsh(&daemon).has("vs-rebooted", "kept"), "{}", daemon.log());
}
