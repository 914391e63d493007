//! The daemon under test.

use crate::virsh::{stop, virsh, virsh_command};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A cenoted that runs until the value is dropped.
pub struct Cenoted {
    child: Child,
    prefix: PathBuf,
}

impl Cenoted {
    /// Starts it and waits until its socket accepts.
    pub fn start(program: &str, prefix: &Path) -> Cenoted {
        Cenoted::start_with(program, prefix, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(program: &str, prefix: &Path, environment: &[(&str, &Path)]) -> Cenoted {
        std::fs::create_dir_all(prefix).unwrap();
        let log = std::fs::File::create(prefix.join("cenoted.log")).unwrap();
        let child = Command::new(program)
            .arg("--prefix")
            .arg(prefix)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("cenoted");
        let cenoted = Cenoted { child, prefix: prefix.to_owned() };
        let started = Instant::now();
        while UnixStream::connect(cenoted.socket()).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "cenoted does not accept: {}",
                cenoted.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        cenoted
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.prefix.join("run/libvirt/virtstoraged-sock")
    }

    /// The address of its socket.
    pub fn uri(&self) -> String {
        format!("storage+unix:///system?mode=legacy&socket={}", self.socket().display())
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.prefix.join("cenoted.log")).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it tells Prometheus.
    pub fn metrics(&self) -> String {
        let mut stream = UnixStream::connect(self.prefix.join("run/libvirt/cenote-metrics-sock")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: cenoted\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The value of a metric, with its labels as they are written.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// Runs virsh against it.
    pub fn virsh(&self, args: &[&str]) -> Output {
        virsh(&self.uri(), "virtstoraged-sock", args)
    }

    /// The same, not started.
    pub(crate) fn virsh_command(&self, args: &[&str]) -> Command {
        virsh_command(&self.uri(), "virtstoraged-sock", args)
    }

    /// Kills it.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with SIGTERM. Says whether it ended by itself within this time.
    pub fn stop(mut self, within: Duration) -> bool {
        stop(&mut self.child, within)
    }
}

impl Drop for Cenoted {
    fn drop(&mut self) {
        stop(&mut self.child, Duration::from_secs(8));
    }
}
