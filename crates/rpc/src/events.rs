//! Events as a client receives them.

use crate::procedures::{PoolLifecycle, PoolRefreshed, Procedure, SecretLifecycle, SecretValueChanged};
use crate::xdr::Decode;
use crate::{Frame, xdr};
use cenote_model::event::{PoolChange, PoolEvent, SecretChange, SecretEvent};
use cenote_model::{Code, Domain, Error, PoolRef, Result};

/// The event of a pool in a message; `None` if it is about something else.
pub fn pool_event(frame: &Frame) -> Result<Option<PoolEvent>> {
    let (pool, change) = match Procedure::from_number(frame.header.procedure) {
        Some(Procedure::StoragePoolEventRefresh) => {
            let message: PoolRefreshed = message(frame)?;
            (message.pool, Some(PoolChange::Refreshed))
        }
        Some(Procedure::StoragePoolEventLifecycle) => {
            let message: PoolLifecycle = message(frame)?;
            (message.pool, PoolChange::from_lifecycle_number(message.event))
        }
        _ => return Ok(None),
    };
    let pool = PoolRef::try_from(pool)?;
    Ok(change.map(|change| PoolEvent { pool: pool.name, uuid: pool.uuid, change }))
}

/// The event of a secret in a message; `None` if it is about something else.
pub fn secret_event(frame: &Frame) -> Result<Option<SecretEvent>> {
    let (secret, change) = match Procedure::from_number(frame.header.procedure) {
        Some(Procedure::SecretEventValueChanged) => {
            let message: SecretValueChanged = message(frame)?;
            (message.secret, Some(SecretChange::ValueChanged))
        }
        Some(Procedure::SecretEventLifecycle) => {
            let message: SecretLifecycle = message(frame)?;
            (message.secret, SecretChange::from_lifecycle_number(message.event))
        }
        _ => return Ok(None),
    };
    Ok(change.map(|change| SecretEvent { secret: secret.into(), change }))
}

fn message<M: Decode>(frame: &Frame) -> Result<M> {
    xdr::from_bytes(&frame.payload)
        .map_err(|reason| Error::new(Code::Rpc, reason.to_string()).in_domain(Domain::Rpc))
}
