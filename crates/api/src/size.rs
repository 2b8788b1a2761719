//! Sizes as people write them: `10G`, `10GiB`, `64TiB`, `512`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes that reads and prints as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: {reason}; write it like 512MiB, 10G, 10GiB or 64TiB")]
pub struct SizeError {
    text: String,
    reason: &'static str,
}

/// Units in bytes. `K`, `KiB` and so on are powers of 1024, as storage people mean them; `KB` powers of 1000.
const UNITS: [(&str, u64); 19] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("p", 1 << 50),
    ("pib", 1 << 50),
    ("pb", 1_000_000_000_000_000),
    ("e", 1 << 60),
    ("eib", 1 << 60),
];

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = |reason| SizeError { text: text.to_owned(), reason };
        let trimmed = text.trim();
        let number_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(number_end);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or(fail("the unit is not known"))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| fail("it does not start with a number"))?;
        let bytes = whole.checked_mul(*factor).ok_or(fail("it is too large"))?;
        let part =
            fraction_bytes(fraction, *factor).ok_or(fail("its fraction is not a whole number of bytes"))?;
        bytes.checked_add(part).map(ByteSize).ok_or(fail("it is too large"))
    }
}

/// The bytes of `.fraction` of a unit, if they are whole.
fn fraction_bytes(fraction: &str, factor: u64) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = fraction.parse::<u128>().ok()?.checked_mul(u128::from(factor))?;
    (product % scale == 0).then_some(())?;
    u64::try_from(product / scale).ok()
}

impl fmt::Display for ByteSize {
    /// Three significant digits in the largest unit of 1024 that fits; exact if it is a whole number of units.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let exponent = (63 - self.0.max(1).leading_zeros()) / 10;
        let name = NAMES.get(usize::try_from(exponent).unwrap_or(0)).unwrap_or(&"B");
        let unit = 1u64 << (10 * exponent);
        let whole = self.0 / unit;
        let rest = u128::from(self.0 % unit);
        if rest == 0 || whole >= 100 {
            return write!(f, "{whole} {name}");
        }
        let digits = if whole >= 10 { 1 } else { 2 };
        let scaled = rest * 10u128.pow(digits) / u128::from(unit);
        write!(f, "{whole}.{scaled:0width$} {name}", width = usize::try_from(digits).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let cases = [
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("64TiB", 64 << 40),
            ("1.5G", 3 << 29),
            ("10GB", 10_000_000_000),
            ("512", 512),
            ("0", 0),
            ("4096b", 4096),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_reason() {
        for text in ["", "G", "-1G", "10X", "1e3", "0.3B", "16E", "99999999999999999999", "1..5G", "1.2.3G"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.to_string().contains("10GiB"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_print_in_the_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (10 << 30, "10 GiB"),
            ((10 << 30) + (512 << 20), "10.5 GiB"),
            (1 << 40, "1 TiB"),
            (1_500_000, "1.43 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
