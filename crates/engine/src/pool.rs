//! One pool: what is known of it, and who is at it.

use crate::Engine;
use cenote_backend::{Driver, Earlier, Pool, driver};
use cenote_model::pool::{Usage, sanitize_path};
use cenote_model::{Code, Error, Name, PoolDef, PoolKind, PoolRef, Result, Uuid, VolumeDef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

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
    pub(crate) backend: Option<Arc<dyn Pool>>,
    pub(crate) knowledge: Knowledge,
    pub(crate) volumes: BTreeMap<Name, Volume>,
    /// Names whose volumes changed while a scan is under way: what it found of them is old.
    pub(crate) changed: BTreeSet<Name>,
    /// How many scans are under way.
    pub(crate) scans: u32,
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
            backend: None,
            knowledge: Knowledge::Nothing,
            volumes: BTreeMap::new(),
            changed: BTreeSet::new(),
            scans: 0,
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
        if self.scans > 0 {
            self.changed.insert(name.clone());
        }
    }

    /// The pool has stopped: what was known of it is forgotten, and the next definition comes into force.
    pub(crate) fn settle_inactive(&mut self) {
        self.run = PoolRun::Inactive;
        self.backend = None;
        self.volumes.clear();
        self.scanned = None;
        self.knowledge = Knowledge::Nothing;
        if let Some(next) = self.next.take() {
            self.def = next;
        }
        self.def.usage = Usage::default();
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
}

impl PoolEntry {
    pub(crate) fn new(def: PoolDef) -> PoolEntry {
        PoolEntry { name: def.name.clone(), uuid: def.uuid, state: RwLock::new(PoolState::new(def)) }
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

    /// The backend of an active pool.
    pub(crate) fn active(&self) -> Result<Arc<dyn Pool>> {
        self.with(|state| match (&state.backend, state.run) {
            (Some(backend), PoolRun::Active) => Ok(Arc::clone(backend)),
            _ => Err(self.not_active()),
        })
    }

    pub(crate) fn not_active(&self) -> Error {
        self.invalid("is not active")
    }

    pub(crate) fn invalid(&self, what: &str) -> Error {
        Error::new(Code::OperationInvalid, format!("storage pool '{}' {what}", self.name))
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
        found.map(|pool| pool.reference()).ok_or_else(|| {
            Error::new(Code::NoStoragePool, format!("no storage pool with matching uuid '{uuid}'"))
        })
    }

    /// All pools.
    pub fn pools(&self) -> Vec<PoolRef> {
        self.registry().all().iter().map(|pool| pool.reference()).collect()
    }

    /// What is known of a pool.
    pub fn pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        let entry = self.entry(pool)?;
        self.know(&entry, Knowledge::Measured)?;
        Ok(published(&entry))
    }

