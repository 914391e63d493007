//! iscsiadm(8): what this machine knows of targets, and logging in and out.

use super::session::Portal;
use crate::{error, waiting};
use cenote_host::{Chap, Host, NewFile, SecretValue, ToolError, Undo};
use cenote_model::{Code, Error, Job, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Where iscsiadm keeps what it knows of targets, on one distribution and on others.
const RECORDS: [&str; 2] = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];

/// Settings of a record.
const PASSWORD: &str = "node.session.auth.password";
const PASSWORD_OF_TARGET: &str = "node.session.auth.password_in";
const NAME_OF_TARGET: &str = "node.session.auth.username_in";

/// How long a portal may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// There is such a session already.
const SESSION_EXISTS: i32 = 15;
/// The login failed for a reason that will be there the next time, or that the target calls one of passwords.
const LOGIN_REFUSED: [i32; 2] = [19, 24];
/// There is no such record, session, or target.
const NOTHING_FOUND: i32 = 21;

/// How this machine logs in to a target at one of its portals.
pub(super) struct Login<'l> {
    pub(super) target: &'l str,
    pub(super) portal: &'l Portal,
    /// The interface with the name by which it logs in; the machine's own if this is nothing.
    pub(super) interface: Option<&'l str>,
    /// Names and passwords, where there is CHAP.
    pub(super) chap: Option<&'l Chap>,
}

fn iscsiadm(host: &Host, args: &[&str], job: &Job) -> Result<Vec<u8>, ToolError> {
    host.tool("iscsiadm")?.args(args).run(job)
}

fn code(error: &ToolError) -> Option<i32> {
    match error {
        ToolError::Failed { status, .. } => status.code(),
        _ => None,
    }
}

impl Login<'_> {
    /// Makes a record of the target, and logs in, unless that has been done.
    pub(super) fn log_in(&self, host: &Host, job: &Job) -> Result<()> {
        // iscsiadm tries for minutes. Interfaces may have a network of their own.
        if self.interface.is_none() {
            reach(self.portal)?;
        }
        let mut undo = Undo::new();
        match self.node(host, &[], job) {
            Ok(_) => {}
            Err(e) if code(&e) == Some(NOTHING_FOUND) => {
                self.node(host, &["--op", "new"], job).map_err(error::tool)?;
                undo.push(|| {
                    let job = waiting::look("undoing a login");
                    drop(self.node(host, &["--op", "delete"], &job));
                });
            }
            Err(other) => return Err(error::tool(other)),
        }
        if let Some(chap) = self.chap {
            let set = |setting: &str, value: &str| {
                self.node(host, &["--op", "update", "--name", setting, "--value", value], job)
                    .map_err(error::tool)
            };
            set("node.session.auth.authmethod", "CHAP")?;
            set("node.session.auth.username", &chap.initiator.name)?;
            if let Some(target) = &chap.target {
                set(NAME_OF_TARGET, &target.name)?;
            }
            self.set_passwords(chap)?;
        }
        match self.node(host, &["--login"], job) {
            Ok(_) => {}
            Err(e) if code(&e) == Some(SESSION_EXISTS) => {}
            Err(e) if code(&e).is_some_and(|code| LOGIN_REFUSED.contains(&code)) => {
                let mut error = error::tool(e);
                // iscsiadm does not tell which side did not believe the other.
                if let Some(target) = self.chap.and_then(|chap| chap.target.as_ref()) {
                    error.detail += &format!(" (the target may not have proved itself as '{}')", target.name);
                }
                return Err(error);
            }
            Err(other) => return Err(error::tool(other)),
        }
        undo.disarm();
        Ok(())
    }

    fn node(&self, host: &Host, more: &[&str], job: &Job) -> Result<Vec<u8>, ToolError> {
        let portal = self.portal.to_string();
        let mut args = vec!["--mode", "node", "--targetname", self.target, "--portal", &portal];
        if let Some(interface) = self.interface {
            args.extend(["--interface", interface]);
        }
        args.extend(more);
        iscsiadm(host, &args, job)
    }

    /// Puts the passwords into the record. iscsiadm would take them as arguments, which every user of the machine can read.
    fn set_passwords(&self, chap: &Chap) -> Result<()> {
        let record = RECORDS.iter().find_map(|folder| self.record(Path::new(folder))).ok_or_else(|| {
            Error::new(
                Code::Internal,
                format!(
                    "iscsiadm has kept no record of target '{}' in {}",
                    self.target,
                    RECORDS.join(" or ")
                ),
            )
        })?;
        let failed = |e| Error::system(format!("cannot change '{}'", record.display()), &e);
        let text = fs::read_to_string(&record).map_err(failed)?;
        let changed = with_passwords(&text, chap)?;
        let folder = record.parent().unwrap_or(Path::new("/"));
        let new = NewFile::create_hidden(folder).map_err(failed)?;
        new.file().write_all(changed.as_bytes()).map_err(failed)?;
        // It is its owner's alone, as iscsiadm makes them.
        new.path().map_or(Ok(()), |hidden| fs::rename(hidden, &record)).map_err(failed)
    }

    /// The file with the record: of its own folder, one for each interface, or in old versions the only one.
    fn record(&self, folder: &Path) -> Option<PathBuf> {
        let name = format!("{},{}", self.portal.host, self.portal.port);
        let entries = fs::read_dir(folder.join(self.target)).ok()?.flatten();
        let is_meant = |entry: &fs::DirEntry| {
            let found = entry.file_name();
            found
                .to_str()
                .and_then(|found| found.strip_prefix(&name))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
        };
        let found = entries.into_iter().find(is_meant)?.path();
        match found.is_dir() {
            true => Some(found.join(self.interface.unwrap_or("default"))).filter(|file| file.exists()),
            false => Some(found),
        }
    }
}

