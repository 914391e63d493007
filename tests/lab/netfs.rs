//! Directories of file servers.

use crate::{CENOTE, CENOTED, Client, LONG, in_the_lab, mounted, use_files};
use cenote_test_support::{Cenote, Cenoted, run, run_any};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a server of NFS, unless it runs, with a directory for each of these names.
fn serve_nfs(names: &[&str]) {
    in_the_lab();
    let exports: String = names
        .iter()
        .map(|name| {
            std::fs::create_dir_all(format!("/srv/{name}")).unwrap();
            format!("/srv/{name} 127.0.0.1(rw,insecure,no_root_squash,no_subtree_check)\n")
        })
        .collect();
    std::fs::write("/etc/exports", exports).unwrap();
    if !Path::new("/proc/fs/nfsd/threads").exists() {
        run("modprobe", &["nfsd"]);
        run("mount", &["-t", "nfsd", "nfsd", "/proc/fs/nfsd"]);
        run("rpcbind", &[]);
    }
    run("exportfs", &["-ra"]);
    nfs_threads("2");
    if !run_any("pidof", &["rpc.mountd"]).status.success() {
        run("rpc.mountd", &[]);
    }
}

/// With none, it answers nobody; those that mounted it wait.
fn nfs_threads(number: &str) {
    run("rpc.nfsd", &["--grace-time", "10", "--lease-time", "10", number]);
}

fn define(client: &Client<'_>, pool: &str, source: &str) -> String {
    let target = format!("/mnt/{pool}");
    let xml = format!(
        "<pool type='netfs'><name>{pool}</name><source>{source}</source><target><path>{target}</path></target></pool>"
    );
    client.define(&xml);
    target
}

fn nfs(directory: &str, version: &str) -> String {
    format!(
        "<host name='127.0.0.1'/><dir path='/srv/{directory}'/><format type='nfs'/><protocol ver='{version}'/>"
    )
}

fn life(client: &Client<'_>, pool: &str, source: &str, kind: &str) {
    let target = define(client, pool, source);
    let refused = client.fail(&["pool-build", pool, "--overwrite"]);
    assert!(refused.contains("No source device specified when formatting pool"), "{refused}");
    client.run(&["pool-build", pool]);
    client.run(&["pool-start", pool]);
    let mount = mounted(&target).unwrap();
    assert!(mount.contains("nosuid") && mount.contains("nodev") && mount.contains(kind), "{mount}");
    use_files(client, pool);
    client.run(&["pool-destroy", pool]);
    assert!(mounted(&target).is_none());
    client.run(&["pool-start", pool]);
    assert!(client.has(pool, "plain"));
    client.run(&["pool-destroy", pool]);
    client.run(&["pool-delete", pool]);
    client.run(&["pool-undefine", pool]);
}

fn nfs_life(client: &Client<'_>, pool: &str, version: &str) {
    serve_nfs(&[pool, "two"]);
    let sources = client.run(&["find-storage-pool-sources-as", "netfs", "127.0.0.1"]);
    assert!(sources.contains(&format!("<dir path='/srv/{pool}'/>")), "{sources}");
    life(client, pool, &nfs(pool, version), &format!(" nfs{} ", version.replace('3', "")));
    // What is not exported, and a server that there is not.
    define(client, pool, &nfs("not-exported", version));
    client.run(&["pool-build", pool]);
    let refused = client.fail(&["pool-start", pool]);
    assert!(refused.contains("127.0.0.1:/srv/not-exported"), "{refused}");
    client.run(&["pool-undefine", pool]);
    let refused = client.fail(&["find-storage-pool-sources-as", "netfs", "localhost.invalid"]);
    assert!(refused.contains("localhost.invalid"), "{refused}");
}

#[test]
fn nfs_through_virsh() {
    let folder = tempfile::tempdir().unwrap();
    nfs_life(&Client::Virsh(&Cenoted::start(CENOTED, folder.path())), "nfs-virsh", "4");
}

#[test]
fn nfs_through_cenote() {
    nfs_life(&Client::Cenote(&Cenote::new(CENOTE)), "nfs-cenote", "3");
}

