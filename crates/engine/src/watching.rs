//! Noticing what others do in the storage of pools.

use crate::Engine;
use crate::pool::{Knowledge, PoolEntry, PoolRun, Use};
use crate::visits::Purpose;
use cenote_backend::{Noticed, Pool, Watch};
use cenote_model::event::{PoolChange, VolumeChange};
use cenote_model::{Name, Result};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What comes within this time after a change is looked at together with it.
const BATCH: Duration = Duration::from_millis(50);
/// From so many volumes on all are looked at.
const MANY: usize = 256;
/// How often it is seen whether there is still something to watch.
const STEP: Duration = Duration::from_millis(500);
/// When a volume that was in use is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Begins to watch the storage of a pool, where that is wanted and possible.
    pub(crate) fn begin_watch(&self, pool: &PoolEntry, backend: &Arc<dyn Pool>) -> Option<Box<dyn Watch>> {
        if !self.is_watching.load(Ordering::Acquire) {
            return None;
        }
        backend.watch().unwrap_or_else(|e| {
            eprintln!(
                "warning: storage pool '{}' is not watched, so that what others do in it is seen by a refresh: {e}",
                pool.name()
            );
            None
        })
    }

    /// Follows what is noticed, on a thread of its own, until the pool stops.
    pub(crate) fn follow(
        &self,
        pool: &Arc<PoolEntry>,
        backend: &Arc<dyn Pool>,
        watch: Option<Box<dyn Watch>>,
    ) {
        let Some(watch) = watch else { return };
        let Some(engine) = self.itself.upgrade() else { return };
        let engine = Arc::downgrade(&engine);
        let follower = Follower { engine, pool: Arc::clone(pool), backend: Arc::clone(backend), watch };
        if let Err(e) = self.system().spawn("watch", Box::new(move || follower.run())) {
            eprintln!("warning: cannot start a thread to watch storage pool '{}': {e}", pool.name());
        }
    }
}

struct Follower {
    engine: Weak<Engine>,
    pool: Arc<PoolEntry>,
    backend: Arc<dyn Pool>,
    watch: Box<dyn Watch>,
}

/// What has been noticed and not been looked at.
#[derive(Default)]
struct Pending {
    names: BTreeSet<Name>,
    anything: bool,
}

impl Follower {
    fn run(mut self) {
        let mut pending = Pending {
            anything: self.pool.with(|state| state.knowledge < Knowledge::Scanned),
            ..Pending::default()
        };
        let mut is_gone = false;
        loop {
            let step = if pending.is_empty() { STEP } else { AGAIN };
            if let Some(noticed) = self.watch.next(step) {
                is_gone |= pending.add(noticed);
                let until = Instant::now() + BATCH;
                while let Some(noticed) = self.watch.next(until.saturating_duration_since(Instant::now())) {
                    is_gone |= pending.add(noticed);
                    if Instant::now() >= until {
                        break;
                    }
                }
            }
            let Some(engine) = self.engine.upgrade() else { return };
            let is_open = |backend: &Arc<dyn Pool>| Arc::ptr_eq(backend, &self.backend);
            if !self.pool.with(|state| state.backend.as_ref().is_some_and(is_open)) {
                return;
            }
            // The storage may be put back.
            if is_gone && let Ok(Some(watch)) = self.backend.watch() {
                self.watch = watch;
                is_gone = false;
                pending.anything = true;
            }
            if !pending.is_empty() {
                // What cannot be looked at now is looked at when it answers.
                let _ = engine.take_notice(&self.pool, &mut pending);
            }
        }
    }
}

impl Pending {
    /// Adds what was noticed. True if there is nothing to watch any more.
    fn add(&mut self, noticed: Noticed) -> bool {
        match noticed {
            Noticed::Volume(name) => drop(self.names.insert(name)),
            Noticed::Anything => self.anything = true,
            Noticed::Gone => return true,
        }
        false
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.anything
    }
}

impl Engine {
    /// Looks at what was noticed, and tells of it. What is in use stays to be looked at later.
    fn take_notice(&self, pool: &Arc<PoolEntry>, pending: &mut Pending) -> Result<()> {
        let visit = pool.visit(Purpose::Work)?;
        let mut changes = Vec::new();
        if pending.anything || pending.names.len() > MANY {
            changes = self.scan(pool, &visit)?;
            pending.anything = false;
            pending.names.retain(|name| is_in_use(pool, name));
        } else if let Some(volumes) = visit.volumes() {
            for name in std::mem::take(&mut pending.names) {
                if is_in_use(pool, &name) {
                    pending.names.insert(name);
                    continue;
                }
                let looking = pool.look();
                let found = volumes.probe(&name)?;
                let change = looking.publish(|state, newer| {
                    if newer.contains(&name) || state.run != PoolRun::Active {
                        return None;
                    }
                    let before = state.volumes.get(&name).map(|known| Arc::clone(&known.def));
                    let change = match (&before, &found) {
                        (None, None) => return None,
                        (None, Some(_)) => Some(VolumeChange::Added),
                        (Some(_), None) => Some(VolumeChange::Removed),
                        (Some(before), Some(after)) => {
                            (!before.is_like(after)).then_some(VolumeChange::Changed)
                        }
                    };
                    state.publish(&name, found);
                    change
                });
                if let Some(change) = change {
                    self.tell(pool, &name, change);
                    changes.push((name, change));
                }
            }
        }
        if !changes.is_empty() {
            self.emit(pool, PoolChange::Refreshed);
        }
        Ok(())
    }
}

/// True while a job is at the volume of this name, or makes it: it publishes what comes of it.
fn is_in_use(pool: &PoolEntry, name: &Name) -> bool {
    pool.with(|state| state.volumes.get(name).is_some_and(|volume| volume.used != Use::Idle))
}
