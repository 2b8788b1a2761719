//! Setting segments aside before they are written, so that recovery knows where to look.

use crate::catalog::{Changes, PoolRecord};
use crate::engine::Engine;
use crate::format::{SegmentId, Stream};
use crate::log::WaitsFor;
use crate::number::wide;
use crate::options::Health;
use crate::segment::{Phase, Segment};
use crate::state::State;
use block::Result;
use std::sync::Arc;

/// Free slabs that are left to collection when the rest of a write is written: as long as it can move a segment or two
/// at a time, it gains.
const MOVING_SLABS: u64 = 2;

impl Engine {
    /// Starts setting segments aside for the host stream if few are left.
    pub(crate) fn top_up(self: &Arc<Self>) {
        let begins = {
            let mut state = self.state();
            let read_only = matches!(state.health, Health::ReadOnly(_));
            let wanted = !state.closing || state.host.has_queue();
            let possible = !read_only && wanted && self.host_can_reserve(&state);
            let begins = state.host_head_is_low() && possible && !state.head(Stream::Host).reserving;
            state.head(Stream::Host).reserving |= begins;
            begins
        };
        let free = self.slabs.lock().free();
        let stalled = !begins && self.state().is_stalled(free);
        if stalled {
            self.work_wanted.happen();
        }
        if begins {
            let engine = Arc::clone(self);
            self.runtime.spawn(Box::pin(async move { engine.top_up_now().await }));
        }
    }

    fn host_can_reserve(&self, state: &State) -> bool {
        self.slabs.lock().free() > state.host_floor_now()
    }

    async fn top_up_now(self: Arc<Self>) {
        let (count, floor) = {
            let state = self.state();
            let have = wide(state.heads[usize::from(Stream::Host.code())].reserved());
            let floor = state.host_floor_now();
            // What is held back is taken one by one, and only for what must go on.
            let ahead = if floor < state.budget.host_floor { 1 } else { state.budget.host_ahead };
            (ahead.saturating_sub(have).max(1), floor)
        };
        let result = self.reserve(Stream::Host, count, floor).await;
        self.state().head(Stream::Host).reserving = false;
        match result {
            Ok(0) => {
                // What was given back meanwhile found this reservation under way.
                self.top_up();
                self.work_wanted.happen();
            }
            Ok(_) => {
                // One lock at a time: others take the slabs' while they hold the state's.
                let below = self.state().budget.collect_below;
                let free = self.slabs.lock().free();
                if free < below {
                    self.work_wanted.happen();
                }
                self.kick();
            }
            Err(error) => self.fail_waiting(&error),
        }
    }

    /// Sets up to `count` segments aside for `stream`, leaving `floor` slabs free. Returns how many. Must run to
    /// its end: call it from tasks.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) async fn reserve(&self, stream: Stream, count: u64, floor: u64) -> Result<u64> {
        let slabs = {
            let mut free = self.slabs.lock();
            let available = free.free().saturating_sub(floor).min(count);
            (0..available).map_while(|_| free.take()).collect::<Vec<_>>()
        };
        if slabs.is_empty() {
            return Ok(0);
        }
        if let Err(error) = self.wipe_taken(&slabs).await {
            let mut free = self.slabs.lock();
            slabs.into_iter().for_each(|slab| free.give(slab));
            return Err(error);
        }
        let taken = wide(slabs.len());
        let prepare = |state: &mut State| {
            let first = state.next_segment;
            state.next_segment += taken;
            let pool = PoolRecord { next_segment: SegmentId(state.next_segment), ..state.pool_record };
            let ids: Vec<_> = (first..state.next_segment).map(SegmentId).collect();
            let mut changes = Changes { pool: Some(pool), ..Changes::default() };
            for (id, copies) in ids.iter().zip(slabs) {
                state.segments.insert(*id, Segment::reserved(stream, copies));
                changes.segments.push((*id, state.segments.record(*id)));
            }
            Ok((changes, (pool, ids)))
        };
        let done = |state: &mut State, (pool, ids): (PoolRecord, Vec<SegmentId>)| {
            state.pool_record = pool;
            state.head(stream).add(ids);
        };
        self.transact(prepare, done).await?;
        Ok(taken)
    }

    /// Sees to it that `stream` (relocation or nodes) can write `blocks` blocks. False if slabs are wanting.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) async fn reserve_for(&self, stream: Stream, blocks: u64) -> Result<bool> {
        let (missing, floor) = {
            let state = self.state();
            let payload = state.budget.slab_payload;
            let head = &state.heads[usize::from(stream.code())];
            let have = head.payload_blocks(&state.segments, payload);
            let floor = match stream {
                Stream::Nodes => state.budget.catalog_floor,
                _ => state.relocation_floor_now(state.is_scarce(self.slabs.lock().free())),
            };
            (blocks.saturating_sub(have).div_ceil(payload), floor)
        };
        Ok(missing == 0 || self.reserve(stream, missing, floor).await? == missing)
    }
}

