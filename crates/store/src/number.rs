//! Conversions between the integer types of memory and of the format, without `as`.

/// A length in memory as a number of the format.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A number of the format as a length in memory; platforms below 64 bits saturate and then fail to allocate.
pub(crate) fn len_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A block count of the format as a length in memory.
pub(crate) fn count_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A count that is bounded by a segment's size.
///
/// # Panics
/// If it is not.
pub(crate) fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("counts inside a segment or a batch fit 32 bits")
}
