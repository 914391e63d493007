//! How long a refresh of many volumes takes, and how many processes it starts, beside libvirtd. Run when it is asked for, by
//! `cargo xtask lab measure`: nothing is required of what it finds.

use crate::{CENOTED, in_the_lab};
use cenote_test_support::{Cenoted, Libvirtd, run};
use std::fs::File;
use std::io::Write;
use std::process::Output;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// One of the two that are compared.
struct Side<'s> {
    virsh: &'s dyn Fn(&[&str]) -> Output,
    pool: &'s str,
}

impl Side<'_> {
    fn succeed(&self, args: &[&str]) -> String {
        let output = (self.virsh)(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self, define: &[&str], volumes: usize) {
        self.succeed(define);
        self.succeed(&["pool-start", self.pool]);
        assert_eq!(self.succeed(&["vol-list", self.pool]).matches("/dev/").count(), volumes);
        // What has just been made or changed is read anew.
        std::thread::sleep(Duration::from_secs(45));
        self.succeed(&["pool-refresh", self.pool]);
    }

    /// The middle of several refreshes in seconds, without what virsh itself takes, and the processes that one of them
    /// starts, those of virsh included.
    fn refresh(&self, before_each: &dyn Fn()) -> (f64, f64) {
        let (mut times, mut processes) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            before_each();
            let started = Instant::now();
            self.succeed(&["pool-uuid", self.pool]);
            let without = started.elapsed().as_secs_f64();
            let (before, started) = (all_processes(), Instant::now());
            self.succeed(&["pool-refresh", self.pool]);
            times.push(started.elapsed().as_secs_f64() - without);
            processes.push(all_processes() - before);
        }
        (middle(times), middle(processes))
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many the kernel has started since the boot.
fn all_processes() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.lines().find_map(|line| line.strip_prefix("processes ")).unwrap().parse().unwrap()
}

/// Compares refreshes of what has not changed, and of what has.
fn compare(what: &str, define: &[&str], pool: &str, volumes: usize, change: &dyn Fn()) {
    let folder = tempfile::tempdir().unwrap();
    let measure = |virsh: &dyn Fn(&[&str]) -> Output| {
        let side = Side { virsh, pool };
        side.start(define, volumes);
        [side.refresh(&|| ()), side.refresh(change)]
    };
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    let theirs = measure(&|args| libvirtd.virsh(args));
    drop(libvirtd);
    let cenoted = Cenoted::start(CENOTED, &folder.path().join("cenote"));
    let ours = measure(&|args| cenoted.virsh(args));
    let mut measured = File::options().create(true).append(true).open("/share/measured").unwrap();
    for ((state, theirs), ours) in ["unchanged", "changed"].into_iter().zip(theirs).zip(ours) {
        writeln!(
            measured,
            "refresh of {what}, {state}: libvirtd {:.2} s, {} processes; cenoted {:.2} s, {}: {:.1} times as fast",
            theirs.0,
            theirs.1,
            ours.0,
            ours.1,
            theirs.0 / ours.0
        )
        .unwrap();
    }
}

#[test]
#[ignore = "it takes minutes"]
fn logical_volumes() {
    in_the_lab();
    run("modprobe", &["dm_mod"]);
    run("vgcreate", &["-q", "many", "/dev/vdb"]);
    for number in 0..200 {
        run("lvcreate", &["-q", "-y", "-Wn", "-Zn", "-l", "1", "-n", &format!("v{number}"), "many"]);
    }
    run("udevadm", &["settle"]);
    compare(
        "200 logical volumes",
        &["pool-define-as", "many", "logical", "--source-name", "many"],
        "many",
        200,
        &|| {
            run("lvchange", &["-q", "--addtag", "changed", "many/v0"]);
            run("lvchange", &["-q", "--deltag", "changed", "many/v0"]);
        },
    );
}

#[test]
#[ignore = "it takes minutes"]
fn zvols() {
    in_the_lab();
    run("modprobe", &["zfs"]);
    run("zpool", &["create", "-m", "none", "tank", "/dev/vdc"]);
    for number in 0..500 {
        run("zfs", &["create", "-s", "-V", "16M", &format!("tank/v{number}")]);
    }
    run("udevadm", &["settle"]);
    let define = ["pool-define-as", "tank", "zfs", "--source-name", "tank"];
    compare("500 zvols", &define, "tank", 500, &|| {
        run("zfs", &["set", &format!("cenote:changed={:?}", Instant::now()), "tank/v0"]);
    });
}
