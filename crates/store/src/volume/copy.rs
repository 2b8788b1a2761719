//! Copying without moving: the destination comes to refer to the source's blocks.

use super::{Blocks, StoreVolume};
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, BlockAddress, LayerId};
use crate::log::{Guard, Payload, Write};
use crate::map::leaf_of;
use crate::number::{narrow, wide};
use crate::share::owner_of;
use crate::state::{Needed, State, slots_in};
use block::{BoxFuture, ByteRange, Result, Volume};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Fewer blocks are not worth it.
const BLOCKS_MIN: u64 = 8;
/// A part of the source is shared if this many blocks of it at least share a leaf of the shared layer: what was written
/// at random takes a leaf for each block, and is better moved, and put in order with that.
const BLOCKS_PER_LEAF: u64 = 8;
/// Leaves of the source that one step shares at most, so that others get their turn.
const STEP_LEAVES: u64 = 16;
/// Leaves of the shared layer that one step changes at most, but for its last leaf of the source.
const STEP_SHARED: u64 = 32;

/// What is done with a part of the source that lies in one leaf, or with a hole.
enum Part {
    Hole,
    /// Runs of blocks that are mapped, or not.
    Share(Vec<(bool, u64)>),
    Leave,
}

/// What is known of the next blocks of the source.
struct Plan {
    count: u64,
    part: Part,
    /// Leaves of the shared layer that sharing it changes.
    shared: BTreeSet<u64>,
}

/// Parts that are shared at once.
#[derive(Default)]
struct Step {
    pieces: Vec<(BlockAddress, Payload)>,
    leaves: u64,
    shared: BTreeSet<u64>,
}

/// What is copied, in blocks.
#[derive(Clone, Copy)]
struct Job {
    source: LayerId,
    from: BlockAddress,
    to: BlockAddress,
    count: u64,
}

impl StoreVolume {
    /// [`Volume::copy_from`].
    pub(super) fn share_from<'a>(
        &'a self,
        offset: u64,
        len: u64,
        source: &'a dyn Volume,
        source_offset: u64,
    ) -> Option<BoxFuture<'a, Result<Vec<ByteRange>>>> {
        let source: &dyn Any = source;
        let source = source.downcast_ref::<Self>()?;
        let first = offset.next_multiple_of(BLOCK_BYTES);
        let end = offset.checked_add(len)? / BLOCK_BYTES * BLOCK_BYTES;
        let whole = end.checked_sub(first).filter(|whole| *whole >= BLOCKS_MIN * BLOCK_BYTES)?;
        // The same content is stored as something else under another key, and at another address.
        let family = self.shared.family();
        let possible = Arc::ptr_eq(&self.engine, &source.engine)
            && family == source.shared.family()
            && (family.is_none() || offset == source_offset)
            && offset % BLOCK_BYTES == source_offset % BLOCK_BYTES
            && !self.engine.state().is_under_thick(self.shared.top());
        let whole = ByteRange { offset: first, len: whole };
        possible.then(|| -> BoxFuture<'a, _> {
            Box::pin(self.share_parts(ByteRange { offset, len }, whole, source, source_offset))
        })
    }

    async fn share_parts(
        &self,
        range: ByteRange,
        whole: ByteRange,
        source: &Self,
        source_offset: u64,
    ) -> Result<Vec<ByteRange>> {
        let head = whole.offset - range.offset;
        let to = self.blocks(whole.offset, whole.len)?;
        let from = source.blocks(source_offset + head, whole.len)?;
        if let Err(error) = self.engine.enable_sharing().await {
            tracing::warn!(%error, "blocks are copied instead of shared");
            return Ok(vec![ByteRange { offset: 0, len: range.len }]);
        }
        let guards = self.hold_both(to, source, from).await;
        self.check(whole.offset, whole.len)?;
        source.check(source_offset, range.len)?;
        let job = Job { source: source.shared.top(), from: from.first, to: to.first, count: to.count };
        let mut left = Vec::new();
        add(&mut left, 0, head);
        for (start, count) in self.share_blocks(job, &guards).await? {
            add(&mut left, head + start * BLOCK_BYTES, count * BLOCK_BYTES);
        }
        add(&mut left, head + whole.len, range.len - head - whole.len);
        Ok(left)
    }

    /// Holds the destination and the source. All copies take them in the same order: none waits for another that waits
    /// for it.
    async fn hold_both(&self, to: Blocks, source: &Self, from: Blocks) -> Guard {
        let [own, other] = [&self.shared.ranges, &source.shared.ranges];
        if Arc::ptr_eq(own, other) {
            return Arc::new(vec![own.hold_two((to.first, to.count), (from.first, from.count)).await]);
        }
        let mut ends = [(self, to), (source, from)];
        ends.sort_by(|(a, _), (b, _)| a.shared.name.cmp(&b.shared.name));
        let mut guards = Vec::with_capacity(2);
        for (volume, blocks) in ends {
            guards.push(volume.shared.ranges.hold(blocks.first, blocks.count).await);
        }
        Arc::new(guards)
    }

    /// Shares what is worth it. Returns the rest: first block and number of blocks, from the start of the job on.
    async fn share_blocks(&self, job: Job, guards: &Guard) -> Result<Vec<(u64, u64)>> {
        let mut left: Vec<(u64, u64)> = Vec::new();
        let mut step = Step::default();
        let mut at = 0;
        let leaves_max = self.engine.state().leaves_to_share(job.source);
        while at < job.count {
            let plan = self.engine.plan_copy(job.source, BlockAddress(job.from.0 + at), job.count - at).await;
            let Ok(plan) = plan else {
                // Whoever reads it to move it finds out why.
                left.push((at, job.count - at));
                break;
            };
            let target = BlockAddress(job.to.0 + at);
            match plan.part {
                Part::Leave => match left.last_mut() {
                    Some((start, count)) if *start + *count == at => *count += plan.count,
                    _ => left.push((at, plan.count)),
                },
                Part::Hole => {
                    self.share_step(std::mem::take(&mut step), guards).await?;
                    self.unmap_held(target, plan.count, !self.shared.buffered, guards).await?;
                }
                Part::Share(runs) => {
                    step.add(target, (job.source, BlockAddress(job.from.0 + at)), &runs);
                    step.shared.extend(plan.shared);
                    if step.leaves >= leaves_max || wide(step.shared.len()) >= STEP_SHARED {
                        self.share_step(std::mem::take(&mut step), guards).await?;
                    }
                }
            }
            at += plan.count;
        }
        self.share_step(step, guards).await?;
        Ok(left)
    }

    async fn share_step(&self, step: Step, guards: &Guard) -> Result<()> {
        if step.pieces.is_empty() {
            return Ok(());
        }
        self.check(0, 0)?;
        let guard = Arc::clone(guards);
        let durable = !self.shared.buffered;
        let write = Write {
            layer: self.shared.top(),
            pieces: step.pieces,
            durable,
            whole: false,
            guard: Some(guard),
        };
        self.engine.write(write).await
    }
}

