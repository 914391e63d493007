//! Defining, building, starting, stopping, deleting pools.

use crate::pool::{PoolEntry, PoolRun, PoolState};
use crate::registry::Registry;
use crate::visits::{Purpose, Visit};
use crate::watching::Before;
use crate::{Engine, state};
use cenote_host::Undo;
use cenote_model::event::{PoolChange, PoolEvent};
use cenote_model::flags::{BuildFirst, Overwrite, Validate};
use cenote_model::permissions::Permissions;
use cenote_model::pool::{Target, Usage};
use cenote_model::source::Source;
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, PoolRef, Result, Uuid};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// How long the start waits for pools: those that take longer are left to themselves.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Makes or changes a persistent definition. That of an active pool comes into force when it stops.
    pub fn define_pool(&self, xml: &str, validate: Validate) -> Result<PoolRef> {
        let def = parse(xml, validate)?;
        let defining = self.define();
        let known = self.admit(&def)?;
        state::save_definition(self.system(), &self.layout, &def)?;
        let mut registry = self.registry_mut();
        let entry = known.unwrap_or_else(|| Arc::new(PoolEntry::new(def.clone())));
        entry.change(|state| {
            state.persistent = true;
            match state.run {
                PoolRun::Inactive => state.def = def,
                PoolRun::Active | PoolRun::Changing => state.next = Some(def),
            }
        });
        // One that was there for its activity alone may have been forgotten meanwhile.
        registry.insert(Arc::clone(&entry));
        drop(registry);
        drop(defining);
        self.emit(&entry, PoolChange::Defined);
        Ok(entry.reference())
    }

    /// Makes a pool and starts it. It is transient, unless there is a definition of it.
    pub fn create_pool(&self, xml: &str, build: BuildFirst) -> Result<PoolRef> {
        let def = parse(xml, Validate::Lax)?;
        self.driver(def.kind)?;
        let defining = self.define();
        let entry = match self.admit(&def)? {
            Some(entry) => {
                entry.change(|state| match state.run {
                    PoolRun::Active => {
                        let message = format!("pool is already active as '{}'", def.name);
                        Err(Error::new(Code::OperationInvalid, message))
                    }
                    PoolRun::Changing => Err(entry_is_changing(&entry)),
                    PoolRun::Inactive => {
                        state.next = Some(std::mem::replace(&mut state.def, def));
                        state.run = PoolRun::Changing;
                        Ok(())
                    }
                })?;
                entry
            }
            None => {
                let entry = Arc::new(PoolEntry::new(def));
                // Nobody else may begin with it.
                entry.change(|state| state.run = PoolRun::Changing);
                self.registry_mut().insert(Arc::clone(&entry));
                entry
            }
        };
        drop(defining);
        self.bring_up(&entry, build)?;
        Ok(entry.reference())
    }

    /// Removes the persistent definition of an inactive pool.
    pub fn undefine_pool(&self, pool: &PoolRef) -> Result<()> {
        let defining = self.define();
        let entry = self.entry(pool)?;
        self.claim_inactive(&entry, "is still active")?;
        let removed = state::remove_definition(self.system(), &self.layout, entry.name());
        // What could not be removed for good is put back. Without that nothing is known of it, until the next start.
        let is_back = removed.is_err() && {
            let def = entry.with(|state| state.def.clone());
            state::save_definition(self.system(), &self.layout, &def).is_ok()
        };
        if is_back {
            entry.change(|state| state.autostart = false);
        } else {
            self.registry_mut().remove(&entry.uuid());
        }
        entry.change(|state| state.run = PoolRun::Inactive);
        removed?;
        drop(defining);
        self.emit(&entry, PoolChange::Undefined);
        Ok(())
    }

    /// Starts an inactive pool.
    pub fn start_pool(&self, pool: &PoolRef, build: BuildFirst) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive_with_driver(&entry, "is already active")?;
        self.bring_up(&entry, build)
    }

    /// Makes the storage of an inactive pool.
    pub fn build_pool(&self, pool: &PoolRef, overwrite: Overwrite) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive_with_driver(&entry, "is already active")?;
        let built = self.visit_inactive(&entry).and_then(|visit| self.build(&entry, &visit, overwrite));
        self.settle(&entry);
        built?;
        self.emit(&entry, PoolChange::Created);
        Ok(())
    }

    /// Stops an active pool. What is in it stays.
    pub fn stop_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        let visit = entry.visit(Purpose::Work)?;
        let job = visit.job(&self.jobs, format!("stopping pool '{}'", entry.name()))?;
        entry.change(|state| match state.run {
            PoolRun::Inactive => Err(entry.not_active()),
            PoolRun::Changing => Err(entry_is_changing(&entry)),
            PoolRun::Active if state.has_jobs() => Err(has_jobs(&entry)),
            PoolRun::Active => {
                state.run = PoolRun::Changing;
                Ok(())
            }
        })?;
        // What was made is on its medium before the pool is left: afterwards nobody knows of it.
        if let Err(error) = entry.flush().and_then(|()| visit.stop(&job)) {
            entry.change(|state| state.run = PoolRun::Active);
            return Err(error);
        }
        state::remove_active(self.system(), &self.layout, entry.name());
        self.settle(&entry);
        self.emit(&entry, PoolChange::Stopped);
        Ok(())
    }

    /// Removes the storage of an inactive pool.
    pub fn delete_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = self.entry(pool)?;
        self.claim_inactive_with_driver(&entry, "is still active")?;
        let deleted = self.visit_inactive(&entry).and_then(|visit| {
            let construction = visit
                .construction()
                .ok_or_else(|| Error::new(Code::NoSupport, "pool does not support pool deletion"))?;
            construction.delete(&*visit.job(&self.jobs, format!("deleting pool '{}'", entry.name()))?)
        });
        self.settle(&entry);
        deleted?;
        self.emit(&entry, PoolChange::Deleted);
        Ok(())
    }

    /// Reads the list of volumes again. Work on volumes goes on meanwhile.
    pub fn refresh_pool(&self, pool: &PoolRef) -> Result<()> {
        let entry = &self.entry(pool)?;
        let visit = entry.visit(Purpose::Work)?;
        let job = visit.job(&self.jobs, format!("refreshing pool '{}'", entry.name()))?;
        match visit.discover(&job).and_then(|()| self.scan_as(entry, &visit, &job)) {
            Ok(_) => {
                self.emit(entry, PoolChange::Refreshed);
                Ok(())
            }
            Err(error) if error.is_cancelled() || error.code == Code::OperationTimeout => Err(error),
            // The servers may be back at any time, and then all is as it was.
            Err(error) if entry.is_remote() => Err(error),
            Err(error) => {
                // As libvirt has it, a pool that cannot be read is not active. Work that is under way keeps it.
                if entry.change(PoolState::claim_idle) {
                    let _ = entry.flush();
                    let _ = visit.stop(&Job::new(0, "stopping a pool"));
                    state::remove_active(self.system(), &self.layout, entry.name());
                    self.settle(entry);
                    self.emit(entry, PoolChange::Stopped);
                }
                Err(error)
            }
        }
    }

    /// Says whether a pool starts by itself.
    pub fn set_autostart(&self, pool: &PoolRef, autostart: bool) -> Result<()> {
        let _defining = self.define();
        let entry = self.entry(pool)?;
        if !entry.with(|state| state.persistent) {
            return Err(Error::new(Code::Internal, "pool has no config file"));
        }
        state::set_autostart(self.system(), &self.layout, entry.name(), autostart)?;
        entry.change(|state| state.autostart = autostart);
        Ok(())
    }

    /// Reads the state on disk. What cannot be read is passed over, as libvirt does, and said on standard error.
    pub(crate) fn load_pools(&self, may_change: bool) -> Result<()> {
        let (active, mut bad) = state::read_active(self.system(), &self.layout)?;
        let (definitions, more) = state::read_definitions(self.system(), &self.layout)?;
        bad.extend(more);
        for def in active {
            let name = def.name.clone();
            if let Err(error) = self.load_active(def) {
                if may_change {
                    state::remove_active(self.system(), &self.layout, &name);
                }
                bad.push(error);
            }
        }
        for def in definitions {
            if let Err(error) = self.load_definition(def) {
                bad.push(error);
            }
        }
        for error in bad {
            eprintln!("warning: {error}");
        }
        Ok(())
    }

    fn load_active(&self, mut def: PoolDef) -> Result<()> {
        def.usage = Usage::default();
        let entry = Arc::new(PoolEntry::new(def.clone()));
        let backend = self.open_backend(&entry)?;
        entry.change(|state| {
            state.run = PoolRun::Active;
            state.backend = Some(backend);
            state.must_ask = true;
        });
        let mut registry = self.registry_mut();
        registry.admit(&def)?;
        registry.insert(entry);
        Ok(())
    }

    /// Finds out which of the pools that were active still are, side by side. One whose storage does not say so for now
    /// counts as active until it does.
    pub(crate) fn ask_all(&self) {
        let pools = self.registry().all();
        let unasked = pools.into_iter().filter(|pool| pool.with(|state| state.must_ask));
        self.side_by_side(unasked.collect(), |engine, pool| engine.ask(pool));
    }

    /// Finds out whether a pool that was active still is, if nobody has asked yet.
    pub(crate) fn ask(&self, pool: &Arc<PoolEntry>) {
        let must_ask = |state: &PoolState| state.must_ask;
        if !pool.with(must_ask) || !pool.change(|state| std::mem::take(&mut state.must_ask)) {
            return;
        }
        match pool.visit(Purpose::Work).and_then(|visit| visit.is_active()) {
            Ok(true) => {}
            Ok(false) => {
                // Unless somebody works in it meanwhile, or has stopped it.
                if pool.change(PoolState::claim_idle) {
                    if self.may_change() {
                        state::remove_active(self.system(), &self.layout, pool.name());
                    }
                    self.settle(pool);
                }
            }
            Err(error) => eprintln!("warning: storage pool '{}' may not be active: {error}", pool.name()),
        }
    }

    /// Does something with each pool on a thread of its own, and waits for all of them, for a while.
    fn side_by_side(
        &self,
        pools: Vec<Arc<PoolEntry>>,
        work: impl Fn(&Engine, &Arc<PoolEntry>) + Copy + Send + 'static,
    ) {
        let left = Arc::new(AtomicUsize::new(pools.len()));
        for pool in pools {
            let left = Arc::clone(&left);
            self.spawn("pool", move |engine| {
                work(engine, &pool);
                left.fetch_sub(1, Ordering::Release);
            });
        }
        self.wait(PATIENCE, || left.load(Ordering::Acquire) == 0);
    }

    fn load_definition(&self, mut def: PoolDef) -> Result<()> {
        def.usage = Usage::default();
        let autostart = state::is_autostart(self.system(), &self.layout, &def.name);
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

    /// Starts the pools that start by themselves, side by side. One that takes long goes on starting.
    pub(crate) fn autostart(&self) {
        if !state::shall_autostart(self.system(), &self.layout) {
            return;
        }
        let pools = self.registry().all();
        let wanted = pools
            .into_iter()
            .filter(|pool| pool.with(|state| state.autostart && state.run == PoolRun::Inactive));
        self.side_by_side(wanted.collect(), |engine, pool| {
            if let Err(error) = engine.start_pool(&pool.reference(), BuildFirst::No) {
                eprintln!("warning: Failed to autostart storage pool '{}': {error}", pool.name());
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

    /// The pool that a definition is for, if it is there already.
    fn admit(&self, def: &PoolDef) -> Result<Option<Arc<PoolEntry>>> {
        let admitted = self.registry().admit(def);
        if admitted.is_ok() {
            return admitted;
        }
        // What is in its way may be active no more.
        self.ask_all();
        self.registry().admit(def)
    }

    /// Marks an inactive pool as being changed.
    fn claim_inactive(&self, entry: &PoolEntry, if_active: &str) -> Result<()> {
        entry.change(|state| match state.run {
            PoolRun::Active => Err(entry.invalid(if_active)),
            PoolRun::Changing => Err(entry_is_changing(entry)),
            PoolRun::Inactive => {
                state.run = PoolRun::Changing;
                Ok(())
            }
        })
    }

    /// The same for a pool whose storage is going to be touched.
    fn claim_inactive_with_driver(&self, entry: &PoolEntry, if_active: &str) -> Result<()> {
        self.driver(entry.with(|state| state.def.kind))?;
        self.claim_inactive(entry, if_active)
    }

    /// Builds if asked to, starts, reads the volumes. If that fails, the pool is as it was before.
    fn bring_up(&self, entry: &Arc<PoolEntry>, build: BuildFirst) -> Result<()> {
        let mut visit = self.visit_inactive(entry).inspect_err(|_| self.settle(entry))?;
        let mut undo = Undo::new();
        undo.push(|| self.settle(entry));
        if let BuildFirst::Yes(overwrite) = build {
            self.build(entry, &visit, overwrite)?;
        }
        if let Some(resolved) = visit.resolve()? {
            entry.change(|state| {
                let before = std::mem::replace(&mut state.def, resolved);
                // The definition itself stays as it is.
                state.next.get_or_insert(before);
            });
            visit = self.visit_inactive(entry)?;
        }
        let (visit, job) = (&visit, &visit.job(&self.jobs, format!("starting pool '{}'", entry.name()))?);
        // Noted before it is done, so that what a daemon that is killed has started is found again.
        let def = entry.with(|state| state.def.clone());
        state::save_active(self.system(), &self.layout, &def)?;
        undo.push(|| state::remove_active(self.system(), &self.layout, entry.name()));
        visit.start(job)?;
        undo.push(|| drop(visit.stop(&Job::new(0, "undoing a start"))));
        entry.change(|state| state.backend = Some(Arc::clone(visit.backend())));
        // From before the volumes are read, so that nothing is missed.
        let watch = self.begin_watch(entry, visit.backend());
        self.scan(entry, visit)?;
        job.check()?;
        undo.disarm();
        entry.change(|state| state.run = PoolRun::Active);
        self.follow(entry, visit.backend(), watch, Before::Scanned);
        self.emit(entry, PoolChange::Started);
        Ok(())
    }

    fn build(&self, entry: &PoolEntry, visit: &Visit, overwrite: Overwrite) -> Result<()> {
        // Types without construction have nothing to build: that is no error, as in libvirt.
        match visit.construction() {
            Some(construction) => construction
                .build(overwrite, &*visit.job(&self.jobs, format!("building pool '{}'", entry.name()))?),
            None => Ok(()),
        }
    }

    /// Goes to the storage of a pool that is marked as being changed.
    fn visit_inactive(&self, entry: &Arc<PoolEntry>) -> Result<Visit> {
        Visit::begin(entry, self.open_backend(entry)?, Purpose::Work)
    }

    /// A pool that is not active after all: a transient one goes.
    fn settle(&self, entry: &Arc<PoolEntry>) {
        entry.change(|state| state.settle_inactive());
        self.registry_mut().forget_transient(entry);
    }

    pub(crate) fn emit(&self, entry: &PoolEntry, change: PoolChange) {
        self.events.emit(&PoolEvent { pool: entry.name().clone(), uuid: entry.uuid(), change });
    }

    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
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
