//! What sectors are filled with: each says which write it came from.

/// Bytes of one sector.
pub const SECTOR: usize = 512;

/// Marks a sector as one of ours, in the upper bits of its first word.
const MARK: u64 = 0xA5 << 56;

/// Which write a sector's content came from. 0 is the content of sectors never written: zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u32);

/// What a sector holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// Sector `sector` of the volume, as `write` wrote it.
    Stamp {
        /// The write.
        write: WriteId,
        /// The sector's number in the volume it was written to.
        sector: u32,
    },
    /// Neither: something no host ever wrote.
    Garbage,
}

fn word(stamp: u64, index: usize) -> u64 {
    stamp.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index as u64)
}

/// Fills `bytes` with what `write` writes to sector `sector`.
pub fn fill(bytes: &mut [u8], write: WriteId, sector: u32) {
    let stamp = u64::from(write.0) << 24 | u64::from(sector & 0xFF_FFFF);
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let value = if index == 0 { MARK | stamp } else { word(stamp, index) };
        chunk.copy_from_slice(&value.to_le_bytes());
    }
}

/// What the sector `bytes` holds. Every byte is looked at.
#[must_use]
pub fn content(bytes: &[u8]) -> Content {
    let Some(first) = bytes.first_chunk::<8>() else { return Content::Garbage };
    let first = u64::from_le_bytes(*first);
    // No early exit in these loops: they take whole vectors at a time.
    let words =
        || bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    if first == 0 {
        let bits = words().fold(0, |bits, word| bits | word);
        return if bits == 0 { Content::Zeros } else { Content::Garbage };
    }
    let stamp = first ^ MARK;
    if stamp >> 56 != 0 {
        return Content::Garbage;
    }
    let wrong =
        words().enumerate().skip(1).fold(0, |wrong, (index, found)| wrong | (found ^ word(stamp, index)));
    if wrong != 0 {
        return Content::Garbage;
    }
    let write = WriteId(u32::try_from(stamp >> 24).unwrap_or(u32::MAX));
    Content::Stamp { write, sector: (stamp & 0xFF_FFFF) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_says_where_it_came_from_and_any_changed_bit_makes_it_garbage() {
        let mut sector = [0; SECTOR];
        assert_eq!(content(&sector), Content::Zeros);
        fill(&mut sector, WriteId(7), 12);
        assert_eq!(content(&sector), Content::Stamp { write: WriteId(7), sector: 12 });
        for bit in 0..SECTOR * 8 {
            let mut changed = sector;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(content(&changed), content(&sector), "bit {bit}");
        }
    }
}
