//! `vstorage`: a cluster of Virtuozzo Storage, mounted by vstorage-mount(1).

use crate::mount::{self, FileSystem};
use crate::{Driver, Environment, Pool, error, needs, waiting};
use cenote_host::{Host, Mount};
use cenote_model::flags::Overwrite;
use cenote_model::permissions::Permissions;
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result};
use rustix::process::{getegid, geteuid};

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Vstorage,
    is_supported: |host| needs::are_met(PoolKind::Vstorage, host),
    open,
    find_sources: None,
};

/// The mode of what is mounted where none is asked for.
const MODE: u32 = 0o711;

struct Cluster {
    pool: String,
    name: String,
    permissions: Permissions,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let name = def.source.name.clone().unwrap_or_default();
    if name.is_empty() || name.starts_with('-') {
        return Err(Error::new(Code::InvalidArg, format!("'{name}' cannot be the name of a cluster")));
    }
    let permissions = def.target.as_ref().map(|target| target.permissions.clone()).unwrap_or_default();
    mount::open(def, Cluster { pool: def.name.to_string(), name, permissions }, environment)
}

impl FileSystem for Cluster {
    fn source(&self) -> String {
        format!("vstorage://{}", self.name)
    }

    fn is(&self, mount: &Mount) -> bool {
        mount.source.to_str() == Some(&self.source())
    }

    fn mount(&self, target: &str, host: &Host, job: &Job) -> Result<()> {
        let mode = format!("{:o}", self.permissions.mode.unwrap_or(MODE));
        let owner = self.permissions.owner.unwrap_or_else(|| geteuid().as_raw());
        let group = self.permissions.group.unwrap_or_else(|| getegid().as_raw());
        let (user, group) = (name_of("passwd", owner, host)?, name_of("group", group, host)?);
        let args = ["-c", &self.name, target, "-m", &mode, "-g", &group, "-u", &user];
        host.tool("vstorage-mount").map_err(error::tool)?.args(args).run(job).map_err(error::tool).map(drop)
    }

    fn make(&self, overwrite: Overwrite, _environment: &Environment, _job: &Job) -> Result<()> {
        mount::make_nothing(&self.pool, overwrite)
    }
}

/// The name of a user or group, by which alone vstorage-mount knows them.
fn name_of(database: &str, id: u32, host: &Host) -> Result<String> {
    let getent = host.tool("getent").map_err(error::tool)?;
    let row = getent
        .args([database, &id.to_string()])
        .run(&waiting::look("looking for a name"))
        .map_err(|_| Error::new(Code::SystemError, format!("number {id} has no name in '{database}'")))?;
    let row = String::from_utf8_lossy(&row);
    Ok(row.split(':').next().unwrap_or_default().to_owned())
}
