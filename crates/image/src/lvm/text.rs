//! The text in which LVM keeps a volume group: sections in braces, and values that are words, strings or lists of them, as
//! libdm/libdm-config.c and lib/format_text of the LVM2 sources have it.

use super::{Device, Group, Segment, Stripe, Volume};
use std::borrow::Cow;

/// How deep sections and lists may be in each other; LVM's are four deep.
const DEPTH: usize = 16;
const SECTOR: u64 = 512;

/// Reads a plain group (see [`super::read`]); `None` if it is another one, or not as it should be.
pub(super) fn group(text: &[u8]) -> Option<Group> {
    // On a device it ends with a zero.
    let text = std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()?;
    let document = Reader { rest: text }.section(DEPTH)?;
    let (name, group) = document.0.iter().find_map(|(name, value)| Some((*name, value.section()?)))?;
    let is_plain = group.has_only("status", &["RESIZEABLE", "READ", "WRITE"])?
        && group.has_only("flags", &[])?
        && group.is_empty_or("lock_type", "none")
        && group.is_empty_or("system_id", "");
    if !is_plain {
        return None;
    }
    let devices = group.sections("physical_volumes").map(|(name, device)| read_device(name, device));
    let devices: Vec<_> = devices.collect::<Option<_>>()?;
    let volumes = group.sections("logical_volumes").map(|(name, volume)| read_volume(name, volume, &devices));
    Some(Group {
        name: name.to_owned(),
        sequence: group.number("seqno")?,
        extent_size: group.number("extent_size")?.checked_mul(SECTOR).filter(|size| *size != 0)?,
        volumes: volumes.collect::<Option<_>>()?,
        devices: devices.into_iter().map(|(_, device)| device).collect(),
    })
}

/// A device, with the name that segments use for it.
fn read_device<'t>(name: &'t str, section: &Section<'t>) -> Option<(&'t str, Device)> {
    if !section.has_only("status", &["ALLOCATABLE"])? || !section.has_only("flags", &[])? {
        return None;
    }
    let device = Device {
        id: section.text("id")?.replace('-', ""),
        path: section.text("device").map(str::to_owned),
        extents: section.number("pe_count")?,
    };
    Some((name, device))
}

fn read_volume(name: &str, section: &Section<'_>, devices: &[(&str, Device)]) -> Option<Volume> {
    let is_plain = section.has_only("status", &["READ", "WRITE", "VISIBLE"])?
        && section.list("status")?.iter().any(|status| status.text() == Some("VISIBLE"))
        && section.has_only("flags", &[])?;
    if !is_plain {
        return None;
    }
    let count = section.number("segment_count")?;
    let segments: Vec<_> = (1..=count)
        .map_while(|number| section.get(&format!("segment{number}"))?.section())
        .map(|segment| read_segment(segment, devices))
        .collect::<Option<_>>()?;
    (segments.len() as u64 == count).then(|| Volume {
        name: name.to_owned(),
        id: section.text("id").unwrap_or_default().to_owned(),
        segments,
    })
}

fn read_segment(section: &Section<'_>, devices: &[(&str, Device)]) -> Option<Segment> {
    if section.text("type")? != "striped" {
        return None;
    }
    let extents = section.number("extent_count")?;
    let places = section.list("stripes")?;
    let count = places.len() as u64 / 2;
    if count == 0 || places.len() % 2 != 0 || extents % count != 0 {
        return None;
    }
    let length = extents / count;
    let stripes = places.chunks_exact(2).map(|place| {
        let device = devices.iter().position(|(name, _)| Some(*name) == place[0].text())?;
        let first = place[1].number()?;
        let end = first.checked_add(length)?;
        (end <= devices[device].1.extents).then_some(Stripe { device, first, length })
    });
    Some(Segment { stripes: stripes.collect::<Option<_>>()? })
}

/// What names of values and of sections stand for, in the order of the text.
struct Section<'t>(Vec<(&'t str, Value<'t>)>);

