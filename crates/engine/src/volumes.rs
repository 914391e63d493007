//! Volumes: looking up, making, changing, removing.

use crate::pool::{Knowledge, PoolEntry, PoolRun, Use, Volume};
use crate::visits::{Purpose, Visit};
use crate::{Engine, across};
use cenote_backend::{Content, Growth, Pool, Volumes};
use cenote_host::Undo;
use cenote_model::event::VolumeChange;
use cenote_model::flags::{CreateOptions, DeleteOptions, ResizeOptions, WipeAlgorithm};
use cenote_model::pool::sanitize_path;
use cenote_model::volume::{CapacityRule, VolumeKind};
use cenote_model::{Code, Error, Job, Name, PoolRef, Result, VolumeDef, VolumeRef};
use std::path::Path;
use std::sync::Arc;

/// What `vol-info` tells; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// What it is on this machine.
    pub kind: VolumeKind,
    /// The size that a guest sees.
    pub capacity: u64,
    /// What it takes from the pool.
    pub allocation: u64,
    /// Up to its last byte on the host.
    pub physical: u64,
}

impl VolumeInfo {
    /// The sizes in a definition.
    pub fn of(def: &VolumeDef) -> VolumeInfo {
        let capacity = def.capacity.unwrap_or(0);
        VolumeInfo {
            kind: def.kind,
            capacity,
            allocation: def.allocation.unwrap_or(capacity),
            physical: def.physical.unwrap_or(0),
        }
    }
}

impl Engine {
    /// The volumes of an active pool, by name.
    pub fn volumes(&self, pool: &PoolRef) -> Result<Vec<VolumeRef>> {
        let entry = self.entry(pool)?;
        entry.active()?;
        self.know(&entry, Knowledge::Scanned)?;
        Ok(entry.with(|state| state.volumes.values().map(|volume| reference(&entry, &volume.def)).collect()))
    }

    /// The volumes of an active pool with all that is known of them.
    pub fn volume_defs(&self, pool: &PoolRef) -> Result<Vec<Arc<VolumeDef>>> {
        let entry = self.entry(pool)?;
        entry.active()?;
        self.know(&entry, Knowledge::Scanned)?;
        Ok(entry.with(|state| state.volumes.values().map(|volume| Arc::clone(&volume.def)).collect()))
    }

    /// The volume of this name. One that is not known yet is looked for.
    pub fn volume_by_name(&self, pool: &PoolRef, name: &str) -> Result<VolumeRef> {
        let entry = self.entry(pool)?;
        entry.active()?;
        let found = self.find(&entry, name)?.ok_or_else(|| no_such_name(name))?;
        Ok(reference(&entry, &found.def))
    }

    /// The volume with this key, in any active pool.
    pub fn volume_by_key(&self, key: &str) -> Result<VolumeRef> {
        let by_key = |def: &VolumeDef| def.key.as_deref() == Some(key);
        self.find_anywhere(Path::new(key), by_key)
            .ok_or_else(|| Error::new(Code::NoStorageVol, format!("no storage vol with matching key {key}")))
    }

    /// The volume at this path, in any active pool.
    pub fn volume_by_path(&self, path: &str) -> Result<VolumeRef> {
        let clean = sanitize_path(path);
        // A device has several names.
        let device =
            Path::new(&clean).starts_with("/dev").then(|| std::fs::canonicalize(&clean).ok()).flatten();
        let by_path = |def: &VolumeDef| {
            let Some(path) = def.path.as_deref() else { return false };
            path == clean
                || (def.kind == VolumeKind::Block
                    && device.is_some()
                    && std::fs::canonicalize(path).ok() == device)
        };
        self.find_anywhere(Path::new(&clean), by_path).ok_or_else(|| {
            let also = if clean == path { String::new() } else { format!(" ({clean})") };
            Error::new(Code::NoStorageVol, format!("no storage vol with matching path '{path}'{also}"))
        })
    }

    /// The pool that a volume is in.
    pub fn pool_of_volume(&self, volume: &VolumeRef) -> Result<PoolRef> {
        self.pool_by_name(volume.pool.as_str())
    }

