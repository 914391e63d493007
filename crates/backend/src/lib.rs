//! Storage technologies.
//!
//! A [`Driver`] is a type of pool; the table [`drivers`] lists those that there are. A driver opens a [`Pool`] for a
//! definition, and what the pool can do is what it returns: [`Construction`], [`Volumes`], [`Content`]. What several
//! types have in common lives in a family: [`directory`] for those whose volumes are files in
//! a directory, `mount` for those of them that mount it, and `block` for those whose volumes are devices.

#![warn(missing_docs)]

mod block;
mod chap;
mod content;
mod dir;
pub mod directory;
pub mod disk;
mod error;
mod fs;
mod gluster;
mod images;
pub mod iscsi;
pub mod iscsi_direct;
pub mod logical;
mod mount;
mod mpath;
pub mod needs;
pub mod netfs;
mod permissions;
mod pieces;
mod qemu_img;
pub mod rbd;
mod scsi;
mod secrets;
mod servers;
pub mod sheepdog;
mod vstorage;
mod waiting;
pub mod zfs;

pub use secrets::{NoSecrets, Secrets, no_secret};

use cenote_host::{Host, Unsynced};
use cenote_image::copy::Sharing;
use cenote_model::flags::{CreateOptions, Overwrite, WipeAlgorithm};
use cenote_model::permissions::Permissions;
use cenote_model::pool::Usage;
use cenote_model::source::{FreeExtent, Source};
use cenote_model::{Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A type of pool.
pub struct Driver {
    /// Which.
    pub kind: PoolKind,
    /// Whether it works on this machine, with what is installed now.
    pub is_supported: fn(&Host) -> bool,
    /// Opens a pool of this type.
    pub open: fn(&PoolDef, &Environment) -> Result<Box<dyn Pool>>,
    /// Looks for storage that could be a pool of this type; `None` where there is no way to look.
    pub find_sources: Option<FindSources>,
}

/// Looks for sources; the question names a server where the type has any.
pub type FindSources = fn(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>>;

/// What backends use.
#[derive(Clone)]
pub struct Environment {
    /// The machine.
    pub host: Host,
    /// Where passphrases come from.
    pub secrets: Arc<dyn Secrets>,
    /// New volumes, and new content, that are not on their medium yet.
    pub unsynced: Arc<Unsynced>,
}

/// All types of pool that there are, one line each.
pub fn drivers() -> &'static [Driver] {
    &[
        dir::DRIVER,
        fs::DRIVER,
        netfs::DRIVER,
        logical::DRIVER,
        disk::DRIVER,
        gluster::DRIVER,
        iscsi::DRIVER,
        iscsi_direct::DRIVER,
        scsi::DRIVER,
        mpath::DRIVER,
        rbd::DRIVER,
        sheepdog::DRIVER,
        zfs::DRIVER,
        vstorage::DRIVER,
    ]
}

/// The driver of this type, if there is one.
pub fn driver(kind: PoolKind) -> Option<&'static Driver> {
    drivers().iter().find(|driver| driver.kind == kind)
}

/// What a refresh finds out about the pool itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How full it is.
    pub usage: Usage,
    /// What its target has, where it has one.
    pub permissions: Option<Permissions>,
    /// What is free on its device, where that is known.
    pub free_extents: Vec<FreeExtent>,
}

/// What an earlier scan found: what has not changed since need not be read again.
#[derive(Clone, Copy)]
pub struct Earlier<'e> {
    /// When that scan began.
    pub began: SystemTime,
    /// What is known of the volume of a name.
    pub volume: &'e (dyn Fn(&Name) -> Option<Arc<VolumeDef>> + Sync),
    /// All that are known.
    pub volumes: &'e (dyn Fn() -> Vec<Arc<VolumeDef>> + Sync),
}

impl Found {
    /// That alone is known.
    pub(crate) fn of(usage: Usage) -> Found {
        Found { usage, permissions: None, free_extents: Vec::new() }
    }
}

