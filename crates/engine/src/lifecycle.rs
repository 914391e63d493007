//! Defining, building, starting, stopping, deleting pools.

use crate::pool::{PoolEntry, PoolRun, driver_of};
use crate::registry::Registry;
use crate::{Engine, state};
use cenote_backend::Pool;
use cenote_host::Undo;
use cenote_model::event::{PoolChange, PoolEvent};
use cenote_model::flags::{BuildFirst, Overwrite, Validate};
use cenote_model::permissions::Permissions;
use cenote_model::pool::{Target, Usage};
use cenote_model::source::Source;
use cenote_model::{Code, Error, Name, PoolDef, PoolKind, PoolRef, Result, Uuid};
use std::path::Path;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

impl Engine {
    /// Makes or changes a persistent definition. That of an active pool comes into force when it stops.
    pub fn define_pool(&self, xml: &str, validate: Validate) -> Result<PoolRef> {
        let def = parse(xml, validate)?;
        let mut registry = self.registry_mut();
        let known = registry.admit(&def)?;
        state::save_definition(&self.layout, &def)?;
        let entry = match known {
            Some(entry) => entry,
            None => {
                let entry = Arc::new(PoolEntry::new(def.clone()));
                registry.insert(Arc::clone(&entry));
                entry
            }
        };
        drop(registry);
        entry.change(|state| {
            state.persistent = true;
            match state.run {
                PoolRun::Inactive => state.def = def,
                PoolRun::Active | PoolRun::Changing => state.next = Some(def),
            }
        });
        self.emit(&entry, PoolChange::Defined);
        Ok(entry.reference())
    }

    /// Makes a pool and starts it. It is transient, unless there is a definition of it.
    pub fn create_pool(&self, xml: &str, build: BuildFirst) -> Result<PoolRef> {
        let def = parse(xml, Validate::Lax)?;
        driver_of(def.kind)?;
        let mut registry = self.registry_mut();
        let (entry, is_new) = match registry.admit(&def)? {
            Some(entry) => (entry, false),
            None => {
                let entry = Arc::new(PoolEntry::new(def.clone()));
                registry.insert(Arc::clone(&entry));
                (entry, true)
            }
        };
        drop(registry);
        entry.change(|state| match state.run {
            PoolRun::Active => {
                Err(Error::new(Code::OperationInvalid, format!("pool is already active as '{}'", def.name)))
            }
            PoolRun::Changing => Err(entry_is_changing(&entry)),
            PoolRun::Inactive => {
                if !is_new {
                    state.next = Some(std::mem::replace(&mut state.def, def));
                }
                state.run = PoolRun::Changing;
                Ok(())
            }
        })?;
        self.bring_up(&entry, build)?;
        Ok(entry.reference())
    }

