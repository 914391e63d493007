//! A Ceph cluster of one node, on loopback, with its objects in memory.

use crate::run;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Whether the cluster wants to know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// It does not.
    None,
    /// By cephx.
    Cephx,
}

/// A cluster that runs until the value is dropped. It has a pool named `rbd`.
pub struct Ceph {
    folder: tempfile::TempDir,
    port: u16,
    older_port: u16,
    monitor: Child,
    disks: Child,
    manager: Option<Child>,
}

impl Ceph {
    /// Starts it, and waits until it answers.
    pub fn start(authentication: Authentication) -> Ceph {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["mgr", "mon", "osd", "run"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        let (newer, older) = (free_port(), free_port());
        let id = uuid();
        std::fs::write(path.join("ceph.conf"), config(path, &id, (newer, older), authentication)).unwrap();
        let file = |name: &str| path.join(name).display().to_string();
        let addresses = format!("[v2:127.0.0.1:{newer},v1:127.0.0.1:{older}]");
        run("monmaptool", &["--create", "--fsid", &id, "--addv", "a", &addresses, &file("monmap")]);
        let keyring = file("keyring");
        let mut mkfs = vec!["--mkfs", "-i", "a", "--monmap"];
        let monmap = file("monmap");
        mkfs.push(&monmap);
        if authentication == Authentication::Cephx {
            let all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"];
            let new = ["--create-keyring", &keyring, "--gen-key", "-n"];
            run("ceph-authtool", &[&new[..], &["mon."], &all].concat());
            run("ceph-authtool", &[&[&keyring, "--gen-key", "-n", "client.admin"][..], &all].concat());
            mkfs.extend(["--keyring", &keyring]);
        }
        let conf = path.join("ceph.conf");
        let succeed = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).env("CEPH_CONF", &conf).output().unwrap();
            assert!(
                output.status.success(),
                "{program} {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        succeed("ceph-mon", &mkfs);
        let monitor = spawn("ceph-mon", &["-f", "-i", "a"], path);
        let osd = uuid();
        succeed("ceph", &["osd", "new", &osd]);
        let mut mkfs = vec!["-i", "0", "--mkfs", "--osd-uuid", &osd];
        if authentication == Authentication::Cephx {
            let caps = ["mon", "allow profile osd", "osd", "allow *"];
            succeed(
                "ceph",
                &[&["auth", "get-or-create", "osd.0"][..], &caps, &["-o", &file("osd/keyring")]].concat(),
            );
            mkfs.push("--no-mon-config");
        }
        succeed("ceph-osd", &mkfs);
        succeed("ceph", &["osd", "crush", "add", "osd.0", "1", "root=default", "host=h"]);
        let disks = spawn("ceph-osd", &["-f", "-i", "0"], path);
        let ceph = Ceph { folder, port: newer, older_port: older, monitor, disks, manager: None };
        ceph.run("ceph", &["osd", "pool", "create", "rbd", "8"]);
        ceph.run("rbd", &["pool", "init", "rbd"]);
        ceph
    }

    /// The port of its monitor, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port at which it speaks the older one of its two protocols.
    pub fn older_port(&self) -> u16 {
        self.older_port
    }

    /// The file with its settings.
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("ceph.conf")
    }

    /// Runs one of Ceph's programs, or one that uses it, against it.
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).env("CEPH_CONF", self.conf()).output().unwrap()
    }

    /// The same for what must succeed; returns what was printed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts what knows how full the cluster is.
    pub fn start_manager(&mut self) {
        self.manager = Some(spawn("ceph-mgr", &["-f", "-i", "x"], self.folder.path()));
    }

    /// Kills the monitor.
    pub fn kill_monitor(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }

    /// Starts it again.
    pub fn start_monitor(&mut self) {
        self.monitor = spawn("ceph-mon", &["-f", "-i", "a"], self.folder.path());
    }

    /// Holds the disks: they neither answer nor hang up.
    pub fn hold_disks(&self) {
        run("kill", &["-STOP", &self.disks.id().to_string()]);
    }

    /// Lets them go on.
    pub fn release_disks(&self) {
        run("kill", &["-CONT", &self.disks.id().to_string()]);
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        for child in self.manager.iter_mut().chain([&mut self.disks, &mut self.monitor]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn config(path: &Path, id: &str, (newer, older): (u16, u16), authentication: Authentication) -> String {
    let auth = match authentication {
        Authentication::None => "none",
        Authentication::Cephx => "cephx",
    };
    let path = path.display();
    format!(
        "[global]\n\
         fsid = {id}\n\
         mon host = [v2:127.0.0.1:{newer},v1:127.0.0.1:{older}]\n\
         public addr = 127.0.0.1\n\
         cluster addr = 127.0.0.1\n\
         auth cluster required = {auth}\n\
         auth service required = {auth}\n\
         auth client required = {auth}\n\
         keyring = {path}/keyring\n\
         osd pool default size = 1\n\
         osd pool default min size = 1\n\
         osd pool default pg num = 8\n\
         osd crush chooseleaf type = 0\n\
         mon allow pool size one = true\n\
         mon allow pool delete = true\n\
         osd objectstore = memstore\n\
         memstore device bytes = 4294967296\n\
         run dir = {path}/run\n\
         admin socket =\n\
         pid file =\n\
         log file = {path}/$name.log\n\
         mon data = {path}/mon\n\
         osd data = {path}/osd\n\
         mgr data = {path}/mgr\n\
         [osd]\n\
         keyring = {path}/osd/keyring\n"
    )
}

fn spawn(program: &str, args: &[&str], folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join(format!("{program}.out"))).unwrap();
    Command::new(program)
        .args(args)
        .env("CEPH_CONF", folder.join("ceph.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect(program)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}
