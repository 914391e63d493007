//! What an image stands on, and what that stands on.

use crate::probe::{BackingName, Facts, describe, probe};
use crate::{Error, Result, open};
use cenote_model::format::ImageFormat;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No chain is longer than this.
const MAX_DEPTH: usize = 200;

/// Where a backing image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or device on this machine.
    Local(PathBuf),
    /// Reached by a protocol.
    Network {
        /// The protocol's name: `nbd`, `rbd`, `https`, …
        protocol: String,
    },
    /// Described in a way that is not understood.
    Unknown,
}

impl Location {
    /// Where `name`, found in an image in directory `base`, leads. Understands paths, addresses and QEMU's `json:`.
    pub fn of(name: &str, base: &Path) -> Location {
        if let Some(json) = name.strip_prefix("json:") {
            return match serde_json::from_str::<Value>(json) {
                Ok(value) => Location::of_json(&value, base),
                Err(_) => Location::Unknown,
            };
        }
        // A colon makes a protocol of what is before it, if no slash comes first.
        match name.split_once(':') {
            Some(("file", rest)) => Location::Local(base.join(rest.strip_prefix("//").unwrap_or(rest))),
            Some((protocol, _)) if !protocol.is_empty() && !protocol.contains('/') => {
                let protocol = protocol.split('+').next().unwrap_or(protocol);
                Location::Network { protocol: protocol.to_owned() }
            }
            _ => Location::Local(base.join(name)),
        }
    }

    fn of_json(value: &Value, base: &Path) -> Location {
        let field = |key: &str| {
            // Options are nested or written with dots.
            let nested = key.split('.').try_fold(value, |value, key| value.get(key));
            nested.or_else(|| value.get(key)).and_then(Value::as_str)
        };
        let driver = field("driver").unwrap_or_default();
        if let Some(file) = value.get("file").filter(|file| file.is_object()) {
            return Location::of_json(file, base);
        }
        if let Some(name) = field("file.filename").or_else(|| field("filename")) {
            return match field("file.driver").unwrap_or(driver) {
                "file" | "host_device" | "host_cdrom" | "" => Location::Local(base.join(name)),
                // A format's own file name is a name like any other.
                other if ImageFormat::from_name(other).is_some() => Location::of(name, base),
                protocol => Location::Network { protocol: protocol.to_owned() },
            };
        }
        match field("file.driver").unwrap_or(driver) {
            "" => Location::Unknown,
            driver if ImageFormat::from_name(driver).is_some() => Location::Unknown,
            protocol => Location::Network { protocol: protocol.to_owned() },
        }
    }
}

/// The format that a `json:` name says its image has.
pub fn json_format(name: &str) -> Option<ImageFormat> {
    let value: Value = serde_json::from_str(name.strip_prefix("json:")?).ok()?;
    ImageFormat::from_name(value.get("driver")?.as_str()?)
}

/// One image of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub location: Location,
    /// What it is; `None` if it is not on this machine.
    pub facts: Option<Facts>,
}

/// The image at `path` and all that it stands on. Loops are refused.
pub fn chain(path: &Path) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    let mut seen = Vec::new();
    let mut next = Some((Location::Local(path.to_owned()), None::<ImageFormat>));
    while let Some((location, format)) = next.take() {
        let Location::Local(path) = &location else {
            links.push(Link { location, facts: None });
            break;
        };
        let file = open(path)
            .map_err(|e| Error::Io(std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))))?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if seen.contains(&identity) || links.len() >= MAX_DEPTH {
            return Err(Error::Damaged(format!(
                "the backing chain of this image comes back to '{}'",
                path.display()
            )));
        }
        seen.push(identity);
        let facts = match format {
            Some(format) => describe(&file, format)?,
            None => probe(&file)?,
        };
        let base = path.parent().unwrap_or(Path::new("/"));
        next = facts.backing.as_ref().map(|BackingName { name, format }| {
            (Location::of(name, base), format.or_else(|| json_format(name)))
        });
        links.push(Link { location, facts: Some(facts) });
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let base = Path::new("/pool");
        let local = |path: &str| Location::Local(PathBuf::from(path));
        let network = |protocol: &str| Location::Network { protocol: protocol.to_owned() };
        for (name, location) in [
            ("base.img", local("/pool/base.img")),
            ("/a/b", local("/a/b")),
            ("file:/a/b", local("/a/b")),
            ("file:///a/b", local("/a/b")),
            ("./a:b", local("/pool/./a:b")),
            ("nbd://host/x", network("nbd")),
            ("nbd:unix:/sock", network("nbd")),
            ("gluster+tcp://h/v/i", network("gluster")),
            ("rbd:pool/image", network("rbd")),
            ("https://h/i.qcow2", network("https")),
            (r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"/x"}}"#, local("/x")),
            (r#"json:{"driver":"raw","file.driver":"file","file.filename":"y"}"#, local("/pool/y")),
            (r#"json:{"driver":"qcow2","file":{"driver":"nbd","host":"h"}}"#, network("nbd")),
            (r#"json:{"file.driver":"rbd","file.image":"i"}"#, network("rbd")),
            ("json:{", Location::Unknown),
            ("json:{}", Location::Unknown),
        ] {
            assert_eq!(Location::of(name, base), location, "{name}");
        }
    }
}
