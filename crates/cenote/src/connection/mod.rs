//! The storage that commands work on, wherever it is.
//!
//! [`Connection`] is the seam: the commands know nothing else. [`Embedded`] works in-process, [`Remote`] has a daemon
//! work.

mod address;
mod embedded;
mod remote;
mod watch;

use address::Address;
use embedded::Embedded;
use remote::Remote;

use crate::args::Options;
use crate::output::Output;
use cenote_engine::{Chunk, Health, JobInfo, Jobs, Layout, PoolInfo, VolumeInfo};
use cenote_host::SecretValue;
use cenote_model::event::{PoolEvent, SecretEvent, VolumeEvent};
use cenote_model::flags::{
    BuildFirst, CreateOptions, DeleteOptions, Holes, Overwrite, ResizeOptions, Validate, WipeAlgorithm,
};
use cenote_model::secret::{SecretFilter, SecretId};
use cenote_model::{Code, Error, PoolRef, Result, Uuid, VolumeRef};
use cenote_rpc::own;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a command is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Look,
    Change,
}

/// Which definition of a pool is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one in force.
    Current,
    /// The one on disk.
    Inactive,
}

/// A volume in a list.
pub(crate) struct ListedVolume {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) format: Option<&'static str>,
    pub(crate) info: VolumeInfo,
}

/// Data on its way into a volume.
pub(crate) trait UploadStream {
    fn write(&mut self, data: &[u8]) -> Result<()>;
    fn hole(&mut self, length: u64) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Data on its way out of a volume.
pub(crate) trait DownloadStream {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Chunk>;
}

/// Events as they come.
pub(crate) trait Watch<E> {
    /// The next event, if one comes within this time.
    fn next(&mut self, within: Duration) -> Result<Option<E>>;
}

/// Storage: the calls of libvirt's API.
pub(crate) trait Connection {
    /// Says what comes next, before every command.
    fn begin(&mut self, intent: Intent) -> Result<()>;
    /// Nothing comes for a while: others may have their turn.
    fn rest(&mut self) -> Result<()>;
    /// The long work that this process does.
    fn jobs(&self) -> Jobs;
    /// The long work that is under way, wherever it is done.
    fn job_list(&self) -> Result<Vec<JobInfo>>;
    /// Asks for one of it to stop.
    fn cancel_job(&self, id: u64) -> Result<()>;

    fn uri(&self) -> String;
    fn hostname(&self) -> Result<String>;
    /// What is on the other side, and its version.
    fn server(&self) -> (String, String);
    fn capabilities(&self) -> Result<String>;
    fn find_sources(&self, kind: &str, question: Option<&str>) -> Result<String>;

    fn watch_volumes(&self) -> Result<Box<dyn Watch<VolumeEvent>>>;
    fn watch_pools(&self) -> Result<Box<dyn Watch<PoolEvent>>>;
    fn pools(&self) -> Result<Vec<PoolRef>>;
    fn pool_by_name(&self, name: &str) -> Result<PoolRef>;
    fn pool_by_uuid(&self, uuid: &Uuid) -> Result<PoolRef>;
    fn pool_of_volume(&self, volume: &VolumeRef) -> Result<PoolRef>;
    fn pool_info(&self, pool: &PoolRef) -> Result<PoolInfo>;
    /// Whether its storage answers; `None` if the server does not know.
    fn pool_health(&self, pool: &PoolRef) -> Result<Option<Health>>;
    fn pool_xml(&self, pool: &PoolRef, which: Which) -> Result<String>;
    fn define_pool(&self, xml: &str, validate: Validate) -> Result<PoolRef>;
    fn create_pool(&self, xml: &str, build: BuildFirst) -> Result<PoolRef>;
    fn undefine_pool(&self, pool: &PoolRef) -> Result<()>;
    fn start_pool(&self, pool: &PoolRef, build: BuildFirst) -> Result<()>;
    fn stop_pool(&self, pool: &PoolRef) -> Result<()>;
    fn build_pool(&self, pool: &PoolRef, overwrite: Overwrite) -> Result<()>;
    fn delete_pool(&self, pool: &PoolRef) -> Result<()>;
    fn refresh_pool(&self, pool: &PoolRef) -> Result<()>;
    fn set_autostart(&self, pool: &PoolRef, autostart: bool) -> Result<()>;

