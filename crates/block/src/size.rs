//! Sizes as people write them: `10G`, `10GiB`, `64TiB`, plain bytes.

use crate::{BlockError, ErrorKind, Result};

/// Unit letters and the power of two each stands for. Storage people mean 1024 when they write `10G`.
const UNITS: [(char, u32); 6] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

/// Reads a size in bytes: digits with an optional decimal part, then an optional unit (`K`, `KiB`, `KB`, `M`, ...,
/// in either case). Every unit is a power of 1024. `B` alone means bytes.
///
/// # Errors
/// `Invalid` if `text` is not a size, is not a whole number of bytes, or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let shift = unit_shift(unit.trim()).ok_or_else(|| not_a_size(text))?;
    scaled(number, shift).ok_or_else(|| not_a_size(text))
}

/// The shortest exact form of a size: `10GiB`, `1536MiB`, `1000` (bytes).
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let fits = |shift: u32| bytes.trailing_zeros() >= shift;
    match UNITS.iter().rev().find(|(_, shift)| bytes != 0 && fits(*shift)) {
        Some((letter, shift)) => format!("{}{letter}iB", bytes >> shift),
        None => bytes.to_string(),
    }
}

fn unit_shift(unit: &str) -> Option<u32> {
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(0) };
    let first = first.to_ascii_uppercase();
    let rest = letters.as_str();
    if first == 'B' {
        return rest.is_empty().then_some(0);
    }
    let known = rest.is_empty() || rest.eq_ignore_ascii_case("B") || rest.eq_ignore_ascii_case("iB");
    let unit = UNITS.iter().find(|(letter, _)| *letter == first);
    unit.filter(|_| known).map(|(_, shift)| *shift)
}

/// `number` (decimal digits, perhaps with a point) times `1 << shift`, if that is a whole `u64`.
fn scaled(number: &str, shift: u32) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole = u128::from(whole.parse::<u64>().ok()?) << shift;
    let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) << shift;
    let exact = part.is_multiple_of(divisor);
    exact.then(|| u64::try_from(whole + part / divisor).ok())?
}

fn not_a_size(text: &str) -> BlockError {
    BlockError::new(
        ErrorKind::Invalid,
        text,
        "this is not a size; write for example 10G, 1.5TiB or a number of bytes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_units() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("10gb", 10 << 30),
            ("64TiB", 64 << 40),
            ("1.5k", 1536),
            (" 2 M ", 2 << 20),
            ("15E", 15 << 60),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "G",
            "10X",
            "10GiBs",
            "-1",
            "1.3",
            "16E",
            "0x10",
            "1..5G",
            "1e3",
            "10 G iB",
            "99999999999999999999",
        ] {
            assert_eq!(parse_size(text).unwrap_err().kind, ErrorKind::Invalid, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_text_and_shows_the_right_form() {
        let error = parse_size("ten").unwrap_err();
        assert_eq!(error.object, "ten");
        assert!(error.message.contains("10G"), "{error}");
        assert_eq!(error.kind, ErrorKind::Invalid);
    }

    #[test]
    fn printed_sizes_read_back_as_the_same_number() {
        for bytes in [0, 1, 1000, 1024, 1536, 3 << 20, 10 << 30, 64 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }
        assert_eq!(format_size(10 << 30), "10GiB");
        assert_eq!(format_size(1536), "1536");
        assert_eq!(format_size(1536 << 20), "1536MiB");
    }
}
