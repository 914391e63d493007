//! `logical`: a volume group of LVM. All is done by lvm(8), which reports a whole group in one call.

mod plain;
pub mod report;

use crate::block::{self, Devices};
use crate::content::{self, local_path};
use crate::permissions::apply;
use crate::{
    Construction, Content, Driver, Earlier, Environment, Found, Growth, Pool, Volumes, Watch, error, needs,
    qemu_img, waiting,
};
use cenote_host::{Host, Undo};
use cenote_model::flags::{CreateOptions, Overwrite, WipeAlgorithm};
use cenote_model::format::VolumeFormat;
use cenote_model::permissions::Permissions;
use cenote_model::pool::Usage;
use cenote_model::source::Source;
use cenote_model::volume::{BackingStore, VolumeKind};
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use report::{Group, Kind, LogicalVolume};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Logical,
    is_supported: |host| needs::are_met(PoolKind::Logical, host),
    open,
    find_sources: Some(find_sources),
};

/// What blkid calls a device of a volume group.
const MEMBER: &str = "LVM2_member";
/// The mode of a volume where none is asked for.
const MODE: u32 = 0o600;

struct Logical {
    def: PoolDef,
    group: String,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let group = def.source.name.clone().unwrap_or_default();
    check_name("volume group", &group)?;
    let target = def.target_path().unwrap_or_default().to_owned();
    Ok(Box::new(Logical { def: def.clone(), group, target, environment: environment.clone() }))
}

fn find_sources(_question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    groups(&environment.host, &waiting::look("looking for volume groups"))
}

/// The volume groups of this machine, as sources for pools.
fn groups(host: &Host, job: &Job) -> Result<Vec<Source>> {
    let output = lvm(host, ["pvs", "--reportformat", "json", "-o", "pv_name,vg_name"], job)?;
    report::sources(&String::from_utf8_lossy(&output))
}

fn lvm<'a>(host: &Host, args: impl IntoIterator<Item = &'a str>, job: &Job) -> Result<Vec<u8>> {
    host.tool("lvm").map_err(error::tool)?.args(args).run(job).map_err(error::tool)
}

