//! WRITE ATOMIC(16) (SBC-4 5.48): all of it or nothing, whatever happens.

use super::dispatch::Task;
use super::range::Range;
use super::{DataOut, LogicalUnit, Step};
use crate::completion::Completion;
use crate::media::MediaCommand;
use crate::sense::Sense;

impl LogicalUnit {
    /// Less data than the command names is refused and not written as far as it goes: that would be a part.
    pub(super) fn write_atomic(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let blocks_max = self.to_blocks(u64::from(self.config.limits.atomic_bytes_max));
        let Range { offset, len } = self.range_within(task, blocks_max)?;
        let data = self.data(task, data_out)?;
        if len == 0 {
            return Ok(Step::Done(Completion::good()));
        }
        let durability = self.durability(task.cdb.bit(1, 0x08));
        Ok(self.media(task, MediaCommand::WriteAtomic { offset, data, durability }, offset, len))
    }
}
