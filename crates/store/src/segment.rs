//! The segments of a pool, in memory.

use crate::catalog::{SegmentRecord, SegmentState};
use crate::disks::{Copies, Place};
use crate::format::{BLOCK_BYTES, Location, Redundancy, SegmentId, Stream};
use std::collections::{BTreeMap, BTreeSet};

/// How far a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Named in the catalog, not yet written.
    Reserved,
    /// A head writes to it.
    Open,
    /// Full, or given up.
    Sealed,
    /// No longer in the catalog; its slab is free once nobody reads it.
    Evacuated,
}

/// One segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) stream: Stream,
    /// The slabs it lies on.
    pub(crate) copies: Copies,
    pub(crate) phase: Phase,
    /// Blocks given to batches.
    pub(crate) used: u32,
    /// Blocks whose batches are in the map: replay would start here.
    pub(crate) applied: u32,
    /// Blocks that a map points to.
    pub(crate) live: u32,
    /// Reads in progress.
    pub(crate) pins: u32,
    /// Holds blocks whose checksum is wrong; the collector leaves it alone.
    pub(crate) damaged: bool,
    /// The collector could not move all of it, once.
    pub(crate) suspect: bool,
}

impl Segment {
    pub(crate) fn reserved(stream: Stream, copies: Copies) -> Self {
        let phase = Phase::Reserved;
        Self { stream, copies, phase, used: 0, applied: 0, live: 0, pins: 0, damaged: false, suspect: false }
    }

    /// Blocks that were written and that no map points to, descriptors of batches among them. Those of batches under way
    /// are not in a map yet.
    pub(crate) fn dead(&self) -> u64 {
        u64::from(self.applied.saturating_sub(self.live))
    }

    /// Everything written to it is in the map, and nothing more comes.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase == Phase::Sealed && self.applied == self.used
    }
}

/// All segments of a pool.
pub(crate) struct Segments {
    table: BTreeMap<SegmentId, Segment>,
    /// Those that differ from the catalog.
    changed: BTreeSet<SegmentId>,
    slab_blocks: u32,
    class: Redundancy,
    data_live: u64,
}

impl Segments {
    pub(crate) fn new(slab_blocks: u32, class: Redundancy) -> Self {
        let (table, changed) = (BTreeMap::new(), BTreeSet::new());
        Self { table, changed, slab_blocks, class, data_live: 0 }
    }

    /// Blocks of a segment.
    pub(crate) fn slab_blocks(&self) -> u32 {
        self.slab_blocks
    }

    /// Live blocks of data.
    pub(crate) fn data_live(&self) -> u64 {
        self.data_live
    }

    pub(crate) fn insert(&mut self, id: SegmentId, segment: Segment) {
        if segment.stream != Stream::Nodes {
            self.data_live += u64::from(segment.live);
        }
        let before = self.table.insert(id, segment);
        assert!(before.is_none(), "segment numbers are never used twice");
    }

    /// Forgets a segment. Returns its slabs.
    pub(crate) fn remove(&mut self, id: SegmentId) -> Copies {
        let segment = self.table.remove(&id).expect("a segment is removed once");
        assert!(segment.live == 0 && segment.pins == 0, "only empty segments nobody reads are removed");
        self.changed.remove(&id);
        segment.copies
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<&Segment> {
        self.table.get(&id)
    }

    /// The segment, to be changed; the next checkpoint writes its record.
    pub(crate) fn change(&mut self, id: SegmentId) -> &mut Segment {
        self.changed.insert(id);
        self.table.get_mut(&id).expect("segments in use are in the table")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.table.iter().map(|(id, segment)| (*id, segment))
    }

    /// Segments that differ from the catalog; the caller writes their records.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<SegmentId> {
        std::mem::take(&mut self.changed)
    }

