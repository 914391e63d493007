//! The calls of Cenote's own program.

use super::{not_open, not_registered, rpc_error, run};
use crate::client::{Client, EventKind, Rights};
use cenote_engine::{Answering, JobInfo};
use cenote_model::{Code, Error, PoolRef, Result};
use cenote_rpc::Call;
use cenote_rpc::own::{self, JobRecord, PoolHealth};

pub(super) fn answer(client: &Client, procedure: i32, payload: &[u8]) -> Result<Vec<u8>> {
    let engine = &client.server.engine;
    match procedure {
        own::Version::NUMBER => {
            run::<own::Version>(payload, |()| Ok((env!("CARGO_PKG_VERSION").to_owned(),)))
        }
        _ if !client.is_open() => Err(not_open()),
        own::JobList::NUMBER => {
            run::<own::JobList>(payload, |()| Ok((engine.jobs().list().into_iter().map(record).collect(),)))
        }
        own::JobCancel::NUMBER => match client.rights() {
            Rights::Reading => {
                Err(Error::new(Code::OperationDenied, "read only access prevents aborting a job"))
            }
            Rights::Everything => run::<own::JobCancel>(payload, |(id,)| engine.jobs().cancel(id)),
        },
        own::Health::NUMBER => run::<own::Health>(payload, |(pool,)| {
            let health = engine.pool_health(&pool.try_into()?)?;
            let answering = match health.answering {
                Answering::Yes => 0,
                Answering::Slowly => 1,
                Answering::NotSince(_) => 2,
            };
            Ok((PoolHealth { answering, age: health.age.as_millis() as u64 },))
        }),
        own::VolumeEventRegister::NUMBER => run::<own::VolumeEventRegister>(payload, |(pool,)| {
            let pool = pool.map(PoolRef::try_from).transpose()?;
            let pool = pool.map(|pool| engine.pool_by_uuid(&pool.uuid)).transpose()?;
            Ok((client.watch(EventKind::Volume, pool.map(|pool| pool.uuid)),))
        }),
        own::VolumeEventDeregister::NUMBER => run::<own::VolumeEventDeregister>(payload, |(callback,)| {
            client.unwatch(callback).ok_or_else(|| not_registered("volume", callback))
        }),
        other => Err(rpc_error(format!("unknown procedure: {other}"))),
    }
}

fn record(job: JobInfo) -> JobRecord {
    JobRecord {
        id: job.id,
        what: job.what,
        pool: job.pool.to_string(),
        done: job.progress.done,
        total: job.progress.total,
        elapsed: job.elapsed.as_millis() as u64,
        silence: job.silence.as_millis() as u64,
        cancelled: u32::from(job.cancelled),
    }
}
