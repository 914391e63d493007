//! The definition of a pool.

use crate::flags::Validate;
use crate::kind::TargetRule;
use crate::permissions::Permissions;
use crate::source::{Source, read_size, yes_no};
use crate::xml::{Document, Element, Writer};
use crate::{Code, Error, Name, PoolKind, Result, Uuid, named_enum};

const FS_NAMESPACE: &str = "http://libvirt.org/schemas/storagepool/fs/1.0";
const RBD_NAMESPACE: &str = "http://libvirt.org/schemas/storagepool/rbd/1.0";

/// A pool, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRef {
    /// Its name.
    pub name: Name,
    /// Its UUID, by which it is found.
    pub uuid: Uuid,
}

/// How full a pool is, in bytes; all zero while it is inactive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The whole.
    pub capacity: u64,
    /// What is taken.
    pub allocation: u64,
    /// What is left.
    pub available: u64,
}

named_enum! {
    /// Where a volume's allocation is taken from when a pool is refreshed.
    pub enum RefreshAllocation {
        Default = "default",
        Capacity = "capacity",
    }
}

/// `<target>` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The directory in which the volumes appear, without doubled or trailing slashes.
    pub path: String,
    /// What the directory is made with; while the pool is active, what it has.
    pub permissions: Permissions,
}

/// What a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDef {
    /// The type.
    pub kind: PoolKind,
    /// The name.
    pub name: Name,
    /// The UUID.
    pub uuid: Uuid,
    /// How full it is.
    pub usage: Usage,
    /// Whether files are copied on write (btrfs); `dir` and `fs` only.
    pub cow: Option<bool>,
    /// Where the storage comes from.
    pub source: Source,
    /// Where the volumes appear; `None` for types whose volumes are reached over the network.
    pub target: Option<Target>,
    /// How volumes are measured.
    pub refresh: Option<RefreshAllocation>,
    /// Options for mount(8); `fs` and `netfs` only.
    pub mount_options: Vec<String>,
    /// Options for librados, name and value; `rbd` only.
    pub rbd_options: Vec<(String, String)>,
}

impl PoolDef {
    /// Reads a `<pool>` document.
    pub fn from_xml(text: &str, validate: Validate) -> Result<PoolDef> {
        let document = match validate {
            Validate::Lax => Document::lax(text)?,
            Validate::Strict => Document::strict(text)?,
        };
        let def = PoolDef::read(&document.root("pool")?)?;
        document.finish()?;
        Ok(def)
    }

    /// Reads the state of an active pool: a `<pool>` inside a `<poolstate>`.
    pub fn from_state_xml(text: &str) -> Result<PoolDef> {
        let document = Document::lax(text)?;
        let pool = document
            .find("pool")
            .ok_or_else(|| Error::new(Code::Internal, "Could not find any 'pool' element in state file"))?;
        PoolDef::read(&pool)
    }

    fn read(pool: &Element<'_, '_>) -> Result<PoolDef> {
        let kind = pool.attr_enum("type", PoolKind::from_name)?.ok_or_else(|| pool.missing_attr("type"))?;
        let mut source = match pool.child("source") {
            Some(element) => Source::read(&element, kind)?,
            None => Source::of(kind),
        };
        if kind == PoolKind::Rbd && source.name.is_none() && pool.child("source").is_some() {
            return Err(Error::new(Code::XmlError, "element 'name' is mandatory for RBD pool"));
        }
        let parts = kind.source_parts();
        // libvirt takes the source's name for a pool without one.
        let name = pool.child_text("name").or_else(|| source.name.clone()).unwrap_or_default();
        let name = Name::pool(name)?;
        let uuid = match pool.child_text("uuid") {
            Some(text) => {
                Uuid::parse(&text).ok_or_else(|| Error::new(Code::XmlError, "malformed uuid element"))?
            }
            None => Uuid::random().ok_or_else(|| Error::new(Code::Internal, "unable to generate uuid"))?,
        };
        let cow = read_cow(pool, kind)?;
        if parts.host && source.hosts.is_empty() {
            return Err(Error::new(Code::XmlError, "missing storage pool source host name"));
        }
        if parts.dir && source.dir.is_none() {
            return Err(Error::new(Code::XmlError, "missing storage pool source path"));
        }
        if parts.name && source.name.is_none() {
            source.name = Some(name.to_string());
        }
        if parts.adapter && source.adapter.is_none() {
            return Err(Error::new(Code::XmlError, "missing storage pool source adapter"));
        }
        if matches!(kind, PoolKind::Fs | PoolKind::Disk) && source.devices.is_empty() {
            return Err(Error::new(Code::XmlError, "missing storage pool source device name"));
        }
        let target = read_target(pool, kind, &source)?;
        if kind == PoolKind::IscsiDirect && source.initiator.is_none() {
            return Err(Error::new(Code::ConfigUnsupported, "missing initiator IQN"));
        }
        Ok(PoolDef {
            kind,
            name,
            uuid,
            usage: read_usage(pool),
            cow,
            source,
            target,
            refresh: read_refresh(pool)?,
            mount_options: read_mount_options(pool, kind)?,
            rbd_options: read_rbd_options(pool, kind)?,
        })
    }

