//! `sheepdog`: the virtual disks of a Sheepdog cluster. All is done by dog(8).

mod content;
pub mod listing;

use crate::pieces::{PIECE, Pieces};
use crate::{
    Access, Content, Driver, Earlier, Environment, Found, Growth, Pool, VolumeIo, Volumes, error, needs,
    servers, waiting,
};
use cenote_host::{Host, Undo};
use cenote_model::flags::{CreateOptions, WipeAlgorithm};
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use content::VdiIo;
use listing::Vdi;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Sheepdog,
    is_supported: |host| needs::are_met(PoolKind::Sheepdog, host),
    open,
    find_sources: None,
};

/// So many letters of a clone's name are in the tag of its snapshot, which has at most 255 bytes.
const LONGEST_IN_TAG: usize = 60;

/// A cluster, at one of its nodes.
struct Cluster {
    node: String,
    port: Option<u16>,
    host: Host,
}

struct Sheepdog {
    cluster: Arc<Cluster>,
    /// What the keys of volumes begin with.
    name: String,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let [server] = def.source.hosts.as_slice() else {
        return Err(Error::new(Code::ConfigUnsupported, "Expected exactly 1 host for the storage pool"));
    };
    check_name("node", &server.name)?;
    let cluster = Cluster { node: server.name.clone(), port: server.port, host: environment.host.clone() };
    let name = def.source.name.clone().unwrap_or_default();
    Ok(Box::new(Sheepdog { cluster: Arc::new(cluster), name }))
}

fn missing(name: &str) -> Error {
    Error::new(Code::NoStorageVol, format!("no storage vol with matching name '{name}' in the cluster"))
}

/// A name is an argument of a tool.
fn check_name(what: &str, name: &str) -> Result<()> {
    match name.is_empty() || name.starts_with('-') || name.len() > 255 {
        true => {
            Err(Error::new(Code::InvalidArg, format!("'{name}' cannot be the name of a {what} of Sheepdog")))
        }
        false => Ok(()),
    }
}

impl Cluster {
    /// Runs a command of dog's. Its failure names the node, as dog does.
    fn dog(&self, command: &[&str], input: Option<&[u8]>, job: &Job) -> Result<Vec<u8>> {
        let (what, operands) = command.split_at(command.len().min(2));
        let mut dog = self.host.tool("dog").map_err(error::tool)?.args(what).args(["-a", &self.node]);
        if let Some(port) = self.port {
            dog = dog.args(["-p", &port.to_string()]);
        }
        if let Some(input) = input {
            dog = dog.input(input).map_err(|e| Error::system("cannot keep what dog shall write", &e))?;
        }
        dog.args(operands).run(job).map_err(error::tool)
    }

    /// All disks and snapshots, or those of this name.
    fn vdis(&self, name: Option<&str>, job: &Job) -> Result<Vec<Vdi>> {
        let command: Vec<_> = ["vdi", "list", "-r"].into_iter().chain(name).collect();
        listing::vdis(&String::from_utf8_lossy(&self.dog(&command, None, job)?))
    }

    /// The disk, or the snapshot, that is the volume of this name.
    fn find(&self, name: &str, job: &Job) -> Result<Option<Vdi>> {
        match (self.find_among(name, name, job)?, name.rsplit_once('@')) {
            (None, Some((disk, _))) => self.find_among(disk, name, job),
            (found, _) => Ok(found),
        }
    }

    /// The same, of a disk and its snapshots.
    fn find_among(&self, disk: &str, name: &str, job: &Job) -> Result<Option<Vdi>> {
        Ok(self.vdis(Some(disk), job)?.into_iter().find(|vdi| vdi.volume_name() == name))
    }