impl Logical {
    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>, job: &Job) -> Result<Vec<u8>> {
        lvm(&self.environment.host, args, job)
    }

    /// All of the group: as its devices have it, those of the definition and of volumes that are known, or as LVM tells it in
    /// one call.
    fn read(&self, known: &[Arc<VolumeDef>], job: &Job) -> Result<Group> {
        let named = self.def.source.devices.iter().map(|device| &device.path);
        let used = known.iter().flat_map(|volume| &volume.extents).map(|extent| &extent.device);
        let devices: BTreeSet<_> = named.chain(used).map(String::as_str).collect();
        if let Some(group) = plain::group(&self.group, &Vec::from_iter(devices)) {
            return Ok(group);
        }
        let output = self.run(report::ARGS.into_iter().chain([self.group.as_str()]), job)?;
        report::group(&String::from_utf8_lossy(&output))
    }

    /// As libvirt has it, the group must be there, with one of the pool's devices if it names any.
    fn find_group(&self, job: &Job) -> Result<()> {
        let sources = groups(&self.environment.host, job)?;
        let Some(found) = sources.iter().find(|source| source.name.as_deref() == Some(&self.group)) else {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!("cannot find logical volume group name '{}'", self.group),
            ));
        };
        let wanted = &self.def.source.devices;
        let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let is_one = |path: &str| found.devices.iter().any(|device| real(&device.path) == real(path));
        if wanted.is_empty() || wanted.iter().any(|device| is_one(&device.path)) {
            return Ok(());
        }
        Err(Error::new(
            Code::ConfigUnsupported,
            format!("cannot find any matching source devices for logical volume group '{}'", self.group),
        ))
    }

    /// The volume that a logical volume is, if it has a device.
    fn describe(&self, lv: &LogicalVolume) -> Result<Option<VolumeDef>> {
        if !lv.is_active {
            return Ok(None);
        }
        let Ok(name) = Name::volume(lv.name.as_str()) else { return Ok(None) };
        let mut volume = block::volume(name, format!("{}/{}", self.target, lv.name), lv.uuid.clone());
        let is_there = match lv.kind {
            // Its size is that of its store.
            Kind::Snapshot => block::describe(&mut volume)?,
            Kind::ThinPool => {
                volume.capacity = Some(lv.size);
                volume.format = Some(VolumeFormat::ThinPool);
                true
            }
            _ => block::describe_sized(&mut volume, lv.size)?,
        };
        if !is_there {
            return Ok(None);
        }
        volume.allocation = Some(lv.allocation());
        volume.extents.clone_from(&lv.extents);
        volume.backing = lv.origin.as_ref().map(|origin| BackingStore {
            path: format!("{}/{origin}", self.target),
            format: None,
            permissions: Default::default(),
            timestamps: None,
        });
        Ok(Some(volume))
    }

    /// `GROUP/VOLUME`, as lvm names it.
    fn name_of(&self, volume: &VolumeDef) -> String {
        format!("{}/{}", self.group, volume.name)
    }

    /// The logical volume of this name.
    fn find(&self, name: &str, job: &Job) -> Result<Option<LogicalVolume>> {
        Ok(self.read(&[], job)?.volumes.into_iter().find(|lv| lv.name == name))
    }

    /// With a thin pool its volumes would be lost.
    fn check_unused(&self, thin_pool: &VolumeDef, job: &Job) -> Result<()> {
        let volumes = self.read(&[], job)?.volumes;
        let name = thin_pool.name.as_str();
        let users: Vec<_> = volumes
            .iter()
            .filter(|lv| lv.pool.as_deref() == Some(name))
            .map(|lv| format!("'{}'", lv.name))
            .collect();
        match users.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                Code::OperationInvalid,
                format!(
                    "thin pool '{name}' has volumes, which have to be deleted first: {}",
                    users.join(", ")
                ),
            )),
        }
    }

    /// How lvm shall make the volume: a thin pool; whole; as a snapshot; or, if less than its capacity is to be allocated, in the
    /// group's thin pool, or where there is none with a store of that size for what is written.
    fn creation(&self, planned: &VolumeDef, job: &Job) -> Result<Vec<String>> {
        let header = block::header_of(planned);
        let capacity = planned.capacity.unwrap_or(0);
        let allocation = planned.allocation.unwrap_or(capacity);
        let whole = kibibytes(capacity.saturating_add(header));
        if is_thin_pool(planned) {
            return Ok(strings(["--type", "thin-pool", "-L", &whole, &self.group]));
        }
        if planned.backing.is_none() && allocation >= capacity {
            return Ok(strings(["-L", &whole, &self.group]));
        }
        let group = self.read(&[], job)?;
        let find = |name: &str| group.volumes.iter().find(|lv| lv.name == name);
        if let Some(backing) = &planned.backing {
            let origin =
                backing.path.strip_prefix(&format!("{}/", self.target)).and_then(find).ok_or_else(|| {
                    Error::new(
                        Code::InvalidArg,
                        format!("backing store '{}' is no volume of group '{}'", backing.path, self.group),
                    )
                })?;
            let origin_name = format!("{}/{}", self.group, origin.name);
            return Ok(match origin.kind {
                // Without -k n it would not be activated.
                Kind::Thin => strings(["--snapshot", "-k", "n", &origin_name]),
                _ => strings(["-L", &kibibytes(allocation.max(1)), "--snapshot", &origin_name]),
            });
        }
        match group
            .volumes
            .iter()
            .filter(|lv| lv.kind == Kind::ThinPool && lv.is_active)
            .max_by_key(|lv| lv.size)
        {
            Some(pool) => Ok(strings(["-V", &whole, "--thinpool", &format!("{}/{}", self.group, pool.name)])),
            None => {
                let store = kibibytes(allocation.max(1));
                Ok(strings(["-L", &store, "--type", "snapshot", "--virtualsize", &whole, &self.group]))
            }
        }
    }
}

