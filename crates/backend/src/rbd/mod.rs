//! `rbd`: the images of a pool of a Ceph cluster, by librados and librbd.

mod content;
pub mod heads;

use crate::pieces::Pieces;
use crate::servers::{self, Kept};
use crate::{Access, Content, Driver, Earlier, Environment, Found, Growth, Pool, VolumeIo, Volumes, needs};
use cenote_host::Undo;
use cenote_host::ceph::{self, Cluster, Connecting, Image, ImageName, Mode, Snapshot, Whose, Zeroes};
use cenote_model::flags::{CreateOptions, WipeAlgorithm};
use cenote_model::format::{ImageFormat, VolumeFormat};
use cenote_model::pool::{RefreshAllocation, Usage};
use cenote_model::secret::UsageKind;
use cenote_model::source::{Host as Server, Source};
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, Uuid, VolumeDef};
use content::ImageIo;
use heads::{Allocation, Wanted};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Rbd,
    is_supported: |host| needs::are_met(PoolKind::Rbd, host),
    open,
    find_sources: Some(find_sources),
};

/// What is set for every cluster, before the options of the definition. The times are in seconds, and libvirt's: a cluster
/// that is down does not hold up anybody for longer. What is read and written here goes in large pieces anyway.
const OPTIONS: [(&str, &str); 5] = [
    ("client_mount_timeout", "30"),
    ("rados_mon_op_timeout", "30"),
    ("rados_osd_op_timeout", "30"),
    ("rbd_default_format", "2"),
    ("rbd_cache", "false"),
];
/// So many images are open at once to find out what they take.
const OPEN_AT_ONCE: usize = 8;
/// Images are wiped in steps of so many bytes.
const STEP: u64 = 64 << 20;
/// What the names of snapshots begin with that are made for clones, and go with the last of them.
const FOR_CLONES: &str = "cenote-clone-";

struct Rbd {
    def: PoolDef,
    /// The pool of the cluster, and the namespace in it if it is not the first one.
    name: String,
    namespace: Option<String>,
    environment: Environment,
    connection: Kept<ceph::Pool>,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let source = def.source.name.clone().unwrap_or_default();
    let (name, namespace) = match source.split_once('/') {
        Some((name, namespace)) => (name.to_owned(), Some(namespace.to_owned())),
        None => (source, None),
    };
    let (def, environment) = (def.clone(), environment.clone());
    Ok(Box::new(Rbd { def, name, namespace, environment, connection: Kept::new() }))
}

/// The monitors, as Ceph takes them.
fn monitors(servers: &[Server]) -> String {
    let monitors = servers.iter().map(|server| match server.port {
        Some(port) if server.name.parse::<Ipv6Addr>().is_ok() => format!("[{}]:{port}", server.name),
        Some(port) => format!("{}:{port}", server.name),
        None => server.name.clone(),
    });
    monitors.collect::<Vec<_>>().join(",")
}

/// Connects to the cluster of a source.
fn connect(source: &Source, options: &[(String, String)], environment: &Environment) -> Result<Cluster> {
    let monitors = monitors(&source.hosts);
    let user = source.auth.as_ref().map(|auth| auth.username.as_str());
    let mut connecting =
        Connecting::new(user).map_err(|e| Error::system("failed to create the RADOS cluster", &e))?;
    let mut set = |name: &str, value: &str| {
        let value = CString::new(value).map_err(io::Error::from);
        value
            .and_then(|value| connecting.set(name, &value))
            .map_err(|e| Error::system(format!("failed to set RADOS option: {name}"), &e))
    };
    set("auth_supported", if user.is_some() { "cephx" } else { "none" })?;
    set("mon_host", &monitors)?;
    let of_definition = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in OPTIONS.into_iter().chain(of_definition) {
        set(name, value)?;
    }
    if let Some(auth) = &source.auth {
        let key = environment.secrets.value(&auth.secret, UsageKind::Ceph)?;
        connecting.set_key(&key).map_err(|e| Error::system("failed to set RADOS option: key", &e))?;
    }
    connecting
        .connect()
        .map_err(|e| Error::system(format!("failed to connect to the RADOS monitor on: {monitors}"), &e))
}

