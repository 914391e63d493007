//! `secret-event`: waiting for what happens to secrets.

use super::{events, secret::secret_option};
use crate::command::{Arguments, Completion, Opt, Session};
use crate::failure::Outcome;
use cenote_model::event::{SecretChange, SecretEvent};
use serde_json::json;

pub(super) const OPTIONS: [Opt; 6] = events::options(
    Opt::text("secret", "filter by secret name or uuid").named().completes(Completion::Secret),
    || KINDS.to_vec(),
);

const KINDS: [&str; 2] = ["lifecycle", "value-changed"];

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let Some(wish) = events::wish(session, arguments, &KINDS)? else { return Ok(()) };
    let only = match arguments.flag("secret") {
        true => Some(secret_option(session, arguments)?),
        false => None,
    };
    let mut watch = session.connection.watch_secrets()?;
    let is_wanted = |event: &SecretEvent| {
        (event.change == SecretChange::ValueChanged) == (wish.kind == "value-changed")
            && only.as_ref().is_none_or(|secret| secret.uuid == event.secret.uuid)
    };
    events::wait(session, arguments, &wish, &mut *watch, is_wanted, |event, time| print(session, event, time))
}

fn print(session: &Session<'_>, event: &SecretEvent, time: &str) {
    let uuid = event.secret.uuid;
    let (json, text) = match event.change {
        SecretChange::Defined => ("defined", format!("event 'lifecycle' for secret {uuid}: Defined")),
        SecretChange::Undefined => ("undefined", format!("event 'lifecycle' for secret {uuid}: Undefined")),
        SecretChange::ValueChanged => ("value-changed", format!("event 'value-changed' for secret {uuid}")),
    };
    session.out.result(|| json!({"secret": uuid.to_string(), "event": json}), || format!("{time}{text}\n"));
}
