//! Sizes with units, as libvirt's XML and virsh's command lines write them.

use crate::{Code, Error, Result};

/// The largest file offset: `off_t` is signed. No volume is larger.
pub const MAX_CAPACITY: u64 = i64::MAX as u64;

/// `value` times the unit; none means bytes. `K`, `KiB` are 1024, `KB` is 1000, up to `E`; case does not matter.
pub fn scale(value: u64, unit: &str, limit: u64) -> Result<u64> {
    let factor =
        factor(unit).ok_or_else(|| Error::new(Code::InvalidArg, format!("unknown suffix '{unit}'")))?;
    match value.checked_mul(factor) {
        Some(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(Error::new(Code::Overflow, format!("value too large: {value}{unit}"))),
    }
}

fn factor(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    if matches!(lower.as_str(), "" | "b" | "byte" | "bytes") {
        return Some(1);
    }
    let (first, rest) = lower.split_at_checked(1)?;
    let base: u64 = match rest {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    let power = "kmgtpe".find(first)? as u32 + 1;
    base.checked_pow(power)
}

/// A size on a command line: digits, then perhaps a unit ("10G").
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    scale(digits.parse().ok()?, unit, u64::MAX).ok()
}

/// A size for people: the number and its binary unit ("1.50", "GiB").
pub fn pretty(bytes: u64) -> (f64, &'static str) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    (value, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units() {
        assert_eq!(parse("10G"), Some(10 << 30));
        assert_eq!(parse("10gb"), Some(10_000_000_000));
        assert_eq!(parse("1KiB"), Some(1024));
        assert_eq!(parse("7"), Some(7));
        assert_eq!(parse("7 bytes"), None);
        assert_eq!(parse("15E"), Some(15 << 60));
        for bad in ["", "G", "-1", "1X", "1GiBB", "16E", "1ü"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(scale(8, "E", MAX_CAPACITY).is_err());
        assert_eq!(scale(7, "EiB", MAX_CAPACITY).unwrap(), 7 << 60);
    }

    #[test]
    fn pretty_sizes() {
        assert_eq!(pretty(1023), (1023.0, "B"));
        assert_eq!(pretty(1536), (1.5, "KiB"));
        assert_eq!(pretty(u64::MAX).1, "EiB");
    }

    proptest! {
        #[test]
        fn scaling_never_wraps(value: u64, unit in "[kmgtpeKMGTPE](iB|B|)") {
            if let Ok(bytes) = scale(value, &unit, u64::MAX) {
                prop_assert!(value == 0 || (bytes >= value && bytes % value == 0));
            }
        }
    }
}
