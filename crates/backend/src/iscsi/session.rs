//! The sessions that this machine has, as the kernel shows them.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

/// A server's address and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// A name or an address, of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A session with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u32,
    /// The SCSI host that shows the target's LUNs.
    pub host: u32,
    /// The target's name.
    pub target: String,
    /// The name by which this machine has logged in.
    pub initiator: String,
    /// The portal as it was given, and as it turned out.
    pub portals: Vec<Portal>,
}

impl Session {
    /// Whether it goes to this portal.
    pub fn is_with(&self, portal: &Portal) -> bool {
        if self.portals.contains(portal) {
            return true;
        }
        // A name leads to addresses; an address does to itself.
        if portal.host.parse::<IpAddr>().is_ok() {
            return false;
        }
        let addresses = (portal.host.as_str(), portal.port).to_socket_addrs().into_iter().flatten();
        addresses
            .map(|address| Portal { host: address.ip().to_string(), port: address.port() })
            .any(|address| self.portals.contains(&address))
    }
}

/// All sessions, by number.
pub fn sessions(sysfs: &Path) -> Vec<Session> {
    let names = fs::read_dir(sysfs.join("class/iscsi_session")).into_iter().flatten().flatten();
    let mut sessions: Vec<_> =
        names.filter_map(|entry| session(sysfs, entry.file_name().to_str()?)).collect();
    sessions.sort_by_key(|session| session.id);
    sessions
}

fn session(sysfs: &Path, name: &str) -> Option<Session> {
    let id = name.strip_prefix("session")?.parse().ok()?;
    let folder = sysfs.join("class/iscsi_session").join(name);
    let text = |path: &Path| fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned());
    let real = fs::canonicalize(&folder).ok()?;
    let host = real.iter().find_map(|part| part.to_str()?.strip_prefix("host")?.parse().ok())?;
    let connection = sysfs.join(format!("class/iscsi_connection/connection{id}:0"));
    let portal = |address: &str, port: &str| {
        let (host, port) = (text(&connection.join(address))?, text(&connection.join(port))?);
        Some(Portal { host, port: port.parse().ok()? })
    };
    let portals = [portal("persistent_address", "persistent_port"), portal("address", "port")];
    Some(Session {
        id,
        host,
        target: text(&folder.join("targetname"))?,
        initiator: text(&folder.join("initiatorname")).unwrap_or_default(),
        portals: portals.into_iter().flatten().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_as_the_kernel_shows_them() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let device = "devices/platform/host7/session3/iscsi_session/session3";
        write(&format!("{device}/targetname"), "iqn.2026-01.test:one\n");
        write(&format!("{device}/initiatorname"), "iqn.2026-01.test:here\n");
        fs::create_dir_all(tree.path().join("class/iscsi_session")).unwrap();
        std::os::unix::fs::symlink(
            tree.path().join(device),
            tree.path().join("class/iscsi_session/session3"),
        )
        .unwrap();
        write("class/iscsi_connection/connection3:0/persistent_address", "localhost\n");
        write("class/iscsi_connection/connection3:0/persistent_port", "3260\n");
        write("class/iscsi_connection/connection3:0/address", "::1\n");
        write("class/iscsi_connection/connection3:0/port", "3260\n");
        let found = sessions(tree.path());
        let [session] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((session.id, session.host), (3, 7));
        let portal = |host: &str, port| Portal { host: host.to_owned(), port };
        assert!(session.is_with(&portal("localhost", 3260)) && session.is_with(&portal("::1", 3260)));
        assert!(!session.is_with(&portal("::1", 3261)) && !session.is_with(&portal("127.0.0.1", 3260)));
        assert_eq!(portal("::1", 3260).to_string(), "[::1]:3260");
        assert!(sessions(Path::new("/nonexistent")).is_empty());
    }
}
