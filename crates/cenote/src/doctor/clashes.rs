//! Sockets that nobody serves, and daemons of libvirt's that have the storage.

use super::{Finding, Weight, quoted};
use cenote_engine::Layout;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// The sockets of storage and secrets; first those that libvirt's modular daemons and cenoted share.
const SOCKETS: [&str; 5] = [
    "virtstoraged-sock",
    "virtstoraged-sock-ro",
    "virtsecretd-sock",
    "virtsecretd-sock-ro",
    "cenote-metrics-sock",
];
/// libvirt's daemons that have storage.
const DAEMONS: [&str; 2] = ["libvirtd", "virtstoraged"];
/// The units that start them.
const UNITS: [&str; 9] = [
    "virtstoraged.service",
    "virtstoraged.socket",
    "virtstoraged-ro.socket",
    "virtstoraged-admin.socket",
    "libvirtd.service",
    "libvirtd.socket",
    "libvirtd-ro.socket",
    "libvirtd-admin.socket",
    "libvirtd-tcp.socket",
];

pub(super) fn findings(layout: &Layout, is_served: bool) -> Vec<Finding> {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let mut findings = Vec::new();
    for name in SOCKETS {
        let path = layout.sockets().join(name);
        let is_socket = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
        match UnixStream::connect(&path) {
            Err(e) if is_socket && e.kind() == ErrorKind::ConnectionRefused => {
                let what = format!("nobody serves the socket '{}', which a daemon has left", path.display());
                findings.push(Finding::new(Weight::Warning, what, format!("{sudo}rm {}", quoted(&path))));
            }
            Err(e) if is_socket && e.kind() == ErrorKind::PermissionDenied => {
                let what = format!("this user may not use the socket '{}'", path.display());
                findings.push(Finding::new(
                    Weight::Warning,
                    what,
                    format!("{sudo}chmod o+rw {}", quoted(&path)),
                ));
            }
            _ => {}
        }
    }
    let holder = holder(layout);
    if let Some((process, name)) = &holder {
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
