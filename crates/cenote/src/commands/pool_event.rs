//! `pool-event`: waiting for what happens to pools.

use super::{events, find_pool, pool_option};
use crate::command::{Arguments, Completion, Opt, Session};
use crate::failure::Outcome;
use cenote_model::event::{PoolChange, PoolEvent};
use serde_json::json;

pub(super) const OPTIONS: [Opt; 6] = events::options(
    Opt::text("pool", "filter by storage pool name or uuid").completes(Completion::Pool),
    || KINDS.to_vec(),
);

const KINDS: [&str; 2] = ["lifecycle", "refresh"];

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let Some(wish) = events::wish(session, arguments, &KINDS)? else { return Ok(()) };
    let only = match arguments.text("pool")? {
        Some(name) => {
            let pool = find_pool(session, name);
            Some(pool.or_else(|_| pool_option(session, arguments, "pool"))?)
        }
        None => None,
    };
    let mut watch = session.connection.watch_pools()?;
    let is_wanted = |event: &PoolEvent| {
        (event.change == PoolChange::Refreshed) == (wish.kind == "refresh")
            && only.as_ref().is_none_or(|pool| pool.uuid == event.uuid)
    };
    events::wait(session, arguments, &wish, &mut *watch, is_wanted, |event, time| print(session, event, time))
}

fn print(session: &Session<'_>, event: &PoolEvent, time: &str) {
    let change = match event.change {
        PoolChange::Defined => "Defined",
        PoolChange::Undefined => "Undefined",
        PoolChange::Started => "Started",
        PoolChange::Stopped => "Stopped",
        PoolChange::Created => "Created",
        PoolChange::Deleted => "Deleted",
        PoolChange::Refreshed => "Refreshed",
    };
    session.out.result(
        || json!({"pool": event.pool.as_str(), "uuid": event.uuid.to_string(), "event": change.to_lowercase()}),
        || match event.change {
            PoolChange::Refreshed => format!("{time}event 'refresh' for storage pool {}\n", event.pool),
            _ => format!("{time}event 'lifecycle' for storage pool {}: {change}\n", event.pool),
        },
    );
}