/// The pools of the cluster that is asked about.
fn find_sources(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    let Some(question) = question.filter(|question| !question.hosts.is_empty()) else {
        return Err(Error::new(Code::InvalidArg, "a monitor must be specified for rbd sources"));
    };
    let pools = connect(question, &[], environment)?
        .pools()
        .map_err(|e| Error::system(format!("cannot list the pools on {}", monitors(&question.hosts)), &e))?;
    let source = |name| Source {
        hosts: question.hosts.clone(),
        auth: question.auth.clone(),
        name: Some(name),
        ..Source::of(PoolKind::Rbd)
    };
    Ok(pools.into_iter().map(source).collect())
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl Rbd {
    fn connect(&self) -> Result<ceph::Pool> {
        let cluster = connect(&self.def.source, &self.def.rbd_options, &self.environment)?;
        Cluster::pool(Arc::new(cluster), &self.name, self.namespace.as_deref()).map_err(|e| {
            Error::system(format!("failed to create the RBD IoCTX. Does the pool '{}' exist?", self.name), &e)
        })
    }

    /// The connection, which is kept.
    fn pool(&self) -> Result<Arc<ceph::Pool>> {
        self.connection.get(|| self.connect())
    }

    /// What went wrong with a volume, or with the pool. A connection that the cluster does not let do anything any more is
    /// given up.
    fn failed(&self, what: &str, error: &io::Error) -> Error {
        let is_lost = [Errno::SHUTDOWN, Errno::NOTCONN].map(|errno| Some(errno.raw_os_error()));
        if is_lost.contains(&error.raw_os_error()) {
            self.connection.give_up();
        }
        Error::system(format!("{what} on {}", monitors(&self.def.source.hosts)), error)
    }

    /// What the pool's volumes are called, in its path.
    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.def.source.name.as_deref().unwrap_or_default())
    }

    fn describe(&self, name: &str, size: u64, allocation: u64) -> Option<VolumeDef> {
        let path = self.path_of(name);
        Some(VolumeDef {
            kind: VolumeKind::Network,
            key: Some(path.clone()),
            capacity: Some(size),
            allocation: Some(allocation),
            physical: None,
            ..VolumeDef::file(Name::volume(name).ok()?, path)
        })
    }

    fn wanted(&self) -> Wanted {
        match self.def.refresh {
            Some(RefreshAllocation::Capacity) => Wanted::Sizes,
            Some(RefreshAllocation::Default) | None => Wanted::Allocations,
        }
    }

    fn open_image(&self, name: &str, mode: Mode) -> Result<Image> {
        self.pool()?
            .open_image(name, mode)
            .map_err(|e| self.failed(&format!("failed to open the RBD image '{name}'"), &e))
    }

    /// An image, by opening it; `None` if there is none.
    fn look_into(&self, name: &str) -> Result<Option<VolumeDef>> {
        let failed = |e| self.failed(&format!("failed to stat the RBD image '{name}'"), &e);
        let image = match self.pool()?.open_image(name, Mode::Read) {
            Ok(image) => image,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let size = image.info().map_err(failed)?.size;
        let allocation = match self.wanted() {
            Wanted::Sizes => size,
            Wanted::Allocations => {
                let extents = image.extents(size, Whose::Own).map_err(failed)?;
                extents.iter().map(|(_, length)| length).sum()
            }
        };
        Ok(self.describe(name, size, allocation))
    }

    fn found(&self) -> Result<Found> {
        let pool = self.pool()?;
        let cluster =
            pool.cluster().usage().map_err(|e| self.failed("failed to stat the RADOS cluster", &e))?;
        let used = pool
            .used()
            .map_err(|e| self.failed(&format!("failed to stat the RADOS pool '{}'", self.name), &e))?;
        let usage = Usage { capacity: cluster.size, allocation: used, available: cluster.available };
        Ok(Found::of(usage))
    }

    /// A snapshot to clone from that is there already, and is as the image is now. Those of others are left as they are.
    fn snapshot_for_clones(&self, image: &Image) -> io::Result<Option<String>> {
        let size = image.info()?.size;
        for snapshot in image.snapshots()?.into_iter().filter(|snapshot| snapshot.is_protected) {
            if image.is_as(&snapshot.name, size)? {
                return Ok(Some(snapshot.name));
            }
        }
        Ok(None)
    }

    /// Why an image cannot be removed.
    fn why_in_use(&self, name: &str) -> String {
        let watchers = self.open_image(name, Mode::Read).ok().and_then(|image| image.watchers().ok());
        let watchers: Vec<_> = watchers
            .unwrap_or_default()
            .into_iter()
            .map(|watcher| format!("client.{} at {}", watcher.client, watcher.address))
            .collect();
        match watchers.is_empty() {
            true => "it is in use".to_owned(),
            false => format!("it is in use by {}", watchers.join(", ")),
        }
    }
}

impl Pool for Rbd {
    /// Nothing of it is on this machine: it is active until it is stopped.
    fn is_active(&self) -> Result<bool> {
        Ok(true)
    }

    fn start(&self, _job: &Job) -> Result<()> {
        self.connection.give_up();
        self.pool().map(drop)
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        self.connection.give_up();
        Ok(())
    }

    fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let pool = self.pool()?;
        let usage = self.found()?;
        let names = pool.images().map_err(|e| self.failed("Unable to list RBD images", &e))?;
        let (mut opaque, mut silent, mut seen) = (Vec::new(), None, 0);
        heads::read(&pool, names, self.wanted(), &mut |ImageName { name, .. }, head| {
            match head {
                Ok(Some((size, Allocation::Known(allocation)))) => {
                    self.describe(&name, size, allocation).into_iter().for_each(|it| found(Arc::new(it)));
                }
                Ok(Some((size, Allocation::NotAsked))) => {
                    self.describe(&name, size, size).into_iter().for_each(|it| found(Arc::new(it)));
                }
                // It has been deleted meanwhile.
                Err(e) if is_missing(&e) => return Ok(()),
                // Where it is kept does not answer: others may be kept elsewhere.
                Err(e) if e.raw_os_error() == Some(Errno::TIMEDOUT.raw_os_error()) => {
                    let known = earlier.zip(Name::volume(name.as_str()).ok());
                    let known = known.and_then(|(earlier, name)| (earlier.volume)(&name));
                    known.into_iter().for_each(&mut *found);
                    silent = Some((name, e));
                    return job.check();
                }
                // It is opened instead.
                Ok(None | Some((_, Allocation::Unknown))) | Err(_) => opaque.push(name),
            }
            seen += 1;
            job.advance(1)
        })?;
        if let Some((name, e)) = silent.filter(|_| seen == 0) {
            return Err(self.failed(&format!("failed to stat the RBD image '{name}'"), &e));
        }
        servers::look_at_all(&opaque, OPEN_AT_ONCE, |name| self.look_into(name), found, job)?;
        Ok(usage)
    }

    fn measure(&self) -> Result<Found> {
        self.found()
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(self)
    }
}

impl Volumes for Rbd {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        let name = wanted.name.as_str();
        let refused = |code, why: &str| Err(Error::new(code, why));
        if wanted.format != Some(VolumeFormat::Image(ImageFormat::Raw)) {
            return refused(Code::ConfigUnsupported, "only RAW volumes are supported by this storage pool");
        }
        if wanted.encryption.is_some() {
            return refused(Code::ConfigUnsupported, "storage pool does not support encrypted volumes");
        }
        if wanted.backing.is_some() {
            return refused(
                Code::ConfigUnsupported,
                "an image of Ceph has no backing store: clone the other one instead",
            );
        }
        if wanted.capacity.unwrap_or(0) == 0 {
            return refused(Code::NoSupport, "volume capacity required for this storage pool");
        }
        if name.contains(['/', '@']) {
            return Err(Error::new(
                Code::InvalidArg,
                format!("'{name}' cannot be the name of an image of Ceph, which has no '/' and no '@'"),
            ));
        }
        let path = self.path_of(name);
        Ok(VolumeDef { kind: VolumeKind::Network, key: Some(path.clone()), path: Some(path), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, _options: CreateOptions, _job: &Job) -> Result<()> {
        let name = planned.name.as_str();
        let pool = self.pool()?;
        let create = || pool.create_image(name, planned.capacity.unwrap_or(0));
        let is_half_made = || pool.open_image(name, Mode::Read).is_err_and(|e| is_missing(&e));
        let created = match create() {
            // What was left of one whose making was cut short.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_half_made() => {
                pool.remove_image(name, &mut |_, _| ()).and_then(|()| create())
            }
            created => created,
        };
        created.map_err(|e| {
            // A whole image of this name may be somebody else's.
            if is_half_made() {
                drop(pool.remove_image(name, &mut |_, _| ()));
            }
            self.failed(&format!("failed to create volume '{}'", self.path_of(name)), &e)
        })
    }