    /// All that is known of a volume, looked at anew; or as it was, if its storage does not answer for now.
    pub fn volume(&self, volume: &VolumeRef) -> Result<Arc<VolumeDef>> {
        let entry = self.entry_of(volume)?;
        entry.active()?;
        let known =
            self.find(&entry, volume.name.as_str())?.ok_or_else(|| no_such_name(volume.name.as_str()))?;
        if known.used == Use::Building {
            return Ok(known.def);
        }
        let visit = match entry.visit(Purpose::Look) {
            Err(error) if error.code == Code::OperationTimeout => return Ok(known.def),
            visit => visit?,
        };
        let Some(volumes) = visit.volumes() else { return Ok(known.def) };
        let seen = self.look_with(&entry, &volume.name, || volumes.look(&known.def))?;
        seen.ok_or_else(|| {
            let path = known.def.path.as_deref().unwrap_or_default();
            Error::new(Code::NoStorageVol, format!("no storage vol with matching path '{path}'"))
        })
    }

    /// The sizes of a volume.
    pub fn volume_info(&self, volume: &VolumeRef) -> Result<VolumeInfo> {
        Ok(VolumeInfo::of(&*self.volume(volume)?))
    }

    /// The `<volume>` document.
    pub fn volume_xml(&self, volume: &VolumeRef) -> Result<String> {
        Ok(self.volume(volume)?.to_xml())
    }

    /// Makes a volume.
    pub fn create_volume(&self, pool: &PoolRef, xml: &str, options: CreateOptions) -> Result<VolumeRef> {
        let entry = self.entry(pool)?;
        let visit = entry.visit(Purpose::Work)?;
        let kind = entry.with(|state| state.def.kind);
        let wanted = VolumeDef::from_xml(xml, kind, CapacityRule::UnlessBacked, options.validate)?;
        if self.find(&entry, wanted.name.as_str())?.is_some() {
            return Err(Error::new(Code::StorageVolExist, format!("'{}'", wanted.name)));
        }
        let volumes = volumes_of(&*visit, "storage pool does not support volume creation")?;
        let planned = volumes.plan(wanted)?;
        let job = visit.job(&self.jobs, format!("creating volume '{}'", planned.name))?;
        let made =
            self.make(&entry, volumes, planned, &job, |planned| volumes.create(planned, options, &job))?;
        self.look_at_others(&entry, &visit, volumes);
        Ok(made)
    }

    /// Makes a volume with the content of another, which may be in another pool.
    pub fn create_volume_from(
        &self,
        pool: &PoolRef,
        xml: &str,
        source: &VolumeRef,
        options: CreateOptions,
    ) -> Result<VolumeRef> {
        let entry = self.entry(pool)?;
        let visit = entry.visit(Purpose::Work)?;
        let kind = entry.with(|state| state.def.kind);
        let source_entry = self.entry_of(source)?;
        let source_visit = source_entry.visit(Purpose::Work)?;
        let source_def = self.volume(source)?;
        let mut wanted = VolumeDef::from_xml(xml, kind, CapacityRule::Optional, options.validate)?;
        if self.find(&entry, wanted.name.as_str())?.is_some() {
            return Err(Error::new(
                Code::Internal,
                format!("storage volume name '{}' already in use.", wanted.name),
            ));
        }
        wanted.capacity = wanted.capacity.max(source_def.capacity);
        let refusal = "storage pool does not support volume creation from an existing volume";
        let volumes = volumes_of(&*visit, refusal)?;
        let planned = volumes.plan(wanted)?;
        let _busy = Busy::shared(&source_entry, &source.name)?;
        let job = visit.job(&self.jobs, format!("copying volume '{}' to '{}'", source.name, planned.name))?;
        source_visit.goes_on(&job);
        let made = self.make(&entry, volumes, planned, &job, |planned| {
            // A backend copies in its own pool as it can, and what has a path here.
            if entry.uuid() == source_entry.uuid() || !across::is_needed(&source_def, planned) {
                return volumes.create_from(planned, &source_def, options, &job);
            }
            let refusal = "storage pool does not support volume creation from one of another pool";
            let (content, source_content) =
                (content_of(&*visit, refusal)?, content_of(&*source_visit, refusal)?);
            across::create_from((volumes, content, planned), (source_content, &source_def), options, &job)
        })?;
        self.look_at_others(&entry, &visit, volumes);
        Ok(made)
    }