impl Pool for Logical {
    fn is_active(&self) -> Result<bool> {
        match self.find_group(&waiting::look("looking for a volume group")) {
            Ok(()) => Ok(true),
            Err(error) if error.code == Code::ConfigUnsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn start(&self, job: &Job) -> Result<()> {
        self.find_group(job)?;
        self.run(["vgchange", "-aly", &self.group], job)?;
        block::settle(&self.environment, job);
        Ok(())
    }

    fn stop(&self, job: &Job) -> Result<()> {
        self.run(["vgchange", "-aln", &self.group], job).map(drop)
    }

    fn scan(
        &self,
        earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let known = earlier.map(|earlier| (earlier.volumes)()).unwrap_or_default();
        let group = self.read(&known, job)?;
        for lv in &group.volumes {
            if let Some(volume) = self.describe(lv)? {
                found(Arc::new(volume));
            }
            job.advance(1)?;
        }
        Ok(usage(&group))
    }

    fn measure(&self) -> Result<Found> {
        Ok(usage(&self.read(&[], &waiting::look("measuring a volume group"))?))
    }

    fn construction(&self) -> Option<&dyn Construction> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(self)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        let devices = format!("{}/", self.target);
        block::watch::watch(move |event| block::watch::is_named(event, &devices))
    }
}

impl Construction for Logical {
    fn build(&self, overwrite: Overwrite, job: &Job) -> Result<()> {
        let devices: Vec<_> = self.def.source.devices.iter().map(|device| device.path.as_str()).collect();
        if devices.is_empty() {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!(
                    "pool '{}' names no source device to make volume group '{}' of",
                    self.def.name, self.group
                ),
            ));
        }
        block::check_all_empty(&self.environment, &devices, MEMBER, overwrite, job)?;
        let mut undo = Undo::new();
        for &device in &devices {
            block::erase(&self.environment, device, job)?;
            self.run(["pvcreate", "--yes", device], job)?;
            undo.push(move || {
                drop(self.run(["pvremove", "--yes", device], &waiting::look("undoing a build")))
            });
        }
        self.run(["vgcreate", &self.group].into_iter().chain(devices.iter().copied()), job)?;
        undo.disarm();
        Ok(())
    }

    fn delete(&self, job: &Job) -> Result<()> {
        let devices = self.read(&[], job)?.devices;
        self.run(["vgremove", "--force", "--yes", &self.group], job)?;
        for device in devices {
            self.run(["pvremove", "--yes", &device], job)?;
        }
        Ok(())
    }
}

