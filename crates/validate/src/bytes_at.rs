//! Big-endian numbers out of bytes that an array sent: nothing is believed, nothing panics.

/// The number in `length` bytes at `at`; 0 where there are none.
pub(crate) fn number(data: &[u8], at: usize, length: usize) -> u64 {
    let bytes = data.get(at..at.saturating_add(length)).unwrap_or_default();
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The same, for lengths and offsets.
pub(crate) fn length(data: &[u8], at: usize, length: usize) -> usize {
    usize::try_from(number(data, at, length)).unwrap_or(usize::MAX)
}

/// Byte `at`, or 0.
pub(crate) fn byte(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or(0)
}

/// Whether any bit of `mask` is set in byte `at`.
pub(crate) fn bit(data: &[u8], at: usize, mask: u8) -> bool {
    byte(data, at) & mask != 0
}

/// `length` bytes from `at` on, or as many as there are.
pub(crate) fn slice(data: &[u8], at: usize, length: usize) -> &[u8] {
    let end = at.saturating_add(length).min(data.len());
    data.get(at.min(end)..end).unwrap_or_default()
}

/// Printable text, blanks at the ends removed.
pub(crate) fn text(bytes: &[u8]) -> String {
    let shown: String =
        bytes.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_zero_or_empty_and_never_a_panic() {
        assert_eq!(number(&[1, 2, 3], 1, 2), 0x0203);
        assert_eq!(number(&[1, 2, 3], 2, 2), 0);
        assert_eq!(slice(&[1, 2, 3], 2, 9), [3]);
        assert!(slice(&[1, 2, 3], 9, usize::MAX).is_empty());
        assert_eq!((byte(&[], 0), bit(&[0x80], 0, 0x80)), (0, true));
        assert_eq!(text(b" a\0b  "), "a.b");
    }
}
