//! The mount family: pools whose volumes are files in what is mounted on their target.

mod options;

pub(crate) use options::options;

use crate::directory::Directory;
use crate::{Construction, Content, Earlier, Environment, Found, Pool, Volumes, Watch, error};
use cenote_host::{Host, Mount, mount_at};
use cenote_model::flags::Overwrite;
use cenote_model::{Code, Error, Job, PoolDef, Result, VolumeDef};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a type of pool mounts.
pub(crate) trait FileSystem: Send + Sync + 'static {
    /// What is mounted, for people.
    fn source(&self) -> String;

    /// True if this mount is the pool's, whoever made it.
    fn is(&self, mount: &Mount) -> bool;

    /// Mounts it.
    fn mount(&self, target: &str, host: &Host, job: &Job) -> Result<()>;

    /// Makes it, where the target's directory is there.
    fn make(&self, overwrite: Overwrite, environment: &Environment, job: &Job) -> Result<()>;
}

/// A pool of files in something mounted.
struct MountPool<F> {
    cow: Option<bool>,
    target: String,
    file_system: Arc<F>,
    directory: Directory,
    environment: Environment,
}

/// Opens a pool of this file system.
pub(crate) fn open(
    def: &PoolDef,
    file_system: impl FileSystem,
    environment: &Environment,
) -> Result<Box<dyn Pool>> {
    let directory = Directory::new(def, environment)?;
    let file_system = Arc::new(file_system);
    let (wanted, path) = (Arc::clone(&file_system), directory.path().to_owned());
    let directory = directory.on_condition(Box::new(move || must_be_mounted(&*wanted, &path)));
    Ok(Box::new(MountPool {
        cow: def.cow,
        target: def.target_path().unwrap_or_default().to_owned(),
        file_system,
        directory,
        environment: environment.clone(),
    }))
}

/// What a pool finds on its target.
enum There {
    Nothing,
    Ours,
    Other(Mount),
}

fn look(file_system: &impl FileSystem, target: &Path) -> Result<There> {
    let mount = mount_at(target).map_err(|e| Error::system("cannot read mount list", &e))?;
    Ok(match mount {
        None => There::Nothing,
        Some(mount) if file_system.is(&mount) => There::Ours,
        // It mounts what is wanted when somebody comes.
        Some(mount) if mount.kind == "autofs" => There::Nothing,
        Some(mount) => There::Other(mount),
    })
}

fn must_be_mounted(file_system: &impl FileSystem, target: &Path) -> Result<()> {
    match look(file_system, target)? {
        There::Ours => Ok(()),
        There::Nothing | There::Other(_) => Err(Error::new(
            Code::OperationInvalid,
            format!(
                "'{}' is not mounted on '{}' any more: stop the pool and start it",
                file_system.source(),
                target.display()
            ),
        )),
    }
}

impl<F: FileSystem> Pool for MountPool<F> {
    fn is_active(&self) -> Result<bool> {
        Ok(matches!(look(&*self.file_system, self.directory.path())?, There::Ours))
    }

    fn start(&self, job: &Job) -> Result<()> {
        match look(&*self.file_system, self.directory.path())? {
            There::Ours => Ok(()),
            There::Nothing => self.file_system.mount(&self.target, &self.environment.host, job),
            There::Other(mount) => Err(Error::new(
                Code::OperationInvalid,
                format!(
                    "cannot mount '{}': '{}' is mounted on '{}' already",
                    self.file_system.source(),
                    mount.source.display(),
                    self.target
                ),
            )),
        }
    }

    fn stop(&self, job: &Job) -> Result<()> {
        if !self.is_active()? {
            return Ok(());
        }
        let umount = self.environment.host.tool("umount").map_err(error::tool)?;
        umount.args(["--", &self.target]).run(job).map_err(error::tool).map(drop)
    }

    fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        self.directory.scan(earlier, found, job)
    }

    fn measure(&self) -> Result<Found> {
        self.directory.measure()
    }

    fn construction(&self) -> Option<&dyn Construction> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(&self.directory)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(&self.directory)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        self.directory.watch()
    }
}

impl<F: FileSystem> Construction for MountPool<F> {
    fn build(&self, overwrite: Overwrite, job: &Job) -> Result<()> {
        self.directory.build(self.cow)?;
        self.file_system.make(overwrite, &self.environment, job)
    }

    fn delete(&self, _job: &Job) -> Result<()> {
        self.directory.delete()
    }
}

/// Nothing is made on a server; libvirt says so in these words.
pub(crate) fn make_nothing(pool: &str, overwrite: Overwrite) -> Result<()> {
    match overwrite {
        Overwrite::Default => Ok(()),
        Overwrite::Refuse | Overwrite::Allow => Err(Error::new(
            Code::OperationInvalid,
            format!("No source device specified when formatting pool '{pool}'"),
        )),
    }
}

/// Runs mount(8).
pub(crate) fn mount(
    kind: Option<&str>,
    options: &str,
    (source, target): (&str, &str),
    host: &Host,
    job: &Job,
) -> Result<()> {
    let mut mount = host.tool("mount").map_err(error::tool)?;
    if let Some(kind) = kind {
        mount = mount.args(["-t", kind]);
    }
    mount.args(["-o", options, "--", source, target]).run(job).map_err(error::tool).map(drop)
}
