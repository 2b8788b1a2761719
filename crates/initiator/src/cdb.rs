//! The command descriptor blocks an initiator sends to a disk (SBC-3, SPC-4).

/// A command descriptor block, padded with zeroes to the 16 bytes an iSCSI header carries.
pub type CdbBytes = [u8; 16];

/// What READ CAPACITY (16) says of a logical unit (SBC-3 §5.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// How many logical blocks there are.
    pub blocks: u64,
    /// Length of a logical block in bytes.
    pub block_size: u32,
    /// Logical blocks per physical block.
    pub blocks_per_physical: u64,
    /// LBPME: the unit is thinly provisioned and takes UNMAP.
    pub thin: bool,
}

impl Capacity {
    /// Length of the READ CAPACITY (16) parameter data.
    pub(crate) const DATA_LEN: u32 = 32;

    /// The unit's size in bytes; `None` if it exceeds 64 bits.
    pub fn bytes(&self) -> Option<u64> {
        self.blocks.checked_mul(u64::from(self.block_size))
    }

    /// Decodes the parameter data; `None` if it is short or holds impossible numbers.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let last = u64::from_be_bytes(data.get(0..8)?.try_into().ok()?);
        let block_size = u32::from_be_bytes(data.get(8..12)?.try_into().ok()?);
        let exponent = data.get(13)? & 0x0F;
        let thin = data.get(14)? & 0x80 != 0;
        if block_size < 512 || !block_size.is_power_of_two() {
            return None;
        }
        let blocks = last.checked_add(1)?;
        let capacity = Self { blocks, block_size, blocks_per_physical: 1 << exponent, thin };
        capacity.bytes().map(|_| capacity)
    }
}

/// READ (10) if the address and length fit it, else READ (16) (SBC-3 §5.9, §5.11).
pub(crate) fn read(lba: u64, blocks: u32) -> CdbBytes {
    transfer([0x28, 0x88], lba, blocks, false)
}

/// WRITE (10) or WRITE (16) (SBC-3 §5.30, §5.32); `fua` asks for the medium before the status.
pub(crate) fn write(lba: u64, blocks: u32, fua: bool) -> CdbBytes {
    transfer([0x2A, 0x8A], lba, blocks, fua)
}

fn transfer([ten, sixteen]: [u8; 2], lba: u64, blocks: u32, fua: bool) -> CdbBytes {
    let mut cdb = [0; 16];
    cdb[1] = u8::from(fua) << 3;
    if let (Ok(lba), Ok(blocks)) = (u32::try_from(lba), u16::try_from(blocks)) {
        cdb[0] = ten;
        cdb[2..6].copy_from_slice(&lba.to_be_bytes());
        cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    } else {
        cdb[0] = sixteen;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    }
    cdb
}

/// TEST UNIT READY (SPC-4 §6.47).
pub(crate) fn test_unit_ready() -> CdbBytes {
    [0; 16]
}

/// READ CAPACITY (16), service action 10h of 9Eh (SBC-3 §5.16).
pub(crate) fn read_capacity() -> CdbBytes {
    let mut cdb = [0; 16];
    cdb[0] = 0x9E;
    cdb[1] = 0x10;
    cdb[10..14].copy_from_slice(&Capacity::DATA_LEN.to_be_bytes());
    cdb
}

/// SYNCHRONIZE CACHE (10) of the whole unit (SBC-3 §5.22).
pub(crate) fn synchronize_cache() -> CdbBytes {
    let mut cdb = [0; 16];
    cdb[0] = 0x35;
    cdb
}

/// INQUIRY, of a vital product data page if one is named (SPC-4 §6.6).
pub(crate) fn inquiry(page: Option<u8>, allocation: u16) -> CdbBytes {
    let mut cdb = [0; 16];
    cdb[0] = 0x12;
    cdb[1] = u8::from(page.is_some());
    cdb[2] = page.unwrap_or(0);
    cdb[3..5].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// UNMAP and its parameter list (SBC-3 §5.28) for ranges of (first block, blocks).
/// `None` if there are more ranges than the 16-bit lengths can hold (4095).
pub(crate) fn unmap(ranges: &[(u64, u32)]) -> Option<(CdbBytes, Vec<u8>)> {
    let descriptors = u16::try_from(ranges.len()).ok()?.checked_mul(16)?;
    let total = descriptors.checked_add(8)?;
    let mut list = Vec::with_capacity(usize::from(total));
    list.extend((total - 2).to_be_bytes());
    list.extend(descriptors.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    let mut cdb = [0; 16];
    cdb[0] = 0x42;
    cdb[7..9].copy_from_slice(&total.to_be_bytes());
    Some((cdb, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_transfers_use_ten_byte_commands() {
        let cdb = read(0x0102_0304, 0x0506);
        assert_eq!(cdb[..10], [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]);
        let cdb = write(1, 8, true);
        assert_eq!(cdb[..10], [0x2A, 0x08, 0, 0, 0, 1, 0, 0, 8, 0]);
    }

    #[test]
    fn far_or_long_transfers_use_sixteen_byte_commands() {
        let cdb = read(1 << 32, 1);
        assert_eq!(cdb, [0x88, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        let cdb = write(0, 65536, false);
        assert_eq!(cdb, [0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn unmap_lengths_follow_the_standard() {
        let (cdb, list) = unmap(&[(16, 8), (1 << 40, 4096)]).expect("two ranges");
        assert_eq!((cdb[0], &cdb[7..9]), (0x42, &[0, 40][..]));
        assert_eq!(list.len(), 40);
        assert_eq!(list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(list[8..20], [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8]);
        assert!(unmap(&vec![(0, 1); 4096]).is_none());
    }

    #[test]
    fn capacity_is_decoded_and_nonsense_refused() {
        let mut data = [0u8; 32];
        data[..8].copy_from_slice(&0x27_FFFFu64.to_be_bytes());
        data[8..12].copy_from_slice(&4096u32.to_be_bytes());
        data[13] = 3;
        data[14] = 0x80;
        let capacity = Capacity::parse(&data).expect("capacity");
        assert_eq!((capacity.blocks, capacity.block_size), (0x28_0000, 4096));
        assert_eq!((capacity.blocks_per_physical, capacity.thin), (8, true));
        assert_eq!(capacity.bytes(), Some(0x28_0000 * 4096));
        assert_eq!(Capacity::parse(&data[..14]), None);
        data[8..12].copy_from_slice(&0u32.to_be_bytes());
        assert_eq!(Capacity::parse(&data), None);
        data[8..12].copy_from_slice(&512u32.to_be_bytes());
        data[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(Capacity::parse(&data), None);
    }
}