enum Value<'t> {
    Word(&'t str),
    Text(Cow<'t, str>),
    List(Vec<Value<'t>>),
    Section(Section<'t>),
}

impl<'t> Section<'t> {
    fn get(&self, name: &str) -> Option<&Value<'t>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.number()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    fn list(&self, name: &str) -> Option<&[Value<'t>]> {
        match self.get(name)? {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// The sections in a section, which is left out if there are none.
    fn sections(&self, name: &str) -> impl Iterator<Item = (&'t str, &Section<'t>)> {
        let inner = self.get(name).and_then(Value::section).map_or(&[][..], |section| &section.0);
        inner.iter().filter_map(|(name, value)| Some((*name, value.section()?)))
    }

    /// True if a list has none but these; `None` if there is no such list.
    fn has_only(&self, name: &str, allowed: &[&str]) -> Option<bool> {
        let values = self.list(name)?;
        Some(values.iter().all(|value| value.text().is_some_and(|text| allowed.contains(&text))))
    }

    fn is_empty_or(&self, name: &str, expected: &str) -> bool {
        self.get(name)
            .is_none_or(|value| matches!(value.text(), Some(text) if text.is_empty() || text == expected))
    }
}

impl<'t> Value<'t> {
    fn section(&self) -> Option<&Section<'t>> {
        match self {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Value::Word(word) => word.parse().ok(),
            _ => None,
        }
    }
}

/// What is still to be read.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    /// Goes past blanks and comments.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    /// Goes past this character if it comes next.
    fn take(&mut self, expected: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Option<&'t str> {
        self.skip();
        let is_end = |c: char| c.is_whitespace() || "={}[],#\"".contains(c);
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// What is in a section, up to its brace or to the end of the text.
    fn section(&mut self, depth: usize) -> Option<Section<'t>> {
        let depth = depth.checked_sub(1)?;
        let mut values = Vec::new();
        loop {
            self.skip();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                return Some(Section(values));
            }
            let name = self.word()?;
            let value = if self.take('{') {
                let section = self.section(depth)?;
                self.take('}').then_some(Value::Section(section))?
            } else {
                self.take('=').then(|| self.value(depth))??
            };
            values.push((name, value));
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value<'t>> {
        let depth = depth.checked_sub(1)?;
        if self.take('"') {
            return self.text().map(Value::Text);
        }
        if !self.take('[') {
            return self.word().map(Value::Word);
        }
        let mut values = Vec::new();
        while !self.take(']') {
            values.push(self.value(depth)?);
            self.take(',');
        }
        Some(Value::List(values))
    }

    /// A string, whose first quotation mark has been read. A backslash stands before one in it, and before itself.
    fn text(&mut self) -> Option<Cow<'t, str>> {
        let mut escaped = String::new();
        loop {
            let (piece, rest) = self.rest.split_at(self.rest.find(['"', '\\'])?);
            if let Some(rest) = rest.strip_prefix('"') {
                self.rest = rest;
                return Some(match escaped.is_empty() {
                    true => Cow::Borrowed(piece),
                    false => Cow::Owned(escaped + piece),
                });
            }
            let mut rest = rest[1..].chars();
            escaped.push_str(piece);
            escaped.push(rest.next()?);
            self.rest = rest.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = include_str!("../../tests/golden/lvm-plain");

    #[test]
    fn a_plain_group() {
        let group = group(&[PLAIN.as_bytes(), &[0]].concat()).unwrap();
        assert_eq!((group.name.as_str(), group.sequence, group.extent_size), ("vg0", 5, 4 << 20));
        assert_eq!(group.devices.iter().map(|device| device.extents).collect::<Vec<_>>(), [49, 29]);
        assert_eq!(group.devices[1].path.as_deref(), Some("/dev/loop1"));
        let linear = &group.volumes[0];
        assert_eq!((linear.name.as_str(), linear.id.len()), ("linear", 38));
        let stripe = |device, first, length| Stripe { device, first, length };
        assert_eq!(linear.segments[1].stripes, [stripe(1, 0, 5)]);
        assert_eq!(group.volumes[2].segments[0].stripes, [stripe(0, 15, 2), stripe(1, 5, 2)]);
    }

    #[test]
    fn what_lvm_has_to_be_asked_about() {
        for (plain, special) in [
            ("\"striped\"", "\"mirror\""),
            ("\"RESIZEABLE\", ", "\"EXPORTED\", "),
            ("\"VISIBLE\"", "\"LOCKED\""),
            (", \"VISIBLE\"", ""),
            ("[\"ALLOCATABLE\"]", "[]\nflags = [\"MISSING\"]"),
            ("seqno", "system_id = \"other\"\nseqno"),
            ("seqno", "lock_type = \"sanlock\"\nseqno"),
            ("\"pv1\", 0", "\"pv1\", 25"),
            ("\"pv1\", 0", "\"pv2\", 0"),
            ("segment_count = 2", "segment_count = 3"),
            ("extent_size = 8192", "extent_size = 0"),
        ] {
            let text = PLAIN.replacen(plain, special, 1);
            assert!(text != PLAIN && group(text.as_bytes()).is_none(), "{special}");
        }
    }

    #[test]
    fn what_is_cut_off_or_nonsense() {
        assert!((0..PLAIN.rfind('}').unwrap()).all(|end| group(&PLAIN.as_bytes()[..end]).is_none()));
        for text in
            ["", "vg {", "vg = {", "vg { a = [", "vg { a = \"", "vg { a = \"\\", "}", "# only a comment"]
        {
            assert!(group(text.as_bytes()).is_none(), "{text}");
        }
        assert!(group("a {".repeat(100_000).as_bytes()).is_none());
        assert!(group(format!("a {{ b = {}", "[".repeat(100_000)).as_bytes()).is_none());
        let quoted = Reader { rest: r#"a = "x\"y\\z" # comment"# }.section(DEPTH).unwrap();
        assert_eq!(quoted.text("a"), Some(r#"x"y\z"#));
    }
}
