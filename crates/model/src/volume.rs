//! The definition of a volume.

use crate::encryption::Encryption;
use crate::flags::Validate;
use crate::format::{ImageFeature, ImageFormat, VolumeFormat};
use crate::permissions::Permissions;
use crate::source::read_size;
use crate::xml::{Document, Element, Writer};
use crate::{Code, Error, Name, PoolKind, Result, named_enum, units};

/// A volume, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRef {
    /// The pool's name.
    pub pool: Name,
    /// The volume's name.
    pub name: Name,
    /// The volume's key.
    pub key: String,
}

named_enum! {
    /// What a volume is on this machine.
    pub enum VolumeKind {
        File = "file",
        Block = "block",
        Dir = "dir",
        Network = "network",
        NetDir = "netdir",
        Ploop = "ploop",
    }
}

/// A part of a device that belongs to a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The device.
    pub device: String,
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

/// A moment: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: u64,
    /// Nanoseconds, below 10^9.
    pub nanoseconds: u32,
}

/// The times of a file, as the file system has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// Last read.
    pub atime: Timestamp,
    /// Last written.
    pub mtime: Timestamp,
    /// Last changed.
    pub ctime: Timestamp,
    /// Made, where the file system knows.
    pub btime: Option<Timestamp>,
}

/// The image on which another one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingStore {
    /// Its path or address, as the image names it.
    pub path: String,
    /// Its format.
    pub format: Option<VolumeFormat>,
    /// Its permissions.
    pub permissions: Permissions,
    /// Its times.
    pub timestamps: Option<Timestamps>,
}

/// What a volume is, or shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDef {
    /// What it is on this machine.
    pub kind: VolumeKind,
    /// Its name in the pool.
    pub name: Name,
    /// What names it on this machine, whatever the pool.
    pub key: Option<String>,
    /// The parts of devices that it is made of.
    pub extents: Vec<Extent>,
    /// Its size as a guest sees it, in bytes; `None` if a new volume leaves it to its backing store.
    pub capacity: Option<u64>,
    /// The bytes that it takes from the pool; `None` if a new volume does not say.
    pub allocation: Option<u64>,
    /// The bytes up to its last one on the host.
    pub physical: Option<u64>,
    /// Its path.
    pub path: Option<String>,
    /// Its format.
    pub format: Option<VolumeFormat>,
    /// Its permissions.
    pub permissions: Permissions,
    /// Its times.
    pub timestamps: Option<Timestamps>,
    /// Its encryption.
    pub encryption: Option<Encryption>,
    /// qcow2's version: "0.10" or "1.1".
    pub compat: Option<String>,
    /// No copy on write for its blocks (btrfs).
    pub nocow: bool,
    /// The size of qcow2's clusters in bytes.
    pub cluster_size: Option<u64>,
    /// Its features; `None` and an empty list are written differently.
    pub features: Option<Vec<ImageFeature>>,
    /// What it stands on.
    pub backing: Option<BackingStore>,
}

/// When `<capacity>` may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapacityRule {
    /// When there is a backing store to take it from: a new volume.
    UnlessBacked,
    /// Always: a new volume with the content of another.
    Optional,
}

impl VolumeDef {
    /// True if the other one differs in what a guest's writing changes, and in nothing else: times, and what is
    /// allocated.
    pub fn is_like(&self, other: &VolumeDef) -> bool {
        let VolumeDef {
            kind,
            name,
            key,
            extents,
            capacity,
            allocation: _,
            physical,
            path,
            format,
            permissions,
            timestamps: _,
            encryption,
            compat,
            nocow,
            cluster_size,
            features,
            backing,
        } = self;
        let backing_path = |backing: &Option<BackingStore>| {
            backing.as_ref().map(|backing| (backing.path.clone(), backing.format))
        };
        *kind == other.kind
            && *name == other.name
            && *key == other.key
            && *extents == other.extents
            && *capacity == other.capacity
            && *physical == other.physical
            && *path == other.path
            && *format == other.format
            && *permissions == other.permissions
            && *encryption == other.encryption
            && *compat == other.compat
            && *nocow == other.nocow
            && *cluster_size == other.cluster_size
            && *features == other.features
            && backing_path(backing) == backing_path(&other.backing)
    }

    /// A file in a directory, of which nothing but its place is known.
    pub fn file(name: Name, path: String) -> VolumeDef {
        VolumeDef {
            kind: VolumeKind::File,
            name,
            key: Some(path.clone()),
            extents: Vec::new(),
            capacity: Some(0),
            allocation: Some(0),
            physical: None,
            path: Some(path),
            format: Some(VolumeFormat::Image(ImageFormat::Raw)),
            permissions: Permissions::default(),
            timestamps: None,
            encryption: None,
            compat: None,
            nocow: false,
            cluster_size: None,
            features: None,
            backing: None,
        }
    }

