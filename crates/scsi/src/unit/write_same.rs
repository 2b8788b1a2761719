//! WRITE SAME (SBC-3 5.46): one block, written to many.

use super::dispatch::Task;
use super::parameters::gather;
use super::range::Range;
use super::{DataOut, LogicalUnit, Step};
use crate::media::MediaCommand;
use crate::sense::Sense;

impl LogicalUnit {
    /// Zeroes become [`MediaCommand::WriteZeroes`], whether the host asks for the space back (UNMAP) or
    /// not; other patterns are written even with UNMAP, as unmapped blocks read as zero (LBPRZ).
    pub(super) fn write_same(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let blocks_max = self.to_blocks(self.config.limits.write_same_bytes_max);
        let Range { offset, len } = self.range_within(task, blocks_max)?;
        if len == 0 {
            // WSNZ: "to the last block" is not supported.
            return Err(task.bad_length());
        }
        let pattern = gather(self.exact_data(task, data_out)?);
        let durability = self.durability(false);
        let command = if pattern.iter().all(|byte| *byte == 0) {
            let deallocate = task.cdb.bit(1, 0x08);
            MediaCommand::WriteZeroes { offset, len, deallocate, durability }
        } else {
            MediaCommand::WriteSame { offset, len, pattern, durability }
        };
        Ok(self.media(task, command, offset, len))
    }
}