    /// By a snapshot: objects are shared until one of the two is written.
    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        _options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        let (from, to) = (source.name.as_str(), planned.name.as_str());
        let failed = |e| {
            let (from, to) = (self.path_of(from), self.path_of(to));
            self.failed(&format!("failed to clone RBD volume '{from}' to '{to}'"), &e)
        };
        let pool = self.pool()?;
        let image = self.open_image(from, Mode::Write)?;
        let mut undo = Undo::new();
        let snapshot = match self.snapshot_for_clones(&image).map_err(failed)? {
            Some(name) => name,
            None => {
                let unique = Uuid::random().ok_or_else(|| failed(io::Error::other("no random numbers")))?;
                let name = format!("{FOR_CLONES}{unique}");
                image.create_snapshot(&name).map_err(failed)?;
                let (image, made) = (&image, name.clone());
                undo.push(move || drop(image.remove_snapshot(&made)));
                image.protect(&name).map_err(failed)?;
                let made = name.clone();
                undo.push(move || drop(image.unprotect(&made)));
                name
            }
        };
        pool.clone_image(&image, &snapshot, to).map_err(failed)?;
        // Not before: an image of this name may be somebody else's.
        undo.push(|| drop(pool.remove_image(to, &mut |_, _| ())));
        let capacity = planned.capacity.unwrap_or(0);
        if capacity > source.capacity.unwrap_or(0) {
            self.open_image(to, Mode::Write)?.resize(capacity, &mut |_, _| job.alive()).map_err(failed)?;
        }
        undo.disarm();
        Ok(())
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        self.look_into(name.as_str())
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        self.open_image(name, Mode::Write)?
            .resize(capacity, &mut |_, _| job.alive())
            .map_err(|e| self.failed(&format!("failed to resize the RBD image '{name}'"), &e))
    }

    fn delete_snapshots(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        let image = self.open_image(name, Mode::Write)?;
        self.remove_snapshots(&image, name, |snapshot| {
            image.remove_snapshot_of_clones(&snapshot.name, &mut |_, _| job.alive())
        })
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        let pool = self.pool()?;
        let remove = || pool.remove_image(name, &mut |_, _| job.alive());
        match remove() {
            Ok(()) => Ok(()),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let image = self.open_image(name, Mode::Write)?;
                let snapshots = image.snapshots().map_err(|e| self.cannot_remove(name, &e))?;
                let of_others: Vec<_> = snapshots
                    .iter()
                    .filter(|snapshot| !is_for_clones(snapshot))
                    .map(|snapshot| format!("'{}'", snapshot.name))
                    .collect();
                if !of_others.is_empty() {
                    return Err(Error::new(
                        Code::OperationFailed,
                        format!(
                            "volume '{}' has snapshots, which are deleted with it only if that is asked for: {}",
                            self.path_of(name),
                            of_others.join(", ")
                        ),
                    ));
                }
                self.remove_snapshots(&image, name, |snapshot| remove_snapshot(&image, snapshot))?;
                drop(image);
                remove().map_err(|e| self.cannot_remove(name, &e))
            }
            Err(e) => Err(self.cannot_remove(name, &e)),
        }
    }
}

impl Rbd {
    fn remove_snapshots(
        &self,
        image: &Image,
        name: &str,
        remove: impl Fn(&Snapshot) -> io::Result<()>,
    ) -> Result<()> {
        for snapshot in image.snapshots().map_err(|e| self.cannot_remove(name, &e))? {
            remove(&snapshot).map_err(|e| {
                let snapshot = format!("{}@{}", self.path_of(name), snapshot.name);
                match e.kind() {
                    io::ErrorKind::ResourceBusy => Error::new(
                        Code::OperationFailed,
                        format!("failed to remove snapshot '{snapshot}': volumes are clones of it"),
                    ),
                    _ => self.failed(&format!("failed to remove snapshot '{snapshot}'"), &e),
                }
            })?;
        }
        Ok(())
    }

    fn cannot_remove(&self, name: &str, error: &io::Error) -> Error {
        let what = format!("failed to remove volume '{}'", self.path_of(name));
        match error.kind() {
            io::ErrorKind::ResourceBusy => {
                Error::new(Code::OperationFailed, format!("{what}: {}", self.why_in_use(name)))
            }
            _ => self.failed(&what, error),
        }
    }
}

fn is_for_clones(snapshot: &Snapshot) -> bool {
    snapshot.name.starts_with(FOR_CLONES)
}

fn remove_snapshot(image: &Image, snapshot: &Snapshot) -> io::Result<()> {
    if snapshot.is_protected {
        image.unprotect(&snapshot.name)?;
    }
    image.remove_snapshot(&snapshot.name)
}

impl Content for Rbd {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        let name = volume.name.as_str();
        let mode = match access {
            Access::Read => Mode::Read,
            Access::Write => Mode::Write,
        };
        let image = self.open_image(name, mode)?;
        let size = image
            .info()
            .map_err(|e| self.failed(&format!("failed to stat the RBD image '{name}'"), &e))?
            .size;
        let server = monitors(&self.def.source.hosts);
        Ok(Box::new(Pieces::new(ImageIo::new(image, size), size, server)))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        if !matches!(algorithm, WipeAlgorithm::Zero | WipeAlgorithm::Trim) {
            return Err(Error::new(
                Code::InvalidArg,
                format!(
                    "wiping algorithm '{algorithm}' is not supported for images of Ceph: there are 'zero' and 'trim'"
                ),
            ));
        }
        let failed = |e| self.failed(&format!("failed to wipe RBD image '{name}'"), &e);
        let image = self.open_image(name, Mode::Write)?;
        let size = image.info().map_err(failed)?.size;
        servers::in_steps(size, STEP, job, |offset, length| {
            match algorithm {
                WipeAlgorithm::Trim => image.discard(offset, length),
                _ => image.write_zeroes(offset, length, Zeroes::Allocated),
            }
            .map_err(failed)
        })?;
        image.flush().map_err(failed)
    }
}