/// An open pool. No call changes the value: a pool's state is on the host.
pub trait Pool: Send + Sync {
    /// Whether the host has it active.
    fn is_active(&self) -> Result<bool>;

    /// The definition with what it leaves open, as it has to be remembered while the pool is active. It is asked for before
    /// the pool starts; `None` if there is nothing to fill in.
    fn resolve(&self) -> Result<Option<PoolDef>> {
        Ok(None)
    }

    /// Makes it active.
    fn start(&self, job: &Job) -> Result<()>;

    /// Makes it inactive.
    fn stop(&self, job: &Job) -> Result<()>;

    /// Has the machine look for storage that it does not know yet. It may take long, and is done when somebody asks for a
    /// refresh.
    fn discover(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    /// Finds its volumes, one by one, in no order.
    fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found>;

    /// How full it is, without looking at the volumes.
    fn measure(&self) -> Result<Found>;

    /// Making and removing the storage itself.
    fn construction(&self) -> Option<&dyn Construction> {
        None
    }

    /// Making and removing volumes.
    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }

    /// What is in the volumes.
    fn content(&self) -> Option<&dyn Content> {
        None
    }

    /// Begins to watch for what others change. `None` where there is no way to be told.
    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        Ok(None)
    }
}

/// Being told of what changes in a pool's storage, whoever changes it: of files by inotify, of devices by udev.
pub trait Watch: Send {
    /// Waits for the next change, at most so long.
    fn next(&mut self, within: Duration) -> Option<Noticed>;
}

/// What has changed in a pool's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// Something about the volume of this name, or the name itself.
    Volume(Name),
    /// More than can be told one by one.
    Anything,
    /// There is nothing to watch any more: the storage has been taken away.
    Gone,
}

/// Making and removing a pool's storage.
pub trait Construction {
    /// Makes it.
    fn build(&self, overwrite: Overwrite, job: &Job) -> Result<()>;

    /// Removes it.
    fn delete(&self, job: &Job) -> Result<()>;
}

/// Making, changing and removing volumes.
pub trait Volumes {
    /// Refuses a new volume that cannot be made, before anything is done, and gives it its key and path.
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef>;

    /// Makes an empty volume that was planned.
    fn create(&self, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()>;

    /// Makes a volume that was planned, with the content of another, which is in the same pool or has a path on this machine.
    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        options: CreateOptions,
        job: &Job,
    ) -> Result<()>;

    /// The volume of this name as it is now; `None` if there is none.
    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>>;

    /// A volume that is known, as it is now, as far as that is quickly found out; `None` if it is gone.
    fn look(&self, known: &VolumeDef) -> Result<Option<VolumeDef>> {
        self.probe(&known.name)
    }

    /// Sets the capacity.
    fn resize(&self, volume: &VolumeDef, capacity: u64, growth: Growth, job: &Job) -> Result<()>;

    /// Removes what the storage itself keeps of the volume as it was earlier, before the volume is removed.
    fn delete_snapshots(&self, _volume: &VolumeDef, _job: &Job) -> Result<()> {
        Ok(())
    }

    /// Removes the volume. What is gone already is no error.
    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()>;

    /// Whether making, changing or removing one volume changes others.
    fn change_together(&self) -> bool {
        false
    }
}

/// What is done for the new part of a volume that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Nothing until it is written.
    Sparse,
    /// It is allocated.
    Allocated,
}

/// The bytes of a volume.
pub trait Content {
    /// Opens them.
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>>;

    /// Overwrites them.
    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()>;
}

/// What opened bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// The bytes of a volume, open.
pub trait VolumeIo: Send {
    /// The size.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes; none at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data`.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeroes, without taking space where that is possible.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;

    /// The next range with data from `offset` on; `None` if only a hole is left.
    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>>;

    /// All is written: it gets to the medium now, or with the environment's next flush.
    fn finish(&self) -> io::Result<()>;
}

/// How blocks are shared when a volume is made from another.
fn sharing(options: CreateOptions) -> Sharing {
    if options.reflink { Sharing::Required } else { Sharing::IfPossible }
}