    /// Sets the capacity of a volume.
    pub fn resize_volume(&self, volume: &VolumeRef, size: u64, options: ResizeOptions) -> Result<()> {
        let (entry, visit) = self.at(volume)?;
        let refusal = "storage pool does not support changing of volume capacity";
        let volumes = volumes_of(&*visit, refusal)?;
        let def = self.volume(volume)?;
        let _busy = self.claim(&entry, &visit, &def)?;
        let now = def.capacity.unwrap_or(0);
        let allocation = def.allocation.unwrap_or(now);
        let capacity = match (options.delta, options.shrink) {
            (false, _) => Some(size),
            (true, true) => Some(now.saturating_sub(size)),
            (true, false) => now.checked_add(size),
        };
        let capacity = capacity
            .filter(|capacity| *capacity <= cenote_model::units::MAX_CAPACITY)
            .ok_or_else(|| Error::new(Code::Overflow, format!("value too large: {size}")))?;
        if capacity < allocation.min(now) {
            return Err(Error::new(Code::InvalidArg, "can't shrink capacity below existing allocation"));
        }
        if capacity < now && !options.shrink {
            return Err(Error::new(
                Code::InvalidArg,
                "Can't shrink capacity below current capacity unless shrink flag explicitly specified",
            ));
        }
        if options.allocate {
            self.know(&entry, Knowledge::Measured)?;
            if capacity - allocation > entry.with(|state| state.def.usage.available) {
                return Err(Error::new(Code::OperationFailed, "Not enough space left in storage pool"));
            }
        }
        let job = visit.job(&self.jobs, format!("resizing volume '{}'", volume.name))?;
        let growth = if options.allocate { Growth::Allocated } else { Growth::Sparse };
        let resized = volumes.resize(&def, capacity, growth, &job);
        self.look_again(&entry, volumes, &volume.name)?;
        self.look_at_others(&entry, &visit, volumes);
        self.tell(&entry, &volume.name, VolumeChange::Changed);
        resized
    }

    /// Removes a volume.
    pub fn delete_volume(&self, volume: &VolumeRef, options: DeleteOptions) -> Result<()> {
        let (entry, visit) = self.at(volume)?;
        let volumes = volumes_of(&*visit, "storage pool does not support vol deletion")?;
        let known =
            self.find(&entry, volume.name.as_str())?.ok_or_else(|| no_such_name(volume.name.as_str()))?;
        let busy = self.claim(&entry, &visit, &known.def)?;
        let job = visit.job(&self.jobs, format!("deleting volume '{}'", volume.name))?;
        if options.zeroed {
            content_of(&*visit, "storage pool doesn't support volume wiping")?.wipe(
                &known.def,
                WipeAlgorithm::Zero,
                &job,
            )?;
        }
        if options.with_snapshots {
            volumes.delete_snapshots(&known.def, &job)?;
        }
        volumes.delete(&known.def, &job)?;
        drop(busy);
        entry.unsynced().forget(Path::new(known.def.path.as_deref().unwrap_or_default()));
        let freed = known.def.allocation.unwrap_or(0);
        entry.change(|state| {
            state.publish(&volume.name, None);
            let usage = &mut state.def.usage;
            usage.allocation = usage.allocation.saturating_sub(freed);
            usage.available = usage.available.saturating_add(freed).min(usage.capacity);
        });
        self.tell(&entry, &volume.name, VolumeChange::Removed);
        // Snapshots may have been volumes, and what were clones of them have become larger.
        match options.with_snapshots {
            true => drop(self.scan(&entry, &visit)),
            false => self.look_at_others(&entry, &visit, volumes),
        }
        Ok(())
    }

    /// Finds out what became of other volumes when one was changed. What fails here is found out by the next refresh.
    fn look_at_others(&self, entry: &PoolEntry, visit: &Visit, volumes: &dyn Volumes) {
        if volumes.change_together() {
            let _ = self.scan(entry, visit);
        }
    }

    /// Takes a volume for itself, to give up what is in it: what was copied from it is on its medium by then.
    pub(crate) fn claim(&self, entry: &Arc<PoolEntry>, visit: &Visit, def: &VolumeDef) -> Result<Busy> {
        let busy = Busy::alone(entry, &def.name)?;
        let path = Path::new(def.path.as_deref().unwrap_or_default());
        // A copy may be in any pool.
        for pool in self.registry().all().iter().filter(|pool| pool.unsynced().has_copies_of(path)) {
            let job = visit.job(&self.jobs, format!("syncing what was copied from volume '{}'", def.name))?;
            pool.unsynced().settle(path, || job.alive()).map_err(|e| {
                Error::system(format!("cannot sync what was copied from volume '{}'", def.name), &e)
            })?;
        }
        Ok(busy)
    }

