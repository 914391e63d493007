//! Events of the embedded state. There is no daemon to send them: what other commands do is seen by looking at the
//! state again and again. Refreshes leave no trace in it and are not seen.

use super::Watch;
use cenote_engine::{Access, Engine, Layout, NoSecrets, PoolRun, SecretStore, Setup};
use cenote_host::Host;
use cenote_model::event::{PoolChange, PoolEvent, SecretChange, SecretEvent};
use cenote_model::secret::{SecretFilter, SecretId};
use cenote_model::{Name, Result, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const EVERY: Duration = Duration::from_millis(100);

/// What is seen of one thing in the state.
pub(super) trait Sight: Sized + PartialEq {
    type Event;

    /// Looks at all of them.
    fn look(layout: &Layout) -> Result<BTreeMap<Uuid, Self>>;

    /// What happened to one, between two looks.
    fn compare(uuid: Uuid, before: Option<&Self>, after: Option<&Self>) -> Vec<Self::Event>;
}

pub(super) struct StateWatch<S: Sight> {
    layout: Layout,
    seen: BTreeMap<Uuid, S>,
    events: VecDeque<S::Event>,
}

impl<S: Sight> StateWatch<S> {
    pub(super) fn new(layout: Layout) -> Result<StateWatch<S>> {
        let seen = S::look(&layout)?;
        Ok(StateWatch { layout, seen, events: VecDeque::new() })
    }
}

impl<S: Sight> Watch<S::Event> for StateWatch<S> {
    fn next(&mut self, within: Duration) -> Result<Option<S::Event>> {
        let end = Instant::now() + within;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            thread::sleep(EVERY.min(within));
            let now = S::look(&self.layout)?;
            for uuid in self.seen.keys().chain(now.keys().filter(|uuid| !self.seen.contains_key(uuid))) {
                self.events.extend(S::compare(*uuid, self.seen.get(uuid), now.get(uuid)));
            }
            self.seen = now;
        }
    }
}

/// The events of an engine in this process.
pub(super) struct EngineWatch<E> {
    /// It lives as long as somebody watches it.
    pub(super) _engine: Arc<Engine>,
    pub(super) events: Receiver<E>,
}

impl<E> Watch<E> for EngineWatch<E> {
    fn next(&mut self, within: Duration) -> Result<Option<E>> {
        Ok(self.events.recv_timeout(within).ok())
    }
}

/// What is seen of a pool.
#[derive(PartialEq, Eq)]
pub(super) struct PoolSight {
    name: Name,
    run: PoolRun,
    /// The definition on disk.
    definition: Option<String>,
}

impl Sight for PoolSight {
    type Event = PoolEvent;

    fn look(layout: &Layout) -> Result<BTreeMap<Uuid, PoolSight>> {
        let engine = Engine::open(Setup::new(layout.clone(), Arc::new(NoSecrets), Access::Read))?;
        let mut seen = BTreeMap::new();
        for pool in engine.pools() {
            let info = engine.pool_info(&pool)?;
            let definition = match info.persistent {
                true => std::fs::read_to_string(layout.config().join(format!("{}.xml", pool.name))).ok(),
                false => None,
            };
            seen.insert(pool.uuid, PoolSight { name: pool.name, run: info.run, definition });
        }
        Ok(seen)
    }

    fn compare(uuid: Uuid, before: Option<&PoolSight>, after: Option<&PoolSight>) -> Vec<PoolEvent> {
        let Some(pool) = after.or(before).map(|pool| pool.name.clone()) else { return Vec::new() };
        let is_active = |pool: Option<&PoolSight>| pool.is_some_and(|pool| pool.run == PoolRun::Active);
        let definition = |pool: Option<&PoolSight>| pool.and_then(|pool| pool.definition.clone());
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
        changes.into_iter().map(|change| PoolEvent { pool: pool.clone(), uuid, change }).collect()
    }
}

/// What is seen of a secret.
#[derive(PartialEq, Eq)]
pub(super) struct SecretSight {
    id: SecretId,
    definition: String,
    /// When its value was written.
    value: Option<SystemTime>,
}

impl Sight for SecretSight {
    type Event = SecretEvent;

    fn look(layout: &Layout) -> Result<BTreeMap<Uuid, SecretSight>> {
        let store = SecretStore::open(layout, &Host::new(), Access::Read)?;
        let sight = |id: SecretId| -> Result<(Uuid, SecretSight)> {
            let definition = store.def(&id.uuid)?.to_xml();
            Ok((id.uuid, SecretSight { definition, value: store.value_written(&id.uuid), id }))
        };
        store.list(SecretFilter::default()).into_iter().map(sight).collect()
    }

    fn compare(_: Uuid, before: Option<&SecretSight>, after: Option<&SecretSight>) -> Vec<SecretEvent> {
        let Some(secret) = after.or(before).map(|secret| secret.id.clone()) else { return Vec::new() };
        let mut changes = Vec::new();
        match (before, after) {
            (_, None) => changes.push(SecretChange::Undefined),
            (before, Some(after)) => {
                if before.is_none_or(|before| before.definition != after.definition) {
                    changes.push(SecretChange::Defined);
                }
                if after.value.is_some() && before.and_then(|before| before.value) != after.value {
                    changes.push(SecretChange::ValueChanged);
                }
            }
        }
        changes.into_iter().map(|change| SecretEvent { secret: secret.clone(), change }).collect()
    }
}
