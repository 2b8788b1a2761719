//! Applying logged batches to the maps.

use super::{Log, Logged};
use crate::catalog::LogRange;
use crate::engine::{Engine, OPEN_END};
use crate::format::batch::{Move, Piece, PieceKind};
use crate::format::node::FAN_OUT_SHIFT;
use crate::format::{BlockAddress, Epoch, LayerId, SegmentId, Seq};
use crate::map::{Find, leaf_of, leaves_of, slot_of};
use crate::number::{narrow, wide};
use crate::state::{Needed, State, entry_at};
use block::Result;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeSet;

/// Leaves that are loaded at the same time.
const LOADS: usize = 128;
/// Blocks of a piece of zeros whose leaves are loaded ahead at the most: 64 leaves.
const ZEROS_LOADED_MAX: u64 = 64 << 8;

impl Engine {
    /// Replays the host batches of an epoch. Returns where that ended.
    pub(super) async fn replay_host(&self, epoch: Epoch, range: &LogRange, log: &Log) -> Result<Seq> {
        let of_epoch = log.range((epoch, Seq(0))..=(epoch, Seq(u64::MAX)));
        let durable = of_epoch.map(|(_, batch)| batch.descriptor.header.durable).max().unwrap_or(Seq(0));
        // What an earlier opening has replayed was whole then; a block that was damaged since is found when read.
        let promised = if range.host_end == OPEN_END { durable } else { durable.max(range.host_end) };
        let mut batches = Vec::new();
        let mut seq = range.host_first;
        while seq < range.host_end {
            match log.get(&(epoch, seq)) {
                Some(batch) if batch.whole || seq < promised => batches.push(batch),
                _ => break,
            }
            seq = seq.next();
        }
        if seq < promised.min(range.host_end) {
            return Err(self.lost_log(seq));
        }
        self.load_touched(&batches).await?;
        for batch in &batches {
            self.replay_batch(batch).await?;
        }
        self.state().counters.replayed += wide(batches.len());
        Ok(seq)
    }

    /// Replays the relocation batches of an epoch. What cannot be used is left out: the blocks are still where
    /// they were, as no checkpoint has been made since.
    pub(super) async fn replay_relocation(&self, epoch: Epoch, range: &LogRange, log: &Log) -> Result<Seq> {
        let of_epoch = || log.range((epoch, range.relocation_first)..(epoch, range.relocation_end));
        let usable: Vec<_> = of_epoch().map(|(_, batch)| batch).filter(|batch| batch.whole).collect();
        self.load_touched(&usable).await?;
        for batch in &usable {
            self.replay_batch(batch).await?;
        }
        let last = of_epoch().next_back().map(|((_, seq), _)| seq.next());
        Ok(last.unwrap_or(range.relocation_first).max(range.relocation_first))
    }

    /// Brings the leaves that batches touch into memory, many at a time.
    async fn load_touched(&self, batches: &[&Logged]) -> Result<()> {
        let mut touched = BTreeSet::new();
        for piece in batches.iter().flat_map(|batch| &batch.descriptor.pieces) {
            // Zeros may speak of long stretches that are not mapped at all.
            let long = u64::from(piece.count()) > ZEROS_LOADED_MAX;
            if !(long && matches!(piece.kind, PieceKind::Zeros(_))) {
                let layer = self.state().layer_now(piece.layer);
                let leaves = leaves_of(piece.address, u64::from(piece.count()));
                touched.extend(leaves.map(|leaf| (layer, leaf)));
            }
        }
        // First one leaf under each inner node: all at once would read their common ancestors many times.
        for shift in [2 * FAN_OUT_SHIFT, FAN_OUT_SHIFT, 0] {
            let mut first_of_each = touched.iter().copied().collect::<Vec<_>>();
            first_of_each.dedup_by_key(|(layer, leaf)| (*layer, *leaf >> shift));
            let loads = first_of_each.into_iter().map(|(layer, leaf)| self.load_leaf(layer, leaf));
            iter(loads).buffer_unordered(LOADS).try_collect::<Vec<()>>().await?;
        }
        Ok(())
    }