    /// Reads a `<volume>` document for a pool of this type.
    pub fn from_xml(
        text: &str,
        pool: PoolKind,
        capacity: CapacityRule,
        validate: Validate,
    ) -> Result<VolumeDef> {
        let document = match validate {
            Validate::Lax => Document::lax(text)?,
            Validate::Strict => Document::strict(text)?,
        };
        let def = VolumeDef::read(&document.root("volume")?, pool, capacity)?;
        document.finish()?;
        Ok(def)
    }

    fn read(volume: &Element<'_, '_>, pool: PoolKind, rule: CapacityRule) -> Result<VolumeDef> {
        let name = Name::volume(volume.child_text("name").unwrap_or_default())?;
        let key = volume.child_text("key");
        let kind = match volume.attr_non_empty("type") {
            None => VolumeKind::File,
            Some(name) => VolumeKind::from_name(name).ok_or_else(|| {
                Error::new(Code::ConfigUnsupported, format!("unknown volume type '{name}'"))
            })?,
        };
        let backing = match volume.child("backingStore") {
            Some(element) => BackingStore::read(&element, pool)?,
            None => None,
        };
        let capacity = volume.child("capacity").filter(|element| !element.text().is_empty());
        let capacity = capacity.map(|element| read_size(&element)).transpose()?;
        if capacity.is_none() && rule == CapacityRule::UnlessBacked && backing.is_none() {
            return Err(Error::new(Code::XmlError, "missing capacity element"));
        }
        let allocation = volume.child("allocation").filter(|element| !element.text().is_empty());
        let allocation = allocation.map(|element| read_size(&element)).transpose()?;
        let physical = volume.child("physical").and_then(|element| read_size(&element).ok());
        let extents = read_extents(volume);
        let mut def = VolumeDef {
            kind,
            name,
            key,
            extents,
            capacity,
            allocation,
            physical: physical.filter(|size| *size != 0),
            path: None,
            format: pool.default_volume_format(),
            permissions: Permissions::default(),
            timestamps: None,
            encryption: None,
            compat: None,
            nocow: false,
            cluster_size: None,
            features: None,
            backing,
        };
        if let Some(target) = volume.child("target") {
            def.read_target(&target, pool)?;
        }
        Ok(def)
    }

    fn read_target(&mut self, target: &Element<'_, '_>, pool: PoolKind) -> Result<()> {
        self.path = target.child_text("path");
        self.format = read_format(target, pool)?;
        self.permissions = Permissions::read(target)?;
        self.timestamps = Timestamps::read(target);
        self.encryption = target.child("encryption").map(|element| Encryption::read(&element)).transpose()?;
        self.compat = target.child_text("compat");
        if let Some(compat) = &self.compat {
            check_compat(compat)?;
        }
        self.nocow = target.child("nocow").is_some();
        if let Some(element) = target.child("clusterSize") {
            let text = element.text();
            let number = text.trim_ascii().parse().map_err(|_| {
                Error::new(Code::XmlError, format!("invalid value '{text}' in 'clusterSize' element"))
            })?;
            let size = units::scale(number, element.attr_non_empty("unit").unwrap_or(""), u64::MAX)?;
            self.cluster_size = (size != 0).then_some(size);
        }
        if let Some(features) = target.child("features") {
            let mut list = Vec::new();
            for element in features.all_children() {
                let feature = ImageFeature::from_name(element.name()).ok_or_else(|| {
                    Error::new(Code::ConfigUnsupported, format!("unsupported feature {}", element.name()))
                })?;
                if !list.contains(&feature) {
                    list.push(feature);
                }
            }
            list.sort();
            self.compat.get_or_insert_with(|| "1.1".to_owned());
            self.features = Some(list);
        }
        Ok(())
    }

    /// The `<volume>` document.
    pub fn to_xml(&self) -> String {
        let mut w = Writer::new();
        w.element("volume").attr("type", self.kind).children(|w| {
            w.text("name", &self.name);
            w.text_opt("key", self.key.as_deref());
            if !self.extents.is_empty() {
                w.element("source").children(|w| write_extents(w, &self.extents));
            }
            w.bytes("capacity", self.capacity.unwrap_or(0));
            w.bytes("allocation", self.allocation.or(self.capacity).unwrap_or(0));
            if let Some(physical) = self.physical {
                w.bytes("physical", physical);
            }
            w.element("target").children(|w| self.write_target(w));
            if let Some(backing) = &self.backing {
                backing.write(w);
            }
        });
        w.finish()
    }

