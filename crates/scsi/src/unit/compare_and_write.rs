//! COMPARE AND WRITE (SBC-3 5.2): VMware's lock primitive.

use super::dispatch::Task;
use super::parameters::split_off;
use super::range::Range;
use super::{DataOut, LogicalUnit, Step};
use crate::completion::Completion;
use crate::media::MediaCommand;
use crate::sense::Sense;

impl LogicalUnit {
    pub(super) fn compare_and_write(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let blocks_max = u64::from(self.compare_and_write_blocks_max());
        let Range { offset, len } = self.range_within(task, blocks_max)?;
        let mut compare = self.exact_data(task, data_out)?;
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        let write = split_off(&mut compare, len);
        let durability = self.durability(task.cdb.bit(1, 0x08 | 0x02));
        let command = MediaCommand::CompareAndWrite { offset, compare, write, durability };
        Ok(self.media(task, command, offset, len))
    }

    /// MAXIMUM COMPARE AND WRITE LENGTH: a byte, in the CDB and in the Block Limits page.
    pub(super) fn compare_and_write_blocks_max(&self) -> u8 {
        let blocks = self.limit_in_blocks(u64::from(self.config.limits.compare_and_write_bytes_max));
        u8::try_from(blocks).unwrap_or(u8::MAX)
    }
}
