//! Running cenote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// cenote with an embedded state of its own.
pub struct Cenote {
    binary: PathBuf,
    prefix: PathBuf,
    _folder: Option<TempDir>,
}

impl Cenote {
    /// This binary, with a fresh state.
    pub fn new(binary: &str) -> Cenote {
        let folder = tempfile::tempdir().unwrap();
        Cenote { binary: binary.into(), prefix: folder.path().to_owned(), _folder: Some(folder) }
    }

    /// This binary, with the state under `prefix`.
    pub fn at(binary: &str, prefix: &Path) -> Cenote {
        Cenote { binary: binary.into(), prefix: prefix.to_owned(), _folder: None }
    }

    /// Where its state is.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Where the volumes of the default pool are.
    pub fn images(&self) -> PathBuf {
        self.prefix.join("var/lib/libvirt/images")
    }

    /// A command, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--prefix").arg(&self.prefix).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command that may fail.
    pub fn try_run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that must fail, and returns what it said.
    pub fn fail(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?} did not fail as it should");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The names in a folder, hidden ones too.
    pub fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
