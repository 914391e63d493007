//! `zfs`: the zvols of a dataset, by zfs(8) and zpool(8). One `zfs list` tells all of it.

pub mod history;

use crate::block::{self, Devices};
use crate::content::local_path;
use crate::permissions::apply;
use crate::{
    Construction, Content, Driver, Earlier, Environment, Found, Growth, Pool, Volumes, Watch, error, needs,
    waiting,
};
use cenote_host::Undo;
use cenote_model::flags::{CreateOptions, Overwrite};
use cenote_model::pool::Usage;
use cenote_model::volume::{BackingStore, VolumeKind};
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Zfs,
    is_supported: |host| needs::are_met(PoolKind::Zfs, host),
    open,
    find_sources: None,
};

/// zfs's default of `volblocksize`, by whose multiples zvols are sized.
const BLOCK: u64 = 16 << 10;
/// What `zfs list` is asked for.
const COLUMNS: &str = "name,type,volsize,used,available,volblocksize,origin";

struct Zfs {
    def: PoolDef,
    dataset: String,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let dataset = def.source.name.clone().unwrap_or_default();
    check_name("dataset", &dataset)?;
    let target = def.target_path().unwrap_or_default().to_owned();
    Ok(Box::new(Zfs { def: def.clone(), dataset, target, environment: environment.clone() }))
}

/// Which zvols are asked about.
#[derive(Clone, Copy)]
enum Zvols {
    All,
    None,
}

/// What `zfs list -Hp` tells of a dataset and the zvols in it; sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// What the dataset takes, with all in it.
    pub used: u64,
    /// What can still be put into it.
    pub available: u64,
    /// The zvols right in it.
    pub zvols: Vec<Zvol>,
}

/// A zvol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zvol {
    /// The last part of its name.
    pub name: String,
    /// Its size.
    pub size: u64,
    /// What it takes of the pool: data, its snapshots, and what is reserved for it.
    pub used: u64,
    /// `volblocksize`
    pub block: Option<u64>,
    /// The snapshot that it is a clone of.
    pub origin: Option<String>,
}

impl Listing {
    /// Reads `zfs list -Hp -d 1 -t filesystem,volume -o name,type,volsize,used,available,volblocksize,origin DATASET`.
    pub fn parse(text: &str, dataset: &str) -> Result<Listing> {
        let malformed = |line: &str| Error::new(Code::Internal, format!("zfs list printed '{line}'"));
        let mut listing = None;
        let mut zvols = Vec::new();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, kind, size, used, available, block, origin] = fields[..] else {
                return Err(malformed(line));
            };
            let number = |text: &str| text.parse::<u64>().map_err(|_| malformed(line));
            if name == dataset {
                let (used, available) = (number(used)?, number(available)?);
                listing = Some(Listing { used, available, zvols: Vec::new() });
            } else if let Some(name) = name.strip_prefix(dataset).and_then(|name| name.strip_prefix('/'))
                && kind == "volume"
            {
                zvols.push(Zvol {
                    name: name.to_owned(),
                    size: number(size)?,
                    used: number(used)?,
                    block: block.parse().ok(),
                    origin: Some(origin).filter(|origin| *origin != "-").map(str::to_owned),
                });
            }
        }
        let listing = listing.ok_or_else(|| malformed("nothing of the dataset"))?;
        Ok(Listing { zvols, ..listing })
    }

    fn found(&self) -> Found {
        let usage = Usage {
            capacity: self.used.saturating_add(self.available),
            allocation: self.used,
            available: self.available,
        };
        Found::of(usage)
    }
}

