//! Secrets: their definitions, their values, and who may have them.
//!
//! A value is in memory only while it is used. What is persistent is read from its file when it is asked for; the
//! value of an ephemeral secret has no other place.

mod files;
mod seal;

use crate::{Access, Events, Layout, state};
use cenote_backend::{Secrets, no_secret};
use cenote_host::{Host, LockFile, SecretValue, System};
use cenote_model::auth::SecretRef;
use cenote_model::event::{SecretChange, SecretEvent};
use cenote_model::flags::Validate;
use cenote_model::secret::{SecretDef, SecretFilter, SecretId, SecretUsage, UsageKind};
use cenote_model::{Code, Domain, Error, Result, Uuid};
use files::SecretFiles;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

/// Who asks for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client, which is not given the value of a private secret.
    Client,
    /// This machine's storage or virtual machines, on behalf of whoever uses them.
    Machine,
}

/// The secrets of this machine.
pub struct SecretStore {
    files: SecretFiles,
    secrets: Mutex<BTreeMap<Uuid, Secret>>,
    events: Events<SecretEvent>,
    /// Held while secrets may be changed.
    lock: Mutex<Option<LockFile>>,
}

struct Secret {
    def: SecretDef,
    /// The value, if the secret is ephemeral and has one.
    value: Option<SecretValue>,
}

impl SecretStore {
    /// Reads the secrets on disk.
    pub fn open(layout: &Layout, host: &Host, access: Access) -> Result<SecretStore> {
        let files = SecretFiles::of(host.system(), layout)?;
        let lock = match access {
            Access::Read => None,
            Access::Write => Some(take_lock(&**host.system(), layout)?),
        };
        let (defs, bad) = files.definitions()?;
        // Who only looks is not told again and again.
        if lock.is_some() {
            bad.iter().for_each(|error| eprintln!("warning: {error}"));
            files.sweep();
        }
        let secrets = defs.into_iter().map(|def| (def.uuid, Secret { def, value: None })).collect();
        Ok(SecretStore {
            files,
            secrets: Mutex::new(secrets),
            events: Events::default(),
            lock: Mutex::new(lock),
        })
    }

    /// What happens to secrets from now on.
    pub fn events(&self) -> &Events<SecretEvent> {
        &self.events
    }

    /// Those that a filter lets through, by UUID.
    pub fn list(&self, filter: SecretFilter) -> Vec<SecretId> {
        self.lock().values().filter(|secret| filter.admits(&secret.def)).map(|s| s.def.id()).collect()
    }

    /// The secret with this UUID.
    pub fn by_uuid(&self, uuid: &Uuid) -> Result<SecretId> {
        Ok(self.def(uuid)?.id())
    }

    /// The secret for this use.
    pub fn by_usage(&self, usage: &SecretUsage) -> Result<SecretId> {
        let secrets = self.lock();
        let found = secrets.values().find(|secret| secret.def.usage.as_ref() == Some(usage));
        found.map(|secret| secret.def.id()).ok_or_else(|| no_secret(&SecretRef::Usage(usage.id.clone())))
    }

    /// Its definition.
    pub fn def(&self, uuid: &Uuid) -> Result<SecretDef> {
        match self.lock().get(uuid) {
            Some(secret) => Ok(secret.def.clone()),
            None => Err(no_secret(&SecretRef::Uuid(*uuid))),
        }
    }

    /// Defines a secret, or changes the definition of one that is there.
    pub fn define(&self, xml: &str, validate: Validate) -> Result<SecretId> {
        let def = SecretDef::from_xml(xml, validate)?;
        let mut secrets = self.change()?;
        self.admit(&secrets, &def)?;
        let known = secrets.get_mut(&def.uuid);
        let was_ephemeral = known.as_ref().map(|known| known.def.ephemeral);
        let mut value = known.and_then(|known| known.value.take());
        let saved = match (was_ephemeral, def.ephemeral) {
            (_, false) => self.files.save(&def, value.as_ref()),
            // From now on its value is in memory alone.
            (Some(false), true) => self.files.value(&def.uuid).and_then(|on_disk| {
                value = on_disk;
                self.files.remove(&def.uuid)
            }),
            (Some(true) | None, true) => Ok(()),
        };
        if let Err(error) = saved {
            // It goes on as it was: a value that was in memory goes back there.
            if let Some(known) = secrets.get_mut(&def.uuid).filter(|known| known.def.ephemeral) {
                known.value = value;
            }
            return Err(error);
        }
        let id = def.id();
        let value = value.filter(|_| def.ephemeral);
        secrets.insert(def.uuid, Secret { def, value });
        // Before others may change it again: events come in the order of what they tell.
        self.events.emit(&SecretEvent { secret: id.clone(), change: SecretChange::Defined });
        Ok(id)
    }

    /// Refuses a definition that another secret stands in the way of.
    fn admit(&self, secrets: &BTreeMap<Uuid, Secret>, def: &SecretDef) -> Result<()> {
        let refuse = |detail: String| Err(Error::new(Code::Internal, detail).in_domain(Domain::Secret));
        let id = |def: &SecretDef| def.usage.as_ref().map(|usage| usage.id.clone());
        if let Some(known) = secrets.get(&def.uuid) {
            if id(&known.def) != id(def) {
                let known_id = id(&known.def).unwrap_or_else(|| "(null)".to_owned());
                return refuse(format!(
                    "a secret with UUID {} is already defined for use with {known_id}",
                    def.uuid
                ));
            }
            if known.def.private && !def.private {
                return refuse("cannot change private flag on existing secret".to_owned());
            }
            return Ok(());
        }
        let Some(usage) = &def.usage else { return Ok(()) };
        match secrets.values().find(|other| other.def.usage.as_ref() == Some(usage)) {
            Some(other) => refuse(format!(
                "a secret with UUID {} already defined for use with {}",
                other.def.uuid, usage.id
            )),
            None => Ok(()),
        }
    }

