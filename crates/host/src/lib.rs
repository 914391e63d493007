//! This machine, as storage sees it: tools that are run, files that are made as a whole or not at all, attributes of
//! files, and how to take back what was done.

#![warn(missing_docs)]

pub mod attributes;
mod new_file;
mod private_dir;
mod secret_value;
mod settings;
mod stat;
mod tied;
mod tool;
mod undo;
mod unsynced;

pub use new_file::{NewFile, is_hidden, sweep};
pub use private_dir::create_private_dir;
pub use secret_value::SecretValue;
pub use settings::{Setting, Settings};
pub use stat::{FileStat, Space, space, stat, stat_at};
pub use tied::tie;
pub use tool::{Tool, ToolError};
pub use undo::Undo;
pub use unsynced::{Unsynced, sync_folder};

use std::path::PathBuf;

/// Where the tools of this machine are found. Tests give a folder of their own.
#[derive(Debug, Clone, Default)]
pub struct Host {
    tools: Option<Vec<PathBuf>>,
}

impl Host {
    /// This machine as it is.
    pub fn new() -> Host {
        Host::default()
    }

    /// A machine whose tools are in these folders and nowhere else.
    pub fn with_tools_in(folders: Vec<PathBuf>) -> Host {
        Host { tools: Some(folders) }
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
