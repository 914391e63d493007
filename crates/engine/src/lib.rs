//! The registry of pools and what is done with them.
//!
//! The calls are those of libvirt's storage API. No lock is held while storage is touched: a call marks what it is
//! going to change, works, and then publishes the result. Lists and descriptions are answered from what was published
//! last.

#![warn(missing_docs)]

mod across;
mod events;
mod jobs;
mod keeper;
mod layout;
mod lifecycle;
mod pool;
mod registry;
mod secrets;
mod state;
mod streams;
mod visits;
mod volumes;
mod watching;

pub use cenote_backend::{NoSecrets, Secrets, driver, needs, no_secret};
pub use events::Events;
pub use jobs::{JobInfo, Jobs};
pub use layout::Layout;
pub use pool::{Health, PoolInfo, PoolReport, PoolRun, Refreshes};
pub use secrets::{Asker, SecretStore, SecretsOnDisk, check_kind};
pub use streams::{Chunk, Download, Upload};
pub use visits::{Answering, Overdue, Verdict};
pub use volumes::VolumeInfo;

use cenote_backend::{Driver, Environment};
use cenote_host::{Host, LockFile, Settings, System, Unsynced};
use cenote_model::event::{PoolEvent, VolumeEvent};
use cenote_model::source::{Source, sources_to_xml};
use cenote_model::{Code, Error, PoolDef, PoolKind, Result, capabilities};
use pool::PoolEntry;
use registry::Registry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};

/// How long storage may be silent before nobody waits for it any more, unless the settings say otherwise.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What an engine may do with the state on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it. Others may change it meanwhile. The very first use, and the first one after the machine was started,
    /// make it ready all the same: directories, the `default` pool, what starts by itself.
    Read,
    /// Change it. Nobody else may.
    Write,
}

/// What an engine is made of.
pub struct Setup {
    /// Where its state is.
    pub layout: Layout,
    /// The machine.
    pub host: Host,
    /// The types of pool that it knows.
    pub drivers: &'static [Driver],
    /// Where passphrases come from.
    pub secrets: Arc<dyn Secrets>,
    /// What it may do with the state.
    pub access: Access,
    /// Where its jobs are listed.
    pub jobs: Jobs,
    /// Whether it notices what others do.
    pub noticing: Noticing,
}

/// Whether an engine notices what others do in the storage of its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticing {
    /// Not before [it is told to](Engine::watch).
    Later,
    /// From the start of each pool on.
    FromTheStart,
}

impl Setup {
    /// An engine on this machine, with all types of pool.
    pub fn new(layout: Layout, secrets: Arc<dyn Secrets>, access: Access) -> Setup {
        let drivers = cenote_backend::drivers();
        let (host, jobs) = (Host::new(), Jobs::default());
        Setup { layout, host, drivers, secrets, access, jobs, noticing: Noticing::Later }
    }
}

/// The storage of a machine.
pub struct Engine {
    /// For its threads.
    itself: Weak<Engine>,
    layout: Layout,
    host: Host,
    drivers: &'static [Driver],
    secrets: Arc<dyn Secrets>,
    registry: RwLock<Registry>,
    events: Events<PoolEvent>,
    volume_events: Events<VolumeEvent>,
    overdue: Events<Overdue>,
    jobs: Jobs,
    /// Held while the state on disk may be changed.
    lock: Mutex<Option<LockFile>>,
    /// Somebody changes definitions.
    is_defining: AtomicBool,
    /// What others do in storage is noticed.
    is_watching: AtomicBool,
    /// How long storage may be silent; for ever, if this is nothing.
    limit: Option<Duration>,
}

impl Engine {
    /// Opens the state on disk. Pools that were active before are found again, and those that start by themselves are
    /// started, once a boot. On the very first use the `default` pool is made.
    pub fn open(setup: Setup) -> Result<Arc<Engine>> {
        let Setup { layout, host, drivers, secrets, access, jobs, noticing } = setup;
        let system = Arc::clone(host.system());
        let must_change = state::is_new(&*system, &layout) || state::is_from_another_boot(&*system, &layout);
        let lock = match access {
            Access::Read if !must_change => None,
            // Who only reads leaves what is to be done to the daemon that has the state.
            Access::Read => {
                state::lock(&*system, layout.run()).map(Some).or_else(|error| match error.code {
                    Code::ResourceBusy => Ok(None),
                    _ => Err(error),
                })?
            }
            Access::Write => Some(state::lock(&*system, layout.run())?),
        };
        let may_change = lock.is_some();
        let limit = storage_timeout(&layout)?;
        let engine = Arc::new_cyclic(|itself| Engine {
            itself: Weak::clone(itself),
            limit,
            layout,
            host,
            drivers,
            secrets,
            registry: RwLock::default(),
            events: Events::default(),
            volume_events: Events::default(),
            overdue: Events::default(),
            jobs,
            lock: Mutex::new(lock),
            is_defining: AtomicBool::new(false),
            is_watching: AtomicBool::new(noticing == Noticing::FromTheStart),
        });
        engine.load(must_change && may_change, may_change)?;
        if access == Access::Read {
            engine.release();
        }
        Ok(engine)
    }

    fn load(&self, must_change: bool, may_change: bool) -> Result<()> {
        let (system, layout) = (self.system(), &self.layout);
        let is_new = must_change && state::is_new(system, layout);
        if must_change {
            state::prepare(system, layout)?;
        }
        if may_change {
            state::sweep(system, layout.config());
            state::sweep(system, layout.run());
        }
        self.load_pools(may_change)?;
        if is_new && let Some(path) = layout.default_pool() {
            self.make_default_pool(path)?;
        }
        if must_change {
            self.autostart();
            state::remember_boot(system, layout)?;
        }
        Ok(())
    }

