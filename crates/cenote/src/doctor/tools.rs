//! Programs and libraries that types of pool need.

use super::{Finding, Weight};
use cenote_engine::{Layout, definitions, driver, needs};
use cenote_host::Host;
use cenote_model::PoolKind;
use needs::{Importance, Need, needs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A type of pool on this machine.
pub(super) struct Type {
    kind: PoolKind,
    /// This version has it.
    is_known: bool,
    /// There is a pool of it, or the first use makes one.
    is_used: bool,
    missing: Vec<Need>,
}

impl Type {
    fn state(&self) -> &'static str {
        match (self.is_known, self.missing.is_empty()) {
            (false, _) => "not in this version",
            (true, true) => "ready",
            (true, false) => "ready in part",
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let missing: Vec<_> = self.missing.iter().map(|need| need.what.to_string()).collect();
        json!({"type": self.kind.as_str(), "state": self.state(), "missing": missing})
    }
}

/// All types of pool.
pub(super) fn types(host: &Host, layout: &Layout) -> Vec<Type> {
    // What cannot be read is found elsewhere.
    let pools = definitions(layout, host).map(|(pools, _)| pools).unwrap_or_default();
    let of_kind = |kind: &PoolKind| Type {
        kind: *kind,
        is_known: driver(*kind).is_some(),
        is_used: *kind == PoolKind::Dir || pools.iter().any(|pool| pool.kind == *kind),
        missing: needs(*kind).iter().filter(|need| !need.what.is_there(host)).copied().collect(),
    };
    PoolKind::ALL.iter().map(of_kind).collect()
}

pub(super) fn table(types: &[Type]) -> String {
    let mut text = format!(" {:<14} {:<20} {}\n{}\n", "Type", "State", "Missing", "-".repeat(60));
    for known in types {
        let missing: Vec<_> = known.missing.iter().map(|need| need.what.to_string()).collect();
        let line = format!(" {:<14} {:<20} {}", known.kind.as_str(), known.state(), missing.join(" "));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// One finding for each package: what lacks it, and how to install it.
pub(super) fn findings(types: &[Type]) -> Vec<Finding> {
    let system = System::of_this_machine();
    let mut packages: BTreeMap<&str, (Vec<String>, Weight)> = BTreeMap::new();
    for known in types {
        for need in &known.missing {
            let package = system.package(need);
            // What nobody packages is in the table alone.
            if package.is_empty() {
                continue;
            }
            let entry = packages.entry(package).or_insert((Vec::new(), Weight::Hint));
            entry.0.push(format!("{} (type {}: {})", need.what, known.kind, need.purpose));
            if known.is_known && known.is_used && need.importance != Importance::Rare {
                entry.1 = Weight::Warning;
            }
        }
    }
    let finding = |(package, (lacking, weight)): (&str, (Vec<String>, Weight))| {
        Finding::new(weight, format!("not installed: {}", lacking.join(", ")), system.install(package))
    };
    packages.into_iter().map(finding).collect()
}

/// How packages are installed here.
enum System {
    /// Debian, of this release, or what is made of it.
    Debian {
        release: Option<String>,
    },
    Fedora,
    /// Another one: its packages are called as Debian's, perhaps.
    Other,
}

/// Debian has these in a part of its archive that is not always asked for.
const CONTRIB: [&str; 2] = ["zfs-dkms", "zfsutils-linux"];

impl System {
    fn of_this_machine() -> System {
        let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let ids = value("ID") + " " + &value("ID_LIKE");
        if ids.split(' ').any(|id| id == "fedora" || id == "rhel") {
            return System::Fedora;
        }
        if !ids.split(' ').any(|id| id == "debian" || id == "ubuntu") {
            return System::Other;
        }
        System::Debian { release: (value("ID") == "debian").then(|| value("VERSION_CODENAME")) }
    }

    fn package(&self, need: &Need) -> &'static str {
        match self {
            System::Debian { .. } | System::Other => need.debian,
            System::Fedora => need.fedora,
        }
    }

    fn install(&self, package: &str) -> String {
        let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
        match self {
            System::Debian { release } => {
                let contrib = release.as_ref().filter(|_| CONTRIB.contains(&package)).map(|release| {
                    let line = format!("deb http://deb.debian.org/debian {release} contrib");
                    format!("echo '{line}' | {sudo}tee /etc/apt/sources.list.d/contrib.list && ")
                });
                let contrib = contrib.unwrap_or_default();
                format!("{contrib}{sudo}apt-get update && {sudo}apt-get install --yes {package}")
            }
            System::Fedora => format!("{sudo}dnf install --assumeyes {package}"),
            System::Other => format!("# install what has it; Debian's package is {package}"),
        }
    }
}
