//! The stamp: what a verifying load writes into every unit of a volume.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | `PLSDSTMP` |
//! | 8..16 | run id: which ledger the write belongs to |
//! | 16..24 | address: where on the volume it belongs, in bytes |
//! | 24..28 | generation: 1 for the first write of this unit, then counting up |
//! | 28..32 | bytes in the unit |
//! | 32..40 | CRC-64/NVME over the whole unit with this field zero |
//! | 40.. | bytes drawn from a generator seeded with run, address and generation |
//!
//! All numbers are little-endian. Any two stamps differ nearly everywhere, so that a mixture of
//! two is seen wherever the seam is.

use core::fmt;

use crate::load::Random;

const MAGIC: [u8; 8] = *b"PLSDSTMP";
const HEADER_BYTES: usize = 40;

/// Bytes covered by one stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampSize {
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Page,
}

impl StampSize {
    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }

    /// The size in bytes, as a length in memory.
    pub fn length(self) -> usize {
        match self {
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }

    /// The size that is `bytes` long.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        [Self::Sector, Self::Page].into_iter().find(|size| size.bytes() == bytes)
    }
}

/// Identity of all stamps written under one ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How often a unit has been written; 0 stands for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// Everything that decides the content of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Whose stamp it is.
    pub run: RunId,
    /// Where it belongs, in bytes from the volume's start.
    pub address: u64,
    /// Which write of this unit it is.
    pub generation: Generation,
}

impl Stamp {
    /// Writes the stamp over the whole of `unit`, which is 512 or 4096 bytes long.
    pub fn fill(&self, unit: &mut [u8]) {
        let size = u32::try_from(unit.len()).unwrap_or(u32::MAX);
        let Some((header, rest)) = unit.split_at_mut_checked(HEADER_BYTES) else { return };
        header[0..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.run.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.address.to_le_bytes());
        header[24..28].copy_from_slice(&self.generation.0.to_le_bytes());
        header[28..32].copy_from_slice(&size.to_le_bytes());
        header[32..40].fill(0);
        let mut random =
            Random::new(self.run.0 ^ self.address.rotate_left(32) ^ (u64::from(self.generation.0) << 8));
        for word in rest.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, unit);
        if let Some(field) = unit.get_mut(32..40) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Reads the header of a unit. `None` if there is no stamp, or one of another unit size.
    /// The checksum is not looked at: see [`is_whole`].
    pub fn read(unit: &[u8]) -> Option<Self> {
        let size = u32::try_from(unit.len()).ok()?;
        if unit.get(0..8)? != MAGIC || unit.get(28..32)? != size.to_le_bytes() {
            return None;
        }
        Some(Self {
            run: RunId(u64::from_le_bytes(unit.get(8..16)?.try_into().ok()?)),
            address: u64::from_le_bytes(unit.get(16..24)?.try_into().ok()?),
            generation: Generation(u32::from_le_bytes(unit.get(24..28)?.try_into().ok()?)),
        })
    }
}

/// Whether the checksum in a stamped unit is that of its content.
pub fn is_whole(unit: &[u8]) -> bool {
    let (Some(head), Some(field), Some(tail)) = (unit.get(..32), unit.get(32..40), unit.get(40..)) else {
        return false;
    };
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(head);
    digest.update(&[0; 8]);
    digest.update(tail);
    digest.finalize().to_le_bytes() == field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(address: u64, generation: u32, size: StampSize) -> Vec<u8> {
        let mut unit = vec![0; size.length()];
        Stamp { run: RunId(7), address, generation: Generation(generation) }.fill(&mut unit);
        unit
    }

    #[test]
    fn a_stamp_reads_back() {
        for size in [StampSize::Sector, StampSize::Page] {
            let unit = stamped(1 << 40, 9, size);
            let stamp = Stamp::read(&unit).expect("stamp");
            assert_eq!(stamp, Stamp { run: RunId(7), address: 1 << 40, generation: Generation(9) });
            assert!(is_whole(&unit));
        }
    }

    #[test]
    fn every_single_flipped_bit_breaks_the_checksum() {
        let mut unit = stamped(512, 1, StampSize::Sector);
        for byte in 0..unit.len() {
            for bit in 0..8 {
                unit[byte] ^= 1 << bit;
                assert!(!is_whole(&unit), "byte {byte} bit {bit}");
                unit[byte] ^= 1 << bit;
            }
        }
        assert!(is_whole(&unit));
    }

    #[test]
    fn neighbouring_stamps_share_hardly_a_byte() {
        let base = stamped(4096, 1, StampSize::Page);
        for other in [stamped(4096, 2, StampSize::Page), stamped(8192, 1, StampSize::Page)] {
            let same = base.iter().zip(&other).skip(HEADER_BYTES).filter(|(a, b)| a == b).count();
            assert!(same < 64, "{same} of 4056 bytes are equal");
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_taken_for_one() {
        assert_eq!(Stamp::read(&[0; 4096]), None);
        assert_eq!(Stamp::read(b"PLSDSTMP"), None);
        let page = stamped(0, 1, StampSize::Page);
        assert_eq!(Stamp::read(&page[..512]), None, "a page's first sector is no sector stamp");
        assert!(!is_whole(&page[..30]));
    }
}