    /// What is known of a pool without touching its storage: how full it is may be missing.
    pub fn known_pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        Ok(published(&*self.entry(pool)?))
    }

    /// The active pool with this target path.
    pub fn pool_by_target_path(&self, path: &str) -> Result<PoolRef> {
        let clean = sanitize_path(path);
        let is_there = |pool: &&Arc<PoolEntry>| {
            pool.with(|state| state.run == PoolRun::Active && state.def.target_path() == Some(clean.as_str()))
        };
        self.registry().all().iter().find(is_there).map(|pool| pool.reference()).ok_or_else(|| {
            let also = if clean == path { String::new() } else { format!(" ({clean})") };
            Error::new(
                Code::NoStoragePool,
                format!("no storage pool with matching target path '{path}'{also}"),
            )
        })
    }

    /// The `<pool>` document: the definition in force.
    pub fn pool_xml(&self, pool: &PoolRef) -> Result<String> {
        let entry = self.entry(pool)?;
        self.know(&entry, Knowledge::Measured)?;
        Ok(entry.with(|state| state.def.to_xml()))
    }

    /// The `<pool>` document of the definition on disk.
    pub fn pool_inactive_xml(&self, pool: &PoolRef) -> Result<String> {
        let entry = self.entry(pool)?;
        self.know(&entry, Knowledge::Measured)?;
        Ok(entry.with(|state| state.next.as_ref().unwrap_or(&state.def).to_xml()))
    }

    pub(crate) fn entry(&self, pool: &PoolRef) -> Result<Arc<PoolEntry>> {
        self.registry().by_uuid(&pool.uuid).ok_or_else(|| {
            Error::new(
                Code::NoStoragePool,
                format!("no storage pool with matching uuid '{}' ({})", pool.uuid, pool.name),
            )
        })
    }

    pub(crate) fn entry_by_name(&self, name: &str) -> Result<Arc<PoolEntry>> {
        self.registry().by_name(name).ok_or_else(|| {
            Error::new(Code::NoStoragePool, format!("no storage pool with matching name '{name}'"))
        })
    }

    /// Finds out what is asked for of an active pool, if it is not known yet.
    pub(crate) fn know(&self, entry: &PoolEntry, wanted: Knowledge) -> Result<()> {
        let Ok(backend) = entry.active() else { return Ok(()) };
        if entry.with(|state| state.knowledge >= wanted) {
            return Ok(());
        }
        if wanted == Knowledge::Scanned {
            return self.scan(entry, &backend);
        }
        let found = backend.measure()?;
        entry.change(|state| {
            apply(state, found);
            state.knowledge = state.knowledge.max(Knowledge::Measured);
        });
        Ok(())
    }

    /// Reads all volumes, and publishes them at once. What changed meanwhile is left as it is.
    pub(crate) fn scan(&self, entry: &PoolEntry, backend: &Arc<dyn Pool>) -> Result<()> {
        let job = self.jobs.start(format!("refreshing pool '{}'", entry.name()));
        entry.change(|state| state.scans += 1);
        let mut volumes = BTreeMap::new();
        let began = SystemTime::now();
        // Of what is being made or changed nothing is known.
        let known = |name: &Name| {
            entry.with(|state| {
                state
                    .volumes
                    .get(name)
                    .filter(|known| known.used == Use::Idle)
                    .map(|known| Arc::clone(&known.def))
            })
        };
        let earlier = entry.with(|state| state.scanned).map(|began| Earlier { began, volume: &known });
        let found = backend.scan(
            earlier,
            &mut |def| {
                volumes.insert(def.name.clone(), Volume { def, used: Use::Idle });
            },
            &job,
        );
        entry.change(|state| {
            state.scans -= 1;
            let changed = match state.scans {
                0 => std::mem::take(&mut state.changed),
                _ => state.changed.clone(),
            };
            let found = found?;
            // A pool that was stopped meanwhile has no volumes any more.
            if state.run == PoolRun::Inactive {
                return Ok(());
            }
            // Of names that changed meanwhile the scan may have seen the old volume, or the old absence.
            volumes.retain(|name, _| !changed.contains(name));
            for (name, known) in std::mem::take(&mut state.volumes) {
                if known.used != Use::Idle || changed.contains(&name) {
                    volumes.insert(name, known);
                }
            }
            state.volumes = volumes;
            state.scanned = Some(began);
            state.knowledge = Knowledge::Scanned;
            apply(state, found);
            Ok(())
        })
    }
}

fn apply(state: &mut PoolState, found: cenote_backend::Found) {
    state.def.usage = found.usage;
    if let (Some(target), Some(permissions)) = (&mut state.def.target, found.permissions) {
        target.permissions = permissions;
    }
}

/// The driver of this type.
pub(crate) fn driver_of(kind: PoolKind) -> Result<&'static Driver> {
    driver(kind).ok_or_else(|| no_driver(kind))
}

pub(crate) fn no_driver(kind: PoolKind) -> Error {
    Error::new(Code::Internal, format!("missing backend for pool type {} ({kind})", kind as u32))
}

fn published(entry: &PoolEntry) -> PoolInfo {
    entry.with(|state| PoolInfo {
        kind: state.def.kind,
        run: state.run,
        usage: state.def.usage,
        persistent: state.persistent,
        autostart: state.autostart,
    })
}
