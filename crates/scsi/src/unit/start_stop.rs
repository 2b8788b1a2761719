//! START STOP UNIT (SBC-3 5.25).

use super::dispatch::Task;
use super::{LogicalUnit, Step};
use crate::completion::Completion;
use crate::media::MediaCommand;

/// START.
const START: u8 = 0x01;
/// NO_FLUSH.
const NO_FLUSH: u8 = 0x04;

impl LogicalUnit {
    /// A virtual disk has nothing to spin. Stopping makes its data safe, which is what a host that powers
    /// down wants, and leaves it running for the other hosts. Ejecting and power conditions are refused
    /// by the command table, as there is neither a medium to eject nor a power condition to enter.
    pub(super) fn start_stop_unit(&self, task: &Task<'_>) -> Step {
        if task.cdb.bit(4, START | NO_FLUSH) {
            return Step::Done(Completion::good());
        }
        self.flush_all(task)
    }

    /// Makes all acknowledged writes stable before `task` ends.
    pub(super) fn flush_all(&self, task: &Task<'_>) -> Step {
        let len = self.blocks << self.config.block_size.shift();
        self.media(task, MediaCommand::Flush { offset: 0, len }, 0, len)
    }
}