    /// The `<pool>` document.
    pub fn to_xml(&self) -> String {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// The state of an active pool, as libvirt keeps it.
    pub fn to_state_xml(&self) -> String {
        let mut w = Writer::new();
        w.element("poolstate").children(|w| self.write(w));
        w.finish()
    }

    fn write(&self, w: &mut Writer) {
        let mut pool = w.element("pool").attr("type", self.kind);
        if !self.mount_options.is_empty() {
            pool = pool.attr("xmlns:fs", FS_NAMESPACE);
        }
        if !self.rbd_options.is_empty() {
            pool = pool.attr("xmlns:rbd", RBD_NAMESPACE);
        }
        pool.children(|w| {
            w.text("name", &self.name);
            w.text("uuid", self.uuid);
            w.bytes("capacity", self.usage.capacity);
            w.bytes("allocation", self.usage.allocation);
            w.bytes("available", self.usage.available);
            if let Some(cow) = self.cow {
                w.element("features").children(|w| w.element("cow").attr("state", yes_no(cow)).empty());
            }
            self.source.write(w, self.kind);
            if let Some(target) = &self.target {
                w.element("target").children(|w| {
                    w.text("path", &target.path);
                    target.permissions.write(w);
                });
            }
            if let Some(allocation) = self.refresh {
                w.element("refresh").children(|w| w.element("volume").attr("allocation", allocation).empty());
            }
            if !self.mount_options.is_empty() {
                w.element("fs:mount_opts").children(|w| {
                    for option in &self.mount_options {
                        w.element("fs:option").attr("name", option).empty();
                    }
                });
            }
            if !self.rbd_options.is_empty() {
                w.element("rbd:config_opts").children(|w| {
                    for (name, value) in &self.rbd_options {
                        w.element("rbd:option").attr("name", name).attr("value", value).empty();
                    }
                });
            }
        });
    }

    /// The target's path.
    pub fn target_path(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.path.as_str())
    }
}

fn read_cow(pool: &Element<'_, '_>, kind: PoolKind) -> Result<Option<bool>> {
    let Some(features) = pool.child("features") else { return Ok(None) };
    let Some(cow) = features.child("cow") else { return Ok(None) };
    let state = cow.attr_yes_no("state")?;
    if state.is_some() && !matches!(kind, PoolKind::Dir | PoolKind::Fs) {
        return Err(Error::new(Code::NoSupport, "cow feature may only be used for 'fs' and 'dir' pools"));
    }
    Ok(state)
}

fn read_target(pool: &Element<'_, '_>, kind: PoolKind, source: &Source) -> Result<Option<Target>> {
    let element = match kind.target_rule() {
        TargetRule::Network => return Ok(None),
        _ => pool.child("target"),
    };
    let given = element.and_then(|element| element.child_text("path"));
    let path = match kind.target_rule() {
        TargetRule::Under(directory) => {
            format!("{directory}/{}", source.name.as_deref().unwrap_or_default())
        }
        _ => given.ok_or_else(|| Error::new(Code::XmlError, "missing storage pool target path"))?,
    };
    let permissions = match element {
        Some(element) => Permissions::read(&element)?,
        None => Permissions::default(),
    };
    Ok(Some(Target { path: sanitize_path(&path), permissions }))
}

