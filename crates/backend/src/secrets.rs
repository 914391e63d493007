//! Where backends get passphrases and passwords from.

use cenote_host::SecretValue;
use cenote_model::auth::SecretRef;
use cenote_model::secret::UsageKind;
use cenote_model::{Code, Domain, Error, Result, Uuid};

/// Where passphrases come from.
pub trait Secrets: Send + Sync {
    /// The value of this secret, which must be for this kind of thing.
    fn value(&self, secret: &SecretRef, kind: UsageKind) -> Result<SecretValue>;

    /// The secret that is defined for the volume at this path.
    fn of_volume(&self, path: &str) -> Option<Uuid>;
}

/// No secrets at all.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn value(&self, secret: &SecretRef, _kind: UsageKind) -> Result<SecretValue> {
        Err(no_secret(secret))
    }

    fn of_volume(&self, _path: &str) -> Option<Uuid> {
        None
    }
}

/// The error for a secret that is not there.
pub fn no_secret(secret: &SecretRef) -> Error {
    let detail = match secret {
        SecretRef::Uuid(uuid) => format!("no secret with matching uuid '{uuid}'"),
        SecretRef::Usage(usage) => format!("no secret with matching usage '{usage}'"),
    };
    Error::new(Code::NoSecret, detail).in_domain(Domain::Secret)
}
