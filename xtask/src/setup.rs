//! Installing what the tests need, on Debian.

use crate::run;
use std::path::Path;
use std::process::Command;

/// From the release itself.
const PACKAGES: [&str; 29] = [
    "attr",
    "binutils",
    "btrfs-progs",
    "ceph-common",
    "ceph-mgr",
    "ceph-mon",
    "ceph-osd",
    "e2fsprogs",
    "g++",
    "gcc",
    "gdb",
    "golang-github-digitalocean-go-libvirt-dev",
    "golang-go",
    "iproute2",
    "libsys-virt-perl",
    "libxml2-utils",
    "lvm2",
    "mmdebstrap",
    "mount",
    "netcat-openbsd",
    "openssh-client",
    "openssh-server",
    "parted",
    "procps",
    "python3",
    "python3-libvirt",
    "tgt",
    "util-linux",
    "xfsprogs",
];

/// From the backports, where the release is too old: the versions that the tests compare with.
const NEWER: [&str; 19] = [
    "glusterfs-server",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-driver-secret",
    "libvirt-daemon-driver-storage",
    "libvirt-daemon-driver-storage-disk",
    "libvirt-daemon-driver-storage-gluster",
    "libvirt-daemon-driver-storage-iscsi",
    "libvirt-daemon-driver-storage-iscsi-direct",
    "libvirt-daemon-driver-storage-logical",
    "libvirt-daemon-driver-storage-mpath",
    "libvirt-daemon-driver-storage-rbd",
    "libvirt-daemon-driver-storage-scsi",
    "libvirt-daemon-driver-storage-zfs",
    "libvirt-daemon-system",
    "qemu-block-extra",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
];

const BACKPORTS: &str = "/etc/apt/sources.list.d/cenote-backports.list";
/// A package that starts a service asks this program whether it may.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing. Without root and sudo it says what to install; the tests then skip what they lack.
pub(crate) fn install() -> Result<(), String> {
    let missing: Vec<_> = PACKAGES.iter().chain(&NEWER).copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let prefix: &[&str] = match (is_root(), has("sudo")) {
        (true, _) => &[],
        (false, true) => &["sudo"],
        (false, false) => {
            eprintln!("not installed, and neither root nor sudo to install it: {}", missing.join(" "));
            return Ok(());
        }
    };
    if !has("apt-get") {
        eprintln!("this is no Debian; the tests need: {}", missing.join(" "));
        return Ok(());
    }
    let sh = |script: &str| {
        let mut command = match prefix.first() {
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.arg("sh");
                command
            }
            None => Command::new("sh"),
        };
        command.args(["-e", "-c", script]).env("DEBIAN_FRONTEND", "noninteractive");
        run(command)
    };
    let release = codename();
    if release == "bookworm" && !Path::new(BACKPORTS).exists() {
        let line = format!("deb http://deb.debian.org/debian {release}-backports main");
        sh(&format!("echo '{line}' > {BACKPORTS}"))?;
    }
    let target = if release == "bookworm" { "--target-release bookworm-backports" } else { "" };
    let with_policy = !Path::new(POLICY).exists();
    if with_policy {
        sh(&format!("printf '#!/bin/sh\\nexit 101\\n' > {POLICY}; chmod +x {POLICY}"))?;
    }
    let newer: Vec<_> = missing.iter().copied().filter(|name| NEWER.contains(name)).collect();
    let older: Vec<_> = missing.iter().copied().filter(|name| PACKAGES.contains(name)).collect();
    let apt = "apt-get install --quiet --quiet --yes --no-install-recommends";
    let installed = sh("apt-get update --quiet --quiet")
        .and_then(|()| sh(&format!("{apt} {}", older.join(" "))))
        .and_then(|()| sh(&format!("{apt} {target} {}", newer.join(" "))));
    if with_policy {
        sh(&format!("rm {POLICY}"))?;
    }
    installed
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program} > /dev/null")])
        .status()
        .is_ok_and(|s| s.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn codename() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.unwrap_or_default().to_owned()
}