    /// Overwrites the data of a volume.
    pub fn wipe_volume(&self, volume: &VolumeRef, algorithm: WipeAlgorithm) -> Result<()> {
        let (entry, visit) = self.at(volume)?;
        let content = content_of(&*visit, "storage pool doesn't support volume wiping")?;
        let def = self.volume(volume)?;
        let _busy = self.claim(&entry, &visit, &def)?;
        let job = visit.job(&self.jobs, format!("wiping volume '{}'", volume.name))?;
        let wiped = content.wipe(&def, algorithm, &job);
        if let Some(volumes) = visit.volumes() {
            self.look_again(&entry, volumes, &volume.name)?;
        }
        self.tell(&entry, &volume.name, VolumeChange::Changed);
        wiped
    }

    pub(crate) fn entry_of(&self, volume: &VolumeRef) -> Result<Arc<PoolEntry>> {
        self.entry_by_name(volume.pool.as_str())
    }

    /// Goes to the storage of the pool that a volume is in, which must be active.
    pub(crate) fn at(&self, volume: &VolumeRef) -> Result<(Arc<PoolEntry>, Visit)> {
        let entry = self.entry_of(volume)?;
        let visit = entry.visit(Purpose::Work)?;
        Ok((entry, visit))
    }

    /// The volume of this name, looked for if it is not known.
    fn find(&self, entry: &Arc<PoolEntry>, name: &str) -> Result<Option<Volume>> {
        if let Some(known) = entry.with(|state| state.volumes.get(name).cloned()) {
            return Ok(Some(known));
        }
        let Ok(name) = Name::volume(name) else { return Ok(None) };
        self.ask(entry);
        if !entry.with(|state| state.run == PoolRun::Active) {
            return Ok(None);
        }
        let visit = entry.visit(Purpose::Work)?;
        let Some(volumes) = visit.volumes() else {
            self.know(entry, Knowledge::Scanned)?;
            return Ok(entry.with(|state| state.volumes.get(&name).cloned()));
        };
        self.look_again(entry, volumes, &name)?;
        Ok(entry.with(|state| state.volumes.get(&name).cloned()))
    }

    fn find_anywhere(&self, path: &Path, is_meant: impl Fn(&VolumeDef) -> bool) -> Option<VolumeRef> {
        for entry in self.registry().all() {
            let known = entry.with(|state| {
                state.volumes.values().find(|volume| is_meant(&volume.def)).map(|volume| volume.def.clone())
            });
            if let Some(def) = known {
                return Some(reference(&entry, &def));
            }
        }
        // One that nobody has asked for yet is looked for in the pool that has it by its path. The names and keys of
        // devices may be anything.
        let place = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
        self.registry().all().iter().find_map(|entry| {
            let (kind, target) =
                entry.with(|state| (state.def.kind, state.def.target_path().map(str::to_owned)));
            let name = place.filter(|(folder, _)| target.as_deref().map(Path::new) == Some(*folder));
            let by_name = name.and_then(|(_, name)| self.find(entry, name).ok().flatten());
            if let Some(found) = by_name.filter(|found| is_meant(&found.def)) {
                return Some(reference(entry, &found.def));
            }
            if kind.has_files() || self.know(entry, Knowledge::Scanned).is_err() {
                return None;
            }
            entry.with(|state| {
                let found = state.volumes.values().find(|volume| is_meant(&volume.def));
                found.map(|found| reference(entry, &found.def))
            })
        })
    }

    /// Looks at a volume and publishes what there is.
    pub(crate) fn look_again(
        &self,
        entry: &PoolEntry,
        volumes: &dyn Volumes,
        name: &Name,
    ) -> Result<Option<Arc<VolumeDef>>> {
        self.look_with(entry, name, || volumes.probe(name))
    }

    fn look_with(
        &self,
        entry: &PoolEntry,
        name: &Name,
        look: impl FnOnce() -> Result<Option<VolumeDef>>,
    ) -> Result<Option<Arc<VolumeDef>>> {
        let looking = entry.look();
        let found = look()?;
        Ok(looking.publish(|state, newer| {
            // What is gone while somebody is at it stays, so that it is known that somebody is.
            let in_use = state.volumes.get(name).is_some_and(|known| known.used != Use::Idle);
            let is_kept =
                newer.contains(name) || state.run == PoolRun::Inactive || (found.is_none() && in_use);
            if !is_kept {
                state.publish(name, found);
            }
            state.volumes.get(name).map(|volume| Arc::clone(&volume.def))
        }))
    }

