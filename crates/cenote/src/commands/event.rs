//! `event`: waiting for what happens to volumes. It is Cenote's own: libvirt has no such events.

use super::{events, pool_option};
use crate::command::{Arguments, Completion, Opt, Session};
use crate::failure::Outcome;
use cenote_model::event::{VolumeChange, VolumeEvent};
use serde_json::json;

pub(super) const OPTIONS: [Opt; 6] = events::options(
    Opt::text("pool", "filter by storage pool name or uuid").completes(Completion::Pool),
    kinds,
);

/// Any change, or one of them.
const ANY: &str = "volume";

fn kinds() -> Vec<&'static str> {
    let each = [VolumeChange::Added, VolumeChange::Removed, VolumeChange::Changed].map(VolumeChange::as_str);
    [ANY].into_iter().chain(each).collect()
}

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let Some(wish) = events::wish(session, arguments, &kinds())? else { return Ok(()) };
    let only = match arguments.text("pool")? {
        Some(_) => Some(pool_option(session, arguments, "pool")?),
        None => None,
    };
    let mut watch = session.connection.watch_volumes()?;
    let is_wanted = |event: &VolumeEvent| {
        (wish.kind == ANY || wish.kind == event.change.as_str())
            && only.as_ref().is_none_or(|pool| pool.uuid == event.pool.uuid)
    };
    let print = |event: &VolumeEvent, time: &str| {
        let (pool, volume, change) = (&event.pool, &event.volume, event.change.as_str());
        session.out.result(
            || json!({"pool": pool.name.as_str(), "uuid": pool.uuid.to_string(), "volume": volume.as_str(), "event": change}),
            || format!("{time}event '{change}' for volume {volume} of storage pool {}\n", pool.name),
        );
    };
    events::wait(session, arguments, &wish, &mut *watch, is_wanted, print)
}
