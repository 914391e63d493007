//! `disk`: a disk and its partitions. They are changed by parted(8), which tells the kernel too.

pub mod layout;

use crate::block::mapped::Mapped;
use crate::block::{self, Devices};
use crate::content::local_path;
use crate::permissions::apply;
use crate::{
    Access, Construction, Content, Driver, Earlier, Environment, Found, Growth, Pool, VolumeIo, Volumes,
    Watch, error, needs, qemu_img, waiting,
};
use cenote_host::{ToolError, Undo};
use cenote_image::partitions::{self, Partition, Purpose, Role};
use cenote_model::flags::{CreateOptions, Overwrite, WipeAlgorithm};
use cenote_model::format::{PartitionFormat, PartitionTable, SourceFormat, VolumeFormat};
use cenote_model::source::FreeExtent;
use cenote_model::volume::{Extent, VolumeKind};
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use layout::Layout;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Disk,
    is_supported: |host| needs::are_met(PoolKind::Disk, host),
    open,
    find_sources: None,
};

/// Partitions begin at multiples of this, which suits whatever is under them.
const ALIGNMENT: u64 = 1 << 20;
/// Partitions are whole numbers of sectors, which have at most this size.
const SECTOR: u64 = 4096;

struct Disk {
    def: PoolDef,
    device: String,
    wanted: PartitionTable,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let device = block::only_device(def)?.to_owned();
    let wanted = match def.source.format {
        Some(SourceFormat::PartitionTable(table)) => table,
        _ => PartitionTable::Unknown,
    };
    Ok(Box::new(Disk {
        device,
        wanted,
        target: def.target_path().unwrap_or_default().to_owned(),
        def: def.clone(),
        environment: environment.clone(),
    }))
}

impl Disk {
    /// Runs parted on the disk. Each command is a command's words.
    fn parted(&self, commands: &[&[&str]], job: &Job) -> Result<Vec<u8>, ToolError> {
        let parted = self.environment.host.tool("parted")?;
        let parted = parted.args(["--script", "--machine", "--", &self.device, "unit", "B"]);
        parted.args(commands.concat()).run(job)
    }

    /// What partitions begin at multiples of, in bytes, and what their lengths are multiples of.
    fn granularity(&self, table: PartitionTable, job: &Job) -> Result<(u64, u64)> {
        if !matches!(table, PartitionTable::Sun | PartitionTable::Dvh | PartitionTable::Pc98) {
            return Ok((ALIGNMENT, SECTOR));
        }
        // These count in cylinders.
        let printed = self.parted(&[&["unit", "cyl"], &["print"]], job).map_err(error::tool)?;
        let cylinder = layout::cylinder(&String::from_utf8_lossy(&printed)).unwrap_or(ALIGNMENT);
        Ok((cylinder, cylinder))
    }

    fn must_exist(&self) -> Result<()> {
        match Path::new(&self.device).exists() {
            true => Ok(()),
            false => {
                Err(Error::new(Code::InvalidArg, format!("device path '{}' doesn't exist", self.device)))
            }
        }
    }

    /// What the disk is divided into; `None` if it has no partition table.
    fn read(&self, job: &Job) -> Result<Option<Layout>> {
        self.must_exist()?;
        let failed = |e| Error::system(format!("cannot open device '{}'", self.device), &e);
        let disk = cenote_image::open(Path::new(&self.device)).map_err(failed)?;
        let sector = rustix::fs::ioctl_blksszget(&disk).map_or(512, u64::from);
        let read = partitions::read(&disk, sector);
        let what = || format!("cannot read the partition table of '{}'", self.device);
        if let Some(table) = read.map_err(|e| error::image(what(), e))? {
            return Ok(Some(table.into()));
        }
        let printed = self.parted(&[&["print", "free"]], job);
        // parted opens the disk for writing, after which udev has the kernel read its table once more.
        block::settle(&self.environment, job);
        match printed {
            Ok(printed) => layout::of_parted(&String::from_utf8_lossy(&printed)),
            Err(ToolError::Failed { stderr, .. }) if stderr.contains("unrecognised disk label") => Ok(None),
            Err(other) => Err(error::tool(other)),
        }
    }