impl Zfs {
    fn run<'a>(
        &self,
        tool: &'static str,
        args: impl IntoIterator<Item = &'a str>,
        job: &Job,
    ) -> Result<Vec<u8>> {
        self.environment.host.tool(tool).map_err(error::tool)?.args(args).run(job).map_err(error::tool)
    }

    fn zfs<'a>(&self, args: impl IntoIterator<Item = &'a str>, job: &Job) -> Result<Vec<u8>> {
        self.run("zfs", args, job)
    }

    fn zpool<'a>(&self, args: impl IntoIterator<Item = &'a str>, job: &Job) -> Result<Vec<u8>> {
        self.run("zpool", args, job)
    }

    /// The pool that the dataset is in.
    fn zpool_name(&self) -> &str {
        self.dataset.split('/').next().unwrap_or_default()
    }

    /// What ZFS tells of the dataset and of its zvols, or of none of them.
    fn list(&self, zvols: Zvols, job: &Job) -> Result<Listing> {
        let depth = match zvols {
            Zvols::All => "1",
            Zvols::None => "0",
        };
        let types = "filesystem,volume";
        let output =
            self.zfs(["list", "-Hp", "-d", depth, "-t", types, "-o", COLUMNS, &self.dataset], job)?;
        Listing::parse(&String::from_utf8_lossy(&output), &self.dataset)
    }

    /// The zvol of this name.
    fn find(&self, name: &str, job: &Job) -> Result<Option<Zvol>> {
        let zvol = format!("{}/{name}", self.dataset);
        match self.zfs(["list", "-Hp", "-t", "filesystem,volume", "-o", COLUMNS, &self.dataset, &zvol], job) {
            Ok(output) => {
                let listing = Listing::parse(&String::from_utf8_lossy(&output), &self.dataset)?;
                Ok(listing.zvols.into_iter().find(|zvol| zvol.name == name))
            }
            Err(error) if error.detail.contains(&format!("'{zvol}': dataset does not exist")) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is known of an earlier scan, if nothing has been written to the pool since. Asking ZFS about many zvols takes
    /// some milliseconds for each.
    fn still_known(&self, earlier: Option<Earlier<'_>>) -> Option<Vec<Arc<VolumeDef>>> {
        let earlier = earlier?;
        let history = format!("/proc/spl/kstat/zfs/{}/txgs", self.zpool_name());
        let history = std::fs::read_to_string(history).ok()?;
        let since = earlier.began.elapsed().ok()?;
        history::is_quiet(&history, history::now(), since).then(|| (earlier.volumes)())
    }

    fn has_dataset(&self, job: &Job) -> Result<bool> {
        let output = self.zfs(["list", "-H", "-t", "filesystem", "-o", "name"], job)?;
        Ok(String::from_utf8_lossy(&output).lines().any(|name| name == self.dataset))
    }

    fn describe(&self, zvol: &Zvol) -> Result<Option<VolumeDef>> {
        let Ok(name) = Name::volume(zvol.name.as_str()) else { return Ok(None) };
        let key = format!("{}/{}", self.dataset, zvol.name);
        let mut volume = block::volume(name, format!("{}/{}", self.target, zvol.name), key);
        // One whose device udev has not made yet, or does not make (volmode=none), is there all the same.
        block::describe_sized(&mut volume, zvol.size)?;
        volume.capacity = Some(zvol.size);
        volume.allocation = Some(zvol.used);
        volume.cluster_size = zvol.block;
        volume.backing = zvol.origin.as_ref().map(|origin| BackingStore {
            path: origin.clone(),
            format: None,
            permissions: Default::default(),
            timestamps: None,
        });
        Ok(Some(volume))
    }

    fn name_of(&self, volume: &VolumeDef) -> String {
        format!("{}/{}", self.dataset, volume.name)
    }
}

impl Pool for Zfs {
    fn is_active(&self) -> Result<bool> {
        self.has_dataset(&waiting::look("looking for a dataset"))
    }

    /// A pool that is exported is imported, as the machine's start does with those that it knows.
    fn start(&self, job: &Job) -> Result<()> {
        if self.has_dataset(job)? {
            return Ok(());
        }
        let imported = self.zpool(["import", self.zpool_name()], job);
        if self.has_dataset(job)? {
            block::settle(&self.environment, job);
            return Ok(());
        }
        let cause = imported.err().map_or(String::new(), |error| format!(": {}", error.detail));
        Err(Error::new(Code::ConfigUnsupported, format!("there is no dataset '{}'{cause}", self.dataset)))
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        if let Some(known) = self.still_known(earlier) {
            for volume in known {
                found(block::still(Arc::clone(&volume))?.unwrap_or(volume));
            }
            return self.measure();
        }
        let listing = self.list(Zvols::All, job)?;
        for zvol in &listing.zvols {
            if let Some(volume) = self.describe(zvol)? {
                found(Arc::new(volume));
            }
            job.advance(1)?;
        }
        Ok(listing.found())
    }

    fn measure(&self) -> Result<Found> {
        Ok(self.list(Zvols::None, &waiting::look("measuring a dataset"))?.found())
    }

    fn construction(&self) -> Option<&dyn Construction> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(&Devices)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        let devices = format!("{}/", self.target);
        block::watch::watch(move |event| block::watch::is_named(event, &devices))
    }
}

impl Construction for Zfs {
    fn build(&self, overwrite: Overwrite, job: &Job) -> Result<()> {
        if self.dataset.contains('/') {
            return self.zfs(["create", "-o", "mountpoint=none", &self.dataset], job).map(drop);
        }
        let devices: Vec<_> = self.def.source.devices.iter().map(|device| device.path.as_str()).collect();
        if devices.is_empty() {
            return Err(Error::new(Code::ConfigUnsupported, "missing source devices"));
        }
        block::check_all_empty(&self.environment, &devices, "zfs_member", overwrite, job)?;
        for device in &devices {
            block::erase(&self.environment, device, job)?;
        }
        let args = ["create", "-f", "-m", "none", &self.dataset];
        self.zpool(args.into_iter().chain(devices), job).map(drop)
    }