    /// Brings a leaf into memory, if it exists.
    pub(crate) async fn load_leaf(&self, layer: LayerId, leaf: u64) -> Result<()> {
        loop {
            let needed = self.state().needed(layer, BlockAddress(leaf << 8), 1);
            let Some(needed) = needed else { return Ok(()) };
            self.load(needed).await?;
        }
    }

    async fn replay_batch(&self, batch: &Logged) -> Result<()> {
        let segment = batch.descriptor.header.segment;
        let mut block = batch.data_block;
        for piece in &batch.descriptor.pieces {
            while let Err(needed) = self.replay_piece(piece, segment, block) {
                self.load(needed).await?;
            }
            block += piece.data_blocks();
        }
        let mut state = self.state();
        // It has to be replayed again until a checkpoint: logs of several crashes do not add up.
        state.log_since_cut += u64::from(batch.blocks());
        let segment = state.segments.change(segment);
        segment.used = segment.used.max(batch.end_block);
        segment.applied = segment.used;
        Ok(())
    }

    fn replay_piece(&self, piece: &Piece, segment: SegmentId, block: u32) -> std::result::Result<(), Needed> {
        let mut state = self.state();
        let count = u64::from(piece.count());
        match &piece.kind {
            PieceKind::Data(checksums) => {
                state.make_leaves(piece.layer, leaves_of(piece.address, count))?;
                if state.layers.contains_key(&piece.layer) {
                    state.apply_data(piece.layer, piece.address, checksums, segment, block);
                }
            }
            PieceKind::Zeros(_) => {
                let plan = state.plan_zeros(piece.layer, piece.address, count, usize::MAX)?;
                state.make_leaves(piece.layer, plan.leaves.iter().copied())?;
                state.apply_zeros(piece.layer, piece.address, count, &plan.leaves);
            }
            PieceKind::Relocated(moves) => {
                let layer = state.layer_now(piece.layer);
                if let Some(needed) = state.needed(layer, piece.address, count) {
                    return Err(needed);
                }
                state.apply_moves(layer, piece.address, moves, segment, block);
            }
            PieceKind::Copy { layer: source, address, .. } => {
                let _ = state.look_at_source(*source, *address, count, &mut BTreeSet::new())?;
                state.make_leaves(piece.layer, leaves_of(piece.address, count))?;
                let references = state.adopt(*source, *address, count);
                state.apply_copy(piece.layer, piece.address, &references);
            }
            PieceKind::Node { .. } => {}
        }
        Ok(())
    }
}

impl State {
    /// Makes those of `leaves` that are absent.
    fn make_leaves(
        &mut self,
        layer: LayerId,
        leaves: impl Iterator<Item = u64>,
    ) -> std::result::Result<(), Needed> {
        for leaf in leaves {
            match self.map(layer).map(|map| map.find(leaf)) {
                Some(Find::Load(load)) => return Err(Needed { layer, load }),
                Some(Find::Absent) => self.create_leaf(layer, leaf),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes in moved blocks: each if the map still has it where it was. Their leaves are in memory or absent.
    /// Returns how many were taken.
    pub(crate) fn apply_moves(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        moves: &[Move],
        segment: SegmentId,
        block: u32,
    ) -> u32 {
        let mut taken = 0;
        for (i, step) in moves.iter().enumerate() {
            let i = narrow(wide(i));
            let address = BlockAddress(first.0 + u64::from(i));
            let Some(map) = self.map(layer) else { return taken };
            let mut entry = map.get(address);
            let mut home = (layer, address);
            if let Some(number) = entry.location.shared_block() {
                // It has become shared since it was gathered.
                home = (LayerId::SHARED, number);
                entry = self.map(LayerId::SHARED).map(|map| map.get(number)).unwrap_or_default();
            }
            // In the shared layer a count stands in the checksum's place.
            let same = home.0 == LayerId::SHARED || entry.checksum == step.checksum;
            if entry.location == step.from && same && step.from.is_place() {
                let slot = slot_of(home.1);
                let new = entry_at(segment, block + i, entry.checksum);
                self.edit_leaf(home.0, leaf_of(home.1), slot..slot + 1, |_, _| new);
                taken += 1;
            }
        }
        taken
    }
}
