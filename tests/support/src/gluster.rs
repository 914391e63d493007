//! A Gluster server in a network namespace of its own, as it refuses to serve on loopback.

use crate::{Mounted, run, run_any};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The server's processes, its files and its commands are its own; it is over when its first process is.
const SCRIPT: &str = r#"
    set -e
    for d in var/lib/glusterd var/run/gluster var/log/glusterfs; do
        mkdir -p "/$d" "$0/$d"; mount --bind "$0/$d" "/$d"
    done
    glusterd -N &
    until gluster --mode=script volume list > /dev/null 2>&1; do sleep 0.1; done
    gluster --mode=script volume create vol1 "$1:$2/b" force
    gluster --mode=script volume set vol1 network.ping-timeout 3
    gluster --mode=script volume start vol1
    touch "$0/ready"
    wait
"#;

/// A server with a volume, `vol1`, on one brick; it runs until the value is dropped.
pub struct Gluster {
    folder: tempfile::TempDir,
    brick: Mounted,
    name: String,
    address: String,
    child: Child,
}

impl Gluster {
    /// Starts it, and waits until the volume is there.
    pub fn start() -> Gluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed) * 97) % 250;
        let (name, net) = (format!("cenote-g{number}"), format!("10.99.{number}"));
        let address = format!("{net}.1");
        let _ = run_any("ip", &["netns", "delete", &name]);
        run("ip", &["netns", "add", &name]);
        let (here, there) = (format!("cg{number}h"), format!("cg{number}t"));
        run("ip", &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name]);
        run("ip", &["address", "add", &format!("{net}.2/24"), "dev", &here]);
        run("ip", &["link", "set", &here, "up"]);
        let inside = |args: &[&str]| run("ip", &[&["-n", &name][..], args].concat());
        inside(&["address", "add", &format!("{address}/24"), "dev", &there]);
        inside(&["link", "set", &there, "up"]);
        inside(&["link", "set", "lo", "up"]);
        let folder = tempfile::tempdir().unwrap();
        let brick = Mounted::image("xfs", 400 << 20);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &name, "unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", SCRIPT])
            .arg(folder.path())
            .arg(&address)
            .arg(&brick.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("ip");
        let gluster = Gluster { folder, brick, name, address, child };
        let started = Instant::now();
        while !gluster.folder.path().join("ready").exists() {
            let log = || std::fs::read_to_string(gluster.folder.path().join("log")).unwrap();
            assert!(started.elapsed() < Duration::from_secs(60), "glusterd does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        gluster
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of the brick, in which the files of the volume are.
    pub fn brick(&self) -> PathBuf {
        self.brick.path.join("b")
    }

    /// The process that serves the brick, seen from here.
    fn brick_process(&self) -> Option<String> {
        let found = run_any("pgrep", &["-f", &format!("glusterfsd.*{}", self.brick.path.display())]);
        String::from_utf8(found.stdout).unwrap().lines().next().map(str::to_owned)
    }

    /// Kills what serves the brick.
    pub fn kill_brick(&self) {
        if let Some(process) = self.brick_process() {
            run("kill", &["-9", &process]);
        }
    }

    /// Serves it again.
    pub fn start_brick(&self) {
        // The first process in the namespaces is a child of what was started.
        let first = run("pgrep", &["-P", &self.child.id().to_string()]);
        let start = ["gluster", "--mode=script", "volume", "start", "vol1", "force"];
        let inside = ["-t", first.lines().next().unwrap().trim(), "-m", "-p", "-n"];
        run("nsenter", &[&inside[..], &start].concat());
    }

    /// Holds what serves the brick: it neither answers nor hangs up.
    pub fn hold_brick(&self) {
        run("kill", &["-STOP", &self.brick_process().unwrap()]);
    }

    /// Lets it go on.
    pub fn release_brick(&self) {
        run("kill", &["-CONT", &self.brick_process().unwrap()]);
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(Path::new(self.folder.path()).join("log")).unwrap_or_default()
    }
}

impl Drop for Gluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = run_any("ip", &["netns", "delete", &self.name]);
    }
}