    fn volumes(&self, pool: &PoolRef) -> Result<Vec<ListedVolume>>;
    fn volume_by_name(&self, pool: &PoolRef, name: &str) -> Result<VolumeRef>;
    fn volume_by_key(&self, key: &str) -> Result<VolumeRef>;
    fn volume_by_path(&self, path: &str) -> Result<VolumeRef>;
    fn volume_path(&self, volume: &VolumeRef) -> Result<String>;
    fn volume_info(&self, volume: &VolumeRef) -> Result<VolumeInfo>;
    fn volume_xml(&self, volume: &VolumeRef) -> Result<String>;
    fn create_volume(&self, pool: &PoolRef, xml: &str, options: CreateOptions) -> Result<VolumeRef>;
    fn create_volume_from(
        &self,
        pool: &PoolRef,
        xml: &str,
        source: &VolumeRef,
        options: CreateOptions,
    ) -> Result<VolumeRef>;
    fn resize_volume(&self, volume: &VolumeRef, size: u64, options: ResizeOptions) -> Result<()>;
    fn delete_volume(&self, volume: &VolumeRef, options: DeleteOptions) -> Result<()>;
    fn wipe_volume(&self, volume: &VolumeRef, algorithm: WipeAlgorithm) -> Result<()>;
    fn upload(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        holes: Holes,
    ) -> Result<Box<dyn UploadStream + '_>>;
    fn download(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        holes: Holes,
    ) -> Result<Box<dyn DownloadStream>>;

    fn watch_secrets(&self) -> Result<Box<dyn Watch<SecretEvent>>>;
    fn secrets(&self, filter: SecretFilter) -> Result<Vec<SecretId>>;
    fn secret_by_uuid(&self, uuid: &Uuid) -> Result<SecretId>;
    fn secret_xml(&self, secret: &SecretId) -> Result<String>;
    fn define_secret(&self, xml: &str, validate: Validate) -> Result<SecretId>;
    fn undefine_secret(&self, secret: &SecretId) -> Result<()>;
    fn secret_value(&self, secret: &SecretId) -> Result<SecretValue>;
    fn set_secret_value(&self, secret: &SecretId, value: SecretValue) -> Result<()>;
}

/// Whether changes are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Everything,
    LookOnly,
}

/// The connection that the options ask for: `-c`, then `CENOTE_URI`, then a cenoted of this prefix or user, then the
/// embedded state. A user's cenoted has the state of libvirt's session, which is another one than the embedded.
pub(crate) fn connect(options: &Options) -> Result<Box<dyn Connection>> {
    let permission = if options.read_only { Permission::LookOnly } else { Permission::Everything };
    let uri = options.uri.clone().or_else(|| std::env::var("CENOTE_URI").ok()).unwrap_or_default();
    let layout = match (uri.strip_prefix("embedded:"), &options.prefix) {
        (None, _) if !uri.is_empty() => {
            return Ok(Box::new(Remote::open(Address::parse(&uri)?, permission)?));
        }
        (None, prefix) if let Some(daemon) = daemon_of(prefix.as_deref())? => {
            return Ok(Box::new(Remote::open(daemon, permission)?));
        }
        (None | Some(""), None) => Layout::embedded()?,
        (None | Some(""), Some(prefix)) => Layout::under(&absolute(prefix)?),
        (Some(path), _) => match path.strip_prefix("//").unwrap_or(path) {
            path if path.starts_with('/') => Layout::under(Path::new(path)),
            _ => return Err(Error::new(Code::NoConnect, uri)),
        },
    };
    Ok(Box::new(Embedded::new(layout, permission, Output::new(options.quiet, options.json))))
}

/// The socket of a cenoted that serves this prefix, or this user: for root that is the system's. A daemon of libvirt's is
/// not asked for its storage unless it is named.
fn daemon_of(prefix: Option<&Path>) -> Result<Option<Address>> {
    let layout = match prefix {
        Some(prefix) => Layout::under(&absolute(prefix)?),
        None if rustix::process::geteuid().is_root() => Layout::system(),
        None => match Layout::session() {
            Ok(layout) => layout,
            // There is no place where it could be.
            Err(_) => return Ok(None),
        },
    };
    let address = Address::socket(&layout.sockets().join("virtstoraged-sock"));
    let Ok(client) = address.connect(Permission::LookOnly) else { return Ok(None) };
    Ok(client.call::<own::Version>(&()).is_ok().then_some(address))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::system(format!("cannot find the directory '{}'", path.display()), &e))
}
