//! Events of the embedded state. There is no daemon to send them: what other commands do is seen by looking at the
//! state again and again. Refreshes leave no trace in it and are not seen.

use super::Watch;
use cenote_engine::{Access, Engine, Jobs, Layout, PoolRun};
use cenote_host::Host;
use cenote_model::event::{PoolChange, PoolEvent};
use cenote_model::{Name, Result, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);

/// What is compared.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    name: Name,
    run: PoolRun,
    /// The definition on disk.
    definition: Option<String>,
}

pub(super) struct StateWatch {
    layout: Layout,
    seen: BTreeMap<Uuid, Seen>,
    events: VecDeque<PoolEvent>,
}

impl StateWatch {
    pub(super) fn new(layout: Layout) -> Result<StateWatch> {
        let seen = look(&layout)?;
        Ok(StateWatch { layout, seen, events: VecDeque::new() })
    }

    fn compare(&mut self) -> Result<()> {
        let now = look(&self.layout)?;
        for uuid in self.seen.keys().chain(now.keys().filter(|uuid| !self.seen.contains_key(uuid))) {
            let (before, after) = (self.seen.get(uuid), now.get(uuid));
            let Some(name) = after.or(before).map(|pool| pool.name.clone()) else { continue };
            let is_active = |pool: Option<&Seen>| pool.is_some_and(|pool| pool.run == PoolRun::Active);
            let definition = |pool: Option<&Seen>| pool.and_then(|pool| pool.definition.clone());
            let mut changes = Vec::new();
            match (definition(before), definition(after)) {
                (before, Some(after)) if before.as_ref() != Some(&after) => changes.push(PoolChange::Defined),
                _ => {}
            }
            match (is_active(before), is_active(after)) {
                (false, true) => changes.push(PoolChange::Started),
                (true, false) => changes.push(PoolChange::Stopped),
                _ => {}
            }
            if definition(before).is_some() && definition(after).is_none() {
                changes.push(PoolChange::Undefined);
            }
            let event = |change| PoolEvent { pool: name.clone(), uuid: *uuid, change };
            self.events.extend(changes.into_iter().map(event));
        }
        self.seen = now;
        Ok(())
    }
}

impl Watch for StateWatch {
    fn next(&mut self, within: Duration) -> Result<Option<PoolEvent>> {
        let end = Instant::now() + within;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            thread::sleep(EVERY.min(within));
            self.compare()?;
        }
    }
}

fn look(layout: &Layout) -> Result<BTreeMap<Uuid, Seen>> {
    let engine = Engine::open(layout.clone(), Host::new(), Access::Read, Jobs::default())?;
    let mut seen = BTreeMap::new();
    for pool in engine.pools() {
        let info = engine.pool_info(&pool)?;
        let definition = match info.persistent {
            true => std::fs::read_to_string(layout.config().join(format!("{}.xml", pool.name))).ok(),
            false => None,
        };
        seen.insert(pool.uuid, Seen { name: pool.name, run: info.run, definition });
    }
    Ok(seen)
}