    /// The same, with the table that the pool asks for.
    fn layout(&self, job: &Job) -> Result<Layout> {
        let layout = self.read(job)?.ok_or_else(|| {
            Error::new(
                Code::StorageProbeFailed,
                format!("Device '{}' is unrecognized, requires build", self.device),
            )
        })?;
        if self.wanted != PartitionTable::Unknown && self.wanted != layout.table {
            return Err(Error::new(
                Code::OperationInvalid,
                format!(
                    "Format of device '{}' does not match the expected format '{}': it is '{}'",
                    self.device, self.wanted, layout.table
                ),
            ));
        }
        Ok(layout)
    }

    fn mapped(&self) -> Option<Mapped> {
        Mapped::at(Path::new(&self.device), self.environment.host.sysfs())
    }

    /// The path of a partition's device.
    fn device_of(&self, number: u32) -> PathBuf {
        let mapped = self.mapped();
        let partition =
            mapped.as_ref().and_then(|mapped| mapped.partition(number, self.environment.host.sysfs()));
        partition.unwrap_or_else(|| self.usual_device_of(number, mapped.is_some()))
    }

    /// The disk under the name that its partitions have. Those of the device mapper keep theirs.
    fn real_disk(&self, is_mapped: bool) -> PathBuf {
        let named = PathBuf::from(&self.device);
        if is_mapped { named } else { std::fs::canonicalize(&named).unwrap_or(named) }
    }

    /// What a partition's device is called. Those of disks whose names end in a digit have a `p` before their number; on
    /// those of the device mapper others may have one too.
    fn usual_device_of(&self, number: u32, is_mapped: bool) -> PathBuf {
        let disk = self.real_disk(is_mapped);
        let disk = disk.display();
        let ends_in_digit = disk.to_string().ends_with(|c: char| c.is_ascii_digit());
        let separator = self.def.source.devices.first().and_then(|device| device.part_separator);
        let has_separator = ends_in_digit || (is_mapped && separator == Some(true));
        format!("{disk}{}{number}", if has_separator { "p" } else { "" }).into()
    }

    /// The name of the volume that a partition is.
    fn name_of(&self, number: u32) -> String {
        let device = self.usual_device_of(number, self.mapped().is_some());
        device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The volume that a partition is, if it has a device.
    fn describe(
        &self,
        layout: &Layout,
        partition: &Partition,
        links: &BTreeMap<PathBuf, String>,
    ) -> Result<Option<VolumeDef>> {
        let device = self.device_of(partition.number);
        let link = std::fs::canonicalize(&device).ok().and_then(|real| links.get(&real).cloned());
        let path = link.unwrap_or_else(|| device.display().to_string());
        let Ok(name) = Name::volume(self.name_of(partition.number)) else { return Ok(None) };
        let mut volume = block::volume(name, path.clone(), path);
        if !block::describe(&mut volume)? {
            return Ok(None);
        }
        let length = |partition: &Partition| partition.bytes.end - partition.bytes.start;
        if partition.role == Role::Extended {
            // Its device shows no more than its first sectors.
            let logical = layout.partitions.iter().filter(|partition| partition.role == Role::Logical);
            volume.capacity = Some(length(partition));
            volume.allocation = Some(logical.map(length).sum());
        }
        volume.format = Some(VolumeFormat::Partition(format_of(partition)));
        volume.extents = vec![Extent {
            device: self.device.clone(),
            start: partition.bytes.start,
            end: partition.bytes.end,
        }];
        Ok(Some(volume))
    }

    fn find<'l>(&self, layout: &'l Layout, name: &str) -> Option<&'l Partition> {
        layout.partitions.iter().find(|partition| self.name_of(partition.number) == name)
    }

    /// What the partition that is wanted becomes, and its number, which has to be that in its name.
    fn next(&self, layout: &Layout, wanted: &VolumeDef) -> Result<(Role, u32)> {
        let role = wanted_role(layout, wanted)?;
        let number = layout.next_number(role);
        let expected = self.name_of(number);
        match wanted.name.as_str() == expected {
            true => Ok((role, number)),
            false => Err(Error::new(
                Code::InvalidArg,
                format!("invalid partition name '{}', expected '{expected}'", wanted.name),
            )),
        }
    }

    /// Has the kernel look at the table, if a partition has no device.
    fn tell_kernel(&self, layout: &Layout, job: &Job) {
        let is_known = |partition: &Partition| self.device_of(partition.number).exists();
        if layout.partitions.iter().all(is_known) {
            return;
        }
        // Where this cannot be done the partitions without devices are no volumes, and nothing worse.
        if let Ok(partx) = self.environment.host.tool("partx") {
            let _ = partx.args(["--update", "--", &self.device]).run(job);
        }
        block::settle(&self.environment, job);
    }

    fn found(&self, layout: &Layout) -> Found {
        let free_extents =
            layout.free.iter().map(|(_, gap)| FreeExtent { start: gap.start, end: gap.end }).collect();
        Found { usage: layout.usage(), permissions: None, free_extents }
    }

    fn remove(&self, number: u32, job: &Job) -> Result<()> {
        // Of a mapped disk parted would leave the partition's device, or take it away from somebody who uses it.
        let mapped = self.mapped().and_then(|mapped| mapped.partition(number, self.environment.host.sysfs()));
        if let Some(device) = mapped {
            let dmsetup = self.environment.host.tool("dmsetup").map_err(error::tool)?;
            dmsetup.args(["remove", "--retry"]).arg(&device).run(job).map_err(error::tool)?;
        }
        self.parted(&[&["rm", &number.to_string()]], job).map_err(error::tool)?;
        block::settle(&self.environment, job);
        Ok(())
    }
}

