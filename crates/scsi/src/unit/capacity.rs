//! READ CAPACITY (SBC-3 5.15 and 5.16).

use bytes::Bytes;

use super::dispatch::Task;
use super::{LogicalUnit, cut};
use crate::completion::Completion;

impl LogicalUnit {
    /// Above 2^32 blocks the address is all ones and hosts ask again with sixteen bytes.
    pub(super) fn read_capacity_10(&self) -> Completion {
        let last = u32::try_from(self.blocks - 1).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(8);
        data.extend_from_slice(&last.to_be_bytes());
        data.extend_from_slice(&self.config.block_size.bytes().to_be_bytes());
        Completion::data(vec![Bytes::from(data)])
    }

    pub(super) fn read_capacity_16(&self, task: &Task<'_>) -> Completion {
        const LEN: usize = 32;
        // LBPME and LBPRZ: thin, and what is not mapped reads as zero. Aligned from block 0 on.
        let provisioning = if self.config.thin { 0x80 | 0x40 } else { 0 };
        let mut data = Vec::with_capacity(LEN);
        data.extend_from_slice(&(self.blocks - 1).to_be_bytes());
        data.extend_from_slice(&self.config.block_size.bytes().to_be_bytes());
        data.extend_from_slice(&[0, self.config.physical_block_exponent, provisioning, 0]);
        data.resize(LEN, 0);
        cut(Bytes::from(data), task.length())
    }
}