/// Sizes in a definition are somebody's report; what cannot be read counts as not reported.
fn read_usage(pool: &Element<'_, '_>) -> Usage {
    let size = |name| pool.child(name).and_then(|element| read_size(&element).ok()).unwrap_or(0);
    Usage { capacity: size("capacity"), allocation: size("allocation"), available: size("available") }
}

fn read_refresh(pool: &Element<'_, '_>) -> Result<Option<RefreshAllocation>> {
    let volume = pool.child("refresh").and_then(|refresh| refresh.child("volume"));
    let Some(name) = volume.and_then(|volume| volume.attr_non_empty("allocation")) else { return Ok(None) };
    RefreshAllocation::from_name(name).map(Some).ok_or_else(|| {
        Error::new(
            Code::ConfigUnsupported,
            format!("unknown storage pool volume refresh allocation type {name}"),
        )
    })
}

fn read_mount_options(pool: &Element<'_, '_>, kind: PoolKind) -> Result<Vec<String>> {
    if !matches!(kind, PoolKind::Fs | PoolKind::NetFs) {
        return Ok(Vec::new());
    }
    pool.children_in(FS_NAMESPACE, "mount_opts")
        .flat_map(|options| options.children_in(FS_NAMESPACE, "option"))
        .map(|option| match option.attr("name") {
            None => Err(Error::new(Code::XmlError, "no mount option name specified")),
            Some("") => Err(Error::new(Code::XmlError, "empty mount option name specified")),
            Some(name) => Ok(name.to_owned()),
        })
        .collect()
}

fn read_rbd_options(pool: &Element<'_, '_>, kind: PoolKind) -> Result<Vec<(String, String)>> {
    if kind != PoolKind::Rbd {
        return Ok(Vec::new());
    }
    pool.children_in(RBD_NAMESPACE, "config_opts")
        .flat_map(|options| options.children_in(RBD_NAMESPACE, "option"))
        .map(|option| {
            let (name, value) = (option.attr("name"), option.attr("value"));
            match (name, value) {
                (None, _) => Err(Error::new(Code::XmlError, "no rbd option name specified")),
                (Some(""), _) => Err(Error::new(Code::XmlError, "empty rbd option name specified")),
                (Some(name), None) => Err(Error::new(
                    Code::XmlError,
                    format!("no rbd option value specified for name '{name}'"),
                )),
                (Some(name), Some("")) => Err(Error::new(
                    Code::XmlError,
                    format!("empty rbd option value specified for name '{name}'"),
                )),
                (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            }
        })
        .collect()
}

/// A path without doubled and trailing slashes. Two at the beginning are kept, as POSIX has it, and URIs are
/// left alone: there two slashes may mean something.
pub fn sanitize_path(path: &str) -> String {
    if let Some(uri) = path.find("://")
        && path.find('/') > Some(uri)
    {
        return path.to_owned();
    }
    let (start, rest) = match path.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') => ("//", rest),
        _ => ("", path),
    };
    let mut clean = String::from(start);
    for c in rest.chars() {
        if c != '/' || !clean.ends_with('/') {
            clean.push(c);
        }
    }
    if clean.len() > 1 && clean.ends_with('/') && clean != "//" {
        clean.pop();
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (given, clean) in [
            ("/", "/"),
            ("//", "//"),
            ("///", "/"),
            ("/a//b///c/", "/a/b/c"),
            ("//a/b/", "//a/b"),
            ("a/", "a"),
            ("/../a", "/../a"),
            ("gluster://h//v", "gluster://h//v"),
            ("/a://b//", "/a:/b"),
        ] {
            assert_eq!(sanitize_path(given), clean, "{given}");
        }
    }
}
