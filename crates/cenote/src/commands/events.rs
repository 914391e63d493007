//! Waiting for events: what `pool-event` and `secret-event` have in common.

use crate::command::{Arguments, Completion, Opt, Session};
use crate::connection::Watch;
use crate::failure::{Failure, Outcome};
use serde_json::json;
use signal_hook::consts::SIGINT;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

const STEP: Duration = Duration::from_millis(200);

/// The options: the object that the events are to be about, and those that all such commands have.
pub(super) const fn options(object: Opt, kinds: fn() -> Vec<&'static str>) -> [Opt; 6] {
    [
        object,
        Opt::text("event", "which event type to wait for").completes(Completion::OneOf(kinds)),
        Opt::flag("loop", "loop until timeout or interrupt, rather than one-shot"),
        Opt::number("timeout", "timeout seconds"),
        Opt::flag("list", "list valid event types"),
        Opt::flag("timestamp", "show timestamp for each printed event"),
    ]
}

/// What the options ask for.
pub(super) struct Wish<'a> {
    /// The kind of event.
    pub(super) kind: &'a str,
    timeout: Option<Duration>,
}

/// Lists the kinds of events, or says which is to be waited for.
pub(super) fn wish<'a>(
    session: &Session<'_>,
    arguments: &'a Arguments,
    kinds: &[&str],
) -> Result<Option<Wish<'a>>, Failure> {
    if arguments.flag("list") {
        let lines = || kinds.iter().map(|kind| format!("{kind}\n")).collect();
        session.out.result(|| json!(kinds), lines);
        return Ok(None);
    }
    let Some(kind) = arguments.text("event")? else {
        return Err(Failure::said("either --list or --event <type> is required"));
    };
    if !kinds.contains(&kind) {
        return Err(Failure::said(format!("unknown event type {kind}")));
    }
    let timeout = match arguments.number("timeout")? {
        Some(0) => {
            return Err(Failure::said("Numeric value '0' for <timeout> option is malformed or out of range"));
        }
        seconds => seconds.map(Duration::from_secs),
    };
    Ok(Some(Wish { kind, timeout }))
}

/// Prints events as they come: one, or all until time is over or the user has seen enough.
pub(super) fn wait<E>(
    session: &Session<'_>,
    arguments: &Arguments,
    wish: &Wish<'_>,
    watch: &mut dyn Watch<E>,
    is_wanted: impl Fn(&E) -> bool,
    print: impl Fn(&E, &str),
) -> Outcome {
    let interrupted = Arc::new(AtomicBool::new(false));
    let registered = signal_hook::flag::register(SIGINT, Arc::clone(&interrupted)).ok();
    let started = Instant::now();
    let mut count = 0;
    let end = loop {
        if interrupted.load(Ordering::Relaxed) {
            break Some("event loop interrupted\n");
        }
        let left = wish.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        if left == Some(Duration::ZERO) {
            break Some("event loop timed out\n");
        }
        let Some(event) = watch.next(left.unwrap_or(STEP).min(STEP))? else { continue };
        if !is_wanted(&event) {
            continue;
        }
        let time = if arguments.flag("timestamp") { format!("{}: ", now()) } else { String::new() };
        print(&event, &time);
        count += 1;
        if !arguments.flag("loop") {
            break None;
        }
    };
    if let Some(registered) = registered {
        signal_hook::low_level::unregister(registered);
    }
    if !session.out.is_json() {
        session.out.print(format_args!("{}events received: {count}\n", end.unwrap_or_default()));
    }
    if count > 0 { Ok(()) } else { Err(Failure::silent()) }
}

/// The time as libvirt writes it: `2026-01-31 12:00:00.000+0000`.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}+0000")
}

/// The date of a day since 1970, by counting years that begin in March, whose leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_781), (2026, 11, 24));
    }
}
