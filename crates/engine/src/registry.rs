//! All pools, by UUID and by name, and the rules by which they may be together.

use crate::pool::{PoolEntry, PoolRun};
use cenote_model::source::{Adapter, Source};
use cenote_model::{Code, Error, PoolDef, PoolKind, Result, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Registry {
    pools: BTreeMap<Uuid, Arc<PoolEntry>>,
}

impl Registry {
    pub(crate) fn by_uuid(&self, uuid: &Uuid) -> Option<Arc<PoolEntry>> {
        self.pools.get(uuid).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<PoolEntry>> {
        self.pools.values().find(|pool| pool.name().as_str() == name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<PoolEntry>> {
        self.pools.values().cloned().collect()
    }

    pub(crate) fn insert(&mut self, pool: Arc<PoolEntry>) {
        self.pools.insert(pool.uuid(), pool);
    }

    pub(crate) fn remove(&mut self, uuid: &Uuid) {
        self.pools.remove(uuid);
    }

    /// Forgets this pool, if it is there for its activity alone and is not active.
    pub(crate) fn forget_transient(&mut self, pool: &Arc<PoolEntry>) {
        let is_over = pool.with(|state| !state.persistent && state.run == PoolRun::Inactive);
        if is_over && self.pools.get(&pool.uuid()).is_some_and(|known| Arc::ptr_eq(known, pool)) {
            self.pools.remove(&pool.uuid());
        }
    }

    /// The pool that this definition is for, if it is there already. Refuses a definition whose name, UUID or source
    /// belongs to another pool.
    pub(crate) fn admit(&self, def: &PoolDef) -> Result<Option<Arc<PoolEntry>>> {
        for other in self.pools.values() {
            let same_source = other.name() != &def.name && other.with(|state| conflicts(&state.def, def));
            if same_source {
                return Err(Error::new(
                    Code::OperationFailed,
                    format!("Storage source conflict with pool: '{}'", other.name()),
                ));
            }
        }
        if let Some(known) = self.pools.get(&def.uuid) {
            if known.name() != &def.name {
                return Err(Error::new(
                    Code::OperationFailed,
                    format!("pool '{}' is already defined with uuid {}", known.name(), known.uuid()),
                ));
            }
            return Ok(Some(Arc::clone(known)));
        }
        if let Some(known) = self.by_name(def.name.as_str()) {
            return Err(Error::new(
                Code::OperationFailed,
                format!("pool '{}' already exists with uuid {}", def.name, known.uuid()),
            ));
        }
        Ok(None)
    }
}

/// True if a pool `a` that is there and a new one `b` would use the same storage.
fn conflicts(a: &PoolDef, b: &PoolDef) -> bool {
    use PoolKind::{Dir, Disk, Fs, Gluster, Iscsi, Logical, Mpath, NetFs, Scsi, Sheepdog, Vstorage, Zfs};
    match (a.kind, b.kind) {
        (Dir, Dir) => a.target_path() == b.target_path(),
        (Gluster, Gluster) => {
            same_host(&a.source, &b.source) && a.source.name == b.source.name && a.source.dir == b.source.dir
        }
        (NetFs, NetFs) => same_host(&a.source, &b.source) && a.source.dir == b.source.dir,
        (Scsi, Scsi) => same_adapter(&a.source, &b.source),
        // A target has one name on all of its servers.
        (Iscsi, Iscsi) => same_device(&a.source, &b.source) && a.source.initiator == b.source.initiator,
        (Fs | Logical | Disk | Zfs, Fs | Logical | Disk | Zfs) => same_device(&a.source, &b.source),
        (Sheepdog, Sheepdog) => same_host(&a.source, &b.source),
        // There is one set of multipath devices.
        (Mpath, Mpath) => true,
        (Vstorage, Vstorage) => a.source.name == b.source.name,
        _ => false,
    }
}

/// True if each has one server, and it is the same. A new definition without a port means any.
fn same_host(a: &Source, b: &Source) -> bool {
    match (a.hosts.as_slice(), b.hosts.as_slice()) {
        ([a], [b]) => a.name == b.name && (b.port.is_none() || a.port == b.port),
        _ => false,
    }
}

fn same_device(a: &Source, b: &Source) -> bool {
    a.devices.iter().any(|device| b.devices.iter().any(|other| other.path == device.path))
}

fn same_adapter(a: &Source, b: &Source) -> bool {
    match (&a.adapter, &b.adapter) {
        (Some(Adapter::FcHost(a)), Some(Adapter::FcHost(b))) => a.wwnn == b.wwnn && a.wwpn == b.wwpn,
        (Some(Adapter::ScsiHost(a)), Some(Adapter::ScsiHost(b))) => host_number(a) == host_number(b),
        (a, b) => a.is_some() && a == b,
    }
}

/// `scsi_host3` and `host3` are the same.
fn host_number(name: &str) -> &str {
    name.trim_start_matches("scsi_").trim_start_matches("host")
}
