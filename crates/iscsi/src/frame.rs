//! PDUs out of a byte stream and into one; shared by both roles.

mod reader;
mod writer;

pub(crate) use reader::{Frame, FrameError, FrameReader};
pub(crate) use writer::{Chunks, FrameWriter};

/// Bytes of padding behind `length` bytes of a segment (RFC 7143 §11.2.3).
pub(crate) const fn padding(length: u32) -> u8 {
    // 0 to 3.
    match length % 4 {
        0 => 0,
        1 => 3,
        2 => 2,
        _ => 1,
    }
}

/// `u32` to `usize`; this crate is for machines where that always fits.
pub(crate) fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A length as `u32`; everything counted here is bounded far below.
pub(crate) fn length(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
