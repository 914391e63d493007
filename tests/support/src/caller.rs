//! Who calls: virsh at a daemon under test, or cenote by itself.

use crate::{Cenote, Cenoted};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One of the two, with a folder for its state and for files of the test.
pub struct Caller {
    folder: tempfile::TempDir,
    daemon: Option<Cenoted>,
    /// Where cenoted is; cenote is beside it.
    cenoted: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Caller {
    /// virsh, at a daemon.
    pub fn virsh(cenoted: &str) -> Caller {
        Caller::new(cenoted, "", |_| Vec::new()).with_daemon()
    }

    /// cenote, with a state of its own.
    pub fn cenote(cenoted: &str) -> Caller {
        Caller::new(cenoted, "", |_| Vec::new())
    }

    /// cenote, with these settings, and with more in its environment, which may name the folder.
    pub fn new(
        cenoted: &str,
        settings: &str,
        environment: impl FnOnce(&Path) -> Vec<(&'static str, PathBuf)>,
    ) -> Caller {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc/libvirt");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("cenote.conf"), settings).unwrap();
        let environment = environment(folder.path());
        Caller { folder, daemon: None, cenoted: cenoted.into(), environment }
    }

    /// virsh, at a daemon with this state.
    pub fn with_daemon(mut self) -> Caller {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let program = self.cenoted.to_str().unwrap();
        self.daemon = Some(Cenoted::start_with(program, self.folder.path(), &environment));
        self
    }

    /// A file of the test.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A call.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.daemon {
            Some(daemon) => daemon.virsh_command(args),
            None => {
                let program = self.cenoted.with_file_name("cenote");
                Cenote::at(program.to_str().unwrap(), self.folder.path()).command(args)
            }
        };
        command.envs(self.environment.iter().map(|(name, path)| (*name, path.as_path())));
        command
    }

    /// Makes a call.
    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Makes a call that succeeds, and returns what was printed.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a call that fails, and returns why.
    pub fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} did not fail");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Defines a pool.
    pub fn define(&self, xml: &str) {
        let file = self.file("pool.xml");
        std::fs::write(&file, xml).unwrap();
        self.run(&["pool-define", &file]);
    }
}
