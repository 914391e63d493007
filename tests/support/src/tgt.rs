//! An iSCSI target on loopback.

use crate::run_any;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The target's name.
const TARGET: &str = "iqn.2026-01.test:direct";

/// A tgtd with one target, whose LUNs are files; it runs until the value is dropped.
pub struct Tgt {
    folder: tempfile::TempDir,
    port: u16,
    /// By which tgtadm finds it.
    control: u16,
    child: Child,
    units: Vec<u64>,
    account: Option<(String, String)>,
    /// As whom it proves itself.
    own_account: Option<(String, String)>,
}

impl Tgt {
    /// Starts it with LUNs of these sizes, from number 1 on, and for this account, if there is one.
    pub fn start(units: &[u64], account: Option<(&str, &str)>) -> Tgt {
        let folder = tempfile::tempdir().unwrap();
        for (at, size) in units.iter().enumerate() {
            let file = std::fs::File::create(folder.path().join((at + 1).to_string())).unwrap();
            file.set_len(*size).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The number is part of a name in /var/run, and one process has several.
        let control = port % 30_000;
        let child = spawn(port, control);
        let account = account.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let tgt = Tgt { folder, port, control, child, units: units.to_vec(), account, own_account: None };
        tgt.set_up();
        tgt
    }

    fn set_up(&self) {
        let started = Instant::now();
        while !self.tgtadm(&["--op", "show", "--mode", "sys"]) {
            assert!(started.elapsed() < Duration::from_secs(20), "tgtd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let must = |args: &[&str]| assert!(self.tgtadm(args), "tgtadm {args:?}");
        must(&["--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET]);
        for at in 1..=self.units.len() {
            let (number, file) = (at.to_string(), self.file(at));
            let unit = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", &number, "-b", &file];
            must(&unit);
        }
        self.bind(self.account.as_ref(), &[]);
        self.bind(self.own_account.as_ref(), &["--outgoing"]);
        must(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]);
    }

    fn bind(&self, account: Option<&(String, String)>, more: &[&str]) {
        let Some((name, password)) = account else { return };
        let account = ["--mode", "account", "--user", name];
        assert!(self.tgtadm(&[&["--op", "new"][..], &account, &["--password", password]].concat()));
        assert!(self.tgtadm(&[&["--op", "bind"][..], &account, &["--tid", "1"], more].concat()));
    }

    /// Has it prove itself in its turn to who asks for it.
    pub fn prove_as(&mut self, name: &str, password: &str) {
        self.own_account = Some((name.to_owned(), password.to_owned()));
        self.bind(self.own_account.as_ref(), &["--outgoing"]);
    }

    fn tgtadm(&self, args: &[&str]) -> bool {
        let control = self.control.to_string();
        let common = ["-C", &control, "--lld", "iscsi"];
        run_any("tgtadm", &[&common[..], args].concat()).status.success()
    }

    /// Its port, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The target's name.
    pub fn target(&self) -> &'static str {
        TARGET
    }

    /// The file that a LUN is.
    pub fn file(&self, lun: usize) -> String {
        self.folder.path().join(lun.to_string()).display().to_string()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, as it was.
    pub fn start_again(&mut self) {
        let _ = std::fs::remove_file(format!("/var/run/tgtd.ipc_abstract_namespace.{}", self.control));
        self.child = spawn(self.port, self.control);
        self.set_up();
    }

    /// Holds it: it neither answers nor hangs up.
    pub fn hold(&self) {
        assert!(run_any("kill", &["-STOP", &self.child.id().to_string()]).status.success());
    }

    /// Lets it go on.
    pub fn release(&self) {
        assert!(run_any("kill", &["-CONT", &self.child.id().to_string()]).status.success());
    }
}

fn spawn(port: u16, control: u16) -> Child {
    let portal = format!("portal=127.0.0.1:{port}");
    let _ = std::fs::create_dir_all(Path::new("/var/run"));
    Command::new("tgtd")
        .args(["-f", "-C", &control.to_string(), "--iscsi", &portal])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tgtd")
}

impl Drop for Tgt {
    fn drop(&mut self) {
        self.kill();
        for name in ["", ".lock"] {
            let socket = format!("/var/run/tgtd.ipc_abstract_namespace.{}{name}", self.control);
            let _ = std::fs::remove_file(socket);
        }
    }
}