    /// Takes the name, makes the volume, publishes it. If that fails, there is no volume and the name is free again.
    fn make(
        &self,
        entry: &PoolEntry,
        volumes: &dyn Volumes,
        planned: VolumeDef,
        job: &Job,
        make: impl FnOnce(&VolumeDef) -> Result<()>,
    ) -> Result<VolumeRef> {
        let name = planned.name.clone();
        entry.change(|state| {
            entry.must_be_active(state)?;
            if state.volumes.contains_key(&name) {
                return Err(Error::new(Code::StorageVolExist, format!("'{name}'")));
            }
            state.publish(&name, Some(planned.clone()));
            if let Some(volume) = state.volumes.get_mut(&name) {
                volume.used = Use::Building;
            }
            Ok(())
        })?;
        let mut undo = Undo::new();
        undo.push(|| entry.change(|state| state.publish(&name, None)));
        make(&planned)?;
        undo.push(|| {
            let _ = volumes.delete(&planned, &Job::new(0, "undoing"));
            entry.unsynced().forget(Path::new(planned.path.as_deref().unwrap_or_default()));
        });
        let made = volumes.probe(&name)?.ok_or_else(|| {
            let path = planned.path.as_deref().unwrap_or_default();
            Error::new(Code::NoStorageVol, format!("no storage vol with matching path '{path}'"))
        })?;
        // Nobody may be waiting for it any more.
        job.check()?;
        undo.disarm();
        let made_ref = reference(entry, &made);
        entry.change(|state| {
            let taken = made.allocation.unwrap_or(0);
            let usage = &mut state.def.usage;
            usage.allocation = usage.allocation.saturating_add(taken).min(usage.capacity);
            usage.available = usage.available.saturating_sub(taken);
            if let Some(volume) = state.volumes.get_mut(&name) {
                volume.used = Use::Idle;
            }
            state.publish(&name, Some(made));
        });
        self.tell(entry, &name, VolumeChange::Added);
        Ok(made_ref)
    }
}

/// A volume that a job is at, until this is dropped.
pub(crate) struct Busy {
    entry: Arc<PoolEntry>,
    name: Name,
}

impl Busy {
    /// Others may be at it too.
    pub(crate) fn shared(entry: &Arc<PoolEntry>, name: &Name) -> Result<Busy> {
        Busy::take(entry, name, |_| Ok(()))
    }

    /// Nobody else may be at it.
    pub(crate) fn alone(entry: &Arc<PoolEntry>, name: &Name) -> Result<Busy> {
        Busy::take(entry, name, |others| match others {
            0 => Ok(()),
            _ => Err(Error::new(Code::OperationInvalid, format!("volume '{name}' is still in use."))),
        })
    }

    fn take(entry: &Arc<PoolEntry>, name: &Name, may: impl FnOnce(u32) -> Result<()>) -> Result<Busy> {
        entry.change(|state| {
            entry.must_be_active(state)?;
            let volume = state.volumes.get_mut(name).ok_or_else(|| no_such_name(name.as_str()))?;
            let others = match volume.used {
                Use::Building => {
                    return Err(Error::new(
                        Code::OperationInvalid,
                        format!("volume '{name}' is still being allocated."),
                    ));
                }
                Use::Idle => 0,
                Use::Busy(others) => others,
            };
            may(others)?;
            volume.used = Use::Busy(others + 1);
            Ok(())
        })?;
        Ok(Busy { entry: Arc::clone(entry), name: name.clone() })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.entry.change(|state| {
            if let Some(volume) = state.volumes.get_mut(&self.name) {
                volume.used = match volume.used {
                    Use::Busy(jobs) if jobs > 1 => Use::Busy(jobs - 1),
                    _ => Use::Idle,
                };
            }
        });
    }
}

pub(crate) fn volumes_of<'b>(backend: &'b dyn Pool, refusal: &str) -> Result<&'b dyn Volumes> {
    backend.volumes().ok_or_else(|| Error::new(Code::NoSupport, refusal))
}

pub(crate) fn content_of<'b>(backend: &'b dyn Pool, refusal: &str) -> Result<&'b dyn Content> {
    backend.content().ok_or_else(|| Error::new(Code::NoSupport, refusal))
}

pub(crate) fn no_such_name(name: &str) -> Error {
    Error::new(Code::NoStorageVol, format!("no storage vol with matching name '{name}'"))
}

fn reference(entry: &PoolEntry, def: &VolumeDef) -> VolumeRef {
    VolumeRef { pool: entry.name().clone(), name: def.name.clone(), key: def.key.clone().unwrap_or_default() }
}
