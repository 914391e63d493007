//! `iscsi-direct`: the LUNs of a target, by libiscsi and without the kernel's initiator.

pub mod scsi;
mod unit;

use crate::pieces::{PIECE, Pieces};
use crate::{Access, Content, Driver, Earlier, Environment, Found, Pool, VolumeIo, chap, needs, servers};
use cenote_host::libiscsi::{self, Login, Session};
use cenote_model::flags::WipeAlgorithm;
use cenote_model::pool::Usage;
use cenote_model::source::{Device, Host as Server, Source};
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::sync::Arc;
use unit::Unit;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::IscsiDirect,
    is_supported: |host| needs::are_met(PoolKind::IscsiDirect, host),
    open,
    find_sources: Some(find_sources),
};

/// The port where none is given.
const PORT: u16 = 3260;
/// LUNs of one target are asked about in so many sessions at once.
const SESSIONS: usize = 4;

struct IscsiDirect {
    def: PoolDef,
    portal: String,
    initiator: String,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let (portal, initiator) = ends(&def.source)?;
    let [Device { path: target, .. }] = def.source.devices.as_slice() else {
        return Err(Error::new(Code::Internal, "missing source device"));
    };
    let (def, target, environment) = (def.clone(), target.clone(), environment.clone());
    Ok(Box::new(IscsiDirect { def, portal, initiator, target, environment }))
}

/// The portal of a source, and the name of this side.
fn ends(source: &Source) -> Result<(String, String)> {
    let [Server { name, port }] = source.hosts.as_slice() else {
        return Err(Error::new(Code::ConfigUnsupported, "Expected exactly 1 host for the storage pool"));
    };
    let port = port.filter(|port| *port != 0).unwrap_or(PORT);
    let portal = match name.contains(':') && !name.starts_with('[') {
        true => format!("[{name}]:{port}"),
        false => format!("{name}:{port}"),
    };
    let initiator = source
        .initiator
        .clone()
        .ok_or_else(|| Error::new(Code::ConfigUnsupported, "missing initiator IQN"))?;
    Ok((portal, initiator))
}

fn find_sources(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    let question = question
        .ok_or_else(|| Error::new(Code::InvalidArg, "hostname must be specified for iscsi sources"))?;
    let (portal, initiator) = ends(question)?;
    let chap = chap::of(PoolKind::IscsiDirect, question, environment)?;
    let login = Login { portal: &portal, initiator: &initiator, chap: chap.as_ref() };
    let targets = libiscsi::discover(login)
        .map_err(|e| Error::new(Code::Internal, format!("Failed to discover session: {e}")))?;
    let source = |path| Source {
        devices: vec![Device { path, part_separator: None, free_extents: Vec::new() }],
        hosts: question.hosts.clone(),
        initiator: question.initiator.clone(),
        auth: question.auth.clone(),
        ..Source::of(PoolKind::IscsiDirect)
    };
    Ok(targets.into_iter().map(source).collect())
}

/// The number of a volume's LUN.
fn lun_of(volume: &VolumeDef) -> Result<u16> {
    let number = volume.name.as_str().strip_prefix("unit:0:0:").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::new(Code::Internal, format!("Invalid volume name {}", volume.name)))
}

impl IscsiDirect {
    fn session(&self) -> Result<Session> {
        let failed =
            |e: io::Error| Error::new(Code::Internal, format!("Failed to log in to '{}': {e}", self.target));
        let chap = chap::of(self.def.kind, &self.def.source, &self.environment)?;
        let login = Login { portal: &self.portal, initiator: &self.initiator, chap: chap.as_ref() };
        Session::open(login, &self.target).map_err(failed)
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::new(Code::Internal, format!("cannot {what} of '{}': {error}", self.target))
    }

    fn describe(&self, lun: u16, session: &mut Session) -> Result<Option<VolumeDef>> {
        let about = unit::about(session, lun).map_err(|e| self.failed(&format!("look at LUN {lun}"), &e))?;
        let Some(about) = about else { return Ok(None) };
        let Ok(name) = Name::volume(format!("unit:0:0:{lun}")) else { return Ok(None) };
        let path = format!("ip-{}-iscsi-{}-lun-{lun}", self.portal, self.target);
        let size = about.capacity.blocks * u64::from(about.capacity.block);
        Ok(Some(VolumeDef {
            kind: VolumeKind::Network,
            key: Some(about.identifier.unwrap_or_else(|| path.clone())),
            format: None,
            capacity: Some(size),
            allocation: Some(size),
            physical: None,
            ..VolumeDef::file(name, path)
        }))
    }

    /// All volumes, looked at in several sessions.
    fn all(&self) -> Result<Vec<VolumeDef>> {
        let mut session = self.session()?;
        let luns = unit::luns(&mut session).map_err(|e| self.failed("report the LUNs", &e))?;
        let mut rest = luns.chunks(luns.len().div_ceil(SESSIONS).max(1));
        let mine = rest.next().unwrap_or_default();
        let look = |luns: &[u16], session: &mut Session| -> Result<Vec<VolumeDef>> {
            luns.iter().filter_map(|lun| self.describe(*lun, session).transpose()).collect()
        };
        std::thread::scope(|scope| {
            let others: Vec<_> =
                rest.map(|luns| scope.spawn(move || look(luns, &mut self.session()?))).collect();
            let mut volumes = look(mine, &mut session)?;
            for other in others {
                volumes.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(volumes)
        })
    }
}

fn usage<'v>(volumes: impl IntoIterator<Item = &'v VolumeDef>) -> Found {
    let size = volumes.into_iter().filter_map(|volume| volume.capacity).sum();
    let usage = Usage { capacity: size, allocation: size, available: 0 };
    Found::of(usage)
}

impl Pool for IscsiDirect {
    /// Nothing of it is on this machine: it is active until it is stopped.
    fn is_active(&self) -> Result<bool> {
        Ok(true)
    }

    fn start(&self, _job: &Job) -> Result<()> {
        self.session().map(drop)
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
        let volumes = self.all()?;
        let usage = usage(&volumes);
        for volume in volumes {
            found(Arc::new(volume));
            job.advance(1)?;
        }
        Ok(usage)
    }

    fn measure(&self) -> Result<Found> {
        self.all().map(|volumes| usage(&volumes))
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(self)
    }
}

impl IscsiDirect {
    fn open_unit(&self, volume: &VolumeDef) -> Result<Unit> {
        let lun = lun_of(volume)?;
        Unit::open(self.session()?, lun).map_err(|e| self.failed(&format!("open LUN {lun}"), &e))
    }
}

impl Content for IscsiDirect {
    fn open(&self, volume: &VolumeDef, _access: Access) -> Result<Box<dyn VolumeIo>> {
        let unit = self.open_unit(volume)?;
        let size = unit.size();
        Ok(Box::new(Pieces::new(unit, size, self.portal.clone())))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        if algorithm != WipeAlgorithm::Zero {
            return Err(Error::new(
                Code::InvalidArg,
                format!("wiping algorithm '{algorithm}' is not supported for LUNs: there is 'zero'"),
            ));
        }
        let failed = |e| self.failed(&format!("wipe volume '{}'", volume.name), &e);
        let unit = self.open_unit(volume)?;
        let size = unit.size();
        let io = Pieces::new(unit, size, self.portal.clone());
        let zeroes = vec![0; PIECE as usize];
        servers::in_steps(size, PIECE, job, |offset, length| {
            io.write_all_at(&zeroes[..length as usize], offset).map_err(failed)
        })?;
        io.finish().map_err(failed)
    }
}
