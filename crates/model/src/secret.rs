//! The definition of a secret, after libvirt's `formatsecret`. Values are never part of it.

use crate::flags::Validate;
use crate::source::yes_no;
use crate::xml::{Document, Element, Writer};
use crate::{Code, Domain, Error, Result, Uuid};

/// What a secret is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUsage {
    /// The passphrase of an encrypted volume: its path.
    Volume(String),
    /// A key of a Ceph cluster: its name.
    Ceph(String),
    /// The password of an iSCSI target: its name.
    Iscsi(String),
    /// The password of a TLS key: its name.
    Tls(String),
    /// The passphrase of a virtual TPM's state: its name.
    Vtpm(String),
}

impl SecretUsage {
    /// The type's name in XML.
    pub fn type_name(&self) -> &'static str {
        self.parts().0
    }

    /// What the secret is looked up by.
    pub fn id(&self) -> &str {
        self.parts().2
    }

    /// The type's name, the element that carries the id, and the id.
    fn parts(&self) -> (&'static str, &'static str, &str) {
        match self {
            SecretUsage::Volume(id) => ("volume", "volume", id),
            SecretUsage::Ceph(id) => ("ceph", "name", id),
            SecretUsage::Iscsi(id) => ("iscsi", "target", id),
            SecretUsage::Tls(id) => ("tls", "name", id),
            SecretUsage::Vtpm(id) => ("vtpm", "name", id),
        }
    }

    fn read(usage: &Element<'_, '_>) -> Result<Option<SecretUsage>> {
        let kind = usage.attr("type").ok_or_else(|| usage.missing_attr("type"))?;
        let id = |element: &str, missing: &str| {
            usage.child_text(element).ok_or_else(|| secret_error(Code::Internal, missing))
        };
        match kind {
            "none" => Ok(None),
            "volume" => id("volume", "volume usage specified, but volume path is missing")
                .map(|id| Some(SecretUsage::Volume(id))),
            "ceph" => {
                id("name", "Ceph usage specified, but name is missing").map(|id| Some(SecretUsage::Ceph(id)))
            }
            "iscsi" => id("target", "iSCSI usage specified, but target is missing")
                .map(|id| Some(SecretUsage::Iscsi(id))),
            "tls" => {
                id("name", "TLS usage specified, but name is missing").map(|id| Some(SecretUsage::Tls(id)))
            }
            "vtpm" => {
                id("name", "vTPM usage specified, but name is missing").map(|id| Some(SecretUsage::Vtpm(id)))
            }
            other => Err(usage.bad_attr("type", other, "")),
        }
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

impl SecretDef {
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
                    let (kind, element, id) = usage.parts();
                    w.element("usage").attr("type", kind).children(|w| w.text(element, id));
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
