//! One pool: what is known of it, and who is at it.

use crate::Engine;
use crate::jobs::RunningJob;
use crate::visits::{Answering, Purpose, Visit, Visits};
use cenote_backend::{Earlier, Pool};
use cenote_host::Unsynced;
use cenote_model::event::{VolumeChange, VolumeEvent};
use cenote_model::pool::{Usage, sanitize_path};
use cenote_model::{Code, Error, Name, PoolDef, PoolKind, PoolRef, Result, Uuid, VolumeDef};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// Whether a pool is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolRun {
    /// It is not.
    Inactive,
    /// It is being built, started or stopped.
    Changing,
    /// It is.
    Active,
}

/// What `pool-info` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolInfo {
    /// The type.
    pub kind: PoolKind,
    /// Whether it is running.
    pub run: PoolRun,
    /// How full it is.
    pub usage: Usage,
    /// Whether it has a definition on disk.
    pub persistent: bool,
    /// Whether it starts by itself.
    pub autostart: bool,
}

/// Whether the storage of a pool answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether it does.
    pub answering: Answering,
    /// How old what is known of the pool may be: its storage answered so long ago.
    pub age: Duration,
}

/// A pool, for those who count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// Which.
    pub pool: PoolRef,
    /// What `pool-info` tells of it.
    pub info: PoolInfo,
    /// Whether its storage answers.
    pub health: Health,
    /// How it was refreshed.
    pub refreshes: Refreshes,
    /// How many of its volumes are known.
    pub volumes: usize,
}

/// The refreshes of a pool since it was started, or found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refreshes {
    /// How many there were.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The time they took in all.
    pub total: Duration,
    /// The time that the last one took.
    pub last: Duration,
}

/// How much is known of what is in an active pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Knowledge {
    /// That it is active.
    Nothing,
    /// How full it is, and some of its volumes.
    Measured,
    /// All of its volumes.
    Scanned,
}

/// Who is at a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nobody.
    Idle,
    /// It is being made.
    Building,
    /// So many jobs.
    Busy(u32),
}

#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) def: Arc<VolumeDef>,
    pub(crate) used: Use,
}

pub(crate) struct PoolState {
    /// The definition in force; with what is known of the pool, while it is active.
    pub(crate) def: PoolDef,
    /// The definition that comes into force when the pool stops.
    pub(crate) next: Option<PoolDef>,
    pub(crate) persistent: bool,
    pub(crate) autostart: bool,
    pub(crate) run: PoolRun,
    /// Somebody follows what others do in its storage.
    pub(crate) is_followed: bool,
    /// It was active when the state was written, and nobody has asked its storage since.
    pub(crate) must_ask: bool,
    pub(crate) backend: Option<Arc<dyn Pool>>,
    pub(crate) knowledge: Knowledge,
    pub(crate) volumes: BTreeMap<Name, Volume>,
    /// What was published while somebody looks at storage, and its numbers: what he has seen of it may be older.
    changed: BTreeMap<Name, u64>,
    /// How many look.
    lookers: u32,
    /// How often something was published.
    publications: u64,
    refreshes: Refreshes,
    /// When the scan began whose volumes were published last.
    pub(crate) scanned: Option<SystemTime>,
}

impl PoolState {
    pub(crate) fn new(def: PoolDef) -> PoolState {
        PoolState {
            def,
            next: None,
            persistent: false,
            autostart: false,
            run: PoolRun::Inactive,
            is_followed: false,
            must_ask: false,
            backend: None,
            knowledge: Knowledge::Nothing,
            volumes: BTreeMap::new(),
            changed: BTreeMap::new(),
            lookers: 0,
            publications: 0,
            refreshes: Refreshes::default(),
            scanned: None,
        }
    }

    /// Publishes a volume, or that there is none of this name.
    pub(crate) fn publish(&mut self, name: &Name, volume: Option<VolumeDef>) {
        let used = self.volumes.get(name).map_or(Use::Idle, |known| known.used);
        match volume {
            Some(def) => {
                self.volumes.insert(name.clone(), Volume { def: Arc::new(def), used });
            }
            None => {
                self.volumes.remove(name);
            }
        }
        self.publications += 1;
        if self.lookers > 0 {
            self.changed.insert(name.clone(), self.publications);
        }
    }

    /// The pool has stopped: what was known of it is forgotten, and the next definition comes into force.
    pub(crate) fn settle_inactive(&mut self) {
        self.run = PoolRun::Inactive;
        self.is_followed = false;
        self.backend = None;
        self.volumes.clear();
        self.scanned = None;
        self.knowledge = Knowledge::Nothing;
        if let Some(next) = self.next.take() {
            self.def = next;
        }
        self.def.usage = Usage::default();
    }

