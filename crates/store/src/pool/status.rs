//! What a pool says of itself.

use super::Pool;
use crate::format::BLOCK_BYTES;
use crate::number::wide;
use crate::options::{PoolStatus, SegmentCounts};
use crate::segment::Phase;
use crate::state::State;

impl Pool {
    /// Sizes, segments, health.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let free = self.engine.slabs.lock().free();
        let state = self.engine.state();
        let counters = &state.counters;
        let bytes = |blocks: u64| blocks * BLOCK_BYTES;
        PoolStatus {
            pool: self.engine.pool,
            name: self.engine.name.clone(),
            usable_bytes: bytes(state.budget.usable),
            headroom_bytes: bytes(state.budget.headroom),
            data_bytes: bytes(state.segments.data_live()),
            map_bytes: bytes(state.sums.nodes),
            reserved_bytes: bytes(state.sums.unfulfilled),
            free_bytes: bytes(state.room()),
            slab_bytes: bytes(u64::from(state.segments.slab_blocks())),
            segments: counts(&state, free),
            layers_set_aside: wide(state.layers.values().filter(|layer| layer.set_aside).count()),
            host_bytes: bytes(counters.host_blocks),
            written_bytes: bytes(counters.written_blocks),
            last_checkpoint: counters.last_checkpoint,
            checkpoints: counters.checkpoints,
            recovery: counters.recovery,
            replayed_batches: counters.replayed,
            nodes_in_memory: state.sums.in_memory,
            nodes_dirty: state.sums.dirty,
            health: state.health.clone(),
        }
    }
}

fn counts(state: &State, free: u64) -> SegmentCounts {
    SegmentCounts {
        free,
        reserved: state.count_segments(Phase::Reserved),
        open: state.count_segments(Phase::Open),
        sealed: state.count_segments(Phase::Sealed),
        evacuated: state.count_segments(Phase::Evacuated),
        damaged: wide(state.segments.iter().filter(|(_, segment)| segment.damaged).count()),
    }
}
