//! POPULATE TOKEN and WRITE USING TOKEN (SBC-4 5.12 and 5.59).

use super::{Header, RANGES_MAX, TOKEN_BYTES_MAX, be16, be32, be64, byte};
use crate::copy::{CopyWork, TokenCreator};
use crate::media::ByteRange;
use crate::rod::{
    CHANGE_VULNERABLE, INACTIVITY_SECONDS_DEFAULT, INACTIVITY_SECONDS_MAX, POINT_IN_TIME_ANY, ROD_TOKEN_LEN,
    RodToken,
};
use crate::sense::{AdditionalSense, Sense};
use crate::unit::LogicalUnit;
use crate::unit::dispatch::Task;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
const IMMED: u8 = 0x01;
/// Bytes of a block device range descriptor.
const RANGE: usize = 16;

impl LogicalUnit {
    pub(super) fn populate_token(&self, task: &Task<'_>, list: &[u8]) -> Result<(Header, CopyWork), Sense> {
        const HEADER: usize = 16;
        const DATA_LEN_MIN: u16 = 0x1e;
        const RTV: u8 = 0x02;
        if list.len() < HEADER {
            return Err(LENGTH_ERROR);
        }
        if be16(list, 0) < DATA_LEN_MIN {
            return Err(Sense::invalid_parameter(0, None));
        }
        let flags = byte(list, 2);
        let kind = be32(list, 8);
        if flags & RTV != 0 && ![CHANGE_VULNERABLE, POINT_IN_TIME_ANY].contains(&kind) {
            return Err(Sense::invalid_parameter(8, None));
        }
        let inactivity_seconds = match be32(list, 4) {
            0 => INACTIVITY_SECONDS_DEFAULT,
            seconds if seconds > INACTIVITY_SECONDS_MAX => return Err(Sense::invalid_parameter(4, None)),
            seconds => seconds,
        };
        let ranges = self.ranges(list, HEADER - 2)?;
        let nexus = self.nexuses.get(task.nexus);
        let creator = TokenCreator {
            naa: self.config.identity.naa,
            block_size: self.config.block_size,
            target_name: nexus.map(|nexus| nexus.info.target_port.target_name.clone()).unwrap_or_default(),
        };
        Ok((header(task, flags), CopyWork::CreateToken { ranges, inactivity_seconds, creator }))
    }

    pub(super) fn write_using_token(
        &self,
        task: &Task<'_>,
        list: &[u8],
    ) -> Result<(Header, CopyWork), Sense> {
        const HEADER: usize = 536;
        const DATA_LEN_MIN: u16 = 0x226;
        const TOKEN: usize = 16;
        const DEL_TKN: u8 = 0x02;
        if list.len() < HEADER {
            return Err(LENGTH_ERROR);
        }
        if be16(list, 0) < DATA_LEN_MIN {
            return Err(Sense::invalid_parameter(0, None));
        }
        let flags = byte(list, 2);
        let block_bytes = u64::from(self.config.block_size.bytes());
        let offset = be64(list, 8).checked_mul(block_bytes).ok_or(Sense::invalid_parameter(8, None))?;
        let token = RodToken::from_bytes(list.get(TOKEN..TOKEN + ROD_TOKEN_LEN).ok_or(LENGTH_ERROR)?);
        let ranges = self.ranges(list, HEADER - 2)?;
        let delete = flags & DEL_TKN != 0;
        Ok((header(task, flags), CopyWork::FromToken { token, offset, ranges, delete }))
    }

    /// The block device range descriptors behind their length field, which is at `at` (SBC-4 5.12.2). One that is not
    /// whole is ignored.
    fn ranges(&self, list: &[u8], at: usize) -> Result<Vec<ByteRange>, Sense> {
        let pointer = u16::try_from(at).unwrap_or(u16::MAX);
        let len = usize::from(be16(list, at));
        if len < RANGE {
            return Err(Sense::invalid_parameter(pointer, None));
        }
        let behind = list.get(at + 2..).unwrap_or_default();
        let descriptors = behind.get(..len).unwrap_or(behind);
        if descriptors.len() / RANGE > usize::from(RANGES_MAX) {
            return Err(Sense::illegal(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        let mut ranges = Vec::with_capacity(descriptors.len() / RANGE);
        for descriptor in descriptors.chunks_exact(RANGE) {
            let (lba, blocks) = (be64(descriptor, 0), be32(descriptor, 8));
            if blocks > 0 {
                let range = self.blocks_at(lba, u64::from(blocks))?;
                ranges.push(ByteRange { offset: range.offset, len: range.len });
            }
        }
        let total = ranges.iter().map(|range| range.len).fold(0, u64::saturating_add);
        if total > TOKEN_BYTES_MAX || overlap(&ranges) {
            return Err(Sense::invalid_parameter(pointer.saturating_add(2), None));
        }
        Ok(ranges)
    }
}

/// These two always use their list identifier (SBC-4 5.12.1).
fn header(task: &Task<'_>, flags: u8) -> Header {
    Header { list: Some(task.command.list_of(task.cdb)), immediate: flags & IMMED != 0 }
}

/// Whether any byte is in two of the ranges.
fn overlap(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.offset);
    let ends = sorted.iter().map(|range| range.offset.saturating_add(range.len));
    ends.zip(sorted.iter().skip(1)).any(|(end, next)| end > next.offset)
}