    /// Marks an active pool in which nobody works as being changed. False if it is none.
    pub(crate) fn claim_idle(&mut self) -> bool {
        let is_idle = self.run == PoolRun::Active && !self.has_jobs();
        if is_idle {
            self.run = PoolRun::Changing;
        }
        is_idle
    }

    /// True if a job is at one of the volumes.
    pub(crate) fn has_jobs(&self) -> bool {
        self.volumes.values().any(|volume| volume.used != Use::Idle)
    }
}

/// A pool in the registry.
pub(crate) struct PoolEntry {
    name: Name,
    uuid: Uuid,
    state: RwLock<PoolState>,
    visits: Visits,
    /// Its new volumes, and new content, that are not on their medium yet.
    unsynced: Arc<Unsynced>,
    /// They are on their way there.
    pub(crate) is_flushing: AtomicBool,
}

impl PoolEntry {
    pub(crate) fn new(def: PoolDef) -> PoolEntry {
        PoolEntry {
            name: def.name.clone(),
            uuid: def.uuid,
            state: RwLock::new(PoolState::new(def)),
            visits: Visits::default(),
            unsynced: Arc::default(),
            is_flushing: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.uuid
    }

    pub(crate) fn reference(&self) -> PoolRef {
        PoolRef { name: self.name.clone(), uuid: self.uuid }
    }

    /// Looks at what is published. Must not touch storage.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&PoolState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Publishes. Must not touch storage.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut PoolState) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Who is at its storage.
    pub(crate) fn visits(&self) -> &Visits {
        &self.visits
    }

    pub(crate) fn unsynced(&self) -> &Arc<Unsynced> {
        &self.unsynced
    }

    /// Returns when its new volumes are on their medium.
    pub(crate) fn flush(&self) -> Result<()> {
        let failed = |e| Error::system(format!("cannot sync new volumes of pool '{}'", self.name), &e);
        self.unsynced.flush().map_err(failed)
    }

    /// What is known of it.
    pub(crate) fn info(&self) -> PoolInfo {
        self.with(|state| PoolInfo {
            kind: state.def.kind,
            run: state.run,
            usage: state.def.usage,
            persistent: state.persistent,
            autostart: state.autostart,
        })
    }

    /// The same, for those who count.
    pub(crate) fn report(&self) -> PoolReport {
        let (refreshes, volumes) = self.with(|state| (state.refreshes, state.volumes.len()));
        let health = self.visits.health();
        PoolReport { pool: self.reference(), info: self.info(), health, refreshes, volumes }
    }

    /// The backend of an active pool.
    pub(crate) fn active(&self) -> Result<Arc<dyn Pool>> {
        self.with(|state| match (&state.backend, state.run) {
            (Some(backend), PoolRun::Active) => Ok(Arc::clone(backend)),
            _ => Err(self.not_active()),
        })
    }

    /// Refuses to begin what a pool that is being stopped would not wait for.
    pub(crate) fn must_be_active(&self, state: &PoolState) -> Result<()> {
        if state.run == PoolRun::Active { Ok(()) } else { Err(self.not_active()) }
    }

    /// Goes to the storage of an active pool.
    pub(crate) fn visit(self: &Arc<PoolEntry>, purpose: Purpose) -> Result<Visit> {
        Visit::begin(self, self.active()?, purpose)
    }

    /// Begins to look at storage, without a lock: what changes meanwhile is not overwritten with what was seen.
    pub(crate) fn look(&self) -> Looking<'_> {
        let since = self.change(|state| {
            state.lookers += 1;
            state.publications
        });
        Looking { entry: self, since }
    }

    /// Whether its servers may be away without anything being lost here.
    pub(crate) fn is_remote(&self) -> bool {
        self.with(|state| state.def.kind.is_remote())
    }

    pub(crate) fn not_active(&self) -> Error {
        self.invalid("is not active")
    }

    pub(crate) fn invalid(&self, what: &str) -> Error {
        Error::new(Code::OperationInvalid, format!("storage pool '{}' {what}", self.name))
    }
}

/// Somebody who looks at storage, until this is dropped.
pub(crate) struct Looking<'e> {
    entry: &'e PoolEntry,
    /// The number of the last publication before.
    since: u64,
}

/// The names of which something has been published since somebody began to look.
pub(crate) struct Newer {
    changed: BTreeMap<Name, u64>,
    since: u64,
}

impl Newer {
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.changed.get(name).is_some_and(|number| *number > self.since)
    }
}

impl Looking<'_> {
    /// Publishes what was seen; told are the names of which something newer is known.
    pub(crate) fn publish<T>(&self, publish: impl FnOnce(&mut PoolState, &Newer) -> T) -> T {
        self.entry.change(|state| {
            let newer = Newer { changed: std::mem::take(&mut state.changed), since: self.since };
            let published = publish(state, &newer);
            for (name, number) in newer.changed {
                state.changed.entry(name).or_insert(number);
            }
            published
        })
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.entry.change(|state| {
            state.lookers -= 1;
            if state.lookers == 0 {
                state.changed.clear();
            }
        });
    }
}

