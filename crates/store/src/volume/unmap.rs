//! Giving space back.

use super::StoreVolume;
use crate::format::{BLOCK_BYTES, BlockAddress};
use crate::log::{Guard, Payload, Write};
use crate::number::len_of;
use block::{ByteRange, Result};
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::sync::Arc;

/// Leaves of the map that one step changes at most, so that others get their turn.
const STEP_LEAVES: usize = 32;
/// Ranges that are given back at the same time: they share batches.
const RANGES_AT_ONCE: usize = 64;
/// Blocks that one piece of a batch can speak of, rounded to whole leaves.
const STEP_BLOCKS: u64 = 1 << 31;

/// Leaves of a step in a pool where a checkpoint begins at `dirty_nodes` changed nodes: a small pool takes small ones.
fn count_of_leaves(dirty_nodes: u64) -> usize {
    len_of(dirty_nodes / 4).clamp(1, STEP_LEAVES)
}

impl StoreVolume {
    pub(super) async fn unmap_ranges(&self, ranges: Vec<ByteRange>) -> Result<()> {
        for range in &ranges {
            self.check(range.offset, range.len)?;
        }
        let durable = !self.shared.buffered;
        let unmaps = ranges.into_iter().map(|range| self.unmap_range(range, durable));
        iter(unmaps).buffer_unordered(RANGES_AT_ONCE).try_collect().await
    }

    async fn unmap_range(&self, range: ByteRange, durable: bool) -> Result<()> {
        let end = range.offset + range.len;
        let first = range.offset.next_multiple_of(BLOCK_BYTES);
        let last = end - end % BLOCK_BYTES;
        if first > last {
            return self.zero_part(range.offset, range.len, durable).await;
        }
        self.zero_part(range.offset, first - range.offset, durable).await?;
        self.unmap_blocks(BlockAddress(first / BLOCK_BYTES), (last - first) / BLOCK_BYTES, durable).await?;
        self.zero_part(last, end - last, durable).await
    }

    /// Writes zeros to a part of a block.
    async fn zero_part(&self, offset: u64, len: u64, durable: bool) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let zeros: Bytes = self.engine.zeros.slice(..len_of(len));
        self.write_bytes(offset, vec![zeros], durable).await
    }

    async fn unmap_blocks(&self, first: BlockAddress, count: u64, durable: bool) -> Result<()> {
        // Held as a whole: a write that comes later is not undone by a step that comes later still.
        let guard: Guard = self.shared.ranges.hold(first, count).await;
        self.unmap_held(first, count, durable, &guard).await
    }

    /// Unmaps a range that `guard` holds.
    pub(super) async fn unmap_held(
        &self,
        first: BlockAddress,
        count: u64,
        durable: bool,
        guard: &Guard,
    ) -> Result<()> {
        let (mut at, end) = (first.0, first.0 + count);
        while at < end {
            let wanted = (end - at).min(STEP_BLOCKS);
            let guard = Arc::clone(guard);
            self.check(0, 0)?;
            let layer = self.shared.top();
            let leaves = count_of_leaves(self.engine.state().budget.dirty_nodes);
            let plan = self.engine.plan_zeros(layer, BlockAddress(at), wanted, leaves).await?;
            if !plan.leaves.is_empty() {
                let zeros = Payload::Zeros(crate::number::narrow(plan.count));
                let pieces = vec![(BlockAddress(at), zeros)];
                self.engine.write(Write { layer, pieces, durable, whole: false, guard: Some(guard) }).await?;
            }
            at += plan.count;
        }
        Ok(())
    }
}
