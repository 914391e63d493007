//! Noticing what others do in the storage of pools.

use crate::Engine;
use crate::pool::{PoolEntry, PoolRun, Use};
use crate::visits::Purpose;
use cenote_backend::{Noticed, Pool, Volumes, Watch};
use cenote_model::event::{PoolChange, VolumeChange};
use cenote_model::{Name, Result};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What comes within this time after a change is looked at together with it.
const BATCH: Duration = Duration::from_millis(50);
/// From so many volumes on all are looked at.
const MANY: usize = 256;
/// How often it is seen whether there is still something to watch.
const STEP: Duration = Duration::from_millis(500);
/// When a volume that was in use is looked at again, and the least by which a look is put off.
const AGAIN: Duration = Duration::from_millis(100);
/// The most by which a look is put off: at what could not be looked at, and at a volume that a guest writes to.
const LONGEST: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(2);

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

    /// Follows what is noticed, on a thread of its own, until the pool stops. What happened before the watch began is found
    /// by a scan, unless there is one anyway.
    pub(crate) fn follow(
        &self,
        pool: &Arc<PoolEntry>,
        backend: &Arc<dyn Pool>,
        watch: Option<Box<dyn Watch>>,
        before: Before,
    ) {
        let Some(watch) = watch else { return };
        // One that was started while others began to be watched has somebody already.
        if pool.change(|state| std::mem::replace(&mut state.is_followed, true)) {
            return;
        }
        let Some(engine) = self.itself.upgrade() else { return };
        let engine = Arc::downgrade(&engine);
        let backend = Arc::clone(backend);
        let follower = Follower { engine, pool: Arc::clone(pool), backend, watch };
        if let Err(e) = self.system().spawn("watch", Box::new(move || follower.run(before))) {
            eprintln!("warning: cannot start a thread to watch storage pool '{}': {e}", pool.name());
        }
    }
}

/// What is known of the time before a watch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// All is read after it began.
    Scanned,
    /// Something may have changed.
    Unknown,
}

struct Follower {
    engine: Weak<Engine>,
    pool: Arc<PoolEntry>,
    backend: Arc<dyn Pool>,
    watch: Box<dyn Watch>,
}

/// What has been noticed and not been looked at.
struct Pending {
    /// The names, and when each is to be looked at.
    names: BTreeMap<Name, Instant>,
    anything: bool,
    /// When anything may be looked at again, and how long that was put off.
    not_before: Instant,
    delay: Duration,
    /// Names about which nothing was new, as with what a guest writes: how long the next look at them is put off, and when
    /// the last one was.
    quiet: BTreeMap<Name, (Duration, Instant)>,
}

impl Follower {
    fn run(mut self, before: Before) {
        let mut pending = Pending::new(before);
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
            engine.take_notice(&self.pool, &mut pending);
        }
    }
}

/// False after a pause: what happens then may be something else.
fn is_going_on((delay, last): &(Duration, Instant)) -> bool {
    last.elapsed() < *delay * 2 + STEP
}

impl Pending {
    fn new(before: Before) -> Pending {
        Pending {
            names: BTreeMap::new(),
            anything: before == Before::Unknown,
            not_before: Instant::now(),
            delay: Duration::ZERO,
            quiet: BTreeMap::new(),
        }
    }

    /// Adds what was noticed. True if there is nothing to watch any more.
    fn add(&mut self, noticed: Noticed) -> bool {
        match noticed {
            Noticed::Volume(name) => {
                let quiet = self.quiet.get(&name).filter(|quiet| is_going_on(quiet));
                let delay = quiet.map_or(Duration::ZERO, |(delay, _)| *delay);
                self.names.entry(name).or_insert_with(|| Instant::now() + delay);
            }
            Noticed::Anything => self.anything = true,
            Noticed::Gone => return true,
        }
        false
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.anything
    }

    /// The names whose time has come, of volumes that nobody is at.
    fn due(&self, pool: &PoolEntry) -> Vec<Name> {
        let now = Instant::now();
        let due = self.names.iter().filter(|(name, when)| **when <= now && !is_in_use(pool, name));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Something could not be looked at, or had to be looked at as a whole: that is not done all the time.
    fn put_off(&mut self, at_least: Duration) {
        self.delay = (self.delay * 2).clamp(at_least, LONGEST);
        self.not_before = Instant::now() + self.delay;
    }

    /// Nothing was new about a name: the next look at it is put off, each time for longer.
    fn was_quiet(&mut self, name: Name) {
        let (delay, last) = self.quiet.entry(name).or_insert((Duration::ZERO, Instant::now()));
        (*delay, *last) = ((*delay * 2).clamp(AGAIN, QUIET), Instant::now());
    }
}

impl Engine {
    /// Looks at what was noticed, and tells of it. What is in use, or cannot be looked at now, stays to be looked at later.
    fn take_notice(&self, pool: &Arc<PoolEntry>, pending: &mut Pending) {
        if Instant::now() < pending.not_before {
            return;
        }
        pending.quiet.retain(|_, quiet| is_going_on(quiet));
        let due = pending.due(pool);
        let everything = pending.anything || due.len() > MANY;
        if !everything && due.is_empty() {
            return;
        }
        let Ok(visit) = pool.visit(Purpose::Work) else { return pending.put_off(AGAIN) };
        let mut changes = Vec::new();
        if everything {
            match self.scan(pool, &visit) {
                Ok(found) => changes = found,
                Err(_) => return pending.put_off(STEP),
            }
            pending.anything = false;
            pending.delay = Duration::ZERO;
            pending.quiet.clear();
            pending.names.retain(|name, _| !due.contains(name));
        } else if let Some(volumes) = visit.volumes() {
            for name in due {
                match self.look_at(pool, volumes, &name) {
                    Err(_) => {
                        pending.put_off(STEP);
                        break;
                    }
                    Ok(Some(change)) => {
                        pending.quiet.remove(&name);
                        changes.push((name.clone(), change));
                    }
                    Ok(None) => pending.was_quiet(name.clone()),
                }
                pending.delay = Duration::ZERO;
                pending.names.remove(&name);
            }
        }
        if !changes.is_empty() {
            self.emit(pool, PoolChange::Refreshed);
        }
    }

    /// Looks at a volume that nobody here is at, and tells what others did to it.
    fn look_at(
        &self,
        pool: &Arc<PoolEntry>,
        volumes: &dyn Volumes,
        name: &Name,
    ) -> Result<Option<VolumeChange>> {
        let looking = pool.look();
        let found = volumes.probe(name)?;
        let change = looking.publish(|state, newer| {
            let known = state.volumes.get(name);
            let in_use = known.is_some_and(|known| known.used != Use::Idle);
            if newer.contains(name) || in_use || state.run != PoolRun::Active {
                return None;
            }
            let change = match (known.map(|known| &*known.def), &found) {
                (None, None) => return None,
                (None, Some(_)) => Some(VolumeChange::Added),
                (Some(_), None) => Some(VolumeChange::Removed),
                (Some(before), Some(after)) => (!before.is_like(after)).then_some(VolumeChange::Changed),
            };
            state.publish(name, found);
            change
        });
        if let Some(change) = change {
            self.tell(pool, name, change);
        }
        Ok(change)
    }
}

/// True while a job is at the volume of this name, or makes it: it publishes what comes of it.
fn is_in_use(pool: &PoolEntry, name: &Name) -> bool {
    pool.with(|state| state.volumes.get(name).is_some_and(|volume| volume.used != Use::Idle))
}
