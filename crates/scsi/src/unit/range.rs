//! Logical blocks to bytes, inside the capacity.

use super::LogicalUnit;
use super::dispatch::Task;
use crate::sense::{AdditionalSense, Sense};

/// A range of the medium that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
}

impl LogicalUnit {
    /// The blocks a command names by its address and length fields.
    pub(super) fn range(&self, task: &Task<'_>) -> Result<Range, Sense> {
        self.blocks_at(task.command.lba_of(task.cdb), u64::from(task.length()))
    }

    /// The same, of at most `blocks_max` blocks.
    pub(super) fn range_within(&self, task: &Task<'_>, blocks_max: u64) -> Result<Range, Sense> {
        let range = self.range(task)?;
        if self.to_blocks(range.len) > blocks_max { Err(task.bad_length()) } else { Ok(range) }
    }

    /// `count` blocks from `lba` on. An empty range has to start inside the medium, too (SBC-3 4.5).
    pub(super) fn blocks_at(&self, lba: u64, count: u64) -> Result<Range, Sense> {
        const OUT_OF_RANGE: Sense = Sense::illegal(AdditionalSense::LBA_OUT_OF_RANGE);
        match self.blocks.checked_sub(lba) {
            None | Some(0) => Err(OUT_OF_RANGE),
            Some(left) if count > left => Err(OUT_OF_RANGE),
            Some(_) => Ok(Range { offset: self.to_bytes(lba), len: self.to_bytes(count) }),
        }
    }

    /// Everything from `lba` on, or nothing if it lies outside.
    pub(super) fn rest_from(&self, lba: u64) -> Result<Range, Sense> {
        self.blocks_at(lba, self.blocks.saturating_sub(lba))
    }

    /// Bytes of blocks inside the capacity, which 63 bits hold.
    fn to_bytes(&self, blocks: u64) -> u64 {
        blocks << self.config.block_size.shift()
    }

    /// Blocks of bytes.
    pub(super) fn to_blocks(&self, bytes: u64) -> u64 {
        bytes >> self.config.block_size.shift()
    }

    /// A limit in blocks, for a 32-bit field.
    pub(super) fn limit_in_blocks(&self, bytes: u64) -> u32 {
        u32::try_from(self.to_blocks(bytes)).unwrap_or(u32::MAX)
    }
}
