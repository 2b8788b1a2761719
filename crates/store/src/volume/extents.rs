//! Which parts of a volume are mapped.

use super::StoreVolume;
use crate::format::{BLOCK_BYTES, BlockAddress};
use crate::map::leaf_of;
use crate::state::{Needed, State, slots_in};
use crate::views::entry_in;
use block::{ByteRange, Extent, Provisioning, Result};

/// A run of blocks in one state.
struct Stretch {
    mapped: bool,
    blocks: u64,
}

impl StoreVolume {
    pub(super) async fn find_extents(
        &self,
        offset: u64,
        len: u64,
        extents_max: usize,
    ) -> Result<Vec<Extent>> {
        if len == 0 {
            self.check(offset, len)?;
            return Ok(Vec::new());
        }
        let blocks = self.blocks(offset, len)?;
        let end = blocks.first.0 + blocks.count;
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut at = blocks.first;
        while at.0 < end && stretches.len() <= extents_max {
            let step = self.engine.state().stretch(self.shared.top(), at, end, &mut stretches);
            match step {
                Ok(next) => at = next,
                Err(needed) => self.engine.load(needed).await?,
            }
        }
        stretches.truncate(extents_max);
        Ok(extents_of(&stretches, offset, len))
    }
}

fn extents_of(stretches: &[Stretch], offset: u64, len: u64) -> Vec<Extent> {
    let mut start = offset;
    let mut block_end = offset / BLOCK_BYTES;
    let mut extents = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        block_end += stretch.blocks;
        let end = (block_end * BLOCK_BYTES).min(offset + len);
        let provisioning = if stretch.mapped { Provisioning::Mapped } else { Provisioning::Deallocated };
        extents.push(Extent { range: ByteRange { offset: start, len: end - start }, provisioning });
        start = end;
    }
    extents
}

impl State {
    /// Adds the blocks of one leaf, or of the hole before the next one, to `stretches`. Returns where it got to.
    fn stretch(
        &mut self,
        top: crate::format::LayerId,
        at: BlockAddress,
        end: u64,
        stretches: &mut Vec<Stretch>,
    ) -> std::result::Result<BlockAddress, Needed> {
        let leaf = leaf_of(at);
        let last = leaf_of(BlockAddress(end - 1));
        let next = self.next_leaf_of_chain(top, leaf..=last)?;
        if next != Some(leaf) {
            let until = next.map_or(end, |next| next << 8);
            add(stretches, false, until - at.0);
            return Ok(BlockAddress(until));
        }
        let count = end.min((leaf + 1) << 8) - at.0;
        let slots = slots_in(leaf, at, count);
        let views = self.views(top, leaf, slots.clone())?;
        for slot in slots {
            add(stretches, entry_in(&views, slot).location.is_mapped(), 1);
        }
        Ok(BlockAddress(at.0 + count))
    }
}

fn add(stretches: &mut Vec<Stretch>, mapped: bool, blocks: u64) {
    match stretches.last_mut() {
        Some(last) if last.mapped == mapped => last.blocks += blocks,
        _ => stretches.push(Stretch { mapped, blocks }),
    }
}