impl Step {
    fn add(&mut self, target: BlockAddress, source: (LayerId, BlockAddress), runs: &[(bool, u64)]) {
        self.leaves += 1;
        let mut done = 0;
        for (mapped, count) in runs {
            let payload = match mapped {
                true => Payload::Copy {
                    layer: source.0,
                    address: BlockAddress(source.1.0 + done),
                    count: narrow(*count),
                    references: Vec::new(),
                },
                false => Payload::Zeros(narrow(*count)),
            };
            self.pieces.push((BlockAddress(target.0 + done), payload));
            done += count;
        }
    }
}

/// Adds a range to a list of ranges in order, if it is not empty.
fn add(ranges: &mut Vec<ByteRange>, offset: u64, len: u64) {
    match ranges.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.offset + last.len == offset => last.len += len,
        _ => ranges.push(ByteRange { offset, len }),
    }
}

impl Engine {
    /// From the first copy after an opening on, the label says that this pool is not for builds that know nothing of
    /// shared blocks. Twice: each label has two of the four slots, and another build would take any it knows.
    ///
    /// # Errors
    /// The disk's; the pool takes no writes.
    pub(crate) async fn enable_sharing(self: &Arc<Self>) -> Result<()> {
        let _gate = self.grow_gate.lock().await;
        let enabled = {
            let state = self.state();
            if let Some(refusal) = state.refusal(&self.name) {
                return Err(refusal);
            }
            state.sharing
        };
        if enabled {
            return Ok(());
        }
        for _ in 0..2 {
            let catalog = self.catalog();
            self.blocking(move || catalog.update_labels(|label| label.sharing = true)).await?;
        }
        self.state().sharing = true;
        Ok(())
    }

    async fn plan_copy(&self, layer: LayerId, first: BlockAddress, count: u64) -> Result<Plan> {
        loop {
            let plan = self.state().plan_copy(layer, first, count);
            match plan {
                Ok(plan) => return Ok(plan),
                Err(needed) => self.load(needed).await?,
            }
        }
    }
}

impl State {
    /// Leaves that one step shares: fewer where checkpoints are small, and where each is looked up in many layers.
    fn leaves_to_share(&self, source: LayerId) -> u64 {
        let parent = |id: &LayerId| self.layers.get(id).and_then(|layer| layer.parent);
        let depth = wide(std::iter::successors(Some(source), parent).count());
        (self.budget.dirty_nodes / 4).min(STEP_LEAVES.div_ceil(depth)).max(1)
    }

    /// What is done with the blocks from `first` on: those of one leaf, or the hole before the next.
    fn plan_copy(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
    ) -> std::result::Result<Plan, Needed> {
        let end = first.0 + count;
        let leaf = leaf_of(first);
        let hole = |count| Plan { count, part: Part::Hole, shared: BTreeSet::new() };
        let next = self.next_leaf_of_chain(layer, leaf..=leaf_of(BlockAddress(end - 1)))?;
        if next != Some(leaf) {
            return Ok(hole(next.map_or(end, |next| next << 8) - first.0));
        }
        let count = end.min((leaf + 1) << 8) - first.0;
        let slots = slots_in(leaf, first, count);
        let owners = self.owners(layer, leaf, slots.clone())?;
        let kept: BTreeSet<_> =
            owners.iter().map(|(id, _)| *id).filter(|id| self.is_under_thick(*id)).collect();
        let mut runs: Vec<(bool, u64)> = Vec::new();
        let mut shared = BTreeSet::new();
        let mut possible = true;
        let mut mapped = 0;
        for slot in slots {
            let (owner, entry) = owner_of(&owners, slot);
            let is_mapped = entry.location.is_mapped();
            if is_mapped {
                mapped += 1;
                match self.number_of(entry).filter(|_| owner.is_none_or(|owner| !kept.contains(&owner))) {
                    Some(number) => _ = shared.insert(leaf_of(number)),
                    None => possible = false,
                }
            }
            match runs.last_mut() {
                Some((state, count)) if *state == is_mapped => *count += 1,
                _ => runs.push((is_mapped, 1)),
            }
        }
        if mapped == 0 {
            return Ok(hole(count));
        }
        possible &= mapped >= BLOCKS_PER_LEAF * wide(shared.len());
        let part = if possible { Part::Share(runs) } else { Part::Leave };
        Ok(Plan { count, part, shared })
    }
}
