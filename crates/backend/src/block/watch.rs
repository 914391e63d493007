//! Being told of what becomes of devices.

use crate::{Noticed, Watch};
use cenote_host::{Told, Uevent, Uevents};
use std::io;
use std::time::{Duration, Instant};

/// So long nothing has to happen, or at most so long something may go on, before it is told: devices come in numbers.
const QUIET: Duration = Duration::from_millis(300);
const AT_MOST: Duration = Duration::from_secs(3);

struct DeviceWatch<F> {
    events: Uevents,
    concerns: F,
}

/// Watches the block devices that concern a pool.
pub(crate) fn watch(
    concerns: impl Fn(&Uevent) -> bool + Send + 'static,
) -> io::Result<Option<Box<dyn Watch>>> {
    Ok(Some(Box::new(DeviceWatch { events: Uevents::new()?, concerns })))
}

/// Whether it is about a device with a name that begins like this.
pub(crate) fn is_named(event: &Uevent, prefix: &str) -> bool {
    let links = event.get("DEVLINKS").unwrap_or_default().split(' ');
    event.get("DEVNAME").into_iter().chain(links).any(|name| name.starts_with(prefix))
}

impl<F: Fn(&Uevent) -> bool + Send> DeviceWatch<F> {
    fn concerns(&self, told: &Told) -> bool {
        match told {
            Told::Lost => true,
            Told::Event(event) => event.get("SUBSYSTEM") == Some("block") && (self.concerns)(event),
        }
    }
}

impl<F: Fn(&Uevent) -> bool + Send> Watch for DeviceWatch<F> {
    fn next(&mut self, within: Duration) -> Option<Noticed> {
        let until = Instant::now() + within;
        loop {
            let told = self.events.next(until.saturating_duration_since(Instant::now()))?;
            if self.concerns(&told) {
                break;
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < AT_MOST && self.events.next(QUIET).is_some() {}
        Some(Noticed::Anything)
    }
}