impl Pool for Disk {
    fn is_active(&self) -> Result<bool> {
        match self.layout(&waiting::look("looking at a disk")) {
            Ok(_) => Ok(true),
            Err(error) => match error.code {
                Code::InvalidArg | Code::StorageProbeFailed | Code::OperationInvalid => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// A pool without a format has that of the disk.
    fn resolve(&self) -> Result<Option<PoolDef>> {
        if self.wanted != PartitionTable::Unknown {
            return Ok(None);
        }
        let table = self.layout(&waiting::look("looking at a disk"))?.table;
        let mut def = self.def.clone();
        def.source.format = Some(SourceFormat::PartitionTable(table));
        Ok(Some(def))
    }

    fn start(&self, job: &Job) -> Result<()> {
        let layout = self.layout(job)?;
        self.tell_kernel(&layout, job);
        Ok(())
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        Ok(())
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let layout = self.layout(job)?;
        self.tell_kernel(&layout, job);
        let links = block::links(&self.target);
        for partition in &layout.partitions {
            if let Some(volume) = self.describe(&layout, partition, &links)? {
                found(Arc::new(volume));
            }
            job.advance(1)?;
        }
        Ok(self.found(&layout))
    }

    fn measure(&self) -> Result<Found> {
        Ok(self.found(&self.layout(&waiting::look("measuring a disk"))?))
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
        let layout = self.layout(&waiting::look("looking at a disk")).map_err(io::Error::other)?;
        if !matches!(layout.table, PartitionTable::Gpt | PartitionTable::Dos) {
            // parted opens the disk for writing when it looks, of which udev tells: that would have no end.
            return Ok(None);
        }
        let disk = self.real_disk(self.mapped().is_some()).display().to_string();
        block::watch::watch(move |event| block::watch::is_named(event, &disk))
    }
}

impl Construction for Disk {
    fn build(&self, overwrite: Overwrite, job: &Job) -> Result<()> {
        let (label, signature) = match self.wanted {
            PartitionTable::Unknown | PartitionTable::Dos => ("msdos", "dos"),
            PartitionTable::Dvh => ("dvh", "sgi"),
            PartitionTable::Pc98 => ("pc98", "dos"),
            PartitionTable::Lvm2 => {
                return Err(Error::new(
                    Code::ConfigUnsupported,
                    format!(
                        "pool '{}' has the format 'lvm2', which is no partition table: define a pool of type \
                         'logical' on the device",
                        self.def.name
                    ),
                ));
            }
            other => (other.as_str(), other.as_str()),
        };
        self.must_exist()?;
        block::check_all_empty(&self.environment, &[&self.device], signature, overwrite, job)?;
        block::erase(&self.environment, &self.device, job)?;
        self.parted(&[&["mklabel", label]], job).map_err(error::tool)?;
        block::settle(&self.environment, job);
        Ok(())
    }

    fn delete(&self, job: &Job) -> Result<()> {
        block::erase(&self.environment, &self.device, job)
    }
}

impl Volumes for Disk {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        if wanted.encryption.is_some() {
            qemu_img::check(&wanted, CreateOptions::default())?;
        }
        let layout = self.layout(&waiting::look("planning a partition"))?;
        let (_, number) = self.next(&layout, &wanted)?;
        let path = self.device_of(number).display().to_string();
        Ok(VolumeDef { kind: VolumeKind::Block, key: Some(path.clone()), path: Some(path), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
        let layout = self.layout(job)?;
        // Others may have made one meanwhile.
        let (role, number) = self.next(&layout, planned)?;
        let capacity = planned.capacity.unwrap_or(0);
        let length = capacity.saturating_add(block::header_of(planned)).max(1);
        let (align, unit) = self.granularity(layout.table, job)?;
        let length = length.checked_next_multiple_of(unit).unwrap_or(length);
        let place = layout.place(role, length, align)?;
        let (start, end) = (format!("{}B", place.start), format!("{}B", place.end - 1));
        let format = wanted_format(planned);
        let mut make = vec!["mkpart"];
        // For parted it is a name in some tables, the role in others; in these there is neither.
        if !matches!(layout.table, PartitionTable::Bsd | PartitionTable::Sun) {
            make.push(word(role));
        }
        if role != Role::Extended {
            make.push(file_system(format));
        }
        make.extend([start.as_str(), end.as_str()]);
        let number_text = number.to_string();
        let flag = match format {
            PartitionFormat::LinuxLvm => Some("lvm"),
            PartitionFormat::LinuxRaid => Some("raid"),
            _ => None,
        };
        let set: Vec<&str> = flag.map_or(Vec::new(), |flag| vec!["set", &number_text, flag, "on"]);
        self.parted(&[&make, &set], job).map_err(error::tool)?;
        let mut undo = Undo::new();
        undo.push(|| drop(self.remove(number, &waiting::look("undoing a creation"))));
        let is_there = || self.device_of(number).exists();
        block::wait_until(&self.environment, local_path(planned)?, is_there, job)?;
        let device = self.device_of(number);
        if planned.encryption.is_some() {
            qemu_img::create(&self.environment, planned, &device, capacity, options, job)?;
        }
        apply(&device, &planned.permissions)?;
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
        let no_sharing = "a partition cannot share the blocks of another one: leave out --reflink";
        block::create_from(self, &self.environment, (planned, source), options, no_sharing, job)
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        let layout = self.layout(&waiting::look("looking at a partition"))?;
        match self.find(&layout, name.as_str()) {
            Some(partition) => self.describe(&layout, partition, &block::links(&self.target)),
            None => Ok(None),
        }
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, _growth: Growth, job: &Job) -> Result<()> {
        let layout = self.layout(job)?;
        let Some(partition) = self.find(&layout, volume.name.as_str()) else {
            return Err(Error::new(Code::NoStorageVol, format!("no partition '{}'", volume.name)));
        };
        let refused = |why: &str| {
            Error::new(Code::NoSupport, format!("cannot resize partition '{}': {why}", volume.name))
        };
        if partition.role == Role::Extended {
            return Err(refused("it is an extended one"));
        }
        let (start, end) = (partition.bytes.start, partition.bytes.end);
        let wanted = capacity.checked_next_multiple_of(SECTOR).and_then(|length| start.checked_add(length));
        let wanted = wanted.ok_or_else(|| refused("no disk is so large"))?;
        if wanted < end {
            return Err(refused("a partition can grow only"));
        }
        let has_room = layout.free.iter().any(|(_, gap)| gap.start == end && wanted <= gap.end);
        if wanted > end && !has_room {
            return Err(Error::new(
                Code::OperationFailed,
                format!(
                    "cannot resize partition '{}': there is not so much free space behind it",
                    volume.name
                ),
            ));
        }
        let (number, last) = (partition.number.to_string(), format!("{}B", wanted - 1));
        self.parted(&[&["resizepart", &number, &last]], job).map_err(error::tool)?;
        block::settle(&self.environment, job);
        Ok(())
    }

    fn delete(&self, volume: &VolumeDef, job: &Job) -> Result<()> {
        let layout = self.layout(job)?;
        let Some(partition) = self.find(&layout, volume.name.as_str()) else { return Ok(()) };
        let has_logical = layout.partitions.iter().any(|partition| partition.role == Role::Logical);
        if partition.role == Role::Extended && has_logical {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("partition '{}' holds logical partitions: delete them first", volume.name),
            ));
        }
        self.remove(partition.number, job)
    }

    /// Logical partitions are numbered anew, and an extended one has what is in it.
    fn change_together(&self) -> bool {
        true
    }
}

impl Content for Disk {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        must_hold_data(volume, "has no content of its own")?;
        Devices.open(volume, access)
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        must_hold_data(volume, "cannot be wiped: its sectors are those of the logical partitions")?;
        Devices.wipe(volume, algorithm, job)
    }
}

fn must_hold_data(volume: &VolumeDef, why: &str) -> Result<()> {
    match volume.format {
        Some(VolumeFormat::Partition(PartitionFormat::Extended)) => Err(Error::new(
            Code::NoSupport,
            format!("extended partition '{}' {why}", volume.path.as_deref().unwrap_or_default()),
        )),
        _ => Ok(()),
    }
}

fn wanted_format(wanted: &VolumeDef) -> PartitionFormat {
    match wanted.format {
        Some(VolumeFormat::Partition(format)) => format,
        _ => PartitionFormat::None,
    }
}

fn wanted_role(layout: &Layout, wanted: &VolumeDef) -> Result<Role> {
    if wanted_format(wanted) != PartitionFormat::Extended {
        return layout.next_role();
    }
    if layout.table != PartitionTable::Dos {
        return Err(Error::new(
            Code::ConfigUnsupported,
            format!("a table of format '{}' has no extended partitions", layout.table),
        ));
    }
    if layout.partitions.iter().any(|partition| partition.role == Role::Extended) {
        return Err(Error::new(Code::Internal, "extended partition already exists"));
    }
    match layout.next_role()? {
        Role::Primary => Ok(Role::Extended),
        _ => Err(Error::new(Code::Internal, "no primary partition available")),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Extended => "extended",
        Role::Logical => "logical",
    }
}

/// parted's name for a file system of this kind, which decides the partition's type.
fn file_system(format: PartitionFormat) -> &'static str {
    match format {
        PartitionFormat::Fat16 => "fat16",
        PartitionFormat::Fat32 => "fat32",
        PartitionFormat::LinuxSwap => "linux-swap",
        _ => "ext2",
    }
}

fn format_of(partition: &Partition) -> PartitionFormat {
    match (partition.role, partition.purpose) {
        (Role::Extended, _) => PartitionFormat::Extended,
        (_, Purpose::Linux) => PartitionFormat::Linux,
        (_, Purpose::Fat16) => PartitionFormat::Fat16,
        (_, Purpose::Fat32) => PartitionFormat::Fat32,
        (_, Purpose::LinuxSwap) => PartitionFormat::LinuxSwap,
        (_, Purpose::LinuxLvm) => PartitionFormat::LinuxLvm,
        (_, Purpose::LinuxRaid) => PartitionFormat::LinuxRaid,
        (_, Purpose::Other) => PartitionFormat::None,
    }
}