    /// Removes the persistent definition of an inactive pool.
    pub fn undefine_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        let mut registry = self.registry_mut();
        entry.with(|state| match state.run {
            PoolRun::Active => Err(entry.invalid("is still active")),
            PoolRun::Changing => Err(entry_is_changing(&entry)),
            PoolRun::Inactive => Ok(()),
        })?;
        state::remove_definition(&self.layout, entry.name())?;
        registry.remove(&entry.uuid());
        drop(registry);
        self.emit(&entry, PoolChange::Undefined);
        Ok(())
    }

    /// Starts an inactive pool.
    pub fn start_pool(&self, pool: &PoolRef, build: BuildFirst) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive(&entry, "is already active")?;
        self.bring_up(&entry, build)
    }

    /// Makes the storage of an inactive pool.
    pub fn build_pool(&self, pool: &PoolRef, overwrite: Overwrite) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive(&entry, "is already active")?;
        let built = self.backend_of(&entry).and_then(|backend| self.build(&entry, &*backend, overwrite));
        self.settle(&entry);
        built?;
        self.emit(&entry, PoolChange::Created);
        Ok(())
    }

    /// Stops an active pool. What is in it stays.
    pub fn stop_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        let backend = entry.active()?;
        entry.change(|state| match state.run {
            PoolRun::Inactive => Err(entry.not_active()),
            PoolRun::Changing => Err(entry_is_changing(&entry)),
            PoolRun::Active if state.has_jobs() => Err(has_jobs(&entry)),
            PoolRun::Active => {
                state.run = PoolRun::Changing;
                Ok(())
            }
        })?;
        let job = self.jobs.start(format!("stopping pool '{}'", entry.name()));
        if let Err(error) = backend.stop(&job) {
            entry.change(|state| state.run = PoolRun::Active);
            return Err(error);
        }
        state::remove_active(&self.layout, entry.name());
        self.settle(&entry);
        self.emit(&entry, PoolChange::Stopped);
        Ok(())
    }

    /// Removes the storage of an inactive pool.
    pub fn delete_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive(&entry, "is still active")?;
        let deleted = self.backend_of(&entry).and_then(|backend| {
            let construction = backend
                .construction()
                .ok_or_else(|| Error::new(Code::NoSupport, "pool does not support pool deletion"))?;
            construction.delete(&self.jobs.start(format!("deleting pool '{}'", entry.name())))
        });
        self.settle(&entry);
        deleted?;
        self.emit(&entry, PoolChange::Deleted);
        Ok(())
    }

    /// Reads the list of volumes again. Work on volumes goes on meanwhile.
    pub fn refresh_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        let backend = entry.active()?;
        match self.scan(&entry, &backend) {
            Ok(()) => {
                self.emit(&entry, PoolChange::Refreshed);
                Ok(())
            }
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                // As libvirt has it, a pool that cannot be read is not active. Work that is under way keeps it.
                if !entry.with(|state| state.has_jobs()) {
                    let _ = backend.stop(&self.jobs.start(format!("stopping pool '{}'", entry.name())));
                    state::remove_active(&self.layout, entry.name());
                    self.settle(&entry);
                    self.emit(&entry, PoolChange::Stopped);
                }
                Err(error)
            }
        }
    }

    /// Says whether a pool starts by itself.
    pub fn set_autostart(&self, pool: &PoolRef, autostart: bool) -> Result<()> {
        let entry = self.entry(pool)?;
        if !entry.with(|state| state.persistent) {
            return Err(Error::new(Code::Internal, "pool has no config file"));
        }
        state::set_autostart(&self.layout, entry.name(), autostart)?;
        entry.change(|state| state.autostart = autostart);
        Ok(())
    }

    /// Reads the state on disk. What cannot be read is passed over, as libvirt does, and said on standard error.
    pub(crate) fn load_pools(&mut self, may_change: bool) -> Result<()> {
        let (active, mut bad) = state::read_active(&self.layout)?;
        let (definitions, more) = state::read_definitions(&self.layout)?;
        bad.extend(more);
        for def in active {
            if let Err(error) = self.load_active(def, may_change) {
                bad.push(error);
            }
        }
        for def in definitions {
            if let Err(error) = self.load_definition(def) {
                bad.push(error);
            }
        }
        self.drop_stale_transients();
        for error in bad {
            eprintln!("warning: {error}");
        }
        Ok(())
    }

    fn load_active(&self, mut def: PoolDef, may_change: bool) -> Result<()> {
        def.usage = Usage::default();
        let backend = self.open_backend(&def)?;
        let is_active = backend.is_active();
        if !matches!(is_active, Ok(true)) && may_change {
            state::remove_active(&self.layout, &def.name);
        }
        let entry = Arc::new(PoolEntry::new(def.clone()));
        if is_active? {
            entry.change(|state| {
                state.run = PoolRun::Active;
                state.backend = Some(backend);
            });
        }
        let mut registry = self.registry_mut();
        registry.admit(&def)?;
        registry.insert(entry);
        Ok(())
    }

    fn load_definition(&self, mut def: PoolDef) -> Result<()> {
        def.usage = Usage::default();
        let autostart = state::is_autostart(&self.layout, &def.name);
        let mut registry = self.registry_mut();
        let entry = match registry.admit(&def)? {
            Some(entry) => entry,
            None => {
                let entry = Arc::new(PoolEntry::new(def.clone()));
                registry.insert(Arc::clone(&entry));
                entry
            }
        };
        entry.change(|state| {
            state.persistent = true;
            state.autostart = autostart;
            match state.run {
                PoolRun::Active => state.next = Some(def),
                _ => state.def = def,
            }
        });
        Ok(())
    }

    /// A transient pool that is not active any more is none.
    fn drop_stale_transients(&self) {
        let mut registry = self.registry_mut();
        for pool in registry.all() {
            if pool.with(|state| !state.persistent && state.run == PoolRun::Inactive) {
                registry.remove(&pool.uuid());
            }
        }
    }

    /// Starts the pools that start by themselves, side by side.
    pub(crate) fn autostart(&self) {
        if !state::shall_autostart(&self.layout) {
            return;
        }
        let pools = self.registry().all();
        let wanted =
            |pool: &&Arc<PoolEntry>| pool.with(|state| state.autostart && state.run == PoolRun::Inactive);
        std::thread::scope(|scope| {
            for pool in pools.iter().filter(wanted) {
                scope.spawn(move || {
                    if let Err(error) = self.start_pool(&pool.reference(), BuildFirst::No) {
                        eprintln!("warning: Failed to autostart storage pool '{}': {error}", pool.name());
                    }
                });
            }
        });
    }

    /// What a first use finds: a directory for volumes, which starts by itself.
    pub(crate) fn make_default_pool(&self, path: &Path) -> Result<()> {
        let def = PoolDef {
            kind: PoolKind::Dir,
            name: Name::pool("default")?,
            uuid: Uuid::random().ok_or_else(|| Error::new(Code::Internal, "unable to generate uuid"))?,
            usage: Usage::default(),
            cow: None,
            source: Source::default(),
            target: Some(Target { path: path.display().to_string(), permissions: Permissions::default() }),
            refresh: None,
            mount_options: Vec::new(),
            rbd_options: Vec::new(),
        };
        let pool = self.define_pool(&def.to_xml(), Validate::Lax)?;
        self.set_autostart(&pool, true)?;
        self.start_pool(&pool, BuildFirst::Yes(Overwrite::Default))
    }

    /// Marks an inactive pool as being changed.
    fn claim_inactive(&self, entry: &PoolEntry, if_active: &str) -> Result<()> {
        let kind = entry.with(|state| state.def.kind);
        driver_of(kind)?;
        entry.change(|state| match state.run {
            PoolRun::Active => Err(entry.invalid(if_active)),
            PoolRun::Changing => Err(entry_is_changing(entry)),
            PoolRun::Inactive => {
                state.run = PoolRun::Changing;
                Ok(())
            }
        })
    }

    /// Builds if asked to, starts, reads the volumes. If that fails, the pool is as it was before.
    fn bring_up(&self, entry: &PoolEntry, build: BuildFirst) -> Result<()> {
        let job = self.jobs.start(format!("starting pool '{}'", entry.name()));
        let mut undo = Undo::new();
        undo.push(|| self.settle(entry));
        let backend = self.backend_of(entry)?;
        if let BuildFirst::Yes(overwrite) = build {
            self.build(entry, &*backend, overwrite)?;
        }
        backend.start(&job)?;
        let started = Arc::clone(&backend);
        let job = &job;
        undo.push(move || drop(started.stop(job)));
        let def = entry.with(|state| state.def.clone());
        state::save_active(&self.layout, &def)?;
        undo.push(|| state::remove_active(&self.layout, entry.name()));
        entry.change(|state| state.backend = Some(Arc::clone(&backend)));
        self.scan(entry, &backend)?;
        undo.disarm();
        entry.change(|state| state.run = PoolRun::Active);
        self.emit(entry, PoolChange::Started);
        Ok(())
    }

    fn build(&self, entry: &PoolEntry, backend: &dyn Pool, overwrite: Overwrite) -> Result<()> {
        // Types without construction have nothing to build: that is no error, as in libvirt.
        match backend.construction() {
            Some(construction) => {
                construction.build(overwrite, &self.jobs.start(format!("building pool '{}'", entry.name())))
            }
            None => Ok(()),
        }
    }

    fn backend_of(&self, entry: &PoolEntry) -> Result<Arc<dyn Pool>> {
        self.open_backend(&entry.with(|state| state.def.clone()))
    }

    /// A pool that is not active after all: a transient one goes.
    fn settle(&self, entry: &PoolEntry) {
        let is_transient = entry.change(|state| {
            state.settle_inactive();
            !state.persistent
        });
        if is_transient {
            self.registry_mut().remove(&entry.uuid());
        }
    }

    pub(crate) fn emit(&self, entry: &PoolEntry, change: PoolChange) {
        self.events.emit(&PoolEvent { pool: entry.name().clone(), uuid: entry.uuid(), change });
    }

    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A definition from a client: sizes in it are not the client's to say.
fn parse(xml: &str, validate: Validate) -> Result<PoolDef> {
    let mut def = PoolDef::from_xml(xml, validate)?;
    def.usage = Usage::default();
    for device in &mut def.source.devices {
        device.free_extents.clear();
    }
    Ok(def)
}

fn entry_is_changing(entry: &PoolEntry) -> Error {
    entry.invalid("is starting up")
}

fn has_jobs(entry: &PoolEntry) -> Error {
    Error::new(Code::Internal, format!("pool '{}' has asynchronous jobs running.", entry.name()))
}