/// Fails if nobody answers at a portal.
fn reach(portal: &Portal) -> Result<()> {
    let failed = |e: std::io::Error| Error::system(format!("cannot reach iSCSI portal '{portal}'"), &e);
    let addresses = (portal.host.as_str(), portal.port).to_socket_addrs().map_err(failed)?;
    let mut failure = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(_) => return Ok(()),
            Err(e) => failure = e,
        }
    }
    Err(failed(failure))
}

/// A record with these passwords in the place of others, or of none. What an earlier definition asked of the target is left
/// out where nothing is asked of it now.
fn with_passwords(record: &str, chap: &Chap) -> Result<Zeroizing<String>> {
    let mut given = vec![(PASSWORD, &chap.initiator.password)];
    let mut replaced = vec![PASSWORD, PASSWORD_OF_TARGET];
    match &chap.target {
        Some(target) => given.push((PASSWORD_OF_TARGET, &target.password)),
        None => replaced.push(NAME_OF_TARGET),
    }
    let is_replaced =
        |line: &str| line.split_once('=').is_some_and(|(name, _)| replaced.contains(&name.trim_end()));
    let room: usize =
        given.iter().map(|(setting, password)| setting.len() + password.expose().len() + 4).sum();
    let mut changed = Zeroizing::new(String::with_capacity(record.len() + room));
    let is_end = |line: &str| line.starts_with("# END RECORD");
    for line in record.lines().filter(|line| !is_end(line) && !is_replaced(line)) {
        changed.push_str(line);
        changed.push('\n');
    }
    for (setting, password) in given {
        for part in [setting, " = ", one_line(password)?, "\n"] {
            changed.push_str(part);
        }
    }
    if record.lines().any(is_end) {
        changed.push_str("# END RECORD\n");
    }
    Ok(changed)
}

fn one_line(password: &SecretValue) -> Result<&str> {
    let text = std::str::from_utf8(password.expose()).ok().filter(|text| !text.contains(['\n', '\0']));
    text.ok_or_else(|| {
        Error::new(Code::InvalidSecret, "the secret's value is no password: it is more than a line of text")
    })
}

/// Ends a session.
pub(super) fn log_out(host: &Host, session: u32, job: &Job) -> Result<()> {
    let number = session.to_string();
    match iscsiadm(host, &["--mode", "session", "--sid", &number, "--logout"], job) {
        Ok(_) => Ok(()),
        Err(e) if code(&e) == Some(NOTHING_FOUND) => Ok(()),
        Err(other) => Err(error::tool(other)),
    }
}

/// The interface by which this machine logs in under this name, if there is one.
pub(super) fn find_interface(host: &Host, initiator: &str, job: &Job) -> Result<Option<String>> {
    let printed = iscsiadm(host, &["--mode", "iface"], job).map_err(error::tool)?;
    Ok(interfaces(&String::from_utf8_lossy(&printed))
        .find(|(_, name)| *name == initiator)
        .map(|(interface, _)| interface.to_owned()))
}

