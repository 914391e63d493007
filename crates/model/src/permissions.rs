//! Who may do what with a pool's directory or a volume.

use crate::xml::{Element, Writer};
use crate::{Code, Error, Result};

/// `<permissions>`: what is absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// The mode, at most 0777.
    pub mode: Option<u32>,
    /// The owner's number.
    pub owner: Option<u32>,
    /// The group's number.
    pub group: Option<u32>,
    /// The security label.
    pub label: Option<String>,
}

impl Permissions {
    /// Reads the `<permissions>` in `parent`, if there is one.
    pub(crate) fn read(parent: &Element<'_, '_>) -> Result<Permissions> {
        let Some(element) = parent.child("permissions") else { return Ok(Permissions::default()) };
        let mode = match element.child_text("mode") {
            None => None,
            Some(text) => Some(
                u32::from_str_radix(text.trim_ascii_start(), 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777)
                    .ok_or_else(|| Error::new(Code::XmlError, "malformed octal mode"))?,
            ),
        };
        Ok(Permissions {
            mode,
            owner: id(&element, "owner")?,
            group: id(&element, "group")?,
            label: element.child_text("label"),
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        if *self == Permissions::default() {
            return;
        }
        w.element("permissions").children(|w| {
            if let Some(mode) = self.mode {
                w.text("mode", format_args!("0{mode:o}"));
            }
            w.text_opt("owner", self.owner.map(|id| id as i32));
            w.text_opt("group", self.group.map(|id| id as i32));
            w.text_opt("label", self.label.as_deref());
        });
    }
}

/// -1 means "not given": libvirt used to write it.
fn id(parent: &Element<'_, '_>, name: &str) -> Result<Option<u32>> {
    let Some(element) = parent.child(name) else { return Ok(None) };
    let number = element.text().trim_ascii().parse::<i64>().ok();
    match number {
        Some(-1 | 0xffff_ffff) => Ok(None),
        // Numbers from 2^31 on are written as negative ones, in libvirt's layout.
        Some(n) if n < -1 && i32::try_from(n).is_ok() => Ok(Some(n as i32 as u32)),
        Some(n) if (0..i64::from(u32::MAX)).contains(&n) => Ok(Some(n as u32)),
        _ => Err(Error::new(Code::XmlError, format!("malformed {name} element"))),
    }
}
