//! Errors as libvirt's clients know them: a code, the part of the system it comes from, and a message.

use std::fmt;
use std::io;

/// The result of everything that can fail with a libvirt error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($name:ident = $number:literal, $bare:literal, $with:literal;)+) => {
        /// libvirt's error numbers (`virErrorNumber`), those that storage uses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Code { $(#[doc = $bare] $name = $number),+ }

        impl Code {
            /// The phrase that libvirt puts around a message; `{}` stands for the message.
            fn phrases(self) -> (&'static str, &'static str) {
                match self { $(Code::$name => ($bare, $with)),+ }
            }

            /// The code with this number.
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$name),)+ _ => None }
            }
        }
    };
}

codes! {
    Internal = 1, "internal error", "internal error: {}";
    NoMemory = 2, "out of memory", "out of memory: {}";
    NoSupport = 3, "this function is not supported by the connection driver",
        "this function is not supported by the connection driver: {}";
    NoConnect = 5, "no connection driver available", "no connection driver available for {}";
    InvalidArg = 8, "invalid argument", "invalid argument: {}";
    OperationFailed = 9, "operation failed", "operation failed: {}";
    XmlError = 27, "XML description is invalid or not well formed", "XML error: {}";
    OperationDenied = 29, "operation forbidden for read only access", "operation forbidden: {}";
    XmlDetail = 35, "parser error", "{}";
    SystemError = 38, "system call error", "{}";
    Rpc = 39, "RPC error", "{}";
    NoStoragePool = 49, "Storage pool not found", "Storage pool not found: {}";
    NoStorageVol = 50, "Storage volume not found", "Storage volume not found: {}";
    OperationInvalid = 55, "Requested operation is not valid", "Requested operation is not valid: {}";
    InvalidSecret = 65, "Invalid secret", "Invalid secret: {}";
    NoSecret = 66, "Secret not found", "Secret not found: {}";
    ConfigUnsupported = 67, "unsupported configuration", "unsupported configuration: {}";
    OperationTimeout = 68, "Timed out during operation", "Timed out during operation: {}";
    ArgumentUnsupported = 74, "argument unsupported", "argument unsupported: {}";
    StorageProbeFailed = 75, "Storage pool probe failed", "Storage pool probe failed: {}";
    StoragePoolBuilt = 76, "Storage pool already built", "Storage pool already built: {}";
    OperationAborted = 78, "operation aborted", "operation aborted: {}";
    Overflow = 82, "numerical overflow", "numerical overflow: {}";
    OperationUnsupported = 84, "Operation not supported", "Operation not supported: {}";
    ResourceBusy = 87, "resource busy", "resource busy: {}";
    AccessDenied = 88, "access denied", "access denied: {}";
    StorageVolExist = 90, "this storage volume exists already", "storage volume {} exists already";
    XmlInvalidSchema = 92, "XML document failed to validate against schema",
        "XML document failed to validate against schema: {}";
}

/// The part of libvirt that an error comes from (`virErrorDomain`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Domain {
    /// No part in particular.
    None = 0,
    /// The XML readers.
    Xml = 5,
    /// The wire.
    Rpc = 7,
    /// Pools and volumes.
    Storage = 18,
    /// Virtual machines, and what belongs to no other part.
    Domain = 20,
    /// Secrets.
    Secret = 30,
    /// Data streams.
    Streams = 38,
}

impl Domain {
    /// The domain with this number; those that storage does not use are `None`.
    pub fn from_number(number: i32) -> Domain {
        match number {
            5 => Domain::Xml,
            7 => Domain::Rpc,
            18 => Domain::Storage,
            20 => Domain::Domain,
            30 => Domain::Secret,
            38 => Domain::Streams,
            _ => Domain::None,
        }
    }
}

/// An error with libvirt's code and domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is; clients compare this.
    pub code: Code,
    /// Where it comes from.
    pub domain: Domain,
    /// What happened to which object; people read this. Without the code's own phrase.
    pub detail: String,
    /// Whether the code's phrase belongs to the message.
    wording: Wording,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wording {
    Phrased,
    Plain,
}

impl Error {
    /// A storage error.
    pub fn new(code: Code, detail: impl Into<String>) -> Error {
        Error { code, domain: Domain::Storage, detail: detail.into(), wording: Wording::Phrased }
    }

    /// An error whose message is all that is said: libvirt says what is wrong with a function's argument so.
    pub fn plain(code: Code, message: impl Into<String>) -> Error {
        Error { wording: Wording::Plain, ..Error::new(code, message) }
    }

    /// A failed system call: what was tried, on which object, and the system's reason.
    pub fn system(what: impl fmt::Display, cause: &io::Error) -> Error {
        Error::new(Code::SystemError, format!("{what}: {}", cause_text(cause)))
    }

    /// The same error, from another part.
    pub fn in_domain(mut self, domain: Domain) -> Error {
        self.domain = domain;
        self
    }

    /// True if a caller asked for this to stop.
    pub fn is_cancelled(&self) -> bool {
        self.code == Code::OperationAborted
    }
}

impl Error {
    /// The phrase of its code; `{}` in it stands for the detail, if there is one.
    pub fn phrase(&self) -> &'static str {
        let (bare, with) = self.code.phrases();
        match self.wording {
            Wording::Plain => "{}",
            Wording::Phrased if self.detail.is_empty() => bare,
            Wording::Phrased => with,
        }
    }

    /// The error whose whole message is known, the code's phrase with it.
    pub fn from_message(code: Code, message: &str) -> Error {
        let (bare, with) = code.phrases();
        let (before, after) = with.split_once("{}").unwrap_or((with, ""));
        match message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) {
            _ if message == bare => Error::new(code, ""),
            Some(detail) => Error::new(code, detail),
            None => Error::plain(code, message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.phrase().replacen("{}", &self.detail, 1))
    }
}

impl std::error::Error for Error {}

/// The system's reason as `strerror` words it, without Rust's "(os error N)".
pub fn cause_text(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_the_phrase_of_their_code() {
        let error = Error::new(Code::NoStorageVol, "no storage vol with matching name 'x'");
        assert_eq!(error.to_string(), "Storage volume not found: no storage vol with matching name 'x'");
        assert_eq!(Error::new(Code::StorageVolExist, "'v'").to_string(), "storage volume 'v' exists already");
        assert_eq!(
            Error::new(Code::OperationDenied, "").to_string(),
            "operation forbidden for read only access"
        );
    }

    #[test]
    fn system_errors_read_like_strerror() {
        let cause = io::Error::from_raw_os_error(2);
        assert_eq!(
            Error::system("cannot open volume '/x'", &cause).to_string(),
            "cannot open volume '/x': No such file or directory"
        );
    }
}