impl Engine {
    /// The pool of this name.
    pub fn pool_by_name(&self, name: &str) -> Result<PoolRef> {
        Ok(self.entry_by_name(name)?.reference())
    }

    /// The pool with this UUID.
    pub fn pool_by_uuid(&self, uuid: &Uuid) -> Result<PoolRef> {
        let found = self.registry().by_uuid(uuid);
        found.filter(|pool| self.is_still_there(pool)).map(|pool| pool.reference()).ok_or_else(|| {
            Error::new(Code::NoStoragePool, format!("no storage pool with matching uuid '{uuid}'"))
        })
    }

    /// All pools.
    pub fn pools(&self) -> Vec<PoolRef> {
        self.ask_all();
        self.registry().all().iter().map(|pool| pool.reference()).collect()
    }

    /// What is known of a pool.
    pub fn pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        let entry = self.measured(pool)?;
        Ok(entry.info())
    }

    /// What is known of a pool without touching its storage: how full it is may be missing.
    pub fn known_pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        Ok(self.entry(pool)?.info())
    }

    /// Whether the storage of a pool answers.
    pub fn pool_health(&self, pool: &PoolRef) -> Result<Health> {
        Ok(self.entry(pool)?.visits().health())
    }

    /// All pools, for those who count. No storage is touched.
    pub fn reports(&self) -> Vec<PoolReport> {
        self.registry().all().iter().map(|pool| pool.report()).collect()
    }

    /// The active pool with this target path.
    pub fn pool_by_target_path(&self, path: &str) -> Result<PoolRef> {
        let clean = sanitize_path(path);
        let is_there = |pool: &&Arc<PoolEntry>| {
            pool.with(|state| state.run == PoolRun::Active && state.def.target_path() == Some(clean.as_str()))
        };
        let found = self.registry().all().into_iter().find(|pool| is_there(&pool));
        let found = found.filter(|pool| self.is_still_there(pool) && is_there(&pool));
        found.map(|pool| pool.reference()).ok_or_else(|| {
            let also = if clean == path { String::new() } else { format!(" ({clean})") };
            Error::new(
                Code::NoStoragePool,
                format!("no storage pool with matching target path '{path}'{also}"),
            )
        })
    }

    /// The `<pool>` document: the definition in force.
    pub fn pool_xml(&self, pool: &PoolRef) -> Result<String> {
        let entry = self.measured(pool)?;
        Ok(entry.with(|state| state.def.to_xml()))
    }

    /// The `<pool>` document of the definition on disk.
    pub fn pool_inactive_xml(&self, pool: &PoolRef) -> Result<String> {
        let entry = self.measured(pool)?;
        Ok(entry.with(|state| state.next.as_ref().unwrap_or(&state.def).to_xml()))
    }

    pub(crate) fn entry(&self, pool: &PoolRef) -> Result<Arc<PoolEntry>> {
        let found = self.registry().by_uuid(&pool.uuid);
        found.filter(|pool| self.is_still_there(pool)).ok_or_else(|| {
            Error::new(
                Code::NoStoragePool,
                format!("no storage pool with matching uuid '{}' ({})", pool.uuid, pool.name),
            )
        })
    }

    pub(crate) fn entry_by_name(&self, name: &str) -> Result<Arc<PoolEntry>> {
        let found = self.registry().by_name(name);
        found.filter(|pool| self.is_still_there(pool)).ok_or_else(|| {
            Error::new(Code::NoStoragePool, format!("no storage pool with matching name '{name}'"))
        })
    }

    /// False for a pool that was there for its activity alone, and is not active after all.
    fn is_still_there(&self, pool: &Arc<PoolEntry>) -> bool {
        self.ask(pool);
        pool.with(|state| state.persistent || state.run != PoolRun::Inactive)
    }

    /// A pool of which it is known how full it is, unless its storage does not answer.
    fn measured(&self, pool: &PoolRef) -> Result<Arc<PoolEntry>> {
        let entry = self.entry(pool)?;
        match self.know(&entry, Knowledge::Measured) {
            Err(error) if error.code != Code::OperationTimeout && !entry.is_remote() => Err(error),
            _ => Ok(entry),
        }
    }

    /// Finds out what is asked for of an active pool, if it is not known yet.
    pub(crate) fn know(&self, entry: &Arc<PoolEntry>, wanted: Knowledge) -> Result<()> {
        if entry.with(|state| state.run != PoolRun::Active || state.knowledge >= wanted) {
            return Ok(());
        }
        let visit = entry.visit(Purpose::Work)?;
        if wanted == Knowledge::Scanned {
            return self.scan(entry, &visit).map(drop);
        }
        let found = visit.measure()?;
        entry.change(|state| {
            apply(state, found);
            state.knowledge = state.knowledge.max(Knowledge::Measured);
        });
        Ok(())
    }

    /// Reads all volumes, and publishes them at once. What changed meanwhile is left as it is. Returns what others did.
    pub(crate) fn scan(&self, entry: &PoolEntry, visit: &Visit) -> Result<Vec<(Name, VolumeChange)>> {
        let job = visit.job(&self.jobs, format!("refreshing pool '{}'", entry.name()))?;
        self.scan_as(entry, visit, &job)
    }

    /// The same as a part of a job.
    pub(crate) fn scan_as(
        &self,
        entry: &PoolEntry,
        visit: &Visit,
        job: &RunningJob,
    ) -> Result<Vec<(Name, VolumeChange)>> {
        let (began, started) = (SystemTime::now(), Instant::now());
        let looking = entry.look();
        // Of what is being made or changed nothing is known.
        let known = |name: &Name| {
            entry.with(|state| {
                let known = state.volumes.get(name).filter(|known| known.used == Use::Idle);
                known.map(|known| Arc::clone(&known.def))
            })
        };
        let mut volumes = BTreeMap::new();
        let all_known = || {
            entry.with(|state| {
                let idle = state.volumes.values().filter(|known| known.used == Use::Idle);
                idle.map(|known| Arc::clone(&known.def)).collect()
            })
        };
        let scanned = entry.with(|state| state.scanned);
        let earlier = scanned.map(|began| Earlier { began, volume: &known, volumes: &all_known });
        let found = visit.scan(
            earlier,
            &mut |def| {
                volumes.insert(def.name.clone(), Volume { def, used: Use::Idle });
            },
            job,
        );
        let found = found.and_then(|found| job.check().map(|()| found));
        let changes = looking.publish(|state, newer| {
            let refreshes = &mut state.refreshes;
            refreshes.count += 1;
            refreshes.failed += u64::from(found.is_err());
            refreshes.last = started.elapsed();
            refreshes.total += refreshes.last;
            let found = found?;
            // A pool that was stopped meanwhile has no volumes any more.
            let is_still_open =
                state.backend.as_ref().is_some_and(|backend| Arc::ptr_eq(backend, visit.backend()));
            if !is_still_open {
                return Ok(Vec::new());
            }
            // Of names that changed meanwhile the scan may have seen the old volume, or the old absence.
            volumes.retain(|name, _| !newer.contains(name));
            let before = std::mem::take(&mut state.volumes);
            let changes = match state.knowledge {
                Knowledge::Scanned => differences(&before, &volumes, newer),
                _ => Vec::new(),
            };
            let kept =
                before.into_iter().filter(|(name, known)| known.used != Use::Idle || newer.contains(name));
            volumes.extend(kept);
            state.volumes = volumes;
            state.scanned = Some(began);
            state.knowledge = Knowledge::Scanned;
            apply(state, found);
            Ok(changes)
        })?;
        changes.iter().for_each(|(name, change)| self.tell(entry, name, *change));
        Ok(changes)
    }

    /// Tells of what happened to a volume.
    pub(crate) fn tell(&self, entry: &PoolEntry, volume: &Name, change: VolumeChange) {
        self.volume_events.emit(&VolumeEvent { pool: entry.reference(), volume: volume.clone(), change });
    }
}

