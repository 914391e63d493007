//! How a pool proves itself to its server, and how secrets are named.

use crate::xml::{Element, Writer};
use crate::{Code, Error, Result, Uuid, named_enum};

/// The namespace of what libvirt's documents have no place for. libvirt passes over it.
const NAMESPACE: &str = "urn:cenote:storagepool:1.0";

/// Which secret is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// By its UUID.
    Uuid(Uuid),
    /// By what it is used for.
    Usage(String),
}

impl SecretRef {
    pub(crate) fn read(element: &Element<'_, '_>) -> Result<SecretRef> {
        match (element.attr("uuid"), element.attr("usage")) {
            (None, None) => Err(Error::new(Code::XmlError, "missing secret uuid or usage attribute")),
            (Some(_), Some(_)) => Err(Error::new(Code::XmlError, "either secret uuid or usage expected")),
            (Some(uuid), None) => Uuid::parse(uuid)
                .map(SecretRef::Uuid)
                .ok_or_else(|| Error::new(Code::XmlError, format!("invalid secret uuid '{uuid}'"))),
            (None, Some(usage)) => Ok(SecretRef::Usage(usage.to_owned())),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer, secret_type: Option<&str>) {
        let element = w.element("secret").attr_opt("type", secret_type);
        match self {
            SecretRef::Uuid(uuid) => element.attr("uuid", uuid).empty(),
            SecretRef::Usage(usage) => element.attr("usage", usage).empty(),
        }
    }
}

named_enum! {
    /// The way of authentication.
    pub enum AuthKind {
        Chap = "chap",
        Ceph = "ceph",
    }
}

/// `<auth>` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// How.
    pub kind: AuthKind,
    /// Who.
    pub username: String,
    /// With what.
    pub secret: SecretRef,
    /// The `type` of the `<secret>` element, kept as it was given.
    pub secret_type: Option<String>,
    /// As whom the target proves itself in its turn; with CHAP only.
    pub target: Option<TargetAuth>,
}

/// `<target>` in our own namespace, in an `<auth>`: CHAP the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAuth {
    /// Who.
    pub username: String,
    /// With what.
    pub secret: SecretRef,
}

impl Auth {
    pub(crate) fn read(element: &Element<'_, '_>) -> Result<Auth> {
        let username = element
            .attr_non_empty("username")
            .ok_or_else(|| Error::new(Code::XmlError, "missing username for auth"))?
            .to_owned();
        let kind =
            match element.attr_non_empty("type") {
                None | Some("none") => None,
                Some(name) => Some(AuthKind::from_name(name).ok_or_else(|| {
                    Error::new(Code::ConfigUnsupported, format!("unknown auth type '{name}'"))
                })?),
            };
        let secret = element
            .child("secret")
            .ok_or_else(|| Error::new(Code::XmlError, "Missing <secret> element in auth"))?;
        let secret_type = secret.attr("type").map(str::to_owned);
        let reference = SecretRef::read(&secret)?;
        let kind =
            kind.ok_or_else(|| Error::new(Code::ConfigUnsupported, "storage pool missing auth type"))?;
        let target = element.children_in(NAMESPACE, "target").next();
        let target = target.map(|target| TargetAuth::read(&target)).transpose()?;
        if target.is_some() && kind != AuthKind::Chap {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!("a target proves itself with auth type 'chap', not with '{kind}'"),
            ));
        }
        Ok(Auth { kind, username, secret: reference, secret_type, target })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("auth").attr("type", self.kind).attr("username", &self.username).children(|w| {
            self.secret.write(w, self.secret_type.as_deref());
            if let Some(target) = &self.target {
                target.write(w);
            }
        });
    }
}

impl TargetAuth {
    fn read(element: &Element<'_, '_>) -> Result<TargetAuth> {
        let missing = |what| Error::new(Code::XmlError, format!("missing {what} for auth of the target"));
        let username = element.attr_non_empty("username").ok_or_else(|| missing("username"))?.to_owned();
        let secret = element.child("secret").ok_or_else(|| missing("<secret> element"))?;
        Ok(TargetAuth { username, secret: SecretRef::read(&secret)? })
    }

    fn write(&self, w: &mut Writer) {
        w.element("cenote:target")
            .attr("xmlns:cenote", NAMESPACE)
            .attr("username", &self.username)
            .children(|w| self.secret.write(w, None));
    }
}
