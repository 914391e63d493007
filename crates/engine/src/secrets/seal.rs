//! Values encrypted at rest, as libvirt does since 12.1: AES-256 in CBC mode with PKCS#7 padding, the initialization
//! vector in front. The key is 32 bytes in a file, which `secret.conf` names or systemd hands over.

use crate::Layout;
use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use cbc::{Decryptor, Encryptor};
use cenote_host::{SecretValue, Settings};
use cenote_model::{Code, Domain, Error, Result};
use std::path::PathBuf;

const KEY: usize = 32;
const BLOCK: usize = 16;

/// The key with which values are encrypted.
pub(super) struct Seal(SecretValue);

impl Seal {
    /// The key, if values are to be encrypted.
    pub(super) fn of(layout: &Layout) -> Result<Option<Seal>> {
        let settings = Settings::read(&layout.settings("secret.conf"))?;
        let wanted = match settings.get("encrypt_data") {
            None => None,
            Some(setting) => Some(match setting.value.as_str() {
                "0" => false,
                "1" => true,
                other => {
                    let problem = format_args!("encrypt_data is 0 or 1, not '{other}'");
                    return Err(settings.wrong(setting.line, problem));
                }
            }),
        };
        let named = settings.get("secrets_encryption_key").map(|setting| PathBuf::from(&setting.value));
        let path = match (wanted, named.or_else(credential)) {
            (Some(false), _) | (None, None) => return Ok(None),
            (Some(true), None) => layout.secrets_run().join("encryption-key"),
            (_, Some(path)) => path,
        };
        let key = SecretValue::read_file(&path, 1 << 10).map_err(|e| {
            Error::system(format!("cannot read the encryption key of secrets '{}'", path.display()), &e)
        })?;
        if key.expose().len() != KEY {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!(
                    "the encryption key of secrets '{}' has {} bytes, and must have {KEY}",
                    path.display(),
                    key.expose().len()
                ),
            )
            .in_domain(Domain::Secret));
        }
        Ok(Some(Seal(key)))
    }

    /// Encrypts a value.
    pub(super) fn close(&self, value: &SecretValue) -> Result<SecretValue> {
        let length = value.expose().len();
        let mut sealed = SecretValue::zeroed(BLOCK + (length + 1).next_multiple_of(BLOCK));
        let (vector, data) = sealed.expose_mut().split_at_mut(BLOCK);
        let failed = |what: &str| Error::new(Code::Internal, format!("cannot encrypt a secret: {what}"));
        getrandom::fill(vector).map_err(|e| failed(&e.to_string()))?;
        data[..length].copy_from_slice(value.expose());
        Encryptor::<Aes256>::new_from_slices(self.0.expose(), vector)
            .map_err(|e| failed(&e.to_string()))?
            .encrypt_padded::<Pkcs7>(data, length)
            .map_err(|e| failed(&e.to_string()))?;
        Ok(sealed)
    }

    /// Decrypts a value; `None` if it is damaged, or was encrypted with another key.
    pub(super) fn open(&self, mut sealed: SecretValue) -> Option<SecretValue> {
        let (vector, data) = sealed.expose_mut().split_at_mut_checked(BLOCK)?;
        let cipher = Decryptor::<Aes256>::new_from_slices(self.0.expose(), vector).ok()?;
        cipher.decrypt_padded::<Pkcs7>(data).ok().map(SecretValue::copy_of)
    }
}

/// The key that systemd hands over (`LoadCredentialEncrypted=secrets-encryption-key:…`).
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("secrets-encryption-key");
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_opened_with_the_same_key_only() {
        let seal = Seal(SecretValue::copy_of(&[7; KEY]));
        let other = Seal(SecretValue::copy_of(&[8; KEY]));
        for length in [0, 1, 15, 16, 17, 65536] {
            let value = SecretValue::copy_of(&vec![0x61; length]);
            let sealed = || SecretValue::copy_of(seal.close(&value).unwrap().expose());
            assert!(!sealed().expose().windows(16).any(|bytes| bytes == [0x61; 16]));
            assert_eq!(seal.open(sealed()).unwrap().expose(), value.expose());
            assert!(other.open(sealed()).is_none_or(|opened| opened.expose() != value.expose()));
            let mut cut = sealed();
            cut.truncate(BLOCK + 1);
            assert!(seal.open(cut).is_none());
        }
        assert!(seal.open(SecretValue::zeroed(3)).is_none());
    }

    /// What `openssl enc -aes-256-cbc` makes of the same.
    #[test]
    fn a_value_sealed_elsewhere() {
        let seal = Seal(SecretValue::copy_of(b"0123456789abcdef0123456789abcdef"));
        let sealed = SecretValue::from_base64(b"ZmVkY2JhOTg3NjU0MzIxMO2sZV5kjPNzfZKMNTXPAcM=").unwrap();
        assert_eq!(seal.open(sealed).unwrap().expose(), b"opensesame");
    }
}
