//! The definition of a secret, after libvirt's `formatsecret`. Values are never part of it.

use crate::flags::Validate;
use crate::source::yes_no;
use crate::xml::{Document, Element, Writer};
use crate::{Code, Domain, Error, Result, Uuid, named_enum};

named_enum! {
    /// What a secret may be for, in the order of libvirt's numbers (`virSecretUsageType`).
    pub enum UsageKind {
        /// The passphrase of an encrypted volume.
        Volume = "volume",
        /// A key of a Ceph cluster.
        Ceph = "ceph",
        /// The password of an iSCSI target.
        Iscsi = "iscsi",
        /// The password of a TLS key.
        Tls = "tls",
        /// The passphrase of a virtual TPM's state.
        Vtpm = "vtpm",
    }
}

impl UsageKind {
    /// The number on the wire; 0 stands for no usage.
    pub fn number(self) -> i32 {
        self as i32 + 1
    }

    /// The kind with this number.
    pub fn from_number(number: i32) -> Option<UsageKind> {
        UsageKind::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// The element that carries the id, and libvirt's words for its missing.
    fn element(self) -> (&'static str, &'static str) {
        match self {
            UsageKind::Volume => ("volume", "volume usage specified, but volume path is missing"),
            UsageKind::Ceph => ("name", "Ceph usage specified, but name is missing"),
            UsageKind::Iscsi => ("target", "iSCSI usage specified, but target is missing"),
            UsageKind::Tls => ("name", "TLS usage specified, but name is missing"),
            UsageKind::Vtpm => ("name", "vTPM usage specified, but name is missing"),
        }
    }
}

/// What a secret is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUsage {
    /// The kind of thing.
    pub kind: UsageKind,
    /// Which one: the path of a volume, the name of something else. The secret is looked up by it.
    pub id: String,
}

impl SecretUsage {
    fn read(usage: &Element<'_, '_>) -> Result<Option<SecretUsage>> {
        let kind = match usage.attr("type").ok_or_else(|| usage.missing_attr("type"))? {
            "none" => return Ok(None),
            name => UsageKind::from_name(name).ok_or_else(|| usage.bad_attr("type", name, ""))?,
        };
        let (element, missing) = kind.element();
        let id = usage.child_text(element).ok_or_else(|| secret_error(Code::Internal, missing))?;
        Ok(Some(SecretUsage { kind, id }))
    }
}

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretDef {
    /// Never written to disk.
    pub ephemeral: bool,
    /// Its value is never given to a client.
    pub private: bool,
    /// The UUID.
    pub uuid: Uuid,
    /// A text for people.
    pub description: Option<String>,
    /// What it is for.
    pub usage: Option<SecretUsage>,
}

/// A secret, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretId {
    /// Its UUID, by which it is found.
    pub uuid: Uuid,
    /// What it is for.
    pub usage: Option<SecretUsage>,
}

/// Which secrets a list is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecretFilter {
    /// Only those that are ephemeral, or only those that are not.
    pub ephemeral: Option<bool>,
    /// Only those that are private, or only those that are not.
    pub private: Option<bool>,
}

impl SecretFilter {
    /// True if the list is to have this one.
    pub fn admits(self, def: &SecretDef) -> bool {
        self.ephemeral.is_none_or(|wanted| wanted == def.ephemeral)
            && self.private.is_none_or(|wanted| wanted == def.private)
    }
}

impl SecretDef {
    /// What a client names it by.
    pub fn id(&self) -> SecretId {
        SecretId { uuid: self.uuid, usage: self.usage.clone() }
    }

    /// Reads a `<secret>` document.
    pub fn from_xml(text: &str, validate: Validate) -> Result<SecretDef> {
        let document = match validate {
            Validate::Lax => Document::lax(text)?,
            Validate::Strict => Document::strict(text)?,
        };
        let secret = document.root("secret")?;
        let uuid = match secret.child_text("uuid") {
            Some(text) => {
                Uuid::parse(&text).ok_or_else(|| secret_error(Code::Internal, "malformed uuid element"))?
            }
            None => Uuid::random().ok_or_else(|| secret_error(Code::Internal, "Failed to generate UUID"))?,
        };
        let def = SecretDef {
            ephemeral: read_yes_no(&secret, "ephemeral")?,
            private: read_yes_no(&secret, "private")?,
            uuid,
            description: secret.child_text("description"),
            usage: match secret.child("usage") {
                Some(usage) => SecretUsage::read(&usage)?,
                None => None,
            },
        };
        document.finish()?;
        Ok(def)
    }

    /// The `<secret>` document.
    pub fn to_xml(&self) -> String {
        let mut w = Writer::new();
        w.element("secret")
            .attr("ephemeral", yes_no(self.ephemeral))
            .attr("private", yes_no(self.private))
            .children(|w| {
                w.text("uuid", self.uuid);
                w.text_opt("description", self.description.as_deref());
                if let Some(usage) = &self.usage {
                    let (element, _) = usage.kind.element();
                    w.element("usage").attr("type", usage.kind).children(|w| w.text(element, &usage.id));
                }
            });
        w.finish()
    }
}

fn read_yes_no(secret: &Element<'_, '_>, name: &str) -> Result<bool> {
    match secret.attr_non_empty(name) {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(_) => Err(secret_error(Code::XmlError, &format!("invalid value of '{name}'"))),
    }
}

fn secret_error(code: Code, detail: &str) -> Error {
    Error::new(code, detail).in_domain(Domain::Secret)
}
