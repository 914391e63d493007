//! Sockets that nobody serves, and daemons of libvirt's that have the storage.

use super::{Finding, Weight, quoted};
use cenote_engine::Layout;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

/// The sockets of storage and secrets that are for everybody who may use the daemon.
const SOCKETS: [&str; 4] =
    ["virtstoraged-sock", "virtstoraged-sock-ro", "virtsecretd-sock", "virtsecretd-sock-ro"];
/// libvirt's daemons that have storage.
const DAEMONS: [&str; 2] = ["libvirtd", "virtstoraged"];
/// The units that start the one that has nothing but storage. libvirtd has guests too: it is not for us to stop it.
const UNITS: [&str; 4] =
    ["virtstoraged.service", "virtstoraged.socket", "virtstoraged-ro.socket", "virtstoraged-admin.socket"];

pub(super) fn findings(layout: &Layout, is_served: bool) -> Vec<Finding> {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let mut findings = Vec::new();
    // Nobody is connected to: that could start a daemon.
    let served = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let is_served_by_anybody = |path: &Path| {
        let path = path.display().to_string();
        served.lines().any(|line| line.split_whitespace().nth(7) == Some(path.as_str()))
    };
    for path in SOCKETS.iter().map(|name| layout.sockets().join(name)) {
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            continue;
        }
        if !is_served_by_anybody(&path) {
            let what = format!("nobody serves the socket '{}', which a daemon has left", path.display());
            findings.push(Finding::new(Weight::Warning, what, format!("{sudo}rm {}", quoted(&path))));
        }
    }
    if let Some((process, name)) = holder(layout) {
        let what = format!(
            "{name} (process {process}) has the storage of this place: cenoted cannot start beside it, and cenote has to \
             connect to it"
        );
        findings.push(Finding::new(Weight::Warning, what, format!("{sudo}kill {process}")));
    }
    let enabled = if is_served { enabled_units() } else { Vec::new() };
    if !enabled.is_empty() {
        let what = format!("libvirt's storage daemon starts by itself: {}", enabled.join(", "));
        let remedy = format!("{sudo}systemctl disable --now {}", enabled.join(" "));
        findings.push(Finding::new(Weight::Warning, what, remedy));
    }
    findings
}

/// The daemon of libvirt's that holds the lock on the state.
fn holder(layout: &Layout) -> Option<(u32, String)> {
    let process: u32 = fs::read_to_string(layout.run().join("driver.pid")).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?.trim().to_owned();
    DAEMONS.contains(&name.as_str()).then_some((process, name))
}

/// Units that systemd starts, or has started, where there is a systemd.
fn enabled_units() -> Vec<&'static str> {
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let is = |question: &str, unit: &str| {
        let asked = Command::new("systemctl").args(["--quiet", question, unit]).status();
        asked.is_ok_and(|status| status.success())
    };
    UNITS.into_iter().filter(|unit| is("is-enabled", unit) || is("is-active", unit)).collect()
}
