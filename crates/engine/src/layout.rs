//! Where the state is kept.

use cenote_model::{Code, Error, Name, Result};
use std::path::{Path, PathBuf};

/// The directories of the state: libvirt's, under one root or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Definitions: `NAME.xml`, and `autostart/`.
    config: PathBuf,
    /// Active pools: `NAME.xml`; `driver.pid`, `autostarted`.
    run: PathBuf,
    /// Sockets.
    sockets: PathBuf,
    /// Secrets: `UUID.xml`, and their values.
    secrets: PathBuf,
    /// The lock on the secrets: `driver.pid`.
    secrets_run: PathBuf,
    /// Where the `default` pool goes.
    default_pool: Option<PathBuf>,
    /// Whether what is in `run` may be from before the machine was started.
    outlives_boot: bool,
}

impl Layout {
    /// Everything under one directory, as in `/`: `etc/libvirt`, `run/libvirt`, `var/lib/libvirt`.
    pub fn under(prefix: &Path) -> Layout {
        Layout {
            config: prefix.join("etc/libvirt/storage"),
            run: prefix.join("run/libvirt/storage"),
            sockets: prefix.join("run/libvirt"),
            secrets: prefix.join("etc/libvirt/secrets"),
            secrets_run: prefix.join("run/libvirt/secrets"),
            default_pool: Some(prefix.join("var/lib/libvirt/images")),
            outlives_boot: true,
        }
    }

    /// The embedded state of this user: in `$XDG_DATA_HOME/cenote`, or `~/.local/share/cenote`.
    pub fn embedded() -> Result<Layout> {
        let data = absolute("XDG_DATA_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/share")))
            .ok_or_else(|| {
                Error::new(
                    Code::InvalidArg,
                    "neither XDG_DATA_HOME nor HOME says where to keep volumes: set one, or use --prefix DIR",
                )
            })?;
        let root = data.join("cenote");
        Ok(Layout { default_pool: Some(root.join("images")), ..Layout::under(&root) })
    }

    /// Where libvirt's system daemon keeps its state.
    pub fn system() -> Layout {
        let layout = Layout::under(Path::new("/"));
        Layout { outlives_boot: false, ..layout.without_default_pool() }
    }

    /// Where libvirt's daemon of this user keeps its state.
    pub fn session() -> Result<Layout> {
        let missing =
            |what: &str| Error::new(Code::InvalidArg, format!("{what} is not set: use --prefix DIR"));
        let config = absolute("XDG_CONFIG_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".config")))
            .ok_or_else(|| missing("HOME"))?
            .join("libvirt");
        let run = absolute("XDG_RUNTIME_DIR").ok_or_else(|| missing("XDG_RUNTIME_DIR"))?.join("libvirt");
        Ok(Layout {
            config: config.join("storage"),
            run: run.join("storage/run"),
            secrets: config.join("secrets"),
            secrets_run: run.join("secrets/run"),
            sockets: run,
            default_pool: None,
            outlives_boot: true,
        })
    }

    /// The same, where no `default` pool is made on the first use.
    pub fn without_default_pool(self) -> Layout {
        Layout { default_pool: None, ..self }
    }

    /// The directory of definitions.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The directory of links to the definitions of pools that start by themselves.
    pub fn autostart(&self) -> PathBuf {
        self.config.join("autostart")
    }

    /// The directory of active pools.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The directory of secrets.
    pub fn secrets(&self) -> &Path {
        &self.secrets
    }

    /// The directory of the lock on the secrets.
    pub(crate) fn secrets_run(&self) -> &Path {
        &self.secrets_run
    }

    /// The directory of the daemons' sockets.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// A configuration file, beside the directories of definitions.
    pub fn settings(&self, name: &str) -> PathBuf {
        self.config.with_file_name(name)
    }

    pub(crate) fn default_pool(&self) -> Option<&Path> {
        self.default_pool.as_deref()
    }

    pub(crate) fn outlives_boot(&self) -> bool {
        self.outlives_boot
    }

    pub(crate) fn config_file(&self, pool: &Name) -> PathBuf {
        self.config.join(format!("{pool}.xml"))
    }

    pub(crate) fn autostart_link(&self, pool: &Name) -> PathBuf {
        self.autostart().join(format!("{pool}.xml"))
    }

    pub(crate) fn run_file(&self, pool: &Name) -> PathBuf {
        self.run.join(format!("{pool}.xml"))
    }
}

/// A directory from the environment. A relative one counts as none, as the XDG specification has it.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