impl Volumes for Logical {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        check_name("volume", wanted.name.as_str())?;
        if is_thin_pool(&wanted) && (wanted.encryption.is_some() || wanted.backing.is_some()) {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!("thin pool '{}' can have neither encryption nor a backing store", wanted.name),
            ));
        }
        if wanted.encryption.is_some() {
            qemu_img::check(&VolumeDef { backing: None, ..wanted.clone() }, CreateOptions::default())?;
        }
        let path = format!("{}/{}", self.target, wanted.name);
        Ok(VolumeDef { kind: VolumeKind::Block, key: Some(path.clone()), path: Some(path), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
        let mut args = strings(["lvcreate", "--yes", "--name", planned.name.as_str()]);
        args.extend(self.creation(planned, job)?);
        self.run(args.iter().map(String::as_str), job)?;
        if is_thin_pool(planned) {
            return Ok(());
        }
        let mut undo = Undo::new();
        undo.push(|| drop(Volumes::delete(self, planned, &waiting::look("undoing a creation"))));
        let path = local_path(planned)?;
        block::wait_for(&self.environment, path, job)?;
        if planned.encryption.is_some() {
            let capacity = planned.capacity.unwrap_or(0);
            qemu_img::create(&self.environment, planned, Path::new(path), capacity, options, job)?;
        }
        // Who makes the volume decides who may use it, and not udev's rules.
        let permissions =
            Permissions { mode: planned.permissions.mode.or(Some(MODE)), ..planned.permissions.clone() };
        apply(Path::new(path), &permissions)?;
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
        check_device(source)?;
        check_device(planned)?;
        let no_sharing = "a logical volume cannot share the blocks of another one: leave out --reflink";
        block::create_from(self, &self.environment, (planned, source), options, no_sharing, job)
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        match self.find(name.as_str(), &waiting::look("looking at a logical volume"))? {
            Some(lv) => self.describe(&lv),
            None => Ok(None),
        }
    }

    fn look(&self, known: &VolumeDef) -> Result<Option<VolumeDef>> {
        match is_thin_pool(known) {
            true => self.probe(&known.name),
            false => block::look_at(known),
        }
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let size = kibibytes(capacity.saturating_add(block::header_of(volume)));
        let name = self.name_of(volume);
        let args = ["lvresize", "--force", "--yes", "-L", &size, &name];
        self.run(args, job).map(drop)
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        if is_thin_pool(volume) {
            self.check_unused(volume, job)?;
        }
        let name = self.name_of(volume);
        let remove = || self.run(["lvremove", "--force", "--yes", &name], job).map(drop);
        let is_there = || Ok(self.find(volume.name.as_str(), job)?.is_some());
        block::remove(&self.environment, remove, is_there, job)
    }
}

impl Content for Logical {
    fn open(&self, volume: &VolumeDef, access: crate::Access) -> Result<Box<dyn crate::VolumeIo>> {
        check_device(volume)?;
        Devices.open(volume, access)
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        check_device(volume)?;
        let lv = self.find(volume.name.as_str(), job)?;
        match (lv.map(|lv| lv.kind), algorithm) {
            // Overwriting it would fill its store, and then it is lost.
            (Some(Kind::Snapshot), _) => Err(Error::new(
                Code::NoSupport,
                format!("logical volume '{}' is sparse, volume wipe not supported", local_path(volume)?),
            )),
            // What a thin volume gives back to its pool reads as zeroes.
            (Some(Kind::Thin), WipeAlgorithm::Zero | WipeAlgorithm::Trim) => {
                content::discard(&self.environment, local_path(volume)?, job)
            }
            _ => Devices.wipe(volume, algorithm, job),
        }
    }
}

fn usage(group: &Group) -> Found {
    let usage = Usage {
        capacity: group.size,
        allocation: group.size.saturating_sub(group.free),
        available: group.free,
    };
    Found::of(usage)
}

/// LVM's own rule (lvm(8)), without which a name could pass for an option.
fn check_name(what: &str, name: &str) -> Result<()> {
    let is_good = !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+_.-".contains(&c));
    match is_good {
        true => Ok(()),
        false => Err(Error::new(
            Code::InvalidArg,
            format!(
                "LVM allows no {what} named '{name}': letters, digits, '+', '_', '.' and '-' are allowed, '-' not first"
            ),
        )),
    }
}

fn is_thin_pool(volume: &VolumeDef) -> bool {
    volume.format == Some(VolumeFormat::ThinPool)
}

/// Refuses what needs the bytes of a thin pool, which is no device.
fn check_device(volume: &VolumeDef) -> Result<()> {
    match is_thin_pool(volume) {
        true => Err(Error::new(
            Code::NoSupport,
            format!(
                "'{}' is a thin pool: it has no content of its own, only its thin volumes have",
                volume.name
            ),
        )),
        false => Ok(()),
    }
}

fn kibibytes(bytes: u64) -> String {
    format!("{}K", bytes.div_ceil(1024))
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.into_iter().map(str::to_owned).collect()
}
