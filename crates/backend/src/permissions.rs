//! Giving files, directories and devices their permissions.

use cenote_host::attributes::set_label;
use cenote_model::permissions::Permissions;
use cenote_model::{Error, Result};
use rustix::fs::{Gid, Mode, Uid, chown};
use std::fs::{File, Permissions as FsPermissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Sets what is asked for, and nothing else.
pub(crate) fn apply(path: &Path, wanted: &Permissions) -> Result<()> {
    let shown = path.display();
    if wanted.owner.is_some() || wanted.group.is_some() {
        chown(path, wanted.owner.map(Uid::from_raw), wanted.group.map(Gid::from_raw)).map_err(|e| {
            let id = |id: Option<u32>| id.map_or("-".to_owned(), |id| id.to_string());
            Error::system(
                format!("cannot chown '{shown}' to ({}, {})", id(wanted.owner), id(wanted.group)),
                &e.into(),
            )
        })?;
    }
    if let Some(mode) = wanted.mode {
        std::fs::set_permissions(path, FsPermissions::from_mode(mode))
            .map_err(|e| Error::system(format!("cannot set mode of '{shown}' to {mode:04o}"), &e))?;
    }
    if let Some(label) = &wanted.label {
        File::open(path)
            .and_then(|file| set_label(&file, label))
            .map_err(|e| Error::system(format!("cannot set security label of '{shown}' to '{label}'"), &e))?;
    }
    Ok(())
}

/// Like [`apply`], for a file that has no name yet.
pub(crate) fn apply_to_file(file: &File, shown: &str, wanted: &Permissions) -> Result<()> {
    if wanted.owner.is_some() || wanted.group.is_some() {
        rustix::fs::fchown(file, wanted.owner.map(Uid::from_raw), wanted.group.map(Gid::from_raw))
            .map_err(|e| Error::system(format!("cannot set owner and group of '{shown}'"), &e.into()))?;
    }
    if let Some(mode) = wanted.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|e| Error::system(format!("cannot set mode of '{shown}' to {mode:04o}"), &e.into()))?;
    }
    if let Some(label) = &wanted.label {
        set_label(file, label)
            .map_err(|e| Error::system(format!("cannot set security label of '{shown}' to '{label}'"), &e))?;
    }
    Ok(())
}
