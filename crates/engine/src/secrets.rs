//! Secrets as libvirt keeps them: `UUID.xml`, and the value in `UUID.base64`. They are read, never written.

use crate::Layout;
use cenote_backend::{SecretValue, Secrets};
use cenote_model::auth::SecretRef;
use cenote_model::flags::Validate;
use cenote_model::secret::{SecretDef, SecretUsage};
use cenote_model::{Code, Domain, Error, Result, Uuid};
use std::path::PathBuf;

pub(crate) struct SecretFiles(PathBuf);

impl SecretFiles {
    pub(crate) fn of(layout: &Layout) -> SecretFiles {
        SecretFiles(layout.secrets().to_owned())
    }

    fn definitions(&self) -> impl Iterator<Item = SecretDef> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
            .filter_map(|path| SecretDef::from_xml(&std::fs::read_to_string(path).ok()?, Validate::Lax).ok())
    }

    fn find(&self, secret: &SecretRef) -> Option<Uuid> {
        match secret {
            SecretRef::Uuid(uuid) => Some(*uuid),
            SecretRef::Usage(usage) => {
                let is_meant = |def: &SecretDef| def.usage.as_ref().is_some_and(|u| u.id() == usage);
                self.definitions().find(is_meant).map(|def| def.uuid)
            }
        }
    }
}

impl Secrets for SecretFiles {
    fn value(&self, secret: &SecretRef) -> Result<SecretValue> {
        let missing = |what: String| Error::new(Code::NoSecret, what).in_domain(Domain::Secret);
        let uuid = self.find(secret).ok_or_else(|| match secret {
            SecretRef::Usage(usage) => missing(format!("no secret with matching usage '{usage}'")),
            SecretRef::Uuid(uuid) => missing(format!("no secret with matching uuid '{uuid}'")),
        })?;
        let path = self.0.join(format!("{uuid}.base64"));
        let text = std::fs::read(path)
            .map_err(|_| missing(format!("secret '{uuid}' is not defined here, or does not have a value")))?;
        let text = SecretValue::new(text);
        decode_base64(text.expose())
            .map(SecretValue::new)
            .ok_or_else(|| missing(format!("the value of secret '{uuid}' is damaged")))
    }

    fn of_volume(&self, path: &str) -> Option<Uuid> {
        let is_meant = |def: &SecretDef| def.usage == Some(SecretUsage::Volume(path.to_owned()));
        self.definitions().find(is_meant).map(|def| def.uuid)
    }
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .iter()
        .filter(|c| !c.is_ascii_whitespace() && **c != b'=')
        .map(|c| match c {
            b'A'..=b'Z' => Some(c - b'A'),
            b'a'..=b'z' => Some(c - b'a' + 26),
            b'0'..=b'9' => Some(c - b'0' + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        })
        .map(|digit| digit.map(u32::from))
        .collect::<Option<_>>()?;
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let value = group.iter().fold(0, |value, digit| value << 6 | digit) << (6 * (4 - group.len()));
        let count = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bytes.extend(&value.to_be_bytes()[1..=count]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9v\nYmFy", b"foobar"),
            ("//79", b"\xff\xfe\xfd"),
        ] {
            assert_eq!(decode_base64(text.as_bytes()).unwrap(), bytes, "{text}");
        }
        assert_eq!(decode_base64(b"Zg=?"), None);
        assert_eq!(decode_base64(b"Z"), None);
    }
}