#[test]
fn a_server_that_dies_holds_up_its_own_pool_alone() {
    serve_nfs(&["dying"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("etc/libvirt")).unwrap();
    std::fs::write(folder.path().join("etc/libvirt/cenote.conf"), "storage_timeout = 3\n").unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    define(&client, "dying", &nfs("dying", "4"));
    client.run(&["pool-build", "dying"]);
    client.run(&["pool-start", "dying"]);
    // A server that has just started lets nobody open anything for a while.
    client.eventually(&["vol-create-as", "dying", "before", "1M"]);
    client.run(&["pool-create-as", "near", "dir", "--build", "--target", "/tmp/near"]);
    nfs_threads("0");
    let refused = client.fail(&["vol-create-as", "dying", "meanwhile", "1M"]);
    assert!(refused.contains("has not answered"), "{refused}");
    client.run(&["vol-create-as", "near", "v", "1M"]);
    assert!(client.has("dying", "before"));
    // As another daemon finds it.
    daemon.kill();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let client = Client::Virsh(&daemon);
    assert!(client.has("near", "v"));
    nfs_threads("2");
    client.eventually(&["vol-create-as", "dying", "after", "1M"]);
    assert!(client.has("dying", "before"));
    client.run(&["pool-destroy", "dying"]);
}

#[test]
fn cifs() {
    in_the_lab();
    std::fs::create_dir_all("/srv/cifs").unwrap();
    let share = "[global]\nmap to guest = Bad User\nguest account = root\nbind interfaces only = yes\ninterfaces = lo\n\
                 [pub]\npath = /srv/cifs\nguest ok = yes\nread only = no\nforce user = root\n";
    std::fs::write("/etc/samba/smb.conf", share).unwrap();
    let mut smbd = Command::new("smbd").args(["--foreground", "--no-process-group"]).spawn().unwrap();
    let started = Instant::now();
    while std::net::TcpStream::connect("127.0.0.1:445").is_err() {
        assert!(started.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(100));
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let source = "<host name='127.0.0.1'/><dir path='pub'/><format type='cifs'/>";
    life(&Client::Virsh(&daemon), "cifs", source, " cifs ");
    smbd.kill().unwrap();
    smbd.wait().unwrap();
}

#[test]
fn gluster() {
    in_the_lab();
    run("modprobe", &["fuse"]);
    let mut glusterd = Command::new("glusterd").arg("--no-daemon").stderr(Stdio::null()).spawn().unwrap();
    std::fs::create_dir_all("/srv/brick").unwrap();
    let started = Instant::now();
    while !run_any("gluster", &["--mode=script", "volume", "list"]).status.success() {
        assert!(started.elapsed() < LONG, "glusterd does not answer");
        std::thread::sleep(Duration::from_millis(500));
    }
    // It takes no address that is a loopback's by its looks.
    run("ip", &["address", "add", "10.1.1.1/32", "dev", "lo"]);
    run("gluster", &["--mode=script", "volume", "create", "vol", "10.1.1.1:/srv/brick", "force"]);
    run("gluster", &["--mode=script", "volume", "start", "vol"]);
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let source = "<host name='10.1.1.1'/><dir path='vol'/><format type='glusterfs'/>";
    life(&Client::Virsh(&daemon), "gluster", source, " fuse.glusterfs ");
    run("gluster", &["--mode=script", "volume", "stop", "vol"]);
    glusterd.kill().unwrap();
    glusterd.wait().unwrap();
}

const STATE: &str = "/var/lib/cenote-netfs";

#[test]
#[ignore = "one half of a reboot"]
fn before_reboot() {
    serve_nfs(&["rebooted"]);
    let daemon = Cenoted::start(CENOTED, Path::new(STATE));
    let client = Client::Virsh(&daemon);
    define(&client, "nfs-rebooted", &nfs("rebooted", "4"));
    client.run(&["pool-build", "nfs-rebooted"]);
    client.start_for_good("nfs-rebooted");
    client.run(&["vol-create-as", "nfs-rebooted", "kept", "1M"]);
}

#[test]
#[ignore = "one half of a reboot"]
fn after_reboot() {
    serve_nfs(&["rebooted"]);
    let daemon = crate::after_reboot(STATE);
    assert!(Client::Virsh(&daemon).has("nfs-rebooted", "kept"), "{}", daemon.log());
}
