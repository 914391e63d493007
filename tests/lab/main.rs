//! What needs a kernel of its own: run inside the lab by `cargo xtask lab`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod logical;
mod zfs;

use cenote_test_support::{Cenote, Cenoted, run};
use std::path::Path;

/// Where the lab has what is under test.
const CENOTE: &str = "/share/cenote";
const CENOTED: &str = "/share/cenoted";

/// Refuses to touch the disks of a machine that is not the lab.
fn in_the_lab() {
    assert!(Path::new("/run/cenote-lab").exists(), "this runs in the lab: cargo xtask lab");
}

/// A loop device of this size, in memory.
fn device(name: &str, mebibytes: u64) -> String {
    let file = format!("/tmp/{name}");
    std::fs::File::create(&file).unwrap().set_len(mebibytes << 20).unwrap();
    run("losetup", &["--find", "--show", &file]).trim().to_owned()
}

/// One of the two command lines: virsh at the daemon, or cenote with a state of its own.
enum Client<'c> {
    Virsh(&'c Cenoted),
    Cenote(&'c Cenote),
}

impl Client<'_> {
    fn output(&self, args: &[&str]) -> std::process::Output {
        match self {
            Client::Virsh(daemon) => daemon.virsh(args),
            Client::Cenote(cenote) => cenote.try_run(args),
        }
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} did not fail as it should");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Whether a pool lists a volume of this name.
    fn has(&self, pool: &str, volume: &str) -> bool {
        let list = self.run(&["vol-list", pool]);
        list.lines().any(|line| line.split_whitespace().next() == Some(volume))
    }

    /// Writes bytes into a volume through the client, reads them through its device, and back through the client.
    fn write_and_read(&self, pool: &str, volume: &str) {
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        std::fs::write("/tmp/content", &content).unwrap();
        self.run(&["vol-upload", volume, "/tmp/content", "--pool", pool]);
        let path = self.run(&["vol-path", volume, "--pool", pool]);
        let device = std::fs::read(path.trim()).unwrap();
        assert!(device.starts_with(&content), "{path} does not have what was uploaded");
        let length = content.len().to_string();
        self.run(&["vol-download", volume, "/tmp/back", "--pool", pool, "--length", &length]);
        assert!(std::fs::read("/tmp/back").unwrap() == content);
    }
}