    /// Segments of `stream` that differ from the catalog; the caller writes their records.
    pub(crate) fn take_changed_of(&mut self, stream: Stream) -> Vec<SegmentId> {
        let of_stream = |id: &SegmentId| self.table.get(id).is_some_and(|segment| segment.stream == stream);
        let ids: Vec<_> = self.changed.iter().copied().filter(of_stream).collect();
        for id in &ids {
            self.changed.remove(id);
        }
        ids
    }

    /// The next checkpoint writes the record of `id`, if it still exists.
    pub(crate) fn mark_changed(&mut self, id: SegmentId) {
        if self.table.contains_key(&id) {
            self.changed.insert(id);
        }
    }

    /// The catalog does not name the segment any more.
    pub(crate) fn evacuate(&mut self, id: SegmentId) {
        let segment = self.table.get_mut(&id).expect("segments leave the catalog once");
        assert!(segment.live == 0 && segment.is_settled(), "only empty segments leave the catalog");
        segment.phase = Phase::Evacuated;
        self.changed.remove(&id);
    }

    /// A map points to `count` more blocks of `id`.
    pub(crate) fn add_live(&mut self, id: SegmentId, count: u32) {
        let blocks = self.slab_blocks;
        let segment = self.change(id);
        segment.live += count;
        assert!(segment.live <= blocks, "a segment has no more live blocks than blocks");
        if segment.stream != Stream::Nodes {
            self.data_live += u64::from(count);
        }
    }

    /// A map points to `count` fewer blocks of `id`. False if the accounts say that this cannot be: the map and
    /// the catalog on disk contradict each other.
    #[must_use]
    pub(crate) fn sub_live(&mut self, id: SegmentId, count: u32) -> bool {
        let Some(segment) = self.table.get_mut(&id).filter(|segment| segment.live >= count) else {
            return false;
        };
        segment.live -= count;
        if segment.stream != Stream::Nodes {
            self.data_live -= u64::from(count);
        }
        self.changed.insert(id);
        true
    }

    /// Keeps the segment's slab from being used again until [`Segments::unpin`]. False if there is no such segment.
    #[must_use]
    pub(crate) fn pin(&mut self, id: SegmentId) -> bool {
        match self.table.get_mut(&id) {
            Some(segment) => {
                segment.pins += 1;
                true
            }
            None => false,
        }
    }

    /// Ends a [`Segments::pin`]. True if the segment can be removed now.
    pub(crate) fn unpin(&mut self, id: SegmentId) -> bool {
        let segment = self.table.get_mut(&id).expect("a pinned segment stays in the table");
        assert!(segment.pins > 0, "a segment is unpinned as often as it was pinned");
        segment.pins -= 1;
        segment.pins == 0 && segment.phase == Phase::Evacuated
    }

    /// Block `block` of a segment on its slabs; none if there is no such segment or block.
    pub(crate) fn place(&self, id: SegmentId, block: u32) -> Option<Place> {
        let copies = self.table.get(&id)?.copies;
        let within = u64::from(block) * BLOCK_BYTES;
        (block < self.slab_blocks).then_some(Place { segment: id, copies, within })
    }

    /// Where a location is, or none if there is no such place.
    pub(crate) fn place_of(&self, location: Location) -> Option<Place> {
        self.place(location.segment(), location.block())
    }

    /// What the catalog is told of a segment.
    pub(crate) fn record(&self, id: SegmentId) -> Option<SegmentRecord> {
        let segment = self.table.get(&id)?;
        let state = match segment.phase {
            Phase::Reserved => SegmentState::Reserved,
            Phase::Open => SegmentState::Open,
            Phase::Sealed => SegmentState::Sealed,
            Phase::Evacuated => return None,
        };
        // Nothing to replay: from the end of the slab on.
        let replay_from = if segment.is_settled() { self.slab_blocks } else { segment.applied };
        Some(SegmentRecord {
            state,
            stream: segment.stream,
            replay_from,
            used_blocks: segment.used,
            live_blocks: segment.live,
            class: self.class,
            slabs: segment.copies.slabs().to_vec(),
        })
    }
}