/// The same; one is made if there is none.
pub(super) fn interface(host: &Host, initiator: &str, job: &Job) -> Result<String> {
    if let Some(found) = find_interface(host, initiator, job)? {
        return Ok(found);
    }
    let mut hasher = DefaultHasher::new();
    initiator.hash(&mut hasher);
    let interface = format!("cenote-{:08x}", hasher.finish() as u32);
    let run = |more: &[&str], job: &Job| {
        let args = [&["--mode", "iface", "--interface", &interface][..], more].concat();
        iscsiadm(host, &args, job).map_err(error::tool)
    };
    run(&["--op", "new"], job)?;
    let mut undo = Undo::new();
    undo.push(|| drop(run(&["--op", "delete"], &waiting::look("undoing an interface"))));
    run(&["--op", "update", "--name", "iface.initiatorname", "--value", initiator], job)?;
    undo.disarm();
    Ok(interface)
}

/// The targets at a portal.
pub(super) fn discover(
    host: &Host,
    portal: &Portal,
    interface: Option<&str>,
    job: &Job,
) -> Result<Vec<String>> {
    if interface.is_none() {
        reach(portal)?;
    }
    let portal = portal.to_string();
    let mut args = vec!["--mode", "discovery", "--type", "sendtargets", "--portal", &portal];
    args.extend(["--op", "nonpersistent"]);
    if let Some(interface) = interface {
        args.extend(["--interface", interface]);
    }
    match iscsiadm(host, &args, job) {
        Ok(printed) => Ok(super::targets(&String::from_utf8_lossy(&printed))),
        Err(e) if code(&e) == Some(NOTHING_FOUND) => Ok(Vec::new()),
        Err(other) => Err(error::tool(other)),
    }
}

/// The interfaces that `iscsiadm --mode iface` prints, each with the initiator's name, which is the last of five fields.
pub(super) fn interfaces(printed: &str) -> impl Iterator<Item = (&str, &str)> {
    printed.lines().filter_map(|line| {
        let (interface, fields) = line.split_once(' ')?;
        Some((interface, fields.splitn(5, ',').nth(4)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cenote_host::Account;

    #[test]
    fn interfaces_as_iscsiadm_prints_them() {
        let golden = include_str!("../../tests/golden/iscsiadm-iface");
        let found: Vec<_> = interfaces(golden).collect();
        assert_eq!(found, [("default", "<empty>"), ("iser", "<empty>")]);
        let own = "cenote-1 tcp,<empty>,<empty>,<empty>,iqn.2026-01.test:a,b\nnonsense\nx y,z\n";
        assert_eq!(interfaces(own).collect::<Vec<_>>(), [("cenote-1", "iqn.2026-01.test:a,b")]);
    }

    #[test]
    fn passwords_in_a_record() {
        let account = |name: &str, password: &[u8]| Account {
            name: name.to_owned(),
            password: SecretValue::copy_of(password),
        };
        let record = "# BEGIN RECORD 2.1.8\nnode.name = t\nnode.session.auth.password = old\n# END RECORD\n";
        let mut chap = Chap { initiator: account("me", b"new one"), target: None };
        let changed = with_passwords(record, &chap).unwrap();
        let expected =
            "# BEGIN RECORD 2.1.8\nnode.name = t\nnode.session.auth.password = new one\n# END RECORD\n";
        assert_eq!(changed.as_str(), expected);

        chap.target = Some(account("it", b"theirs"));
        let asked = changed.replace("node.name = t\n", "node.name = t\nnode.session.auth.username_in = it\n");
        let both = with_passwords(&asked, &chap).unwrap();
        let both = with_passwords(&both, &chap).unwrap();
        assert!(both.contains("username_in = it\nnode.session.auth.password = new one\n"), "{}", *both);
        assert!(both.ends_with("node.session.auth.password_in = theirs\n# END RECORD\n"), "{}", *both);
        chap.target = None;
        assert_eq!(with_passwords(&both, &chap).unwrap().as_str(), expected);

        chap.initiator = account("me", b"a\nnode.startup = automatic");
        assert_eq!(with_passwords(record, &chap).unwrap_err().code, Code::InvalidSecret);
    }
}