    fn read(&self, vdi: &Vdi, offset: u64, length: u64, job: &Job) -> Result<Vec<u8>> {
        let range = [offset.to_string(), length.to_string()];
        let read = self.dog_on("read", vdi, &[&range[0], &range[1]], job)?;
        match read.len() as u64 == length {
            true => Ok(read),
            false => Err(Error::new(
                Code::Internal,
                format!(
                    "dog has read {} bytes of volume '{}' and not {length}",
                    read.len(),
                    vdi.volume_name()
                ),
            )),
        }
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8], job: &Job) -> Result<()> {
        let length = bytes.len().to_string();
        self.dog(&["vdi", "write", name, &offset.to_string(), &length], Some(bytes), job).map(drop)
    }

    /// Removes a disk, or a snapshot. dog says that all is well even if it has found nothing.
    fn delete(&self, vdi: &Vdi, job: &Job) -> Result<()> {
        self.dog_on("delete", vdi, &[], job)?;
        let name = vdi.volume_name();
        match self.find_among(&vdi.name, &name, job)? {
            None => Ok(()),
            Some(_) => Err(Error::new(Code::OperationFailed, format!("dog has not deleted volume '{name}'"))),
        }
    }

    /// Runs a command of dog's on a disk or a snapshot.
    fn dog_on(&self, command: &str, vdi: &Vdi, operands: &[&str], job: &Job) -> Result<Vec<u8>> {
        let id = vdi.snapshot().map(|snapshot| snapshot.id.to_string());
        let snapshot = id.as_ref().map_or(Vec::new(), |id| vec!["-s", id]);
        self.dog(&[&["vdi", command][..], &snapshot, &[&vdi.name], operands].concat(), None, job)
    }
}

impl Sheepdog {
    fn describe(&self, vdi: Vdi) -> Option<VolumeDef> {
        let name = vdi.volume_name();
        let key = format!("{}/{name}", self.name);
        Some(VolumeDef {
            kind: VolumeKind::Network,
            key: Some(key),
            format: None,
            capacity: Some(vdi.size),
            allocation: Some(vdi.used),
            physical: None,
            ..VolumeDef::file(Name::volume(name.as_str()).ok()?, name)
        })
    }

    fn found(&self, job: &Job) -> Result<Found> {
        let printed = self.cluster.dog(&["node", "info", "-r"], None, job)?;
        let usage = listing::usage(&String::from_utf8_lossy(&printed))?;
        Ok(Found::of(usage))
    }

    fn must_find(&self, name: &str, job: &Job) -> Result<Vdi> {
        self.cluster.find(name, job)?.ok_or_else(|| missing(name))
    }

    /// The disk of this name, to change it.
    fn must_find_disk(&self, name: &str, job: &Job) -> Result<Vdi> {
        let found = self.must_find(name, job)?;
        match found.snapshot() {
            None => Ok(found),
            Some(_) => Err(Error::new(
                Code::OperationInvalid,
                format!("volume '{name}' is a snapshot, which stays as it is: clone it and change the clone"),
            )),
        }
    }

    /// Makes a clone, of the size that is asked for.
    fn clone_snapshot(&self, snapshot: &Vdi, planned: &VolumeDef, job: &Job) -> Result<()> {
        let to = planned.name.as_str();
        self.cluster.dog_on("clone", snapshot, &[to], job)?;
        let mut undo = Undo::new();
        undo.push(|| drop(self.remove(planned, &waiting::look("undoing a clone"))));
        let wanted = planned.capacity.unwrap_or(0);
        if wanted > snapshot.size {
            self.cluster.dog(&["vdi", "resize", to, &wanted.to_string()], None, job)?;
        }
        undo.disarm();
        Ok(())
    }

    fn remove(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let vdi = self.must_find(volume.name.as_str(), job)?;
        self.cluster.delete(&vdi, job)
    }
}

impl Pool for Sheepdog {
    /// Nothing of it is on this machine: it is active until it is stopped.
    fn is_active(&self) -> Result<bool> {
        Ok(true)
    }

    fn start(&self, job: &Job) -> Result<()> {
        self.found(job).map(drop)
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        // A disk may be called like a snapshot of another; it is the one that counts.
        let (snapshots, disks): (Vec<_>, Vec<_>) =
            self.cluster.vdis(None, job)?.into_iter().partition(|vdi| vdi.snapshot().is_some());
        let all = snapshots.into_iter().chain(disks);
        let volumes: BTreeMap<_, _> = all.map(|vdi| (vdi.volume_name(), vdi)).collect();
        for volume in volumes.into_values().filter_map(|vdi| self.describe(vdi)) {
            found(Arc::new(volume));
            job.advance(1)?;
        }
        self.found(job)
    }

    fn measure(&self) -> Result<Found> {
        self.found(&waiting::look("measuring a cluster"))
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(self)
    }
}

