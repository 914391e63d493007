//! Where a daemon is: libvirt's URIs, as far as they lead to storage or secrets.

use super::Permission;
use cenote_host::tie;
use cenote_model::{Code, Error, Result};
use cenote_rpc::client::Client;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The URI as it was given.
    uri: String,
    driver: Driver,
    /// `system` or `session`.
    path: String,
    way: Way,
}

/// What a daemon is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Storage,
    Secret,
}

impl Driver {
    fn from_name(name: &str) -> Option<Driver> {
        [Driver::Storage, Driver::Secret].into_iter().find(|driver| driver.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Driver::Storage => "storage",
            Driver::Secret => "secret",
        }
    }

    /// The daemon that has nothing else.
    fn daemon(self) -> &'static str {
        match self {
            Driver::Storage => "virtstoraged",
            Driver::Secret => "virtsecretd",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// A socket on this machine; without one, that of the first daemon that answers.
    Socket(Option<PathBuf>),
    /// `virt-ssh-helper`, or netcat, on another machine.
    Ssh { host: String, user: Option<String>, port: Option<String>, socket: Option<PathBuf> },
}

impl Address {
    /// The address in a URI: `storage:///system`, `storage+unix:///system?socket=PATH`, `storage+ssh://HOST/system`.
    pub(crate) fn parse(uri: &str) -> Result<Address> {
        let refused = || Error::new(Code::NoConnect, uri);
        let (scheme, rest) = uri.split_once("://").ok_or_else(refused)?;
        let (driver, transport) = scheme.split_once('+').unwrap_or((scheme, ""));
        let driver = Driver::from_name(driver).ok_or_else(refused)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = place.split_once('/').ok_or_else(refused)?;
        if !matches!(path, "system" | "session") {
            return Err(refused());
        }
        let socket = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("socket="))
            .map(|path| decode(path).map(PathBuf::from).ok_or_else(refused))
            .transpose()?;
        let way = match (transport, host) {
            ("" | "unix", "") => Way::Socket(socket),
            ("ssh", host) if !host.is_empty() => {
                let (user, host) =
                    host.split_once('@').map_or((None, host), |(user, host)| (Some(user), host));
                let (host, port) =
                    host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
                // ssh takes what begins with a hyphen for an option.
                if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
                    return Err(refused());
                }
                Way::Ssh {
                    host: host.to_owned(),
                    user: user.map(str::to_owned),
                    port: port.map(str::to_owned),
                    socket,
                }
            }
            _ => return Err(refused()),
        };
        Ok(Address { uri: uri.to_owned(), driver, path: path.to_owned(), way })
    }

    /// A daemon's socket on this machine.
    pub(crate) fn socket(socket: &Path) -> Address {
        let path = if rustix::process::geteuid().is_root() { "system" } else { "session" };
        Address {
            uri: format!("storage+unix:///{path}?socket={}", socket.display()),
            driver: Driver::Storage,
            path: path.to_owned(),
            way: Way::Socket(Some(socket.to_owned())),
        }
    }

    /// The driver's URI, which the daemon is asked to open.
    pub(crate) fn driver(&self) -> String {
        format!("{}:///{}", self.driver.name(), self.path)
    }

    /// Connects.
    pub(crate) fn connect(&self, permission: Permission) -> Result<Client> {
        match &self.way {
            Way::Socket(Some(socket)) => connect(socket),
            Way::Socket(None) => {
                let read_only = if permission == Permission::LookOnly { "-ro" } else { "" };
                let folder = self.folder()?;
                connect(&folder.join(format!("{}-sock{read_only}", self.driver.daemon()))).or_else(|error| {
                    connect(&folder.join(format!("libvirt-sock{read_only}"))).map_err(|_| error)
                })
            }
            Way::Ssh { host, user, port, socket } => {
                let mut ssh = Command::new("ssh");
                ssh.args(["-T", "-e", "none"]);
                ssh.args(port.iter().flat_map(|port| ["-p", port]));
                ssh.args(user.iter().flat_map(|user| ["-l", user]));
                ssh.args(["--", host]).arg(self.remote_command(socket.as_deref(), permission));
                // It is not to stay behind, whatever ends this process.
                tie(&mut ssh);
                let mut child = ssh
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .map_err(|e| Error::system("cannot run ssh", &e))?;
                match (child.stdout.take(), child.stdin.take()) {
                    (Some(reader), Some(writer)) => Ok(Client::new(reader, writer)),
                    _ => Err(Error::new(Code::Internal, "ssh has no pipes")),
                }
            }
        }
    }

    /// What is run on the other machine: the helper, which finds the socket, or netcat on a socket that is named.
    fn remote_command(&self, socket: Option<&Path>, permission: Permission) -> String {
        match socket {
            Some(socket) => {
                let socket = quoted(&socket.display().to_string());
                // One that knows -q goes on after the end of its input, and so stays behind, unless it is told not to.
                let netcat = format!(
                    "if nc -q 2>&1 | grep -q 'requires an argument'; then exec nc -q0 -U {socket}; \
                     else exec nc -U {socket}; fi"
                );
                format!("sh -c {}", quoted(&netcat))
            }
            None if permission == Permission::LookOnly => {
                format!("virt-ssh-helper -r {}", quoted(&self.driver()))
            }
            None => format!("virt-ssh-helper {}", quoted(&self.driver())),
        }
    }

    /// Where the sockets of this machine are.
    fn folder(&self) -> Result<PathBuf> {
        if self.path == "system" {
            return Ok(PathBuf::from("/run/libvirt"));
        }
        std::env::var_os("XDG_RUNTIME_DIR")
            .map(|run| PathBuf::from(run).join("libvirt"))
            .ok_or_else(|| Error::new(Code::InvalidArg, "XDG_RUNTIME_DIR is not set"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

fn connect(socket: &Path) -> Result<Client> {
    let failed =
        |e: std::io::Error| Error::system(format!("Failed to connect socket to '{}'", socket.display()), &e);
    UnixStream::connect(socket).and_then(Client::on).map_err(failed)
}

/// For the shell on the other machine.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Takes back what was escaped with `%` in a URI.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let way = |uri: &str| Address::parse(uri).unwrap().way;
        assert_eq!(way("storage:///system"), Way::Socket(None));
        assert_eq!(Address::parse("secret:///session").unwrap().driver(), "secret:///session");
        assert_eq!(
            way("storage+unix:///session?mode=legacy&socket=/a%20b"),
            Way::Socket(Some("/a b".into()))
        );
        let ssh = Way::Ssh {
            host: "host".into(),
            user: Some("me".into()),
            port: Some("2222".into()),
            socket: None,
        };
        assert_eq!(way("storage+ssh://me@host:2222/system"), ssh);
        for uri in [
            "",
            "storage",
            "qemu:///system",
            "storage:///other",
            "storage+tcp://h/system",
            "storage+ssh://-o/system",
        ] {
            assert_eq!(Address::parse(uri).unwrap_err().code, Code::NoConnect, "{uri}");
        }
        let quoting = Address::parse("storage+ssh://h/system?socket=/it's").unwrap();
        let command = quoting.remote_command(Some(Path::new("/it's")), Permission::Everything);
        let echo = command.replacen("exec nc -U", "printf %s", 1).replacen("nc -q ", "true ", 1);
        let said = Command::new("sh").args(["-c", &echo]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "/it's", "{command}");
    }
}