    fn write_target(&self, w: &mut Writer) {
        w.text_opt("path", self.path.as_deref());
        if let Some(format) = self.format {
            w.element("format").attr("type", format.as_str()).empty();
        }
        self.permissions.write(w);
        if let Some(timestamps) = &self.timestamps {
            timestamps.write(w);
        }
        if let Some(encryption) = &self.encryption {
            encryption.write(w);
        }
        w.text_opt("compat", self.compat.as_deref());
        if self.nocow {
            w.element("nocow").empty();
        }
        if let Some(size) = self.cluster_size {
            w.element("clusterSize").attr("unit", "B").content(size);
        }
        if let Some(features) = &self.features {
            w.element("features").children_or_empty(|w| {
                for feature in features {
                    w.element(feature.as_str()).empty();
                }
            });
        }
    }

    /// The image format; raw for what is no image.
    pub fn image_format(&self) -> ImageFormat {
        image_format(self.format)
    }

    /// True if the volume has this feature.
    pub fn has_feature(&self, feature: ImageFeature) -> bool {
        self.features.as_ref().is_some_and(|features| features.contains(&feature))
    }
}

fn image_format(format: Option<VolumeFormat>) -> ImageFormat {
    match format {
        Some(VolumeFormat::Image(format)) => format,
        _ => ImageFormat::Raw,
    }
}

impl BackingStore {
    /// The image format; raw for what is no image.
    pub fn image_format(&self) -> ImageFormat {
        image_format(self.format)
    }

    fn read(element: &Element<'_, '_>, pool: PoolKind) -> Result<Option<BackingStore>> {
        let path = element.child_text("path");
        let backing = BackingStore {
            path: path.clone().unwrap_or_default(),
            format: read_format(element, pool)?,
            permissions: Permissions::read(element)?,
            timestamps: Timestamps::read(element),
        };
        Ok(path.map(|_| backing))
    }

    fn write(&self, w: &mut Writer) {
        w.element("backingStore").children(|w| {
            w.text("path", &self.path);
            if let Some(format) = self.format {
                w.element("format").attr("type", format.as_str()).empty();
            }
            self.permissions.write(w);
            if let Some(timestamps) = &self.timestamps {
                timestamps.write(w);
            }
        });
    }
}

fn read_format(parent: &Element<'_, '_>, pool: PoolKind) -> Result<Option<VolumeFormat>> {
    let name = parent.child("format").and_then(|format| format.attr_non_empty("type"));
    match (pool.default_volume_format(), name) {
        (None, name) => Ok(name.and_then(|name| pool.volume_format(name))),
        (default, None) => Ok(default),
        (Some(_), Some(name)) => pool
            .volume_format(name)
            .map(Some)
            .ok_or_else(|| Error::new(Code::ConfigUnsupported, format!("unknown volume format type {name}"))),
    }
}

fn read_extents(volume: &Element<'_, '_>) -> Vec<Extent> {
    let Some(source) = volume.child("source") else { return Vec::new() };
    let mut extents = Vec::new();
    for device in source.children("device") {
        let path = device.attr("path").unwrap_or_default();
        for extent in device.children("extent") {
            let number = |name| extent.attr(name).and_then(|text| text.parse().ok());
            if let (Some(start), Some(end)) = (number("start"), number("end")) {
                extents.push(Extent { device: path.to_owned(), start, end });
            }
        }
    }
    extents
}

fn write_extents(w: &mut Writer, extents: &[Extent]) {
    for extents in extents.chunk_by(|a, b| a.device == b.device) {
        w.element("device").attr("path", &extents[0].device).children(|w| {
            for extent in extents {
                w.element("extent").attr("start", extent.start).attr("end", extent.end).empty();
            }
        });
    }
}

fn check_compat(compat: &str) -> Result<()> {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    match compat.split_once('.') {
        Some((major, minor)) if is_number(major) && is_number(minor) => Ok(()),
        _ => Err(Error::new(Code::XmlError, "forbidden characters in 'compat' attribute")),
    }
}

impl Timestamps {
    /// Times are a report: what cannot be read counts as not reported.
    fn read(parent: &Element<'_, '_>) -> Option<Timestamps> {
        let element = parent.child("timestamps")?;
        let time = |name| element.child_text(name).and_then(|text| Timestamp::parse(&text));
        Some(Timestamps {
            atime: time("atime").unwrap_or_default(),
            mtime: time("mtime").unwrap_or_default(),
            ctime: time("ctime").unwrap_or_default(),
            btime: time("btime"),
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("timestamps").children(|w| {
            w.text("atime", self.atime);
            w.text("mtime", self.mtime);
            w.text("ctime", self.ctime);
            w.text_opt("btime", self.btime);
        });
    }
}

impl Timestamp {
    fn parse(text: &str) -> Option<Timestamp> {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        Some(Timestamp {
            seconds: seconds.parse().ok()?,
            nanoseconds: format!("{fraction:0<9}").parse().ok()?,
        })
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.seconds)?;
        if self.nanoseconds != 0 {
            write!(f, ".{:09}", self.nanoseconds)?;
        }
        Ok(())
    }
}
