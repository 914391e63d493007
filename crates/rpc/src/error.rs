//! Errors on the wire (`virNetMessageError`).

use crate::xdr::{Decode, Encode, Input, XdrError};
use cenote_model::{Code, Domain, Error};

/// What libvirt's clients make a `virError` of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// The code's number.
    pub code: i32,
    /// The domain's number.
    pub domain: i32,
    /// The whole message, the code's own phrase with it.
    pub message: Option<String>,
    /// The phrase, with `%1$s` for the detail.
    pub phrase: Option<String>,
    /// The detail alone.
    pub detail: Option<String>,
}

/// `VIR_ERR_ERROR`.
const LEVEL: i32 = 2;

impl From<&Error> for WireError {
    fn from(error: &Error) -> WireError {
        let phrase = match error.phrase() {
            "{}" => "%s".to_owned(),
            phrase => phrase.replacen("{}", "%1$s", 1),
        };
        // Of a wrong argument libvirt says here in which of its own functions that is.
        let has_parts = phrase != "%s" || error.code != Code::InvalidArg;
        WireError {
            code: error.code as i32,
            domain: error.domain as i32,
            message: Some(error.to_string()),
            phrase: has_parts.then_some(phrase),
            detail: (has_parts && !error.detail.is_empty()).then(|| error.detail.clone()),
        }
    }
}

impl WireError {
    /// The error, for those who got it from a server.
    pub fn into_error(self) -> Error {
        let code = u32::try_from(self.code).ok().and_then(Code::from_number).unwrap_or(Code::Internal);
        let message = self.message.unwrap_or_default();
        Error::from_message(code, &message).in_domain(Domain::from_number(self.domain))
    }
}

impl Encode for WireError {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.code, self.domain).encode(out);
        self.message.encode(out);
        LEVEL.encode(out);
        None::<String>.encode(out);
        self.phrase.encode(out);
        self.detail.encode(out);
        None::<String>.encode(out);
        (-1i32, -1i32, None::<String>).encode(out);
    }
}

impl Decode for WireError {
    fn decode(input: &mut Input<'_>) -> Result<WireError, XdrError> {
        let (code, domain, message, _level) = <(i32, i32, Option<String>, i32)>::decode(input)?;
        // A domain is a name, a UUID and a number. Errors of storage name none.
        let _domain = <Option<(String, cenote_model::Uuid, i32)>>::decode(input)?;
        let (phrase, detail) = Decode::decode(input)?;
        Ok(WireError { code, domain, message, phrase, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{from_bytes, to_bytes};

    #[test]
    fn an_error_as_libvirtd_sends_it() {
        let error = Error::new(Code::NoStorageVol, "no storage vol with matching name 'nosuch'");
        let bytes = to_bytes(&WireError::from(&error));
        assert_eq!(bytes[..16], *b"\0\0\0\x32\0\0\0\x12\0\0\0\x01\0\0\0\x44");
        assert_eq!(from_bytes::<WireError>(&bytes).unwrap().into_error(), error);
    }
}
