//! Making and removing the directory itself.

use super::{Directory, POOL_MODE};
use crate::permissions::apply;
use cenote_host::Undo;
use cenote_host::attributes::{CopyOnWrite, set_copy_on_write};
use cenote_model::{Code, Error, Result};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
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
