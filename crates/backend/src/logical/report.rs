//! What LVM reports about a volume group, in its JSON (`lvm fullreport --reportformat json`, lvmreport(7)).

use cenote_model::source::{Device, Source};
use cenote_model::volume::Extent;
use cenote_model::{Code, Error, PoolKind, Result};
use serde_json::Value;

/// The arguments with which lvm tells all of a volume group at once.
pub(crate) const ARGS: [&str; 22] = [
    "fullreport",
    "--reportformat",
    "json",
    "--units",
    "b",
    "--nosuffix",
    "--configreport",
    "vg",
    "-o",
    "vg_name,vg_size,vg_free,vg_extent_size",
    "--configreport",
    "pv",
    "-o",
    "pv_name",
    "--configreport",
    "lv",
    "-o",
    "lv_name,lv_uuid,lv_attr,lv_size,origin,data_percent,pool_lv",
    "--configreport",
    "seg",
    "-o",
    "lv_uuid,segtype,stripes,seg_size,devices",
];

/// A volume group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Its size in bytes.
    pub size: u64,
    /// What is free of it, in bytes.
    pub free: u64,
    /// The devices that it is made of.
    pub devices: Vec<String>,
    /// What can be seen of its logical volumes.
    pub volumes: Vec<LogicalVolume>,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// LVM's own identifier of it.
    pub uuid: String,
    /// What it is.
    pub kind: Kind,
    /// Whether there is a device.
    pub is_active: bool,
    /// What it takes of the group, or could take of its thin pool, in bytes.
    pub size: u64,
    /// How much of `size` is filled, where that is known, in hundredths of a percent.
    pub filled: Option<u64>,
    /// What it is a snapshot of.
    pub origin: Option<String>,
    /// The thin pool that it is in.
    pub pool: Option<String>,
    /// Where it is.
    pub extents: Vec<Extent>,
}

/// Kinds of logical volumes, as far as they are treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its size is allocated.
    Thick,
    /// It keeps what changes of its origin.
    Snapshot,
    /// It takes space of a thin pool as it is written.
    Thin,
    /// It gives space to thin volumes, and is no device.
    ThinPool,
}

impl LogicalVolume {
    /// What it takes in bytes: of its thin pool, if it is thin; of a thin pool, what its volumes take.
    pub fn allocation(&self) -> u64 {
        match (self.kind, self.filled) {
            (Kind::Thin | Kind::ThinPool, Some(filled)) => {
                (u128::from(self.size) * u128::from(filled) / 10_000) as u64
            }
            (Kind::Thin | Kind::ThinPool, None) => 0,
            _ => self.size,
        }
    }
}

/// Reads the report of one group.
pub fn group(json: &str) -> Result<Group> {
    let document = parse(json)?;
    let report = &document["report"][0];
    let vg = report["vg"].get(0).ok_or_else(|| malformed("a volume group"))?;
    let extent_size = number(vg, "vg_extent_size")?;
    let mut group = Group {
        size: number(vg, "vg_size")?,
        free: number(vg, "vg_free")?,
        devices: rows(report, "pv").filter_map(|pv| text(pv, "pv_name")).map(str::to_owned).collect(),
        volumes: Vec::new(),
    };
    let mut segments = std::collections::HashMap::<&str, Vec<Extent>>::new();
    for segment in rows(report, "seg") {
        let Some(uuid) = text(segment, "lv_uuid") else { continue };
        segments.entry(uuid).or_default().extend(extents(segment, extent_size)?);
    }
    for lv in rows(report, "lv") {
        let (Some(name), Some(uuid)) = (text(lv, "lv_name"), text(lv, "lv_uuid")) else {
            return Err(malformed("a logical volume"));
        };
        let attributes = text(lv, "lv_attr").unwrap_or_default().as_bytes();
        group.volumes.push(LogicalVolume {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            kind: match attributes.first() {
                Some(b's' | b'S') => Kind::Snapshot,
                Some(b'V') => Kind::Thin,
                Some(b't') => Kind::ThinPool,
                _ => Kind::Thick,
            },
            is_active: attributes.get(4) == Some(&b'a'),
            size: number(lv, "lv_size")?,
            filled: text(lv, "data_percent").and_then(hundredths),
            // One in brackets is LVM's own.
            origin: text(lv, "origin").filter(|origin| !origin.starts_with('[')).map(str::to_owned),
            pool: text(lv, "pool_lv").map(str::to_owned),
            extents: segments.remove(uuid).unwrap_or_default(),
        });
    }
    Ok(group)
}

