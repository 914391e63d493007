//! CHAP with the target of a pool.

use crate::Environment;
use cenote_host::{Account, Chap};
use cenote_model::auth::{AuthKind, SecretRef};
use cenote_model::secret::UsageKind;
use cenote_model::source::Source;
use cenote_model::{Code, Error, PoolKind, Result};

/// The names and passwords with which a source of this type is logged in to.
pub(crate) fn of(kind: PoolKind, source: &Source, environment: &Environment) -> Result<Option<Chap>> {
    let Some(auth) = &source.auth else { return Ok(None) };
    if auth.kind != AuthKind::Chap {
        return Err(Error::new(Code::XmlError, format!("{kind} pool only supports 'chap' auth type")));
    }
    let account = |name: &str, secret: &SecretRef| -> Result<Account> {
        let password = environment.secrets.value(secret, UsageKind::Iscsi)?;
        Ok(Account { name: name.to_owned(), password })
    };
    let initiator = account(&auth.username, &auth.secret)?;
    let target = auth.target.as_ref().map(|target| account(&target.username, &target.secret)).transpose()?;
    // Who knows one of them could have the other side answer its own question (RFC 7143, 9.2.1).
    if target.as_ref().is_some_and(|target| target.password.expose() == initiator.password.expose()) {
        return Err(Error::new(
            Code::InvalidSecret,
            format!("'{}' and its target have the same password, and each needs its own", initiator.name),
        ));
    }
    Ok(Some(Chap { initiator, target }))
}
