//! The bytes of a volume.

use super::Directory;
use super::scan::PLOOP_IMAGE;
use crate::content::local_path;
use crate::content::{self, Durable};
use crate::{Access, Content, VolumeIo};
use cenote_model::error::cause_text;
use cenote_model::flags::WipeAlgorithm;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use std::io;
use std::sync::Arc;

impl Content for Directory {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        let unsynced = Arc::clone(&self.environment.unsynced);
        content::open(&content_path(volume)?, access, Durable::Later(unsynced, self.path().to_owned()))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        content::wipe_at(&content_path(volume)?, algorithm, job)
    }
}

/// Where the bytes are: those of a directory are nowhere.
fn content_path(volume: &VolumeDef) -> Result<String> {
    let path = local_path(volume)?;
    match volume.kind {
        VolumeKind::Dir => Err(Error::new(
            Code::OperationInvalid,
            format!("volume '{}' is a directory: it has no content of its own", volume.name),
        )),
        VolumeKind::Ploop => Ok(format!("{path}/{PLOOP_IMAGE}")),
        _ => Ok(path.to_owned()),
    }
}

/// Why a volume's file could not be opened.
pub(super) fn cannot_open(path: &str, cause: &io::Error) -> Error {
    Error::new(Code::SystemError, format!("Unable to open '{path}': {}", cause_text(cause)))
}