    /// Forgets a secret and its value.
    pub fn undefine(&self, uuid: &Uuid) -> Result<()> {
        let mut secrets = self.change()?;
        let secret = secrets.get(uuid).ok_or_else(|| no_secret(&SecretRef::Uuid(*uuid)))?;
        let removed = if secret.def.ephemeral { Ok(()) } else { self.files.remove(uuid) };
        // What could not be removed for good is put back. Without that nothing is known of it, until the next start.
        if removed.is_err() && self.files.save(&secret.def, None).is_ok() {
            return removed;
        }
        let id = secret.def.id();
        secrets.remove(uuid);
        self.events.emit(&SecretEvent { secret: id, change: SecretChange::Undefined });
        removed
    }

    /// Sets the value.
    pub fn set_value(&self, uuid: &Uuid, value: SecretValue) -> Result<()> {
        if value.expose().is_empty() {
            let message = "value in virSecretSetValue must not be NULL";
            return Err(Error::plain(Code::InvalidArg, message).in_domain(Domain::Secret));
        }
        let mut secrets = self.change()?;
        let secret = secrets.get_mut(uuid).ok_or_else(|| no_secret(&SecretRef::Uuid(*uuid)))?;
        if secret.def.ephemeral {
            secret.value = Some(value);
        } else {
            self.files.save_value(uuid, &value)?;
        }
        let id = secret.def.id();
        self.events.emit(&SecretEvent { secret: id, change: SecretChange::ValueChanged });
        Ok(())
    }

    /// The value.
    pub fn value(&self, uuid: &Uuid, asker: Asker) -> Result<SecretValue> {
        let error = |code, detail: String| Error::new(code, detail).in_domain(Domain::Secret);
        let secrets = self.lock();
        let secret = secrets.get(uuid).ok_or_else(|| no_secret(&SecretRef::Uuid(*uuid)))?;
        if secret.def.private && asker == Asker::Client {
            return Err(error(Code::InvalidSecret, "secret is private".to_owned()));
        }
        let value = match secret.def.ephemeral {
            true => secret.value.as_ref().map(|value| SecretValue::copy_of(value.expose())),
            false => self.files.value(uuid)?,
        };
        value.ok_or_else(|| error(Code::NoSecret, format!("secret '{uuid}' does not have a value")))
    }

    /// When the value was written to disk, if it was.
    pub fn value_written(&self, uuid: &Uuid) -> Option<SystemTime> {
        self.files.value_written(uuid)
    }

    /// The secrets, to be changed.
    fn change(&self) -> Result<MutexGuard<'_, BTreeMap<Uuid, Secret>>> {
        match *lock(&self.lock) {
            Some(_) => Ok(self.lock()),
            None => Err(Error::new(Code::Internal, "the secrets have been opened for reading")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Secret>> {
        lock(&self.secrets)
    }

    /// Gives up the lock on the secrets. Nothing may be changed after that.
    pub fn release(&self) {
        lock(&self.lock).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Secrets for SecretStore {
    fn value(&self, secret: &SecretRef, kind: UsageKind) -> Result<SecretValue> {
        let id = match secret {
            SecretRef::Uuid(uuid) => self.by_uuid(uuid)?,
            SecretRef::Usage(usage) => self.by_usage(&SecretUsage { kind, id: usage.clone() })?,
        };
        check_kind(&id, kind)?;
        self.value(&id.uuid, Asker::Machine)
    }

    fn of_volume(&self, path: &str) -> Option<Uuid> {
        let usage = SecretUsage { kind: UsageKind::Volume, id: path.to_owned() };
        self.by_usage(&usage).ok().map(|id| id.uuid)
    }
}

/// The secrets on disk as they are when they are asked for: for an engine beside which others change them.
pub struct SecretsOnDisk(pub Layout);

impl Secrets for SecretsOnDisk {
    fn value(&self, secret: &SecretRef, kind: UsageKind) -> Result<SecretValue> {
        Secrets::value(&SecretStore::open(&self.0, &Host::new(), Access::Read)?, secret, kind)
    }

    fn of_volume(&self, path: &str) -> Option<Uuid> {
        SecretStore::open(&self.0, &Host::new(), Access::Read).ok()?.of_volume(path)
    }
}

/// Takes the lock, in a directory that is its owner's alone: whoever could open the file could hold it.
fn take_lock(system: &dyn System, layout: &Layout) -> Result<LockFile> {
    let folder = layout.secrets_run();
    system
        .create_private_dir(folder)
        .map_err(|e| Error::system(format!("cannot create state directory '{}'", folder.display()), &e))?;
    state::lock(system, folder)
}

/// Refuses a secret that is for something else. One without a usage may be used for anything.
pub fn check_kind(secret: &SecretId, kind: UsageKind) -> Result<()> {
    match &secret.usage {
        Some(usage) if usage.kind != kind => Err(Error::new(
            Code::InvalidArg,
            format!(
                "secret with uuid {} is of type '{}' not expected '{kind}' type",
                secret.uuid, usage.kind
            ),
        )
        .in_domain(Domain::Secret)),
        _ => Ok(()),
    }
}