impl Volumes for Sheepdog {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        check_name("volume", wanted.name.as_str())?;
        if wanted.name.as_str().contains('@') {
            return Err(Error::new(
                Code::InvalidArg,
                format!("'{}' would be the name of a snapshot of Sheepdog: leave out the '@'", wanted.name),
            ));
        }
        if wanted.encryption.is_some() {
            return Err(Error::new(
                Code::ConfigUnsupported,
                "storage pool does not support encrypted volumes",
            ));
        }
        if wanted.backing.is_some() {
            return Err(Error::new(
                Code::ConfigUnsupported,
                "a volume of Sheepdog has no backing store: clone the other one instead",
            ));
        }
        let (key, path) = (format!("{}/{}", self.name, wanted.name), wanted.name.to_string());
        Ok(VolumeDef { kind: VolumeKind::Network, key: Some(key), path: Some(path), ..wanted })
    }

    /// Thin, unless all of it is asked for.
    fn create(&self, planned: &VolumeDef, _options: CreateOptions, job: &Job) -> Result<()> {
        let capacity = planned.capacity.unwrap_or(0);
        let is_whole = planned.allocation.is_some_and(|allocation| allocation >= capacity && allocation > 0);
        let preallocated: &[&str] = if is_whole { &["-P"] } else { &[] };
        let (name, size) = (planned.name.as_str(), capacity.to_string());
        self.cluster.dog(&[&["vdi", "create"], preallocated, &[name, &size]].concat(), None, job).map(drop)
    }

    /// From a snapshot; that of a disk goes again. Blocks are shared until one of the two is written.
    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        _options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        let from = self.must_find(source.name.as_str(), job)?;
        if from.snapshot().is_some() {
            return self.clone_snapshot(&from, planned, job);
        }
        let tag: String =
            "cenote-".chars().chain(planned.name.as_str().chars().take(LONGEST_IN_TAG)).collect();
        let name = format!("{}@{tag}", from.name);
        let find = |job: &Job| self.cluster.find_among(&from.name, &name, job);
        let remove = |job: &Job| match find(job)? {
            Some(snapshot) => self.cluster.delete(&snapshot, job),
            None => Ok(()),
        };
        // What an earlier attempt left, whose node went away.
        remove(job)?;
        self.cluster.dog(&["vdi", "snapshot", "-s", &tag, &from.name], None, job)?;
        let mut undo = Undo::new();
        undo.push(|| drop(remove(&waiting::look("removing a snapshot"))));
        let snapshot = find(job)?.ok_or_else(|| missing(&name))?;
        self.clone_snapshot(&snapshot, planned, job)?;
        undo.push(|| drop(self.remove(planned, &waiting::look("undoing a clone"))));
        self.cluster.delete(&snapshot, job)?;
        undo.disarm();
        Ok(())
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        let found = self.cluster.find(name.as_str(), &waiting::look("looking at a volume"))?;
        Ok(found.and_then(|vdi| self.describe(vdi)))
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        if capacity < self.must_find_disk(name, job)?.size {
            return Err(Error::new(
                Code::NoSupport,
                format!("cannot resize volume '{name}': volumes of Sheepdog can grow only"),
            ));
        }
        self.cluster.dog(&["vdi", "resize", name, &capacity.to_string()], None, job).map(drop)
    }

    fn delete_snapshots(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let found = self.must_find(volume.name.as_str(), job)?;
        if found.snapshot().is_some() {
            return Ok(());
        }
        let all = self.cluster.vdis(Some(&found.name), job)?;
        all.iter().filter(|vdi| vdi.snapshot().is_some()).try_for_each(|vdi| self.cluster.delete(vdi, job))
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        self.remove(volume, job)
    }
}

impl Content for Sheepdog {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        let (name, job) = (volume.name.as_str(), waiting::look("looking at a volume"));
        let vdi = match access {
            Access::Read => self.must_find(name, &job)?,
            Access::Write => self.must_find_disk(name, &job)?,
        };
        let size = vdi.size;
        let io = VdiIo { cluster: Arc::clone(&self.cluster), vdi };
        Ok(Box::new(Pieces::new(io, size, self.cluster.node.clone())))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        if algorithm != WipeAlgorithm::Zero {
            return Err(Error::new(
                Code::NoSupport,
                format!(
                    "wiping algorithm '{algorithm}' is not supported for volumes of Sheepdog: there is 'zero'"
                ),
            ));
        }
        let vdi = self.must_find_disk(volume.name.as_str(), job)?;
        let zeroes = vec![0; PIECE as usize];
        servers::in_steps(vdi.size, PIECE, job, |offset, length| {
            self.cluster.write(&vdi.name, offset, &zeroes[..length as usize], job)
        })
    }
}
