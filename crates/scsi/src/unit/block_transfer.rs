//! READ, WRITE, WRITE AND VERIFY, VERIFY, PRE-FETCH and SYNCHRONIZE CACHE (SBC-3 5).

use super::dispatch::Task;
use super::parameters::gather;
use super::range::Range;
use super::{DataOut, LogicalUnit, Step};
use crate::completion::{Completion, total_len};
use crate::media::{Comparison, MediaCommand};
use crate::sense::Sense;

/// FUA, and FUA_NV, which asks for no more than FUA gives.
const FUA: u8 = 0x08 | 0x02;
/// BYTCHK of the VERIFY family, byte 1 bits 2-1.
const BYTCHK_SHIFT: u32 = 1;
/// Most blocks a VERIFY without data may name: it moves no data, but somebody has to read it all.
const VERIFY_BLOCKS_MAX: u64 = 65_536;

impl LogicalUnit {
    pub(super) fn read(&self, task: &Task<'_>) -> Result<Step, Sense> {
        let Range { offset, len } = self.transfer_range(task)?;
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        // Without a write cache all data is where FUA wants it. READ(6) has no such bit.
        let fua = self.config.write_cache && is_fua(task);
        Ok(self.media(task, MediaCommand::Read { offset, len, fua }, offset, len))
    }

    pub(super) fn write(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let Range { offset, len } = self.transfer_range(task)?;
        let data = self.blocks_to_write(len, data_out)?;
        let len = total_len(&data);
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        let durability = self.durability(is_fua(task));
        Ok(self.media(task, MediaCommand::Write { offset, data, durability }, offset, len))
    }

    /// SBC-3 5.10 (ORWRITE(16)): reads, ORs and writes as one action.
    pub(super) fn or_write(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let Range { offset, len } = self.transfer_range(task)?;
        let data = self.data(task, data_out)?;
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        let durability = self.durability(is_fua(task));
        Ok(self.media(task, MediaCommand::OrWrite { offset, data, durability }, offset, len))
    }

    pub(super) fn write_and_verify(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let compare = match byte_check(task) {
            0 => false,
            1 => true,
            _ => return Err(Sense::invalid_cdb_bit(1, 2)),
        };
        let Range { offset, len } = self.transfer_range(task)?;
        let data = self.blocks_to_write(len, data_out)?;
        let len = total_len(&data);
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        Ok(self.media(task, MediaCommand::WriteAndVerify { offset, data, compare }, offset, len))
    }

    pub(super) fn verify(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let check = byte_check(task);
        let Range { offset, len } = match check {
            1 => self.transfer_range(task)?,
            0 | 3 => self.range_within(task, VERIFY_BLOCKS_MAX.max(self.transfer_blocks_max()))?,
            _ => return Err(Sense::invalid_cdb_bit(1, 2)),
        };
        let data = self.data(task, data_out)?;
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        let comparison = match check {
            0 => Comparison::Readable,
            1 => Comparison::Bytes(data),
            _ => Comparison::RepeatedBlock(gather(data)),
        };
        Ok(self.media(task, MediaCommand::Verify { offset, len, comparison }, offset, len))
    }

    /// SBC-3 5.9. How much fits the cache is not told, so it is never CONDITION MET.
    pub(super) fn prefetch(&self, task: &Task<'_>) -> Result<Step, Sense> {
        let Range { offset, len } = self.named_or_rest(task)?;
        Ok(self.media(task, MediaCommand::Prefetch { offset, len }, offset, len))
    }

    /// SBC-3 5.22. IMMED is met by answering when it is done.
    pub(super) fn synchronize_cache(&self, task: &Task<'_>) -> Result<Step, Sense> {
        let Range { offset, len } = self.named_or_rest(task)?;
        Ok(self.media(task, MediaCommand::Flush { offset, len }, offset, len))
    }

    /// Address and length fields, where a length of 0 means up to the last block.
    fn named_or_rest(&self, task: &Task<'_>) -> Result<Range, Sense> {
        match task.length() {
            0 => self.rest_from(task.command.lba_of(task.cdb)),
            _ => self.range(task),
        }
    }

    /// The range of a command that moves its data, within MAXIMUM TRANSFER LENGTH.
    fn transfer_range(&self, task: &Task<'_>) -> Result<Range, Sense> {
        self.range_within(task, self.transfer_blocks_max())
    }

    fn transfer_blocks_max(&self) -> u64 {
        self.to_blocks(u64::from(self.config.limits.transfer_bytes_max))
    }
}

/// Six-byte commands have an address where the others have flags.
fn is_fua(task: &Task<'_>) -> bool {
    task.command.cdb_len > 6 && task.cdb.bit(1, FUA)
}

fn byte_check(task: &Task<'_>) -> u8 {
    (task.cdb.byte(1) >> BYTCHK_SHIFT) & 0x03
}