    fn system(&self) -> &dyn System {
        &**self.host.system()
    }

    fn may_change(&self) -> bool {
        self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_some()
    }

    /// Gives up the lock on the state, even if threads are left that hang in storage. Nothing may be changed after that.
    pub fn release(&self) {
        self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    /// Does work on a thread of its own.
    fn spawn(&self, name: &str, work: impl FnOnce(&Arc<Engine>) + Send + 'static) {
        let Some(engine) = self.itself.upgrade() else { return };
        if let Err(e) = self.system().spawn(name, Box::new(move || work(&engine))) {
            eprintln!("warning: cannot start a thread for '{name}': {e}");
        }
    }

    /// Waits for other threads, at most so long.
    fn wait(&self, within: Duration, is_over: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_over() && started.elapsed() < within {
            self.system().pause();
        }
    }

    /// The right to change definitions, which one at a time has: they are written without any lock that others need.
    fn define(&self) -> Defining<'_> {
        while self.is_defining.swap(true, Ordering::Acquire) {
            self.system().pause();
        }
        Defining(self)
    }

    /// What happens to pools from now on.
    pub fn events(&self) -> &Events<PoolEvent> {
        &self.events
    }

    /// What happens to volumes from now on.
    pub fn volume_events(&self) -> &Events<VolumeEvent> {
        &self.volume_events
    }

    /// Who waits for too long from now on. Only an engine that [is kept](Engine::keep) finds out.
    pub fn overdue(&self) -> &Events<Overdue> {
        &self.overdue
    }

    /// The long work that is under way.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Returns when every volume that was made is on its medium. Pools are flushed side by side.
    pub fn flush(&self) -> Result<()> {
        let pools = self.registry().all();
        let pools: Vec<_> = pools.iter().filter(|pool| !pool.unsynced().is_empty()).collect();
        match pools.as_slice() {
            [] => Ok(()),
            [pool] => pool.flush(),
            pools => std::thread::scope(|scope| {
                let flushing: Vec<_> = pools.iter().map(|pool| scope.spawn(|| pool.flush())).collect();
                let broken =
                    |_| Err(Error::new(Code::Internal, "a thread that synced new volumes broke off"));
                let flushed: Vec<_> =
                    flushing.into_iter().map(|pool| pool.join().unwrap_or_else(broken)).collect();
                flushed.into_iter().collect()
            }),
        }
    }

    /// The `<storagepoolCapabilities>` document.
    pub fn capabilities(&self) -> String {
        capabilities::to_xml(|kind| self.supports(kind))
    }

    /// The `<capabilities>` document.
    pub fn host_capabilities(&self) -> String {
        capabilities::host_to_xml(|kind| self.supports(kind))
    }

    fn supports(&self, kind: PoolKind) -> bool {
        self.driver(kind).is_ok_and(|driver| (driver.is_supported)(&self.host))
    }

    /// The `<sources>` document of storage that could be a pool of this type.
    pub fn find_sources(&self, kind: &str, question: Option<&str>) -> Result<String> {
        let Some(kind) = PoolKind::from_name(kind) else {
            return Err(Error::new(Code::Internal, format!("unknown storage pool type {kind}")));
        };
        let Some(find) = self.driver(kind)?.find_sources else {
            return Err(Error::new(
                Code::NoSupport,
                format!("pool type '{kind}' does not support source discovery"),
            ));
        };
        let question = question.map(|xml| Source::from_xml(xml, kind)).transpose()?;
        let environment = self.environment(Arc::default());
        Ok(sources_to_xml(kind, &find(question.as_ref(), &environment)?))
    }

    /// The driver of this type.
    fn driver(&self, kind: PoolKind) -> Result<&'static Driver> {
        self.drivers.iter().find(|driver| driver.kind == kind).ok_or_else(|| {
            Error::new(Code::Internal, format!("missing backend for pool type {} ({kind})", kind as u32))
        })
    }

    fn environment(&self, unsynced: Arc<Unsynced>) -> Environment {
        Environment { host: self.host.clone(), secrets: Arc::clone(&self.secrets), unsynced }
    }

    fn open_backend(&self, entry: &PoolEntry) -> Result<Arc<dyn cenote_backend::Pool>> {
        let environment = self.environment(Arc::clone(entry.unsynced()));
        let def = entry.with(|state| state.def.clone());
        Ok(Arc::from((self.driver(def.kind)?.open)(&def, &environment)?))
    }
}

/// The right to change definitions, until it is dropped.
struct Defining<'e>(&'e Engine);

impl Drop for Defining<'_> {
    fn drop(&mut self) {
        self.0.is_defining.store(false, Ordering::Release);
    }
}

/// The definitions on disk, and why some cannot be read. Nothing is changed, and no storage is touched.
pub fn definitions(layout: &Layout, host: &Host) -> Result<(Vec<PoolDef>, Vec<Error>)> {
    state::read_definitions(&**host.system(), layout)
}

/// How long storage may be silent, by the settings of this state.
pub fn storage_timeout(layout: &Layout) -> Result<Option<Duration>> {
    let settings = Settings::read(&layout.settings("cenote.conf"))?;
    let Some(setting) = settings.get("storage_timeout") else { return Ok(Some(STORAGE_TIMEOUT)) };
    match setting.value.parse() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => {
            let problem =
                format_args!("storage_timeout is a number of seconds, or 0, not '{}'", setting.value);
            Err(settings.wrong(setting.line, problem))
        }
    }
}
