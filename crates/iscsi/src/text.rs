//! `key=value` text, as login and text PDUs carry it (RFC 7143 §6.1).

/// Longest key name, bytes (RFC 7143 §6.1).
const KEY_BYTES_MAX: usize = 63;

/// Longest value this side reads, bytes.
const VALUE_BYTES_MAX: usize = 255;

/// Longest CHAP_C, bytes: `0x` and a challenge of 1024 bytes in hexadecimal (RFC 7143 §12.1.3).
const CHALLENGE_BYTES_MAX: usize = 2 + 2 * crate::chap::CHALLENGE_BYTES_MAX;

/// Longest iSCSI name, bytes (RFC 7143 §4.2.7.2).
const NAME_BYTES_MAX: usize = 223;

/// Text that is not made of `key=value` strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The pairs in `text`, in order.
pub(crate) fn pairs(text: &[u8]) -> impl Iterator<Item = Result<(&str, &str), Malformed>> {
    // Some send extra NULs behind the last pair; empty strings mean nothing.
    text.split(|&byte| byte == 0).filter(|pair| !pair.is_empty()).map(pair)
}

fn pair(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let text = core::str::from_utf8(bytes).map_err(|_| Malformed)?;
    let (key, value) = text.split_once('=').ok_or(Malformed)?;
    let key_fits = !key.is_empty() && key.len() <= KEY_BYTES_MAX;
    let value_max = if key == "CHAP_C" { CHALLENGE_BYTES_MAX } else { VALUE_BYTES_MAX };
    if key_fits && value.len() <= value_max { Ok((key, value)) } else { Err(Malformed) }
}

/// Appends `key=value` and its NUL.
pub(crate) fn put(text: &mut Vec<u8>, key: &str, value: &str) {
    for part in [key.as_bytes(), b"=", value.as_bytes(), b"\0"] {
        text.extend_from_slice(part);
    }
}

/// A numerical value: decimal or `0x` hexadecimal, up to 32 bits here (RFC 7143 §6.1).
pub(crate) fn number(value: &str) -> Option<u32> {
    let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    // `from_str_radix` would take a sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// `Yes` or `No`.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// `Yes` or `No`.
pub(crate) const fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// True for what can be an iSCSI name: one of the three types, not too long, no spaces.
pub(crate) fn is_name(value: &str) -> bool {
    let typed = ["iqn.", "eui.", "naa."].iter().any(|kind| {
        value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
            && value.len() > kind.len()
    });
    typed && value.len() <= NAME_BYTES_MAX && !value.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_cut_at_nul_and_first_equals_sign() {
        let text = b"A=1\0B=x=y\0\0\0C=";
        let pairs: Result<Vec<_>, _> = pairs(text).collect();
        assert_eq!(pairs, Ok(vec![("A", "1"), ("B", "x=y"), ("C", "")]));
    }

    #[test]
    fn bad_text_is_malformed() {
        for text in [&b"no sign\0"[..], b"=value\0", b"K=\xff\xfe\0"] {
            assert!(pairs(text).any(|pair| pair.is_err()), "{text:?}");
        }
        let long_key = format!("{}=1\0", "k".repeat(64));
        assert!(pairs(long_key.as_bytes()).any(|pair| pair.is_err()));
        let long_value = format!("k={}\0", "1".repeat(256));
        assert!(pairs(long_value.as_bytes()).any(|pair| pair.is_err()));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("8192"), Some(8192));
        assert_eq!(number("0x2000"), Some(8192));
        for bad in ["", "0x", "+5", "-1", "12a", "4294967296", " 1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_have_one_of_three_types() {
        assert!(is_name("iqn.2026-11.example:disk"));
        assert!(is_name("eui.02004567A425678D"));
        for bad in ["Alle", "A", "iqn.", "iqn.a b", ""] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(!is_name(&format!("iqn.{}", "x".repeat(220))));
    }
}
