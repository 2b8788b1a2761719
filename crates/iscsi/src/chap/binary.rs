//! Binary values in text: hexadecimal or base64 (RFC 7143 §6.1, "large-binary-value"). Both are read, hexadecimal is
//! written.

/// The characters of base64 (RFC 4648 §4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `bytes` as `0x` and lower-case digits.
pub(super) fn encode(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    "0x".chars().chain(digits).collect()
}

/// The bytes of a value, none if it is no binary value or longer than `bytes_max`.
pub(super) fn decode(value: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" if digits.len().div_ceil(2) <= bytes_max => from_hex(digits.as_bytes())?,
        "0b" | "0B" if digits.len() <= bytes_max.div_ceil(3) * 4 => from_base64(digits.as_bytes())?,
        _ => return None,
    };
    (bytes.len() <= bytes_max).then_some(bytes)
}

/// An odd number of digits begins with half a byte.
fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (odd, pairs) = digits.split_at_checked(digits.len() % 2)?;
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for digit in odd {
        bytes.push(value(digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        let [high, low] = pair else { return None };
        bytes.push(value(high)? << 4 | value(low)?);
    }
    Some(bytes)
}

/// Groups of four characters, the last one padded with `=` (RFC 4648 §4).
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (characters, _) = text.split_at_checked(text.len().checked_sub(padding).filter(|_| padding <= 2)?)?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for character in characters {
        let value = BASE64.iter().position(|known| known == character)?;
        held = held << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    // What is left over of the last character is zero, or the text was cut.
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<&[u8]>) {
        assert_eq!(decode(value, 8).as_deref(), expected, "{value}");
    }

    #[test]
    fn s6_1_hexadecimal_values() {
        assert_eq!(encode(&[0x00, 0xff, 0x1a]), "0x00ff1a");
        check("0x00ff1A", Some(&[0, 0xff, 0x1a]));
        check("0XFF", Some(&[0xff]));
        check("0x123", Some(&[0x01, 0x23]));
        check("0x", Some(&[]));
        for bad in ["", "0", "ff", "0xg0", "0x+1", "0x 1", "0xäö", "17"] {
            check(bad, None);
        }
    }

    /// The examples of RFC 4648 §10.
    #[test]
    fn s6_1_base64_values() {
        for (text, bytes) in [
            ("0b", ""),
            ("0bZg==", "f"),
            ("0bZm8=", "fo"),
            ("0BZm9v", "foo"),
            ("0bZm9vYg==", "foob"),
            ("0bZm9vYmE=", "fooba"),
            ("0bZm9vYmFy", "foobar"),
        ] {
            check(text, Some(bytes.as_bytes()));
        }
        for bad in ["0bZ", "0bZg", "0bZg=", "0bZg===", "0bZ===", "0b====", "0bZh==", "0bZg==Zg==", "0bZ-9v"] {
            check(bad, None);
        }
    }

    #[test]
    fn values_longer_than_wanted_are_refused_unread() {
        assert_eq!(decode("0x0102030405060708", 8).map(|bytes| bytes.len()), Some(8));
        assert_eq!(decode("0x010203040506070809", 8), None);
        assert_eq!(decode("0bAAAAAAAAAAAA", 8), None, "nine bytes");
        assert_eq!(decode(&format!("0x{}", "0".repeat(1 << 20)), 8), None);
    }
}
