//! Making and removing the directory itself.

use super::{Directory, POOL_MODE};
use cenote_host::Undo;
use cenote_host::attributes::{CopyOnWrite, set_copy_on_write, set_label};
use cenote_model::permissions::Permissions;
use cenote_model::{Code, Error, Result};
use rustix::fs::{Gid, Mode, Uid, chown};
use std::fs::{DirBuilder, File, Permissions as FsPermissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

impl Directory {
    /// Makes the directory, and those above it. One that is there already gets the permissions that are asked for.
    pub fn build(&self, cow: Option<bool>) -> Result<()> {
        let path = self.path();
        if !path.is_absolute() {
            return Err(Error::new(Code::InvalidArg, format!("path '{}' is not absolute", path.display())));
        }
        let mut undo = Undo::new();
        for missing in missing_above(path) {
            make(missing, 0o777)?;
            undo.push(move || drop(std::fs::remove_dir(missing)));
        }
        let mut wanted = self.permissions.clone();
        if !path.exists() {
            make(path, wanted.mode.unwrap_or(POOL_MODE))?;
            undo.push(|| drop(std::fs::remove_dir(path)));
            wanted.mode.get_or_insert(POOL_MODE);
        } else if !path.is_dir() {
            return Err(Error::system(
                format!("cannot create directory '{}'", path.display()),
                &io::Error::from_raw_os_error(rustix::io::Errno::EXIST.raw_os_error()),
            ));
        }
        apply(path, &wanted)?;
        if let Some(cow) = cow {
            let setting = if cow { CopyOnWrite::On } else { CopyOnWrite::Off };
            File::open(path).and_then(|dir| set_copy_on_write(&dir, setting)).map_err(|e| {
                Error::system(format!("cannot set copy on write of '{}'", path.display()), &e)
            })?;
        }
        undo.disarm();
        Ok(())
    }

    /// Removes the directory, which must be empty.
    pub fn delete(&self) -> Result<()> {
        std::fs::remove_dir(self.path())
            .map_err(|e| Error::system(format!("failed to remove pool '{}'", self.path().display()), &e))
    }
}

/// The directories above `path` that do not exist, from the top down.
fn missing_above(path: &Path) -> Vec<&Path> {
    let mut missing: Vec<_> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    missing.reverse();
    missing
}

pub(super) fn make(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(|e| Error::system(format!("cannot create directory '{}'", path.display()), &e))
}

/// Sets what is asked for, and nothing else.
pub(super) fn apply(path: &Path, wanted: &Permissions) -> Result<()> {
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
pub(super) fn apply_to_file(file: &File, shown: &str, wanted: &Permissions) -> Result<()> {
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
