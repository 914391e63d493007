//! How long is waited for what only looks, and for what appears.

use cenote_model::{Job, Result};
use std::time::{Duration, Instant};

/// How long a tool that only looks may take.
const LOOK: Duration = Duration::from_secs(60);
/// How often it is looked whether something has appeared.
const POLL: Duration = Duration::from_millis(10);

/// A tool's look at something, for which nobody waits longer than a minute.
pub(crate) fn look(what: &str) -> Job {
    Job::new(0, what).with_deadline(LOOK)
}

/// Looks until there is something, at most so long.
pub(crate) fn until<T>(limit: Duration, job: &Job, look: impl Fn() -> Option<T>) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        let found = look();
        if found.is_some() || started.elapsed() > limit {
            return Ok(found);
        }
        job.alive();
        job.check()?;
        std::thread::sleep(POLL);
    }
}
