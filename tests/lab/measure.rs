//! How long a refresh of many volumes takes, and how many processes it starts, beside libvirtd. Run when it is asked for, by
//! `cargo xtask lab measure`: nothing is required of what it finds.

use crate::{CENOTED, in_the_lab};
use cenote_test_support::{Cenoted, Libvirtd, run};
use std::fs::File;
use std::io::Write;
use std::process::Output;
use std::time::Instant;

const ROUNDS: usize = 7;

/// The middle of several refreshes, in seconds, and the processes that one of them starts.
fn refresh(virsh: &dyn Fn(&[&str]) -> Output, define: &[&str], pool: &str, volumes: usize) -> (f64, f64) {
    let succeed = |args: &[&str]| {
        let output = virsh(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    succeed(define);
    succeed(&["pool-start", pool]);
    assert_eq!(succeed(&["vol-list", pool]).matches("/dev/").count(), volumes);
    let started = || -> f64 {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().find_map(|line| line.strip_prefix("processes ")).unwrap();
        line.parse().unwrap()
    };
    // What virsh itself takes is the same on both sides, and taken off.
    let mut times = Vec::new();
    let before = started();
    for _ in 0..ROUNDS {
        let empty = Instant::now();
        succeed(&["pool-uuid", pool]);
        let empty = empty.elapsed().as_secs_f64();
        let full = Instant::now();
        succeed(&["pool-refresh", pool]);
        times.push(full.elapsed().as_secs_f64() - empty);
    }
    let processes = (started() - before) / ROUNDS as f64;
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], processes)
}

fn compare(what: &str, define: &[&str], pool: &str, volumes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
    let theirs = refresh(&|args| libvirtd.virsh(args), define, pool, volumes);
    drop(libvirtd);
    let cenoted = Cenoted::start(CENOTED, &folder.path().join("cenote"));
    let ours = refresh(&|args| cenoted.virsh(args), define, pool, volumes);
    let mut measured = File::options().create(true).append(true).open("/share/measured").unwrap();
    writeln!(
        measured,
        "refresh of {what}: libvirtd {:.2} s and {:.1} processes, cenoted {:.2} s and {:.1} processes: {:.1} times as fast",
        theirs.0,
        theirs.1,
        ours.0,
        ours.1,
        theirs.0 / ours.0
    )
    .unwrap();
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
    compare("500 zvols", &["pool-define-as", "tank", "zfs", "--source-name", "tank"], "tank", 500);
}
