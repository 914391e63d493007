//! Who a client acts for. libvirt's daemons say of each other's calls on whose behalf they come, and prove with a token
//! that only this machine's daemons can read that they are what they say.

use cenote_engine::Layout;
use cenote_host::{SecretValue, create_private_dir};
use cenote_model::{Error, Result};
use cenote_rpc::procedures::{TypedParam, TypedValue};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use tokio::net::UnixStream;

/// The name of the parameter that carries the token.
const FIELD: &str = "system.token";
const BYTES: usize = 16;

/// The token, which whoever runs as this daemon's user can read: in `common/system.token` beside the sockets.
pub(crate) struct SystemToken(SecretValue);

impl SystemToken {
    /// Reads the token, or makes one as libvirt's daemons do.
    pub(crate) fn ensure(layout: &Layout) -> Result<SystemToken> {
        let folder = layout.sockets().join("common");
        let path = folder.join("system.token");
        let ensure = || -> io::Result<SecretValue> {
            create_private_dir(&folder)?;
            let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(&path)?;
            // Two daemons that start together agree on one.
            fcntl_lock(&file, FlockOperation::LockExclusive)?;
            let mut token = SecretValue::zeroed(BYTES * 2);
            if file.metadata()?.len() == 0 {
                let mut random = [0; BYTES];
                getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
                for (byte, digits) in random.iter().zip(token.expose_mut().chunks_exact_mut(2)) {
                    write!(&mut digits[..], "{byte:02x}")?;
                }
                file.write_all(token.expose())?;
            } else {
                file.read_exact(token.expose_mut())?;
            }
            Ok(token)
        };
        ensure()
            .map(SystemToken)
            .map_err(|e| Error::system(format!("cannot read or make the token '{}'", path.display()), &e))
    }

    /// True if the parameters of an identity carry the token.
    pub(crate) fn is_in(&self, identity: &[TypedParam]) -> bool {
        let given = identity.iter().find(|param| param.field == FIELD);
        match given.map(|param| &param.value) {
            // How long the comparison takes must not tell how far they are alike.
            Some(TypedValue::Text(text)) if text.len() == self.0.expose().len() => {
                text.bytes().zip(self.0.expose()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
            }
            _ => false,
        }
    }
}

/// The identity of a daemon that acts for this machine.
pub(crate) fn elevated(token: &SystemToken) -> Vec<TypedParam> {
    let token = String::from_utf8_lossy(token.0.expose()).into_owned();
    vec![TypedParam { field: FIELD.to_owned(), value: TypedValue::Text(token) }]
}

/// Who is at the other end of a socket, as the kernel says.
pub(crate) fn of_peer(socket: &UnixStream) -> Vec<TypedParam> {
    const LONG: i32 = 3;
    const UNSIGNED_LONG: i32 = 4;
    let Ok(peer) = socket.peer_cred() else { return Vec::new() };
    let number = |field: &str, kind, value| TypedParam {
        field: field.to_owned(),
        value: TypedValue::Long(kind, value),
    };
    let mut identity = vec![
        number("unix-user-id", UNSIGNED_LONG, peer.uid().into()),
        number("unix-group-id", UNSIGNED_LONG, peer.gid().into()),
    ];
    if let Some(pid) = peer.pid().and_then(|pid| u64::try_from(pid).ok()) {
        identity.push(number("process-id", LONG, pid));
        identity.extend(start_of(pid).map(|start| number("process-time", UNSIGNED_LONG, start)));
    }
    identity
}

/// When a process was started, in ticks since the machine was: with it a process is told from a later one of its number.
fn start_of(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which may hold anything, is in parentheses; the start is the 22nd field of all, the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_who_is_there() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let identity = of_peer(&ours);
        let of = |field: &str| identity.iter().find(|param| param.field == field).map(|param| &param.value);
        assert_eq!(of("process-id"), Some(&TypedValue::Long(3, std::process::id().into())));
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(of("unix-user-id"), Some(&TypedValue::Long(4, uid.into())));
        assert!(matches!(of("process-time"), Some(TypedValue::Long(4, start)) if *start > 0));
    }

    #[test]
    fn who_has_the_token_is_a_daemon_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        let token = SystemToken::ensure(&layout).unwrap();
        let same = SystemToken::ensure(&layout).unwrap();
        assert!(same.is_in(&elevated(&token)));
        assert!(token.0.expose().iter().all(u8::is_ascii_hexdigit));
        let other = SystemToken(SecretValue::copy_of(&[b'0'; BYTES * 2]));
        assert!(!token.is_in(&elevated(&other)));
        assert!(!token.is_in(&[]));
    }
}
