//! A command to send: its CDB, its data, and its name in the standards.

use bytes::Bytes;

use crate::names;

/// One SCSI command, ready to be sent to a logical unit.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name in the standards.
    pub name: String,
    /// The CDB, zero filled.
    pub cdb: [u8; 16],
    /// How many bytes of it count.
    pub cdb_len: usize,
    /// Data to send.
    pub data_out: Bytes,
    /// Room for data to receive, bytes.
    pub read_len: u32,
    /// Another LUN of the target than the one under validation.
    pub lun: Option<u16>,
}

impl Request {
    /// A command without data; its length follows from the operation code (SAM-5 5.2).
    pub fn new(bytes: &[u8]) -> Self {
        let mut cdb = [0; 16];
        cdb.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self {
            name: names::command(&cdb),
            cdb,
            cdb_len: cdb_len(cdb[0]),
            data_out: Bytes::new(),
            read_len: 0,
            lun: None,
        }
    }

    /// The same with room for `length` bytes of data from the array.
    #[must_use]
    pub fn reading(mut self, length: u32) -> Self {
        self.read_len = length;
        self
    }

    /// The same with data for the array.
    #[must_use]
    pub fn sending(mut self, data: impl Into<Bytes>) -> Self {
        self.data_out = data.into();
        self
    }

    /// The same to another LUN of the target.
    #[must_use]
    pub fn to_lun(mut self, lun: u16) -> Self {
        self.lun = Some(lun);
        self
    }

    /// The CDB without the padding.
    pub fn cdb(&self) -> &[u8] {
        self.cdb.get(..self.cdb_len).unwrap_or(&self.cdb)
    }

    /// The same with a big-endian number of `length` bytes put at byte `at` of the CDB.
    #[must_use]
    pub(crate) fn with(mut self, at: usize, length: usize, value: u64) -> Self {
        put(&mut self.cdb, at, length, value);
        self.name = names::command(&self.cdb);
        self
    }
}

/// Writes the low `length` bytes of `value` big-endian at `at`; what is outside `bytes` is left out.
pub(crate) fn put(bytes: &mut [u8], at: usize, length: usize, value: u64) {
    let source = value.to_be_bytes();
    let Some(tail) = source.get(8usize.saturating_sub(length)..) else { return };
    if let Some(place) = bytes.get_mut(at..at.saturating_add(length)) {
        place.copy_from_slice(tail);
    }
}

/// The length of a CDB by its operation code's group.
fn cdb_len(opcode: u8) -> usize {
    match opcode >> 5 {
        0 => 6,
        1 | 2 => 10,
        5 => 12,
        _ => 16,
    }
}

/// TEST UNIT READY.
pub(crate) fn test_unit_ready() -> Request {
    Request::new(&[0])
}

/// INQUIRY, of a vital product data page if one is named.
pub(crate) fn inquiry(page: Option<u8>) -> Request {
    const ALLOCATION: u32 = 4096;
    let request = Request::new(&[0x12, u8::from(page.is_some()), page.unwrap_or(0)]);
    request.with(3, 2, ALLOCATION.into()).reading(ALLOCATION)
}

/// READ CAPACITY (10).
pub(crate) fn read_capacity_10() -> Request {
    Request::new(&[0x25]).reading(8)
}

/// READ CAPACITY (16).
pub(crate) fn read_capacity_16() -> Request {
    Request::new(&[0x9e, 0x10]).with(10, 4, 32).reading(32)
}

/// REPORT LUNS, all that SELECT REPORT 00h means.
pub(crate) fn report_luns() -> Request {
    const ALLOCATION: u32 = 16 * 1024;
    Request::new(&[0xa0]).with(6, 4, ALLOCATION.into()).reading(ALLOCATION)
}

/// READ (16) of `blocks` blocks of `block_size` bytes.
pub(crate) fn read(lba: u64, blocks: u32, block_size: u32) -> Request {
    let request = Request::new(&[0x88]).with(2, 8, lba).with(10, 4, blocks.into());
    request.reading(blocks.saturating_mul(block_size))
}

/// WRITE (16); `blocks` have to be what `data` holds.
pub(crate) fn write(lba: u64, blocks: u32, data: Bytes) -> Request {
    Request::new(&[0x8a]).with(2, 8, lba).with(10, 4, blocks.into()).sending(data)
}

/// WRITE (16) with FUA.
pub(crate) fn write_fua(lba: u64, blocks: u32, data: Bytes) -> Request {
    Request::new(&[0x8a, 0x08]).with(2, 8, lba).with(10, 4, blocks.into()).sending(data)
}

/// COMPARE AND WRITE of `blocks` blocks; `data` holds what is expected and then what is new.
pub(crate) fn compare_and_write(lba: u64, blocks: u8, data: Bytes) -> Request {
    Request::new(&[0x89]).with(2, 8, lba).with(13, 1, blocks.into()).sending(data)
}

