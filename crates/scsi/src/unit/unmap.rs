//! UNMAP (SBC-3 5.28).

use bytes::Buf;

use super::dispatch::Task;
use super::parameters::gather;
use super::{DataOut, LogicalUnit, Step};
use crate::completion::Completion;
use crate::media::{ByteRange, MediaCommand};
use crate::sense::{AdditionalSense, Sense};

/// Bytes of the parameter list's header.
const HEADER: usize = 8;
/// Bytes of an UNMAP block descriptor.
const DESCRIPTOR: usize = 16;

impl LogicalUnit {
    pub(super) fn unmap(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let list = gather(self.data(task, data_out)?);
        if list.is_empty() {
            return Ok(Step::Done(Completion::good()));
        }
        let ranges = self.unmap_ranges(descriptors(&list)?)?;
        let Some(first) = ranges.first() else { return Ok(Step::Done(Completion::good())) };
        let offset = first.offset;
        let len = ranges.iter().map(|range| range.len).sum();
        Ok(self.media(task, MediaCommand::Unmap { ranges }, offset, len))
    }

    /// The descriptors that name any block, checked one by one and in sum.
    fn unmap_ranges(&self, mut descriptors: &[u8]) -> Result<Vec<ByteRange>, Sense> {
        let limits = &self.config.limits;
        let count = descriptors.len() / DESCRIPTOR;
        if u32::try_from(count).unwrap_or(u32::MAX) > limits.unmap_descriptors_max {
            return Err(Sense::invalid_parameter(2, None));
        }
        let mut ranges = Vec::with_capacity(count);
        let mut total: u64 = 0;
        while descriptors.len() >= DESCRIPTOR {
            let (lba, blocks) = (descriptors.get_u64(), u64::from(descriptors.get_u32()));
            descriptors.advance(4);
            if blocks == 0 {
                continue;
            }
            let range = self.blocks_at(lba, blocks)?;
            // At most 2^16 descriptors of 2^32 blocks of 2^12 bytes: no overflow.
            total += range.len;
            ranges.push(ByteRange { offset: range.offset, len: range.len });
        }
        let blocks_max = u64::from(self.limit_in_blocks(limits.unmap_bytes_max));
        if self.to_blocks(total) > blocks_max {
            return Err(Sense::illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        Ok(ranges)
    }
}

/// The block descriptors of a parameter list. A last one that is not whole is ignored.
fn descriptors(list: &[u8]) -> Result<&[u8], Sense> {
    const TOO_SHORT: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    let (header, rest) = list.split_at_checked(HEADER).ok_or(TOO_SHORT)?;
    let &[_, _, high, low, ..] = header else { return Err(TOO_SHORT) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    rest.get(..len).ok_or(TOO_SHORT)
}
