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
use listing::{State, Vdi};
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Sheepdog,
    is_supported: |host| needs::are_met(PoolKind::Sheepdog, host),
    open,
    find_sources: None,
};

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

    /// The disk of this name, not its snapshots.
    fn find(&self, name: &str, job: &Job) -> Result<Option<Vdi>> {
        let found = self.vdis(Some(name), job)?;
        Ok(found.into_iter().find(|vdi| vdi.name == name && vdi.state != State::Snapshot))
    }

    fn read(&self, name: &str, offset: u64, length: u64, job: &Job) -> Result<Vec<u8>> {
        let read = self.dog(&["vdi", "read", name, &offset.to_string(), &length.to_string()], None, job)?;
        match read.len() as u64 == length {
            true => Ok(read),
            false => Err(Error::new(
                Code::Internal,
                format!("dog has read {} bytes of volume '{name}' and not {length}", read.len()),
            )),
        }
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8], job: &Job) -> Result<()> {
        let length = bytes.len().to_string();
        self.dog(&["vdi", "write", name, &offset.to_string(), &length], Some(bytes), job).map(drop)
    }

    /// Removes a disk, or one of its snapshots. dog says that all is well even if it has found nothing.
    fn delete(&self, name: &str, tag: Option<&str>, job: &Job) -> Result<()> {
        let of_snapshot = tag.map_or(Vec::new(), |tag| vec!["-s", tag]);
        self.dog(&[&["vdi", "delete"][..], &of_snapshot, &[name]].concat(), None, job)?;
        let is_meant = |vdi: &Vdi| match tag {
            Some(tag) => vdi.state == State::Snapshot && vdi.tag == tag,
            None => vdi.state != State::Snapshot,
        };
        match self.vdis(Some(name), job)?.iter().any(|vdi| vdi.name == name && is_meant(vdi)) {
            false => Ok(()),
            true => Err(Error::new(Code::OperationFailed, format!("dog has not deleted volume '{name}'"))),
        }
    }
}

impl Sheepdog {
    fn describe(&self, vdi: Vdi) -> Option<VolumeDef> {
        if vdi.state == State::Snapshot {
            return None;
        }
        let key = format!("{}/{}", self.name, vdi.name);
        Some(VolumeDef {
            kind: VolumeKind::Network,
            key: Some(key),
            format: None,
            capacity: Some(vdi.size),
            allocation: Some(vdi.used),
            physical: None,
            ..VolumeDef::file(Name::volume(vdi.name.as_str()).ok()?, vdi.name)
        })
    }

    fn found(&self, job: &Job) -> Result<Found> {
        let printed = self.cluster.dog(&["node", "info", "-r"], None, job)?;
        let usage = listing::usage(&String::from_utf8_lossy(&printed))?;
        Ok(Found::of(usage))
    }

    fn must_find(&self, name: &str, job: &Job) -> Result<Vdi> {
        self.cluster.find(name, job)?.ok_or_else(|| {
            Error::new(
                Code::NoStorageVol,
                format!("no storage vol with matching name '{name}' in the cluster"),
            )
        })
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
        for volume in self.cluster.vdis(None, job)?.into_iter().filter_map(|vdi| self.describe(vdi)) {
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

    /// By a snapshot that goes again: blocks are shared until one of the two is written.
    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        _options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        let (from, to) = (source.name.as_str(), planned.name.as_str());
        self.must_find(from, job)?;
        let tag = format!("cenote-{to}");
        // What an earlier attempt left, whose node went away.
        let is_left = |vdi: &Vdi| vdi.name == from && vdi.state == State::Snapshot && vdi.tag == tag;
        if self.cluster.vdis(Some(from), job)?.iter().any(is_left) {
            self.cluster.delete(from, Some(&tag), job)?;
        }
        self.cluster.dog(&["vdi", "snapshot", "-s", &tag, from], None, job)?;
        let remove_snapshot = || self.cluster.delete(from, Some(&tag), &waiting::look("removing a snapshot"));
        let mut undo = Undo::new();
        undo.push(|| drop(remove_snapshot()));
        self.cluster.dog(&["vdi", "clone", "-s", &tag, from, to], None, job)?;
        undo.push(|| drop(self.cluster.delete(to, None, &waiting::look("undoing a clone"))));
        let wanted = planned.capacity.unwrap_or(0);
        if wanted > source.capacity.unwrap_or(0) {
            self.cluster.dog(&["vdi", "resize", to, &wanted.to_string()], None, job)?;
        }
        remove_snapshot()?;
        undo.disarm();
        Ok(())
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        let found = self.cluster.find(name.as_str(), &waiting::look("looking at a volume"))?;
        Ok(found.and_then(|vdi| self.describe(vdi)))
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        if capacity < self.must_find(name, job)?.size {
            return Err(Error::new(
                Code::NoSupport,
                format!("cannot resize volume '{name}': volumes of Sheepdog can grow only"),
            ));
        }
        self.cluster.dog(&["vdi", "resize", name, &capacity.to_string()], None, job).map(drop)
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let name = volume.name.as_str();
        self.must_find(name, job)?;
        self.cluster.delete(name, None, job)
    }
}

impl Content for Sheepdog {
    fn open(&self, volume: &VolumeDef, _access: Access) -> Result<Box<dyn VolumeIo>> {
        let vdi = self.must_find(volume.name.as_str(), &waiting::look("looking at a volume"))?;
        let io = VdiIo { cluster: Arc::clone(&self.cluster), name: vdi.name };
        Ok(Box::new(Pieces::new(io, vdi.size, self.cluster.node.clone())))
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
        let vdi = self.must_find(volume.name.as_str(), job)?;
        let zeroes = vec![0; PIECE as usize];
        servers::in_steps(vdi.size, PIECE, job, |offset, length| {
            self.cluster.write(&vdi.name, offset, &zeroes[..length as usize], job)
        })
    }
}
