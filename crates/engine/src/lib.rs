//! The registry of pools and what is done with them.
//!
//! The calls are those of libvirt's storage API. No lock is held while storage is touched: a call marks what it is
//! going to change, works, and then publishes the result. Lists and descriptions are answered from what was published
//! last.

#![warn(missing_docs)]

mod events;
mod jobs;
mod layout;
mod lifecycle;
mod pool;
mod registry;
mod secrets;
mod state;
mod streams;
mod volumes;

pub use cenote_backend::{NoSecrets, Secrets, no_secret};
pub use events::Events;
pub use jobs::{JobInfo, Jobs};
pub use layout::Layout;
pub use pool::{PoolInfo, PoolRun};
pub use secrets::{Asker, SecretStore, SecretsOnDisk, check_kind};
pub use streams::{Chunk, Download, Upload};
pub use volumes::VolumeInfo;

use cenote_backend::{Environment, driver, drivers};
use cenote_host::{Host, Unsynced};
use cenote_model::event::PoolEvent;
use cenote_model::source::{Source, sources_to_xml};
use cenote_model::{Code, Error, PoolKind, Result, capabilities};
use registry::Registry;
use state::StateLock;
use std::sync::{Arc, RwLock};

/// What an engine may do with the state on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it. Others may change it meanwhile. The very first use, and the first one after the machine was started,
    /// make it ready all the same: directories, the `default` pool, what starts by itself.
    Read,
    /// Change it. Nobody else may.
    Write,
}

/// The storage of this machine.
pub struct Engine {
    layout: Layout,
    environment: Environment,
    registry: RwLock<Registry>,
    events: Events<PoolEvent>,
    jobs: Jobs,
    /// Held while the state on disk may be changed.
    lock: Option<StateLock>,
}

impl Engine {
    /// Opens the state on disk. Pools that were active before are found again, and those that start by themselves are
    /// started, once a boot. On the very first use the `default` pool is made.
    pub fn open(
        layout: Layout,
        host: Host,
        secrets: Arc<dyn Secrets>,
        access: Access,
        jobs: Jobs,
    ) -> Result<Engine> {
        let must_change = state::is_new(&layout) || state::is_from_another_boot(&layout);
        let lock = match access {
            Access::Read if !must_change => None,
            // Who only reads leaves what is to be done to the daemon that has the state.
            Access::Read => StateLock::take(layout.run()).map(Some).or_else(|error| match error.code {
                Code::ResourceBusy => Ok(None),
                _ => Err(error),
            })?,
            Access::Write => Some(StateLock::take(layout.run())?),
        };
        let must_change = must_change && lock.is_some();
        let environment = Environment { host, secrets, unsynced: Arc::new(Unsynced::default()) };
        let mut engine = Engine {
            layout,
            environment,
            registry: RwLock::default(),
            events: Events::default(),
            jobs,
            lock,
        };
        engine.load(must_change)?;
        if access == Access::Read {
            engine.lock = None;
        }
        Ok(engine)
    }

    fn load(&mut self, must_change: bool) -> Result<()> {
        let is_new = must_change && state::is_new(&self.layout);
        if must_change {
            state::prepare(&self.layout)?;
        }
        if self.lock.is_some() {
            state::sweep(self.layout.config());
            state::sweep(self.layout.run());
        }
        self.load_pools(self.lock.is_some())?;
        if is_new && let Some(path) = self.layout.default_pool() {
            self.make_default_pool(path)?;
        }
        if must_change {
            self.autostart();
            state::remember_boot(&self.layout)?;
        }
        Ok(())
    }

    /// What happens to pools from now on.
    pub fn events(&self) -> &Events<PoolEvent> {
        &self.events
    }

    /// The long work that is under way.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Returns when every volume that was made is on its medium.
    pub fn flush(&self) -> Result<()> {
        self.environment.unsynced.flush().map_err(|e| Error::system("cannot sync new volumes", &e))
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
        drivers().iter().any(|driver| driver.kind == kind && (driver.is_supported)(&self.environment.host))
    }

    /// The `<sources>` document of storage that could be a pool of this type.
    pub fn find_sources(&self, kind: &str, question: Option<&str>) -> Result<String> {
        let Some(kind) = PoolKind::from_name(kind) else {
            return Err(Error::new(Code::Internal, format!("unknown storage pool type {kind}")));
        };
        let Some(find) = pool::driver_of(kind)?.find_sources else {
            return Err(Error::new(
                Code::NoSupport,
                format!("pool type '{kind}' does not support source discovery"),
            ));
        };
        let question = question.map(|xml| Source::from_xml(xml, kind)).transpose()?;
        Ok(sources_to_xml(kind, &find(question.as_ref(), &self.environment.host)?))
    }

    fn open_backend(&self, def: &cenote_model::PoolDef) -> Result<Arc<dyn cenote_backend::Pool>> {
        let driver = driver(def.kind).ok_or_else(|| pool::no_driver(def.kind))?;
        Ok(Arc::from((driver.open)(def, &self.environment)?))
    }
}