/// Reads which groups there are (`pvs --reportformat json -o pv_name,vg_name`), as sources for pools.
pub fn sources(json: &str) -> Result<Vec<Source>> {
    let document = parse(json)?;
    let mut sources: Vec<Source> = Vec::new();
    for pv in rows(&document["report"][0], "pv") {
        let (Some(device), Some(group)) = (text(pv, "pv_name"), text(pv, "vg_name")) else { continue };
        let device = Device { path: device.to_owned(), part_separator: None, free_extents: Vec::new() };
        match sources.iter_mut().find(|source| source.name.as_deref() == Some(group)) {
            Some(source) => source.devices.push(device),
            None => sources.push(Source {
                name: Some(group.to_owned()),
                devices: vec![device],
                ..Source::of(PoolKind::Logical)
            }),
        }
    }
    Ok(sources)
}

/// The extents of a segment: `devices` lists `DEVICE(FIRST)` for each stripe.
fn extents(segment: &Value, extent_size: u64) -> Result<Vec<Extent>> {
    let Some(devices) = text(segment, "devices") else { return Ok(Vec::new()) };
    let length = number(segment, "seg_size")?;
    // Commas separate, and may be in the name of a device; a piece ends with its first extent in parentheses.
    let mut pieces = Vec::new();
    let mut rest = devices;
    while let Some((piece, more)) = rest.split_once(')') {
        pieces.push(piece);
        rest = more.strip_prefix(',').unwrap_or(more);
    }
    let is_striped = text(segment, "segtype") == Some("striped");
    let length = if is_striped { length / (pieces.len().max(1) as u64) } else { length };
    pieces
        .into_iter()
        .map(|piece| {
            let (device, first) = piece.rsplit_once('(').ok_or_else(|| malformed("an extent's device"))?;
            let first: u64 = first.parse().map_err(|_| malformed("an extent's offset"))?;
            let range =
                first.checked_mul(extent_size).and_then(|start| Some((start, start.checked_add(length)?)));
            let (start, end) = range.ok_or_else(|| malformed("an extent's offset"))?;
            Ok(Extent { device: device.to_owned(), start, end })
        })
        .collect()
}

/// A percentage with two decimal places, as a number of hundredths.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = format!("{part:0<2}");
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part.get(..2)?.parse().ok()?)
        .filter(|h| *h <= 10_000)
}

fn parse(json: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|e| {
        Error::new(Code::Internal, format!("LVM's report is not the JSON that it should be: {e}"))
    })
}

fn rows<'v>(report: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    report[name].as_array().into_iter().flatten()
}

fn text<'v>(row: &'v Value, field: &str) -> Option<&'v str> {
    row[field].as_str().filter(|text| !text.is_empty())
}

fn number(row: &Value, field: &str) -> Result<u64> {
    text(row, field).and_then(|text| text.parse().ok()).ok_or_else(|| malformed(field))
}

fn malformed(what: &str) -> Error {
    Error::new(Code::Internal, format!("LVM's report has no {what} where there should be one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = include_str!("../../tests/golden/lvm-fullreport.json");

    #[test]
    fn a_group_with_every_kind_of_volume() {
        let group = group(REPORT).unwrap();
        assert_eq!((group.size, group.free), (327155712, 171966464));
        assert_eq!(group.devices, ["/dev/loop0", "/dev/loop1"]);
        let volume = |name: &str| group.volumes.iter().find(|volume| volume.name == name).unwrap();
        let extents = |name: &str| -> Vec<_> {
            volume(name).extents.iter().map(|e| (e.device.as_str(), e.start >> 20, e.end >> 20)).collect()
        };
        assert_eq!(extents("linear"), [("/dev/loop0", 0, 20), ("/dev/loop1", 0, 20)]);
        assert_eq!(extents("striped"), [("/dev/loop0", 40, 48), ("/dev/loop1", 20, 28)]);
        assert_eq!(extents("mirrored"), [("mirrored_rimage_0", 0, 8), ("mirrored_rimage_1", 0, 8)]);
        assert_eq!(volume("snap").origin.as_deref(), Some("linear"));
        assert_eq!(volume("snap").kind, Kind::Snapshot);
        assert_eq!(volume("sparse").origin, None);
        let pool = volume("pool");
        assert_eq!((pool.kind, pool.size, pool.allocation()), (Kind::ThinPool, 24 << 20, 3 << 20));
        let thin = volume("thin");
        assert_eq!((thin.kind, thin.size, thin.allocation()), (Kind::Thin, 1 << 30, 3113851));
        assert_eq!(thin.pool.as_deref(), Some("pool"));
        assert!(!volume("off").is_active && !volume("thin-snap").is_active && thin.is_active);
    }

    #[test]
    fn groups_as_sources() {
        let sources = sources(include_str!("../../tests/golden/lvm-pvs.json")).unwrap();
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].name.as_deref(), Some("vg0"));
        assert_eq!(sources[0].devices.len(), 2);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "{}", "[]", r#"{"report":[{"vg":[{"vg_size":"x"}]}]}"#] {
            assert_eq!(group(text).unwrap_err().code, Code::Internal, "{text}");
        }
        assert!(hundredths("100.01").is_none() && hundredths("7").is_some_and(|h| h == 700));
    }
}
