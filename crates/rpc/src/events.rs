//! Events as a client receives them.

use crate::own::{self, VolumeHappening};
use crate::procedures::{PoolLifecycle, PoolRefreshed, Procedure, SecretLifecycle, SecretValueChanged};
use crate::xdr::Decode;
use crate::{Frame, frame, xdr};
use cenote_model::event::{PoolChange, PoolEvent, SecretChange, SecretEvent, VolumeChange, VolumeEvent};
use cenote_model::{Code, Domain, Error, Name, PoolRef, Result};

/// The event of a pool in a message; `None` if it is about something else.
pub fn pool_event(frame: &Frame) -> Result<Option<PoolEvent>> {
    let (pool, change) = match libvirts(frame) {
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
    let (secret, change) = match libvirts(frame) {
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

/// The event of a volume in a message; `None` if it is about something else.
pub fn volume_event(frame: &Frame) -> Result<Option<VolumeEvent>> {
    if (frame.header.program, frame.header.procedure) != (own::PROGRAM, own::VOLUME_EVENT) {
        return Ok(None);
    }
    let VolumeHappening { pool, volume, change, .. } = message(frame)?;
    let (pool, volume) = (PoolRef::try_from(pool)?, Name::volume(&volume)?);
    Ok(VolumeChange::from_number(change).map(|change| VolumeEvent { pool, volume, change }))
}

fn libvirts(frame: &Frame) -> Option<Procedure> {
    (frame.header.program == frame::REMOTE).then(|| Procedure::from_number(frame.header.procedure))?
}

fn message<M: Decode>(frame: &Frame) -> Result<M> {
    xdr::from_bytes(&frame.payload)
        .map_err(|reason| Error::new(Code::Rpc, reason.to_string()).in_domain(Domain::Rpc))
}
