//! `dir`: a directory that is there already, or is built.

use crate::directory::Directory;
use crate::{Construction, Content, Driver, Earlier, Environment, Found, Pool, Volumes, Watch};
use cenote_model::flags::Overwrite;
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::sync::Arc;

pub(crate) const DRIVER: Driver =
    Driver { kind: PoolKind::Dir, is_supported: |_| true, open, find_sources: None };

struct Dir {
    def: PoolDef,
    directory: Directory,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    Ok(Box::new(Dir { directory: Directory::new(def, environment)?, def: def.clone() }))
}

impl Pool for Dir {
    fn is_active(&self) -> Result<bool> {
        let path = self.directory.path();
        path.try_exists().map_err(|e| Error::system(format!("cannot find path '{}'", path.display()), &e))
    }

    fn start(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        Ok(())
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

impl Construction for Dir {
    fn build(&self, overwrite: Overwrite, _job: &Job) -> Result<()> {
        // There is nothing to format; libvirt says so in these words.
        if overwrite != Overwrite::Default {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("No source device specified when formatting pool '{}'", self.def.name),
            ));
        }
        self.directory.build(self.def.cow)
    }

    fn delete(&self, _job: &Job) -> Result<()> {
        self.directory.delete()
    }
}
