//! `<encryption>` of a volume, after libvirt's `formatstorageencryption`.

use crate::auth::SecretRef;
use crate::xml::{Element, Writer};
use crate::{Code, Error, Result, named_enum};

named_enum! {
    /// The format of the encryption.
    pub enum EncryptionFormat {
        Default = "default",
        Qcow = "qcow",
        Luks = "luks",
        Luks2 = "luks2",
    }
}

named_enum! {
    /// Who encrypts.
    pub enum EncryptionEngine {
        Qemu = "qemu",
        Librbd = "librbd",
    }
}

/// The cipher of a LUKS volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cipher {
    /// `aes`, `twofish`, …
    pub name: String,
    /// The key's size in bits.
    pub size: u32,
    /// `cbc`, `xts`, …
    pub mode: Option<String>,
    /// `sha256`, …
    pub hash: Option<String>,
    /// How initialisation vectors are made.
    pub ivgen: Option<IvGen>,
}

/// `<ivgen>` of a cipher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IvGen {
    /// `plain`, `plain64`, `essiv`.
    pub name: String,
    /// The hash, for `essiv`.
    pub hash: Option<String>,
}

/// How a volume is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The format.
    pub format: EncryptionFormat,
    /// Who encrypts, where it is said.
    pub engine: Option<EncryptionEngine>,
    /// The secrets with the passphrases.
    pub secrets: Vec<SecretRef>,
    /// The cipher, for LUKS.
    pub cipher: Option<Cipher>,
}

impl Encryption {
    /// Encryption in this format, nothing else known.
    pub fn of(format: EncryptionFormat) -> Encryption {
        Encryption { format, engine: None, secrets: Vec::new(), cipher: None }
    }

    pub(crate) fn read(element: &Element<'_, '_>) -> Result<Encryption> {
        let name = element
            .attr_non_empty("format")
            .ok_or_else(|| Error::new(Code::XmlError, "unknown volume encryption format"))?;
        let format = EncryptionFormat::from_name(name).ok_or_else(|| {
            Error::new(Code::ConfigUnsupported, format!("unknown volume encryption format type {name}"))
        })?;
        let engine = element.attr_enum("engine", EncryptionEngine::from_name)?;
        let mut secrets = Vec::new();
        for secret in element.children("secret") {
            match secret.attr_non_empty("type") {
                None => return Err(Error::new(Code::XmlError, "unknown volume encryption secret type")),
                Some("passphrase") => {}
                Some(other) => {
                    return Err(Error::new(
                        Code::ConfigUnsupported,
                        format!("unknown volume encryption secret type {other}"),
                    ));
                }
            }
            secrets.push(SecretRef::read(&secret)?);
        }
        let cipher = if matches!(format, EncryptionFormat::Luks | EncryptionFormat::Luks2) {
            Cipher::read(element)?
        } else {
            None
        };
        Ok(Encryption { format, engine, secrets, cipher })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.element("encryption").attr("format", self.format).attr_opt("engine", self.engine).children(|w| {
            for secret in &self.secrets {
                secret.write(w, Some("passphrase"));
            }
            if let Some(cipher) = &self.cipher {
                cipher.write(w);
            }
        });
    }
}

impl Cipher {
    fn read(encryption: &Element<'_, '_>) -> Result<Option<Cipher>> {
        let ivgen = encryption.child("ivgen");
        let Some(element) = encryption.child("cipher") else {
            return match ivgen {
                Some(_) => Err(Error::new(Code::XmlError, "ivgen element found, but cipher is missing")),
                None => Ok(None),
            };
        };
        let name = element
            .attr("name")
            .ok_or_else(|| Error::new(Code::XmlError, "cipher info missing 'name' attribute"))?;
        let size = element.attr_u32("size")?.ok_or_else(|| element.missing_attr("size"))?;
        let ivgen = match ivgen {
            None => None,
            Some(ivgen) => Some(IvGen {
                name: ivgen
                    .attr("name")
                    .ok_or_else(|| Error::new(Code::XmlError, "missing ivgen info name string"))?
                    .to_owned(),
                hash: ivgen.attr("hash").map(str::to_owned),
            }),
        };
        Ok(Some(Cipher {
            name: name.to_owned(),
            size,
            mode: element.attr("mode").map(str::to_owned),
            hash: element.attr("hash").map(str::to_owned),
            ivgen,
        }))
    }

    fn write(&self, w: &mut Writer) {
        w.element("cipher")
            .attr("name", &self.name)
            .attr("size", self.size)
            .attr_opt("mode", self.mode.as_deref())
            .attr_opt("hash", self.hash.as_deref())
            .empty();
        if let Some(ivgen) = &self.ivgen {
            w.element("ivgen").attr("name", &ivgen.name).attr_opt("hash", ivgen.hash.as_deref()).empty();
        }
    }
}
