//! What needs a kernel of its own: run inside the lab by `cargo xtask lab`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod disk;
mod fs;
mod iscsi;
mod lines;
mod logical;
mod measure;
mod netfs;
mod scsi;
mod vstorage;
mod zfs;

use cenote_test_support::{Cenote, Cenoted, content, run};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the lab has what is under test.
const CENOTE: &str = "/share/cenote";
const CENOTED: &str = "/share/cenoted";

/// What waits in vain would wait for ever; what does not is done by then.
const LONG: Duration = Duration::from_secs(120);

/// Refuses to touch the disks of a machine that is not the lab.
fn in_the_lab() {
    assert!(Path::new("/run/cenote-lab").exists(), "this runs in the lab: cargo xtask lab");
}

/// Waits until it is so.
fn wait_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it does not come to be");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A loop device of this size, in memory.
fn device(name: &str, mebibytes: u64) -> String {
    in_the_lab();
    run("modprobe", &["loop"]);
    let file = format!("/tmp/{name}");
    std::fs::File::create(&file).unwrap().set_len(mebibytes << 20).unwrap();
    run("losetup", &["--find", "--show", &file]).trim().to_owned()
}

/// The name of the SCSI disk that has one path. In which order the kernel finds disks is not certain.
fn scsi_disk() -> String {
    in_the_lab();
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let is_it = |disk: &std::fs::DirEntry| {
        let wwid = std::fs::read_to_string(disk.path().join("device/wwid"));
        wwid.is_ok_and(|wwid| wwid.trim() == "naa.5000000000000001")
    };
    let disk = disks.into_iter().find(is_it).expect("the lab's SCSI disk");
    disk.file_name().into_string().unwrap()
}

/// One of the two command lines: virsh at the daemon, or cenote with a state of its own.
enum Client<'c> {
    Virsh(&'c Cenoted),
    Cenote(&'c Cenote),
}

impl Client<'_> {
    fn output(&self, args: &[&str]) -> std::process::Output {
        let started = Instant::now();
        let output = match self {
            Client::Virsh(daemon) => daemon.virsh(args),
            Client::Cenote(cenote) => cenote.try_run(args),
        };
        // Shown where a test fails.
        eprintln!("{:6.1} s  {}", started.elapsed().as_secs_f64(), args.join(" "));
        output
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a pool, now and after a reboot.
    fn start_for_good(&self, pool: &str) {
        self.run(&["pool-start", pool]);
        self.run(&["pool-autostart", pool]);
    }

    fn define(&self, xml: &str) {
        std::fs::write("/tmp/pool.xml", xml).unwrap();
        self.run(&["pool-define", "/tmp/pool.xml"]);
    }

    fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} did not fail as it should");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until a command does what it should.
    fn eventually(&self, args: &[&str]) {
        wait_until(|| self.output(args).status.success());
    }

    /// Whether a pool lists a volume of this name.
    fn has(&self, pool: &str, volume: &str) -> bool {
        let list = self.run(&["vol-list", pool]);
        list.lines().any(|line| line.split_whitespace().next() == Some(volume))
    }

    /// Writes bytes into a volume through the client, reads them through its device, and back through the client.
    fn write_and_read(&self, pool: &str, volume: &str) {
        let content = content(3_000_000);
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

/// Makes, fills, changes and removes volumes that are files; one named `plain` stays.
fn use_files(client: &Client<'_>, pool: &str) {
    client.run(&["vol-create-as", pool, "plain", "8M", "--allocation", "0"]);
    client.write_and_read(pool, "plain");
    client.run(&["vol-create-as", pool, "image", "64M", "--format", "qcow2"]);
    let xml = client.run(&["vol-dumpxml", "image", "--pool", pool]);
    assert!(xml.contains("<format type='qcow2'/>"), "{xml}");
    client.run(&["vol-clone", "plain", "clone", "--pool", pool]);
    client.run(&["vol-resize", "clone", "12M", "--pool", pool]);
    client.run(&["pool-refresh", pool]);
    let path = client.run(&["vol-path", "clone", "--pool", pool]);
    assert_eq!(std::fs::metadata(path.trim()).unwrap().len(), 12 << 20);
    client.run(&["vol-wipe", "clone", "--pool", pool]);
    for volume in ["clone", "image"] {
        client.run(&["vol-delete", volume, "--pool", pool]);
        assert!(!client.has(pool, volume));
    }
    let space = rustix::fs::statvfs(Path::new(path.trim()).parent().unwrap()).unwrap();
    let info = client.run(&["pool-info", pool, "--bytes"]);
    let capacity = format!("Capacity:       {}\n", space.f_blocks * space.f_frsize);
    assert!(info.contains(&capacity), "{info}{capacity}");
}

/// The row of what is mounted here, as the kernel shows it.
fn mounted(target: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().rev().find(|row| row.split(' ').nth(4) == Some(target)).map(str::to_owned)
}

/// The daemon whose state is here, in the state in which a reboot leaves it: what was in memory is gone.
fn after_reboot(state: &str) -> Cenoted {
    in_the_lab();
    std::fs::remove_dir_all(Path::new(state).join("run")).unwrap();
    Cenoted::start(CENOTED, Path::new(state))
}

/// Checks that a pool has started by itself after a reboot, and that the device of a volume of it can be used.
fn survived_reboot(state: &str, pool: &str, volume: &str) {
    let daemon = after_reboot(state);
    let client = Client::Virsh(&daemon);
    assert!(client.has(pool, volume), "{}", daemon.log());
    client.write_and_read(pool, volume);
}
