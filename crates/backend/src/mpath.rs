//! `mpath`: the multipath devices of this machine.

use crate::block::{self, Devices};
use crate::{Content, Driver, Earlier, Environment, Found, Pool, Watch, waiting};
use cenote_host::DeviceMapper;
use cenote_model::{Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DRIVER: Driver =
    Driver { kind: PoolKind::Mpath, is_supported: |_| true, open, find_sources: None };

struct Multipath {
    environment: Environment,
}

fn open(_def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    Ok(Box::new(Multipath { environment: environment.clone() }))
}

impl Pool for Multipath {
    fn is_active(&self) -> Result<bool> {
        Ok(Path::new("/dev/mapper").exists())
    }

    fn start(&self, _job: &Job) -> Result<()> {
        Ok(())
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
        block::settle(&self.environment, job);
        let failed = |e| Error::system("cannot ask the device mapper for multipath devices", &e);
        let mapper = DeviceMapper::open().map_err(failed)?;
        let devices =
            mapper.map_or(Ok(Vec::new()), |mapper| mapper.devices_of("multipath")).map_err(failed)?;
        let volumes = devices.into_iter().filter_map(|device| {
            let path = format!("/dev/mapper/{}", device.name);
            let name = Name::volume(format!("dm-{}", device.minor)).ok()?;
            Some(block::volume(name, path.clone(), path))
        });
        // One whose paths have all failed cannot be read.
        block::scan_given(volumes, found, job)
    }

    fn measure(&self) -> Result<Found> {
        self.scan(None, &mut |_| (), &waiting::look("measuring multipath devices"))
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(&Devices)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        block::watch::watch(|event| event.get("DM_UUID").is_some_and(|uuid| uuid.starts_with("mpath-")))
    }
}