impl State {
    /// Fewer than half of the segments wanted are set aside for the host stream.
    pub(crate) fn host_head_is_low(&self) -> bool {
        let head = &self.heads[usize::from(Stream::Host.code())];
        wide(head.reserved()) * 2 < self.budget.host_ahead
    }

    /// Free slabs that the host stream leaves alone. Unmapping may take more: it makes space; and so may
    /// the rest of a write that was begun, but not those by which collection moves blocks: as long writes begin one
    /// after the other, there would be no end to it.
    pub(crate) fn host_floor_now(&self) -> u64 {
        let empty = self.heads[usize::from(Stream::Host.code())].reserved() == 0;
        let least = self.relocation_floor_now(true);
        let floor = match self.host.first_waits_for() {
            WaitsFor::Unmapping if empty => least - 1,
            WaitsFor::RestOfWrite if empty => least + MOVING_SLABS,
            _ => return self.budget.host_floor,
        };
        self.budget.unmap_floor.min(floor)
    }

    /// Changed nodes at which writers wait for a checkpoint: no more than one could write with `free` slabs. Else there
    /// would never be another, also after a crash.
    pub(crate) fn dirty_max(&self, free: u64) -> u64 {
        let payload = self.budget.slab_payload;
        let head = &self.heads[usize::from(Stream::Nodes.code())];
        let slabs = free.saturating_sub(self.budget.catalog_floor);
        let room = head.payload_set_aside(payload) + slabs * payload;
        (room.saturating_sub(8) / 9 * 8).clamp(1, 2 * self.budget.dirty_nodes)
    }

    /// Slabs are so few that collection goes on by all means: checkpoints take them, too, and give them back only with
    /// collection.
    pub(crate) fn is_scarce(&self, free: u64) -> bool {
        self.is_stalled(free) || free <= self.budget.relocation_floor
    }

    /// Free slabs that the relocation stream leaves alone. While slabs are scarce that is only what the
    /// next checkpoint needs, of the nodes that have changed and of those that moving a segment may change:
    /// else a pool whose slabs were used up by crashes could never be collected again.
    pub(crate) fn relocation_floor_now(&self, scarce: bool) -> u64 {
        let payload = self.budget.slab_payload;
        let head = &self.heads[usize::from(Stream::Nodes.code())];
        let room = head.payload_set_aside(payload);
        // What writers hold will have changed by then, too: leaves, and about as many nodes above them.
        let nodes = (self.nodes_to_write() + 2 * self.touched + payload).saturating_sub(room);
        let least = self.budget.catalog_floor + nodes.div_ceil(payload);
        // One more than unmapping may take, which must go on when moving cannot.
        if scarce { (least + 1).min(self.budget.relocation_floor) } else { self.budget.relocation_floor }
    }

    /// Segments of `phase` and their number.
    pub(crate) fn count_segments(&self, phase: Phase) -> u64 {
        wide(self.segments.iter().filter(|(_, segment)| segment.phase == phase).count())
    }
}
