//! The value of a secret: in memory of its own that is kept out of swap and core dumps, and is wiped when it is given
//! back.

#![allow(unsafe_code, reason = "whole pages have to be mapped, locked and given back")]

use base64::engine::{Config, DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::ptr::{self, NonNull};
use zeroize::Zeroize;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// The value of a secret. It is never shown.
pub struct SecretValue {
    /// Whole pages, of which this value is the only owner.
    pages: NonNull<u8>,
    mapped: usize,
    length: usize,
}

// SAFETY: the pages belong to this value alone, and are reached through it as a `Vec`'s are through the `Vec`.
unsafe impl Send for SecretValue {}
// SAFETY: shared, they can only be read.
unsafe impl Sync for SecretValue {}

impl SecretValue {
    /// So many zero bytes, to be written over.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    pub fn zeroed(length: usize) -> SecretValue {
        let mapped = length.max(1).next_multiple_of(rustix::param::page_size());
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that is in use.
        let pages = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let pages = match pages.map(|pages| NonNull::new(pages.cast::<u8>())) {
            Ok(Some(pages)) => pages,
            _ => panic!("there is no memory for a secret of {length} bytes"),
        };
        // SAFETY: both calls are about the pages just mapped, and change nothing in them. Where they are not allowed
        // (there is a limit on locked memory) the value is as safe as any other memory.
        unsafe {
            let _ = mlock(pages.as_ptr().cast(), mapped);
            let _ = madvise(pages.as_ptr().cast(), mapped, Advice::LinuxDontDump);
        }
        SecretValue { pages, mapped, length }
    }

    /// A value of these bytes, which the caller still has to wipe.
    pub fn copy_of(bytes: &[u8]) -> SecretValue {
        let mut value = SecretValue::zeroed(bytes.len());
        value.expose_mut().copy_from_slice(bytes);
        value
    }

    /// The value with a zero behind it, as libraries in C take it.
    pub(crate) fn with_nul(&self) -> SecretValue {
        let mut text = SecretValue::zeroed(self.length + 1);
        text.expose_mut()[..self.length].copy_from_slice(self.expose());
        text
    }

    /// The content of a file, or of a pipe, of at most this many bytes.
    pub fn read_file(path: &Path, limit: usize) -> io::Result<SecretValue> {
        let mut file = File::open(path)?;
        // A pipe does not say how much there is.
        let expected = match usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX) {
            0 => limit,
            length => length.min(limit),
        };
        let mut value = SecretValue::zeroed(expected + 1);
        let mut length = 0;
        while length <= expected {
            match file.read(&mut value.expose_mut()[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if length > expected {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        value.truncate(length);
        Ok(value)
    }

    /// A line, without its end, of at most this many bytes. Nothing that comes after it is read. The character that asks
    /// for an interrupt at a terminal (Ctrl-C) does the same here.
    pub fn read_line(from: &mut impl Read, limit: usize) -> io::Result<SecretValue> {
        let mut value = SecretValue::zeroed(limit);
        for length in 0..limit {
            from.read_exact(&mut value.expose_mut()[length..=length])?;
            match value.expose()[length] {
                b'\n' => {
                    value.truncate(length);
                    return Ok(value);
                }
                INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
                _ => {}
            }
        }
        Err(io::ErrorKind::FileTooLarge.into())
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `length` bytes of the mapping are there, initialized (by the kernel, with zeroes), and borrowed with
        // the value.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr(), self.length) }
    }

    /// The bytes, to be written over.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr(), self.length) }
    }

    /// Leaves the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.expose_mut()[length..].zeroize();
            self.length = length;
        }
    }

    /// The value in base64.
    pub fn to_base64(&self) -> SecretValue {
        let length = base64::encoded_len(self.length, BASE64.config().encode_padding());
        let mut text = SecretValue::zeroed(length.unwrap_or(0));
        let written = BASE64.encode_slice(self.expose(), text.expose_mut());
        // The length has just been computed from the same bytes.
        text.truncate(written.unwrap_or(0));
        text
    }

    /// The value that this text in base64 stands for. Spaces and line ends do not count.
    pub fn from_base64(text: &[u8]) -> Option<SecretValue> {
        let mut digits = SecretValue::zeroed(text.len());
        let mut count = 0;
        for digit in text.iter().filter(|c| !c.is_ascii_whitespace()) {
            digits.expose_mut()[count] = *digit;
            count += 1;
        }
        digits.truncate(count);
        let mut value = SecretValue::zeroed(base64::decoded_len_estimate(count));
        let length = BASE64.decode_slice(digits.expose(), value.expose_mut()).ok()?;
        value.truncate(length);
        Some(value)
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        // SAFETY: the pages were mapped with this length, and nothing refers to them any more.
        let _ = unsafe { munmap(self.pages.as_ptr().cast(), self.mapped) };
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9v\nYmFy\n", b"foobar"),
            ("//79", b"\xff\xfe\xfd"),
        ] {
            let value = SecretValue::from_base64(text.as_bytes()).unwrap();
            assert_eq!(value.expose(), bytes, "{text}");
            assert_eq!(SecretValue::from_base64(value.to_base64().expose()).unwrap().expose(), bytes);
        }
        assert!(SecretValue::from_base64(b"Zg=?").is_none());
        assert!(SecretValue::from_base64(b"Z").is_none());
    }

    #[test]
    fn reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, b"one\ntwo").unwrap();
        assert_eq!(SecretValue::read_file(&path, 7).unwrap().expose(), b"one\ntwo");
        assert!(SecretValue::read_file(&path, 6).is_err());
        // A pipe, whose size is not known.
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"through a pipe").unwrap();
        drop(writer);
        let reader = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let pipe = format!("/proc/self/fd/{reader}");
        assert_eq!(SecretValue::read_file(Path::new(&pipe), 100).unwrap().expose(), b"through a pipe");

        let mut lines = &b"one\n\nthr"[..];
        assert_eq!(SecretValue::read_line(&mut lines, 10).unwrap().expose(), b"one");
        assert_eq!(SecretValue::read_line(&mut lines, 10).unwrap().expose(), b"");
        assert!(SecretValue::read_line(&mut lines, 10).is_err(), "it ends in the middle of a line");
        assert!(SecretValue::read_line(&mut &b"too long\n"[..], 3).is_err());
        let interrupted = SecretValue::read_line(&mut &b"ab\x03c\n"[..], 10).unwrap_err();
        assert_eq!(interrupted.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_value_is_not_for_core_dumps_and_is_never_shown() {
        let value = SecretValue::copy_of(b"opensesame");
        assert_eq!(format!("{value:?}"), "SecretValue(…)");
        let start = format!("{:x}-", value.expose().as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags =
            maps.lines().skip_while(|line| !line.starts_with(&start)).find(|l| l.starts_with("VmFlags"));
        assert!(flags.unwrap().split_whitespace().any(|flag| flag == "dd"), "{flags:?}");
    }
}
