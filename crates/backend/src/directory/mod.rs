//! The directory family: pools whose volumes are files in a directory.

mod build;
mod content;
mod create;
mod resize;
mod scan;
mod watch;

use crate::content::local_path;
use crate::{Environment, Growth, Volumes};
use cenote_host::Host;
use cenote_model::flags::CreateOptions;
use cenote_model::format::ImageFormat;
use cenote_model::permissions::Permissions;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Name, PoolDef, Result, VolumeDef};
use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// The mode of a new volume where none is asked for.
const VOLUME_MODE: u32 = 0o600;
/// The mode of a new pool's directory where none is asked for.
const POOL_MODE: u32 = 0o711;

/// A directory with volumes in it.
pub struct Directory {
    path: PathBuf,
    permissions: Permissions,
    environment: Environment,
    condition: Option<Condition>,
}

/// What has to hold for the directory to be the pool's, such as that something is mounted on it.
pub(crate) type Condition = Box<dyn Fn() -> Result<()> + Send + Sync>;

impl Directory {
    /// The directory that a definition's target names.
    pub fn new(def: &PoolDef, environment: &Environment) -> Result<Directory> {
        let target = def
            .target
            .as_ref()
            .ok_or_else(|| Error::new(Code::XmlError, "missing storage pool target path"))?;
        Ok(Directory {
            path: PathBuf::from(&target.path),
            permissions: target.permissions.clone(),
            environment: environment.clone(),
            condition: None,
        })
    }

    /// Without this condition no volumes are looked for in the directory, nor made.
    pub(crate) fn on_condition(self, condition: Condition) -> Directory {
        Directory { condition: Some(condition), ..self }
    }

    fn check_condition(&self) -> Result<()> {
        self.condition.as_ref().map_or(Ok(()), |condition| condition())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn host(&self) -> &Host {
        &self.environment.host
    }

    /// The text of a path in it. Paths in definitions are text, and so are names.
    fn path_of(&self, name: &Name) -> String {
        format!("{}/{name}", self.path.display())
    }
}

impl Volumes for Directory {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        self.check_condition()?;
        let path = self.path_of(&wanted.name);
        if cenote_host::is_hidden(wanted.name.as_str().as_bytes()) {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("volume name '{}' is reserved for incomplete volumes", wanted.name),
            ));
        }
        if Path::new(&path).symlink_metadata().is_ok() {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("volume target path '{path}' already exists"),
            ));
        }
        let kind = match wanted.image_format() {
            ImageFormat::Dir => VolumeKind::Dir,
            ImageFormat::Ploop => VolumeKind::Ploop,
            _ => VolumeKind::File,
        };
        Ok(VolumeDef { kind, key: Some(path.clone()), path: Some(path), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
        create::create(self, planned, options, job)
    }

    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        create::create_from(self, planned, source, options, job)
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        scan::probe(self, name)
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, growth: Growth, job: &Job) -> Result<()> {
        resize::resize(self, volume, capacity, growth, job)
    }

    fn delete(&self, volume: &VolumeDef, _job: &Job) -> Result<()> {
        let path = local_path(volume)?;
        let (removed, what) = match volume.kind {
            VolumeKind::File => (unlinkat(CWD, path, AtFlags::empty()), "unlink file"),
            VolumeKind::Dir => (unlinkat(CWD, path, AtFlags::REMOVEDIR), "remove directory"),
            VolumeKind::Ploop => (
                std::fs::remove_dir_all(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)),
                "remove directory",
            ),
            VolumeKind::Block | VolumeKind::Network | VolumeKind::NetDir => {
                return Err(Error::new(
                    Code::NoSupport,
                    format!("removing block or network volumes is not supported: {path}"),
                ));
            }
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::system(format!("cannot {what} '{path}'"), &io::Error::from(e))),
        }
    }
}
