//! `scsi`: the LUNs of a SCSI host, or of a virtual Fibre Channel host, which is made when the pool starts.

mod adapter;
#[cfg(test)]
mod tests;
mod vport;

use crate::block::Devices;
use crate::block::luns::{self, Keys};
use crate::{Content, Driver, Earlier, Environment, Found, Pool, Watch};
use cenote_model::source::Adapter;
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DRIVER: Driver =
    Driver { kind: PoolKind::Scsi, is_supported: |_| true, open, find_sources: None };

struct Scsi {
    def: PoolDef,
    adapter: Adapter,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let adapter = def.source.adapter.clone();
    let adapter = adapter.ok_or_else(|| Error::new(Code::XmlError, "missing storage pool source adapter"))?;
    let target = def.target_path().unwrap_or_default().to_owned();
    Ok(Box::new(Scsi { def: def.clone(), adapter, target, environment: environment.clone() }))
}

impl Scsi {
    fn sysfs(&self) -> &Path {
        self.environment.host.sysfs()
    }

    fn keys(&self) -> Keys {
        match self.adapter {
            // The same device is reached by the virtual host and by others.
            Adapter::FcHost(_) => Keys::DeviceAndPort,
            Adapter::ScsiHost(_) | Adapter::ScsiHostAt { .. } => Keys::Device,
        }
    }
}

impl Pool for Scsi {
    fn is_active(&self) -> Result<bool> {
        Ok(adapter::find(&self.adapter, self.sysfs())?.is_some())
    }

    /// A virtual host that is made for the pool goes with it.
    fn resolve(&self) -> Result<Option<PoolDef>> {
        let Adapter::FcHost(fc) = &self.adapter else { return Ok(None) };
        if fc.managed == Some(true) || adapter::find_fc(fc, self.sysfs()).is_some() {
            return Ok(None);
        }
        let mut def = self.def.clone();
        def.source.adapter =
            Some(Adapter::FcHost(cenote_model::source::FcHost { managed: Some(true), ..fc.clone() }));
        Ok(Some(def))
    }

    fn start(&self, job: &Job) -> Result<()> {
        if let Adapter::FcHost(fc) = &self.adapter {
            vport::create(fc, self.sysfs(), job)?;
        }
        adapter::must_find(&self.adapter, self.sysfs()).map(drop)
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        match &self.adapter {
            Adapter::FcHost(fc) if fc.managed == Some(true) => vport::delete(fc, self.sysfs()),
            _ => Ok(()),
        }
    }

    fn discover(&self, _job: &Job) -> Result<()> {
        luns::discover(&self.environment, adapter::must_find(&self.adapter, self.sysfs())?)
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let host = adapter::must_find(&self.adapter, self.sysfs())?;
        luns::scan(&self.environment, &[host], &self.target, self.keys(), found, job)
    }

    fn measure(&self) -> Result<Found> {
        let host = adapter::must_find(&self.adapter, self.sysfs())?;
        luns::measure(&self.environment, &[host], &self.target)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(&Devices)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        let host = adapter::must_find(&self.adapter, self.sysfs()).map_err(io::Error::other)?;
        luns::watch(vec![host])
    }
}