    fn delete(&self, job: &Job) -> Result<()> {
        match self.dataset.contains('/') {
            true => self.zfs(["destroy", "-r", &self.dataset], job).map(drop),
            false => self.zpool(["destroy", &self.dataset], job).map(drop),
        }
    }
}

impl Volumes for Zfs {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        check_name("volume", wanted.name.as_str())?;
        if wanted.encryption.is_some() {
            return Err(Error::new(
                Code::ConfigUnsupported,
                "storage pool does not support encrypted volumes",
            ));
        }
        if wanted.backing.is_some() {
            return Err(Error::new(Code::NoSupport, "backing storage not supported for zfs volumes"));
        }
        let path = format!("{}/{}", self.target, wanted.name);
        Ok(VolumeDef {
            kind: VolumeKind::Block,
            key: Some(self.name_of(&wanted)),
            path: Some(path),
            ..wanted
        })
    }

    fn create(&self, planned: &VolumeDef, _options: CreateOptions, job: &Job) -> Result<()> {
        let block = planned.cluster_size.unwrap_or(BLOCK).max(512);
        let capacity = planned.capacity.unwrap_or(0);
        let allocation = planned.allocation.unwrap_or(capacity);
        let mut args = vec!["create".to_owned()];
        if planned.cluster_size.is_some() {
            args.extend(["-b".to_owned(), block.to_string()]);
        }
        if allocation < capacity {
            args.push("-s".to_owned());
            if allocation > 0 {
                args.extend(["-o".to_owned(), format!("refreservation={allocation}")]);
            }
        }
        let size = capacity.checked_next_multiple_of(block).unwrap_or(capacity);
        args.extend(["-V".to_owned(), size.to_string(), self.name_of(planned)]);
        self.zfs(args.iter().map(String::as_str), job)?;
        let mut undo = Undo::new();
        undo.push(|| drop(Volumes::delete(self, planned, &waiting::look("undoing a creation"))));
        block::wait_for(&self.environment, local_path(planned)?, job)?;
        apply(Path::new(local_path(planned)?), &planned.permissions)?;
        undo.disarm();
        Ok(())
    }

    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        let no_sharing = "a zvol cannot share the blocks of another volume: leave out --reflink";
        block::create_from(self, &self.environment, (planned, source), options, no_sharing, job)
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        match self.find(name.as_str(), &waiting::look("looking at a zvol"))? {
            Some(zvol) => self.describe(&zvol),
            None => Ok(None),
        }
    }

    fn look(&self, known: &VolumeDef) -> Result<Option<VolumeDef>> {
        match block::look_at(known)? {
            Some(volume) => Ok(Some(volume)),
            None => self.probe(&known.name),
        }
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let block = volume.cluster_size.unwrap_or(BLOCK).max(512);
        let size = capacity.checked_next_multiple_of(block).unwrap_or(capacity);
        self.zfs(["set", &format!("volsize={size}"), &self.name_of(volume)], job).map(drop)
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let name = self.name_of(volume);
        let destroy = || self.zfs(["destroy", &name], job).map(drop);
        let is_there = || Ok(self.find(volume.name.as_str(), job)?.is_some());
        block::remove(&self.environment, destroy, is_there, job)
    }
}

/// ZFS's own rule (zfsconcepts(7)), without which a name could pass for an option or a snapshot.
fn check_name(what: &str, name: &str) -> Result<()> {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.: ".contains(&c))
    };
    match name.split('/').all(is_part) {
        true => Ok(()),
        false => Err(Error::new(
            Code::InvalidArg,
            format!(
                "ZFS allows no {what} named '{name}': letters, digits, '-', '_', '.' and ':' are allowed"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_with_zvols() {
        let listing = Listing::parse(include_str!("../../tests/golden/zfs-list"), "tank/images").unwrap();
        assert_eq!((listing.used, listing.available), (58287104, 109305344));
        let zvols: Vec<_> =
            listing.zvols.iter().map(|z| (z.name.as_str(), z.size, z.used, z.block)).collect();
        let block = Some(16384);
        assert_eq!(zvols, [("full", 33554432, 36188160, block), ("sparse", 1 << 30, 3175424, block)]);
        for text in ["", "tank", "tank\tfilesystem\t-\tx\t0\t-\t-"] {
            assert!(Listing::parse(text, "tank").is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_could_be_something_else_are_refused() {
        for name in ["-r", "tank/-r", "tank@now", "tank//x", "", "tank/"] {
            assert!(check_name("dataset", name).is_err(), "{name}");
        }
        assert!(check_name("dataset", "tank/some path.1:2_3-4").is_ok());
    }
}
