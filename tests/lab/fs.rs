//! File systems on devices.

use crate::{CENOTE, CENOTED, Client, device, in_the_lab, mounted, use_files};
use cenote_test_support::{Cenote, Cenoted, run};
use std::path::Path;

fn define(client: &Client<'_>, pool: &str, format: &str, device: &str) -> String {
    let target = format!("/mnt/{pool}");
    let args =
        ["--type", "fs", "--source-dev", device, "--source-format", format, "--target", target.as_str()];
    client.run(&[&["pool-define-as", pool][..], &args].concat());
    target
}

fn life(client: &Client<'_>, pool: &str) {
    let device = device(pool, 400);
    let target = define(client, pool, "ext4", &device);
    client.run(&["pool-build", pool]);
    assert!(client.fail(&["pool-start", pool]).contains("wrong fs type"), "there is none yet");
    client.run(&["pool-build", pool, "--no-overwrite"]);
    let refused = client.fail(&["pool-build", pool, "--no-overwrite"]);
    assert!(refused.contains(&format!("Device '{device}' already formatted using 'ext4'")), "{refused}");
    client.run(&["pool-start", pool]);
    let mount = mounted(&target).unwrap();
    assert!(mount.contains("nosuid") && mount.contains("nodev") && mount.contains(" ext4 "), "{mount}");
    use_files(client, pool);

    // It is busy; then it goes behind our back, and nothing is put where it was.
    let user = std::fs::File::open(Path::new(&target).join("plain")).unwrap();
    let refused = client.fail(&["pool-destroy", pool]);
    assert!(refused.contains(&format!("{target}: target is busy")), "{refused}");
    drop(user);
    run("umount", &[&target]);
    let refused = client.fail(&["vol-create-as", pool, "astray", "1M"]);
    assert!(refused.contains("not mounted") || refused.contains("not active"), "{refused}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);

    // Somebody else's mount of it, by another name of the device, is ours; another one is in the way.
    std::os::unix::fs::symlink(&device, format!("/tmp/{pool}-link")).unwrap();
    let _ = client.output(&["pool-destroy", pool]);
    run("mount", &[&format!("/tmp/{pool}-link"), &target]);
    client.run(&["pool-start", pool]);
    assert!(client.has(pool, "plain"));
    client.run(&["pool-destroy", pool]);
    assert!(mounted(&target).is_none());
    run("mount", &["-t", "tmpfs", "in-the-way", &target]);
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains(&format!("'in-the-way' is mounted on '{target}' already")), "{refused}");
    run("umount", &[&target]);
    client.run(&["pool-delete", pool]);
    assert!(!Path::new(&target).exists());
    client.run(&["pool-undefine", pool]);

    for format in ["ext2", "ext3", "xfs", "vfat"] {
        let target = define(client, pool, format, &device);
        let refused = client.fail(&["pool-build", pool, "--no-overwrite"]);
        assert!(refused.contains("forced overwrite is necessary"), "{refused}");
        client.run(&["pool-build", pool, "--overwrite"]);
        client.run(&["pool-start", pool]);
        assert!(mounted(&target).unwrap().contains(&format!(" {format} ")));
        client.run(&["vol-create-as", pool, "v", "1M"]);
        client.run(&["pool-destroy", pool]);
        client.run(&["pool-undefine", pool]);
    }
    define(client, pool, "ocfs2", &device);
    let refused = client.fail(&["pool-build", pool, "--overwrite"]);
    assert!(refused.contains("this needs mkfs.ocfs2") && refused.contains("ocfs2-tools"), "{refused}");
    client.run(&["pool-undefine", pool]);
    define(client, pool, "auto", &device);
    let refused = client.fail(&["pool-build", pool, "--overwrite"]);
    assert!(refused.contains("the format 'auto', which cannot be made"), "{refused}");
    client.run(&["pool-start", pool]);
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-undefine", pool]);
    define(client, pool, "ext4", "/dev/not-there");
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains("/dev/not-there does not exist"), "{refused}");
    client.run(&["pool-undefine", pool]);
}

#[test]
fn life_through_virsh() {
    let folder = tempfile::tempdir().unwrap();
    life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "fs-virsh");
}

#[test]
fn life_through_cenote() {
    life(&Client::Cenote(&Cenote::new(CENOTE)), "fs-cenote");
}

#[test]
fn an_image_and_options_and_a_killed_daemon() {
    in_the_lab();
    run("modprobe", &["loop"]);
    std::fs::File::create("/tmp/image.iso").unwrap().set_len(64 << 20).unwrap();
    run("mkfs.ext4", &["-q", "/tmp/image.iso"]);
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let define = |options: &str| {
        let xml = format!(
            "<pool type='fs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'><name>image</name>\
             <source><device path='/tmp/image.iso'/></source><target><path>/mnt/image</path></target>\
             <fs:mount_opts><fs:option name='{options}'/></fs:mount_opts></pool>"
        );
        Client::Virsh(&daemon).define(&xml);
    };
    define("sync,bind");
    std::fs::create_dir_all("/mnt/image").unwrap();
    let refused = Client::Virsh(&daemon).fail(&["pool-start", "image"]);
    assert!(refused.contains("mount option 'bind'"), "{refused}");
    Client::Virsh(&daemon).run(&["pool-undefine", "image"]);
    define("sync,exec");
    Client::Virsh(&daemon).run(&["pool-start", "image"]);
    let mount = mounted("/mnt/image").unwrap();
    assert!(mount.contains("sync") && mount.contains("nodev") && !mount.contains("noexec"), "{mount}");
    Client::Virsh(&daemon).run(&["vol-create-as", "image", "kept", "1M"]);
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    assert!(client.has("image", "kept"));
    client.run(&["pool-destroy", "image"]);
    assert!(mounted("/mnt/image").is_none());
}

const DISK: &str = "/dev/vdc";
const STATE: &str = "/var/lib/cenote-fs";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    in_the_lab();
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "fs-rebooted", "xfs", DISK);
    client.run(&["pool-build", "fs-rebooted", "--overwrite"]);
    client.start_for_good("fs-rebooted");
    client.run(&["vol-create-as", "fs-rebooted", "kept", "16M"]);
    client.write_and_read("fs-rebooted", "kept");
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    crate::survived_reboot(STATE, "fs-rebooted", "kept");
}
