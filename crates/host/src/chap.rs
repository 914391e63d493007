//! CHAP, by which the two ends of an iSCSI session prove themselves (RFC 7143, 12.1.3).

use crate::SecretValue;

/// A name and its password.
#[derive(Debug)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The password.
    pub password: SecretValue,
}

/// Who proves what to whom.
#[derive(Debug)]
pub struct Chap {
    /// As whom this side proves itself.
    pub initiator: Account,
    /// As whom the target has to prove itself, if it has to.
    pub target: Option<Account>,
}