/// What others did between two scans. Who changed something here has told of it.
fn differences(
    before: &BTreeMap<Name, Volume>,
    after: &BTreeMap<Name, Volume>,
    newer: &Newer,
) -> Vec<(Name, VolumeChange)> {
    let was_idle = |name: &Name| before.get(name).is_none_or(|known| known.used == Use::Idle);
    let mut changes = Vec::new();
    for (name, volume) in after.iter().filter(|(name, _)| was_idle(name)) {
        match before.get(name) {
            None => changes.push((name.clone(), VolumeChange::Added)),
            Some(known) if Arc::ptr_eq(&known.def, &volume.def) || known.def.is_like(&volume.def) => {}
            Some(_) => changes.push((name.clone(), VolumeChange::Changed)),
        }
    }
    let gone = before.iter().filter(|(name, known)| {
        known.used == Use::Idle && !after.contains_key(*name) && !newer.contains(name)
    });
    changes.extend(gone.map(|(name, _)| (name.clone(), VolumeChange::Removed)));
    changes
}

fn apply(state: &mut PoolState, found: cenote_backend::Found) {
    state.def.usage = found.usage;
    if let Some(device) = state.def.source.devices.first_mut() {
        device.free_extents = found.free_extents;
    }
    if let (Some(target), Some(permissions)) = (&mut state.def.target, found.permissions) {
        target.permissions = permissions;
    }
}
