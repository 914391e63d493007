//! This machine, as storage sees it: tools that are run, files that are made as a whole or not at all, attributes of
//! files, and how to take back what was done.

#![warn(missing_docs)]

pub mod attributes;
pub mod ceph;
mod chap;
mod device_mapper;
pub mod gfapi;
pub mod libiscsi;
mod mounts;
mod native;
mod new_file;
mod private_dir;
mod secret_value;
mod settings;
mod stat;
mod system;
mod tied;
mod tool;
mod uevents;
mod undo;
mod unsynced;
mod watched_folder;

pub use chap::{Account, Chap};
pub use device_mapper::{DeviceMapper, MappedDevice};
pub use mounts::{Mount, file_behind, mount_at, mounts};
pub use new_file::{NewFile, is_hidden, sweep};
pub use private_dir::create_private_dir;
pub use secret_value::SecretValue;
pub use settings::{Setting, Settings};
pub use stat::{FileStat, Space, device_number, space, stat, stat_at};
pub use system::{LockFile, System};
pub use tied::tie;
pub use tool::{Tool, ToolError};
pub use uevents::{Told, Uevent, Uevents};
pub use undo::Undo;
pub use unsynced::{Unsynced, sync_folder};
pub use watched_folder::{FolderChange, WatchedFolder};

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// This machine: where its tools are found, and what state is kept on. Tests have another one.
#[derive(Clone)]
pub struct Host {
    tools: Option<Vec<PathBuf>>,
    sysfs: PathBuf,
    system: Arc<dyn System>,
}

impl Default for Host {
    fn default() -> Host {
        Host { tools: None, sysfs: "/sys".into(), system: Arc::new(system::ThisSystem) }
    }
}

impl Host {
    /// This machine as it is.
    pub fn new() -> Host {
        Host::default()
    }

    /// A machine whose tools are in these folders and nowhere else.
    pub fn with_tools_in(folders: Vec<PathBuf>) -> Host {
        Host { tools: Some(folders), ..Host::default() }
    }

    /// A machine that is made up, on which there are no tools.
    pub fn made_up(system: Arc<dyn System>) -> Host {
        Host { tools: Some(Vec::new()), system, ..Host::default() }
    }

    /// The same machine with another tree of devices.
    pub fn with_sysfs(self, sysfs: PathBuf) -> Host {
        Host { sysfs, ..self }
    }

    /// Where the kernel shows its devices.
    pub fn sysfs(&self) -> &Path {
        &self.sysfs
    }

    /// Its files and threads.
    pub fn system(&self) -> &Arc<dyn System> {
        &self.system
    }

    /// A tool that is to be run. Fails if it is not installed.
    pub fn tool(&self, name: &'static str) -> Result<Tool, ToolError> {
        let found = match &self.tools {
            None => tool::find_tool(name),
            Some(folders) => folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()),
        };
        found.map(|path| Tool::at(name, path)).ok_or(ToolError::Missing(name))
    }
}