/// WRITE SAME (16) of one block's data; `unmap` allows deallocation.
pub(crate) fn write_same(lba: u64, blocks: u32, unmap: bool, block: Bytes) -> Request {
    let bits = u8::from(unmap) << 3;
    Request::new(&[0x93, bits]).with(2, 8, lba).with(10, 4, blocks.into()).sending(block)
}

/// UNMAP of ranges given as (first block, blocks).
pub(crate) fn unmap(ranges: &[(u64, u32)]) -> Request {
    let mut list = vec![0; 8];
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    let length = u64::try_from(list.len()).unwrap_or(0);
    put(&mut list, 0, 2, length.saturating_sub(2));
    put(&mut list, 2, 2, length.saturating_sub(8));
    Request::new(&[0x42]).with(7, 2, length).sending(list)
}

/// GET LBA STATUS from `lba` on.
pub(crate) fn get_lba_status(lba: u64) -> Request {
    const ALLOCATION: u32 = 8 + 16 * 64;
    Request::new(&[0x9e, 0x12]).with(2, 8, lba).with(10, 4, ALLOCATION.into()).reading(ALLOCATION)
}

/// LOG SENSE of a page's current cumulative values.
pub(crate) fn log_sense(page: u8) -> Request {
    const ALLOCATION: u32 = 4096;
    Request::new(&[0x4d, 0, 0x40 | page]).with(7, 2, ALLOCATION.into()).reading(ALLOCATION)
}

/// MODE SENSE (10) of a page's current values, without block descriptors.
pub(crate) fn mode_sense(page: u8, subpage: u8) -> Request {
    const ALLOCATION: u32 = 1024;
    Request::new(&[0x5a, 0x08, page, subpage]).with(7, 2, ALLOCATION.into()).reading(ALLOCATION)
}

/// REPORT TARGET PORT GROUPS, length only header format.
pub(crate) fn report_target_port_groups() -> Request {
    const ALLOCATION: u32 = 4096;
    Request::new(&[0xa3, 0x0a]).with(6, 4, ALLOCATION.into()).reading(ALLOCATION)
}

/// REPORT SUPPORTED OPERATION CODES, all commands, without timeouts.
pub(crate) fn report_all_operation_codes() -> Request {
    const ALLOCATION: u32 = 64 * 1024;
    Request::new(&[0xa3, 0x0c]).with(6, 4, ALLOCATION.into()).reading(ALLOCATION)
}

/// REPORT SUPPORTED OPERATION CODES of one command.
pub(crate) fn report_operation_code(opcode: u8, service_action: Option<u16>) -> Request {
    const ALLOCATION: u32 = 512;
    let option = if service_action.is_some() { 2 } else { 1 };
    let request = Request::new(&[0xa3, 0x0c, option, opcode]).with(6, 4, ALLOCATION.into());
    request.with(4, 2, service_action.unwrap_or(0).into()).reading(ALLOCATION)
}

/// PERSISTENT RESERVE IN with a service action.
pub(crate) fn reserve_in(action: u8) -> Request {
    const ALLOCATION: u32 = 8 * 1024;
    Request::new(&[0x5e, action]).with(7, 2, ALLOCATION.into()).reading(ALLOCATION)
}

/// PERSISTENT RESERVE OUT with the basic parameter list.
pub(crate) fn reserve_out(action: u8, kind: u8, key: u64, service_action_key: u64, flags: u8) -> Request {
    let mut list = vec![0; 24];
    put(&mut list, 0, 8, key);
    put(&mut list, 8, 8, service_action_key);
    put(&mut list, 20, 1, flags.into());
    Request::new(&[0x5f, action, kind]).with(5, 4, 24).sending(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cdbs_have_the_length_of_their_group() {
        for (opcode, length) in [(0x00, 6), (0x25, 10), (0x5e, 10), (0x88, 16), (0x9e, 16), (0xa0, 12)] {
            assert_eq!(Request::new(&[opcode]).cdb().len(), length, "{opcode:02x}");
        }
    }

    #[test]
    fn numbers_stand_where_the_standards_put_them() {
        assert_eq!(read(0x0102, 3, 512).cdb(), [0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0]);
        assert_eq!(compare_and_write(1, 2, Bytes::new()).cdb()[13], 2);
        let out = reserve_out(4, 5, 0x11, 0x22, 1);
        assert_eq!(out.cdb(), [0x5f, 4, 5, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!((out.data_out[7], out.data_out[15], out.data_out[20]), (0x11, 0x22, 1));
        assert_eq!(out.name, "PERSISTENT RESERVE OUT, PREEMPT");
    }

    #[test]
    fn unmap_lists_carry_their_lengths() {
        let request = unmap(&[(16, 8)]);
        assert_eq!(request.data_out[..8], [0, 22, 0, 16, 0, 0, 0, 0]);
        assert_eq!(request.cdb()[7..9], [0, 24]);
        assert_eq!(unmap(&[]).data_out[..], [0, 6, 0, 0, 0, 0, 0, 0]);
    }
}
