//! Passphrases of encrypted volumes.

use cenote_model::auth::SecretRef;
use cenote_model::{Code, Domain, Error, Result, Uuid};
use std::fmt;

/// The value of a secret. It is never shown.
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// This value.
    pub fn new(value: Vec<u8>) -> SecretValue {
        SecretValue(value)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        // `black_box` keeps the compiler from seeing that nobody reads the zeroes.
        std::hint::black_box(&mut self.0).fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Where passphrases come from.
pub trait Secrets: Send + Sync {
    /// The value of this secret.
    fn value(&self, secret: &SecretRef) -> Result<SecretValue>;

    /// The secret that is defined for the volume at this path.
    fn of_volume(&self, path: &str) -> Option<Uuid>;
}

/// No secrets at all.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn value(&self, secret: &SecretRef) -> Result<SecretValue> {
        Err(missing(secret))
    }

    fn of_volume(&self, _path: &str) -> Option<Uuid> {
        None
    }
}

/// The error for a secret that is not there.
fn missing(secret: &SecretRef) -> Error {
    let detail = match secret {
        SecretRef::Uuid(uuid) => format!("no secret with matching uuid '{uuid}'"),
        SecretRef::Usage(usage) => format!("no secret with matching usage '{usage}'"),
    };
    Error::new(Code::NoSecret, detail).in_domain(Domain::Secret)
}
