//! What `virtstoraged.conf` and `virtsecretd.conf` say, each about its own sockets, and `cenote.conf` about metrics.

use cenote_engine::Layout;
use cenote_host::{Setting, Settings};
use cenote_model::Result;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The settings that are followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The mode of the socket for everything.
    pub(crate) rw_mode: u32,
    /// The mode of the socket for reading.
    pub(crate) ro_mode: u32,
    /// The group that both belong to; else that of the daemon.
    pub(crate) group: Option<u32>,
}

/// Without another authentication, who may open the socket is who may use it.
const DEFAULT: Config = Config { rw_mode: 0o700, ro_mode: 0o777, group: None };

/// Reads the settings; without a file they are the defaults. A setting that would be safer than what this version can
/// do is an error.
pub(crate) fn read(path: &Path) -> Result<Config> {
    parse(&Settings::read(path)?)
}

fn parse(settings: &Settings) -> Result<Config> {
    let mut config = DEFAULT;
    for Setting { line, name, value } in settings.iter() {
        let mode = || {
            u32::from_str_radix(value, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or_else(|| settings.wrong(*line, format_args!("'{value}' is no mode")))
        };
        match name.as_str() {
            "auth_unix_rw" | "auth_unix_ro" if value != "none" => {
                let problem = format_args!("{name} = \"{value}\" is not supported yet: there is \"none\"");
                return Err(settings.wrong(*line, problem));
            }
            // `[]`, or the driver that allows everything.
            "access_drivers" if !value.chars().all(|c| "[] \"nop".contains(c)) => {
                let problem = format_args!("access_drivers = {value} is not supported yet");
                return Err(settings.wrong(*line, problem));
            }
            "unix_sock_rw_perms" => config.rw_mode = mode()?,
            "unix_sock_ro_perms" => config.ro_mode = mode()?,
            "unix_sock_group" => {
                let unknown = || settings.wrong(*line, format_args!("there is no group '{value}'"));
                config.group = Some(group_id(value).ok_or_else(unknown)?);
            }
            _ => {}
        }
    }
    Ok(config)
}

/// Where metrics are told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MetricsSocket {
    Nowhere,
    /// On a Unix socket, to its owner.
    Unix(PathBuf),
    /// To this machine.
    Loopback(SocketAddr),
}

/// Where `cenote.conf` wants metrics to be told.
pub(crate) fn metrics_socket(layout: &Layout) -> Result<MetricsSocket> {
    let settings = Settings::read(&layout.settings("cenote.conf"))?;
    let Some(setting) = settings.get("metrics_listen") else {
        return Ok(MetricsSocket::Unix(layout.sockets().join("cenote-metrics-sock")));
    };
    match setting.value.as_str() {
        "none" => Ok(MetricsSocket::Nowhere),
        path if path.starts_with('/') => Ok(MetricsSocket::Unix(path.into())),
        address => match address.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsSocket::Loopback(address)),
            Ok(address) => Err(settings.wrong(
                setting.line,
                format_args!(
                    "metrics_listen = \"{address}\" is open to others: use 127.0.0.1 or [::1], or a path"
                ),
            )),
            Err(_) => Err(settings.wrong(
                setting.line,
                format_args!("metrics_listen is a path, 127.0.0.1:PORT, [::1]:PORT or none, not '{address}'"),
            )),
        },
    }
}

/// The number of a group of this machine.
fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter(|fields| fields.first() == Some(&name)).find_map(|fields| fields.get(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        parse(&Settings::parse("/virtstoraged.conf".as_ref(), text)?)
    }

    #[test]
    fn settings() {
        let text = "auth_unix_rw = \"none\"\nunix_sock_rw_perms=\"0770\"\nmax_clients = 5\n";
        assert_eq!(config(text), Ok(Config { rw_mode: 0o770, ..DEFAULT }));
        assert!(config("auth_unix_rw = \"polkit\"").unwrap_err().detail.contains("not supported"));
        assert!(config("unix_sock_rw_perms = \"9\"").is_err());
        assert!(config("access_drivers = [ \"polkit\" ]").unwrap_err().detail.contains("not supported"));
        assert_eq!(config("access_drivers = [ \"nop\" ]\naccess_drivers = []"), Ok(DEFAULT));
        assert_eq!(config("unix_sock_group = \"root\"").unwrap().group, Some(0));
        assert!(config("unix_sock_group = \"no such\"").unwrap_err().detail.contains("no group 'no such'"));
    }
}
