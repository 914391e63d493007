//! Secrets on disk, in libvirt's files: `UUID.xml`, and the value in `UUID.base64` or, encrypted, in
//! `UUID.aes256cbc`.

use super::seal::Seal;
use crate::{Layout, state};
use cenote_host::{SecretValue, System};
use cenote_model::flags::Validate;
use cenote_model::secret::SecretDef;
use cenote_model::{Code, Domain, Error, Result, Uuid};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// The largest file of a value that is read, in bytes: 64 KiB, encrypted and in base64, are less.
const MAX_FILE: usize = 128 << 10;
const PLAIN: &str = "base64";
const SEALED: &str = "aes256cbc";

pub(super) struct SecretFiles {
    system: Arc<dyn System>,
    folder: PathBuf,
    seal: Option<Seal>,
}

impl SecretFiles {
    pub(super) fn of(system: &Arc<dyn System>, layout: &Layout) -> Result<SecretFiles> {
        Ok(SecretFiles {
            system: Arc::clone(system),
            folder: layout.secrets().to_owned(),
            seal: Seal::of(layout)?,
        })
    }

    fn path(&self, uuid: &Uuid, ending: &str) -> PathBuf {
        self.folder.join(format!("{uuid}.{ending}"))
    }

    /// The ending of values as they are written now, and the other one.
    fn endings(&self) -> [&'static str; 2] {
        if self.seal.is_some() { [SEALED, PLAIN] } else { [PLAIN, SEALED] }
    }

    /// Removes what was being written, values whose definition is gone, and those in a form that has been replaced, when a
    /// daemon was killed.
    pub(super) fn sweep(&self) {
        state::sweep(&*self.system, &self.folder);
        let [current, other] = self.endings();
        for name in self.system.names(&self.folder).unwrap_or_default() {
            let path = self.folder.join(name);
            let ending = path.extension().and_then(|ending| ending.to_str());
            let uuid = path.file_stem().and_then(|stem| stem.to_str()).and_then(Uuid::parse);
            let (Some(uuid), Some(ending @ (PLAIN | SEALED))) = (uuid, ending) else { continue };
            // What cannot be looked at is not gone.
            let is_orphan = matches!(self.system.exists(&self.path(&uuid, "xml")), Ok(false));
            if is_orphan
                || (ending == other && matches!(self.system.exists(&self.path(&uuid, current)), Ok(true)))
            {
                let _ = self.system.remove(&path);
            }
        }
    }

    /// The definitions that can be read, and why others cannot.
    pub(super) fn definitions(&self) -> Result<(Vec<SecretDef>, Vec<Error>)> {
        let parse = |text: &str| SecretDef::from_xml(text, Validate::Lax);
        state::read_all(&*self.system, &self.folder, parse, |def, name, shown| {
            match def.uuid.to_string() == name {
                true => Ok(()),
                false => Err(Error::new(
                    Code::Internal,
                    format!("<uuid> does not match secret file name '{}'", shown.display()),
                )),
            }
        })
    }

    /// Writes a definition, and the value that has been in memory until now.
    pub(super) fn save(&self, def: &SecretDef, value: Option<&SecretValue>) -> Result<()> {
        if let Some(value) = value {
            self.save_value(&def.uuid, value)?;
        }
        self.create_folder()?;
        state::write(&*self.system, &self.path(&def.uuid, "xml"), def.to_xml()).inspect_err(|_| {
            if value.is_some() {
                let _ = self.unlink(&def.uuid, &[PLAIN, SEALED]);
            }
        })
    }

    /// Writes a value.
    pub(super) fn save_value(&self, uuid: &Uuid, value: &SecretValue) -> Result<()> {
        self.create_folder()?;
        let text = match &self.seal {
            Some(seal) => seal.close(value)?.to_base64(),
            None => value.to_base64(),
        };
        let [ending, other] = self.endings();
        state::write(&*self.system, &self.path(uuid, ending), text.expose())?;
        self.unlink(uuid, &[other])
    }

    /// The value, if there is one.
    pub(super) fn value(&self, uuid: &Uuid) -> Result<Option<SecretValue>> {
        // After a crash between writing a value and removing its other form, the one now written is the newer one.
        for ending in self.endings() {
            let path = self.path(uuid, ending);
            let text = match self.system.read_secret(&path, MAX_FILE) {
                Ok(text) if text.expose().is_empty() => continue,
                Ok(text) => text,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::system(format!("cannot read '{}'", path.display()), &e)),
            };
            let damaged = || {
                Error::new(
                    Code::InvalidSecret,
                    format!("'{}' is damaged: set the value anew", path.display()),
                )
                .in_domain(Domain::Secret)
            };
            let value = SecretValue::from_base64(text.expose()).ok_or_else(damaged)?;
            return match (ending, &self.seal) {
                (SEALED, Some(seal)) => seal.open(value).map(Some).ok_or_else(damaged),
                (SEALED, None) => Err(Error::new(
                    Code::InvalidSecret,
                    format!("'{}' is encrypted, and secret.conf names no key for it", path.display()),
                )
                .in_domain(Domain::Secret)),
                _ => Ok(Some(value)),
            };
        }
        Ok(None)
    }

    /// When the value was written.
    pub(super) fn value_written(&self, uuid: &Uuid) -> Option<SystemTime> {
        [PLAIN, SEALED].iter().find_map(|ending| self.system.modified(&self.path(uuid, ending)).ok())
    }

    /// Removes a definition and its value. The definition goes first: a value without one is swept if this is not the end
    /// of it.
    pub(super) fn remove(&self, uuid: &Uuid) -> Result<()> {
        self.unlink(uuid, &["xml", PLAIN, SEALED])
    }

    /// Removes files of a secret, those that there are, for good.
    fn unlink(&self, uuid: &Uuid, endings: &[&str]) -> Result<()> {
        for ending in endings {
            let path = self.path(uuid, ending);
            match self.system.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::system(format!("cannot unlink '{}'", path.display()), &e));
                }
                _ => {}
            }
        }
        match self.system.sync(&self.folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("cannot sync directory '{}'", self.folder.display()), &e))
            }
            _ => Ok(()),
        }
    }

    /// The directory of secrets is its owner's alone, as libvirt makes it.
    fn create_folder(&self) -> Result<()> {
        self.system.create_private_dir(&self.folder).map_err(|e| {
            Error::system(format!("cannot create config directory '{}'", self.folder.display()), &e)
        })
    }
}
