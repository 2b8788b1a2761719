//! What a pool says of itself.

use super::Pool;
use crate::format::BLOCK_BYTES;
use crate::format::members::{MemberLabel, MemberState};
use crate::format::{DiskIndex, Redundancy};
use crate::number::wide;
use crate::options::{DiskState, DiskStatus, PoolStatus, SegmentCounts};
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

impl Pool {
    /// The disks of the pool: those that are there, and those that are lost.
    #[must_use]
    pub fn disks(&self) -> Vec<DiskStatus> {
        let label = self.engine.catalog().label();
        let members = (0..).zip(&label.members);
        let status = |(index, member): (u16, &MemberLabel)| {
            let state = match member.state {
                MemberState::Gone => return None,
                _ if self.engine.disks.current(DiskIndex(index)).is_none() => DiskState::Lost,
                MemberState::In => DiskState::Current,
                MemberState::Leaving => DiskState::Leaving,
                MemberState::Out | MemberState::Losing => DiskState::Lost,
            };
            let (identity, size_bytes, catalog) = (member.identity, member.size_bytes, member.catalog);
            Some(DiskStatus { index, identity, size_bytes, state, catalog })
        };
        members.filter_map(status).collect()
    }

    /// The class of the pool.
    #[must_use]
    pub fn redundancy(&self) -> Redundancy {
        self.engine.catalog().label().class
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
