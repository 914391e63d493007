//! Names of pools and volumes.

use crate::{Code, Error, Result};
use std::fmt;

/// A name that is safe as one component of a path: not empty, not `.` or `..`, no `/`, no control characters,
/// at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The longest name in bytes: Linux's limit for one component of a path.
    pub const MAX: usize = 255;

    /// Checks a pool's name.
    pub fn pool(text: impl Into<String>) -> Result<Name> {
        let text = text.into();
        if text.is_empty() {
            return Err(Error::new(Code::XmlError, "missing pool source name element"));
        }
        if text.contains('/') {
            return Err(Error::new(Code::XmlError, format!("name {text} cannot contain '/'")));
        }
        // The pool's XML is kept in a file of this name with `.xml` behind it.
        Name::component(text, Name::MAX - ".xml".len())
    }

    /// Checks a volume's name.
    pub fn volume(text: impl Into<String>) -> Result<Name> {
        let text = text.into();
        if text.is_empty() {
            return Err(Error::new(Code::XmlError, "missing volume name element"));
        }
        if text.contains('/') {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("volume name '{text}' cannot contain '/'"),
            ));
        }
        Name::component(text, Name::MAX)
    }

    fn component(text: String, max: usize) -> Result<Name> {
        if text.contains('\n') {
            return Err(Error::new(Code::XmlDetail, "invalid char in name: \n"));
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(Error::new(
                Code::XmlError,
                format!("name contains the control character U+{:04X}", u32::from(control)),
            ));
        }
        if text == "." || text == ".." {
            return Err(Error::new(Code::XmlError, format!("name '{text}' is reserved by the file system")));
        }
        if text.len() > max {
            return Err(Error::new(
                Code::XmlError,
                format!("name is {} bytes long, at most {max} are allowed", text.len()),
            ));
        }
        Ok(Name(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_path_component_is_no_name() {
        for bad in ["", "a/b", "/", ".", "..", "a\nb", "a\0b", "\u{1b}[31m"] {
            assert!(Name::volume(bad).is_err(), "{bad:?}");
            assert!(Name::pool(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a b", "...", ".hidden", "ü", "<&>'\"", "-rf", &"x".repeat(251)] {
            assert_eq!(Name::volume(good).unwrap().as_str(), good);
            assert_eq!(Name::pool(good).unwrap().as_str(), good);
        }
        assert!(Name::volume("x".repeat(256)).is_err());
        assert!(Name::pool("x".repeat(252)).is_err());
    }
}
