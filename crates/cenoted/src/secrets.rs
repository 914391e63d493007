//! Where the secrets are: with this daemon, or with another one that has had them before.

use crate::client::Rights;
use crate::identity::{self, SystemToken};
use cenote_engine::{Access, Layout, SecretStore, Secrets, check_kind};
use cenote_host::{Host, SecretValue};
use cenote_model::auth::SecretRef;
use cenote_model::event::SecretEvent;
use cenote_model::secret::{SecretId, UsageKind};
use cenote_model::{Code, Domain, Error, Result, Uuid};
use cenote_rpc::client::Client;
use cenote_rpc::events::secret_event;
use cenote_rpc::procedures::{Procedure, TypedParam, calls};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long another daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a daemon that has gone is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the secrets are.
pub(crate) enum SecretsHome {
    Here(Arc<SecretStore>),
    Elsewhere(Arc<SecretDaemon>),
}

impl SecretsHome {
    /// Leaves the secrets to a virtsecretd that listens, or to a libvirtd that has them; else takes them.
    pub(crate) fn find(layout: &Layout, token: &Arc<SystemToken>) -> Result<SecretsHome> {
        let elsewhere = |name: &str| {
            let socket = layout.sockets().join(name);
            let is_served = UnixStream::connect(&socket).is_ok();
            let daemon = || Arc::new(SecretDaemon { socket, token: Arc::clone(token) });
            is_served.then(|| SecretsHome::Elsewhere(daemon()))
        };
        if let Some(daemon) = elsewhere("virtsecretd-sock") {
            return Ok(daemon);
        }
        match SecretStore::open(layout, &Host::new(), Access::Write) {
            Ok(store) => Ok(SecretsHome::Here(Arc::new(store))),
            Err(error) if error.code == Code::ResourceBusy => elsewhere("libvirt-sock").ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// What storage asks for passphrases.
    pub(crate) fn for_storage(&self) -> Arc<dyn Secrets> {
        match self {
            SecretsHome::Here(store) => Arc::clone(store) as Arc<dyn Secrets>,
            SecretsHome::Elsewhere(daemon) => Arc::clone(daemon) as Arc<dyn Secrets>,
        }
    }

    /// Gives up those that are here.
    pub(crate) fn release(&self) {
        if let SecretsHome::Here(store) = self {
            store.release();
        }
    }

    /// What happens to secrets from now on.
    pub(crate) fn events(&self) -> Receiver<SecretEvent> {
        match self {
            SecretsHome::Here(store) => store.events().subscribe(),
            SecretsHome::Elsewhere(daemon) => daemon.events(),
        }
    }
}

/// Another daemon, which has the secrets. It is connected to for each call: it may end when it is idle, and come back.
pub(crate) struct SecretDaemon {
    socket: PathBuf,
    token: Arc<SystemToken>,
}

impl SecretDaemon {
    fn connect(
        &self,
        rights: Rights,
        identity: Vec<TypedParam>,
        patience: Option<Duration>,
    ) -> Result<Client> {
        let open = || {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Client::on(stream)
        };
        let client = open().map_err(|e: std::io::Error| {
            let what =
                format!("cannot reach the daemon that has the secrets, at '{}'", self.socket.display());
            Error::system(what, &e).in_domain(Domain::Secret)
        })?;
        const READ_ONLY: u32 = 1;
        let flags = if rights == Rights::Reading { READ_ONLY } else { 0 };
        let path = if rustix::process::geteuid().is_root() { "system" } else { "session" };
        client.call::<calls::AuthList>(&())?;
        client.call::<calls::ConnectOpen>(&(Some(format!("secret:///{path}")), flags))?;
        // What may be done is for that daemon to say, of whom the call comes from.
        client.call::<calls::ConnectSetIdentity>(&(identity, 0))?;
        Ok(client)
    }

    /// Passes a client's call on.
    pub(crate) fn forward(
        &self,
        rights: Rights,
        identity: Vec<TypedParam>,
        procedure: Procedure,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        self.connect(rights, identity, Some(PATIENCE))?.forward(procedure.number(), payload)
    }

    fn events(self: &Arc<SecretDaemon>) -> Receiver<SecretEvent> {
        let (sender, receiver) = channel();
        let daemon = Arc::clone(self);
        thread::spawn(move || {
            // Without the daemon there are no events. It ends when nobody listens any more.
            while daemon.pass_on(&sender) != Passed::NobodyListens {
                thread::sleep(AGAIN);
            }
        });
        receiver
    }

    /// Passes events on until the daemon goes.
    fn pass_on(&self, to: &Sender<SecretEvent>) -> Passed {
        let Ok(client) = self.connect(Rights::Everything, identity::elevated(&self.token), None) else {
            return Passed::DaemonGone;
        };
        let events = client.events();
        for kind in [0, 1] {
            if client.call::<calls::ConnectSecretEventRegisterAny>(&(kind, None)).is_err() {
                return Passed::DaemonGone;
            }
        }
        for event in events.iter().filter_map(|frame| secret_event(&frame).ok().flatten()) {
            if to.send(event).is_err() {
                return Passed::NobodyListens;
            }
        }
        Passed::DaemonGone
    }
}

/// Why no more events are passed on.
#[derive(PartialEq, Eq)]
enum Passed {
    DaemonGone,
    NobodyListens,
}

impl Secrets for SecretDaemon {
    fn value(&self, secret: &SecretRef, kind: UsageKind) -> Result<SecretValue> {
        let client = self.connect(Rights::Everything, identity::elevated(&self.token), Some(PATIENCE))?;
        let (id,) = match secret {
            SecretRef::Uuid(uuid) => client.call::<calls::SecretLookupByUuid>(&(*uuid,))?,
            SecretRef::Usage(id) => {
                client.call::<calls::SecretLookupByUsage>(&(kind.number(), id.clone()))?
            }
        };
        let known = SecretId::from(id.clone());
        check_kind(&known, kind)?;
        Ok(client.call::<calls::SecretGetValue>(&(id, 0))?.0)
    }

    fn of_volume(&self, path: &str) -> Option<Uuid> {
        let client =
            self.connect(Rights::Everything, identity::elevated(&self.token), Some(PATIENCE)).ok()?;
        let args = (UsageKind::Volume.number(), path.to_owned());
        client.call::<calls::SecretLookupByUsage>(&args).ok().map(|(id,)| id.uuid)
    }
}
