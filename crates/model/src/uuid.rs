//! UUIDs as libvirt reads and writes them.

use std::fmt;

/// Sixteen bytes that name a pool or a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// A random UUID, version 4. `None` if the system has no randomness to give.
    pub fn random() -> Option<Uuid> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).ok()?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Some(Uuid(bytes))
    }

    /// These bytes as a UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Uuid {
        Uuid(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 32 hexadecimal digits; hyphens and blanks may stand between pairs, white space around them.
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut digits = text.trim_ascii().bytes().peekable();
        let mut bytes = [0u8; 16];
        for byte in &mut bytes {
            while digits.next_if(|c| matches!(c, b'-' | b' ')).is_some() {}
            let high = char::from(digits.next()?).to_digit(16)?;
            let low = char::from(digits.next()?).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        digits.next().is_none().then_some(Uuid(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libvirt_reads() {
        let plain = Uuid::parse("70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2").unwrap();
        assert_eq!(plain.to_string(), "70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2");
        assert_eq!(Uuid::parse(" 70a7eb156c34ee9cbf5769e8e5ff3fb2\n"), Some(plain));
        assert_eq!(Uuid::parse("70-a7 eb15-6c34-ee9c-bf57-69e8e5ff3fb2"), Some(plain));
        for bad in
            ["", "70a7", "70a7eb15-6c34-ee9c-bf57-69e8e5ff3fbz", "70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2ff"]
        {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }
}
