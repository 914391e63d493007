//! A type of pool that is made up, on a disk that is made up. Its volumes are files that say what they should be, and
//! whether it is started is the kernel's to know.

use crate::machine::KERNEL;
use cenote_backend::{Construction, Driver, Earlier, Environment, Found, Growth, Pool, Volumes};
use cenote_host::{System, Undo};
use cenote_model::flags::{CreateOptions, Overwrite};
use cenote_model::pool::Usage;
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub const DRIVERS: &[Driver] =
    &[Driver { kind: PoolKind::Dir, is_supported: |_| true, open, find_sources: None }];

/// What the names of volumes begin with while they are made.
pub const HALF: &str = ".half-";
/// What must never happen is noted here.
pub const WRONG: &str = "/kernel/wrong";

/// Which run of the daemon this is: what an earlier one has started may be started again.
pub static RUN: AtomicU64 = AtomicU64::new(0);

struct MadeUp {
    target: PathBuf,
    system: Arc<dyn System>,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let target = PathBuf::from(def.target_path().unwrap_or_default());
    Ok(Box::new(MadeUp { target, system: Arc::clone(environment.host.system()) }))
}

/// Where the kernel has it that a pool is started.
pub fn mark(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default();
    Path::new(KERNEL).join(format!("started-{}", name.to_string_lossy()))
}

/// The content of a volume of this size, so that half of it is seen to be half.
pub fn content(name: &str, capacity: u64) -> Vec<u8> {
    format!("{name} {capacity} {}", "x".repeat(40) + "end").into_bytes()
}

/// The capacity of a volume with this content; `None` if it is not whole.
pub fn capacity(name: &str, bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let capacity = text.strip_prefix(name)?.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
    (bytes == content(name, capacity)).then_some(capacity)
}

impl MadeUp {
    fn failed(&self, what: &str, e: &io::Error) -> Error {
        Error::system(format!("cannot {what} in '{}'", self.target.display()), e)
    }

    fn wrong(&self, what: &str) {
        let _ = self.system.write(Path::new(WRONG), format!("{what} '{}'", self.target.display()).as_bytes());
    }

    fn is_started(&self) -> io::Result<bool> {
        self.system.exists(&mark(&self.target))
    }

    /// Whoever works in a pool has started it.
    fn must_be_started(&self, what: &str) {
        if let Ok(false) = self.is_started() {
            self.wrong(&format!("{what} in a pool that is not started:"));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    fn describe(&self, name: &Name) -> io::Result<Option<VolumeDef>> {
        let path = self.path(name.as_str());
        let bytes = match self.system.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut volume = VolumeDef::file(name.clone(), path.display().to_string());
        // One that is not whole is a volume all the same: whoever looks finds that it is not.
        volume.capacity = Some(capacity(name.as_str(), &bytes).unwrap_or(0));
        volume.allocation = Some(0);
        Ok(Some(volume))
    }

    /// Writes a volume that appears as a whole.
    fn put(&self, name: &str, capacity: u64, job: &Job) -> Result<()> {
        let half = self.path(&format!("{HALF}{name}"));
        let mut undo = Undo::new();
        undo.push(|| drop(self.system.remove(&half)));
        self.system.write(&half, &content(name, capacity)).map_err(|e| self.failed("write", &e))?;
        job.advance(1)?;
        self.system.sync(&half).map_err(|e| self.failed("sync", &e))?;
        job.check()?;
        self.system.rename(&half, &self.path(name)).map_err(|e| self.failed("name", &e))?;
        undo.disarm();
        self.system.sync(&self.target).map_err(|e| self.failed("sync", &e))
    }
}

impl Pool for MadeUp {
    fn is_active(&self) -> Result<bool> {
        self.is_started().map_err(|e| self.failed("look", &e))
    }

    fn start(&self, _job: &Job) -> Result<()> {
        let mark = mark(&self.target);
        let run = RUN.load(Ordering::Relaxed).to_string();
        if self.system.read(&mark).is_ok_and(|by| by == run.as_bytes()) {
            self.wrong("started twice:");
        }
        match self.system.exists(&self.target) {
            Ok(true) => {}
            Ok(false) => return Err(self.failed("start", &io::ErrorKind::NotFound.into())),
            Err(e) => return Err(self.failed("start", &e)),
        }
        self.system.write(&mark, run.as_bytes()).map_err(|e| self.failed("start", &e))
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        self.must_be_started("stopped");
        self.system.remove(&mark(&self.target)).map_err(|e| self.failed("stop", &e))
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        for name in self.system.names(&self.target).map_err(|e| self.failed("look", &e))? {
            let Ok(name) = Name::volume(name.to_string_lossy()) else { continue };
            if name.as_str().starts_with(HALF) {
                continue;
            }
            let volume = self.describe(&name).map_err(|e| self.failed("look", &e))?;
            volume.into_iter().for_each(|volume| found(Arc::new(volume)));
            job.advance(1)?;
        }
        self.measure()
    }

    fn measure(&self) -> Result<Found> {
        let usage = Usage { capacity: 1 << 30, allocation: 0, available: 1 << 30 };
        Ok(Found { usage, permissions: None, free_extents: Vec::new() })
    }

    fn construction(&self) -> Option<&dyn Construction> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }
}

impl Construction for MadeUp {
    fn build(&self, _overwrite: Overwrite, _job: &Job) -> Result<()> {
        self.system.create_dirs(&self.target).map_err(|e| self.failed("build", &e))
    }

    fn delete(&self, _job: &Job) -> Result<()> {
        Err(Error::new(Code::NoSupport, "what is made up is not deleted"))
    }
}

impl Volumes for MadeUp {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        let path = self.path(wanted.name.as_str()).display().to_string();
        Ok(VolumeDef { key: Some(path.clone()), path: Some(path), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, _options: CreateOptions, job: &Job) -> Result<()> {
        self.must_be_started("made a volume");
        self.put(planned.name.as_str(), planned.capacity.unwrap_or(0), job)
    }

    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        _options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        self.must_be_started("copied a volume");
        let path = source.path.clone().unwrap_or_default();
        let bytes = self.system.read(Path::new(&path)).map_err(|e| self.failed("read", &e))?;
        let found = capacity(source.name.as_str(), &bytes);
        let capacity = found.ok_or_else(|| Error::new(Code::Internal, format!("'{path}' is not whole")))?;
        self.put(planned.name.as_str(), capacity, job)
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        self.describe(name).map_err(|e| self.failed("look", &e))
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        self.must_be_started("resized a volume");
        self.put(volume.name.as_str(), capacity, job)
    }

    fn delete(&self, volume: &VolumeDef, _job: &Job) -> Result<()> {
        self.must_be_started("deleted a volume");
        match self.system.remove(&self.path(volume.name.as_str())) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("delete", &e)),
            _ => self.system.sync(&self.target).map_err(|e| self.failed("sync", &e)),
        }
    }
}
