//! The log: where batches go, and how many writers share one.

mod build;
mod commit;
mod flush;
mod request;
mod rollover;
mod submit;
mod zeros;

pub(crate) use build::Batch;
pub(crate) use request::{Guard, Item, Payload, Request};
pub(crate) use submit::Write;

use crate::disks::Copies;
use crate::format::{SegmentId, Seq, Stream};
use crate::segment::{Phase, Segments};
use block::{BlockError, Result};
use std::collections::VecDeque;

/// Batches of the host stream in flight at most.
pub(crate) const IN_FLIGHT_MAX: u32 = 4;
/// A batch starts beside others when this many blocks are waiting: few enough that a host with some 30 writes in flight
/// keeps the disk and the network busy at the same time, many enough that writers share batches.
const QUEUED_BLOCKS_FOR_MORE: u64 = 8;
/// Blocks of data in a batch at most (1 MiB).
pub(crate) const BATCH_BLOCKS_MAX: u32 = 256;
/// The smallest useful rest of a segment: a descriptor and a block.
const REST_BLOCKS_MIN: u32 = 2;
/// Failed device writes in a row after which the pool takes no more.
const FAILURES_MAX: u32 = 3;

/// The place where a stream is written.
#[derive(Debug, Default)]
pub(crate) struct Head {
    current: Option<SegmentId>,
    reserved: VecDeque<SegmentId>,
    /// A reservation is being made.
    pub(crate) reserving: bool,
}

impl Head {
    /// Segments set aside.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// More segments to write to.
    pub(crate) fn add(&mut self, ids: impl IntoIterator<Item = SegmentId>) {
        self.reserved.extend(ids);
    }

    /// Gives up all segments but the current one.
    pub(crate) fn release(&mut self) -> Vec<SegmentId> {
        self.reserved.drain(..).collect()
    }

    /// Gives up those segments whose slab `which` names.
    pub(crate) fn give_up(&mut self, segments: &mut Segments, which: impl Fn(&Copies) -> bool) {
        let named = |segments: &Segments, id| segments.get(id).is_some_and(|segment| which(&segment.copies));
        if self.current.is_some_and(|id| named(segments, id)) {
            self.seal(segments);
        }
        let (given_up, kept) = self.reserved.drain(..).partition(|id| named(segments, *id));
        self.reserved = kept;
        for id in Vec::from(given_up) {
            segments.change(id).phase = Phase::Sealed;
        }
    }

    /// The segment to write to, with `REST_BLOCKS_MIN` blocks left at least; none if there is none.
    pub(crate) fn open(&mut self, segments: &mut Segments) -> Option<SegmentId> {
        self.open_for(segments, REST_BLOCKS_MIN)
    }

    /// The segment to write to, with `blocks` blocks left at least; none if there is none. What is left of the current
    /// one is not given up before there is another.
    pub(crate) fn open_for(&mut self, segments: &mut Segments, blocks: u32) -> Option<SegmentId> {
        if let Some(id) = self.current {
            let used = segments.get(id).expect("an open segment is in the table").used;
            let left = segments.slab_blocks() - used;
            if left >= blocks.max(REST_BLOCKS_MIN) {
                return Some(id);
            }
            if left >= REST_BLOCKS_MIN && self.reserved.is_empty() {
                return None;
            }
            self.seal(segments);
        }
        let id = self.reserved.pop_front()?;
        segments.change(id).phase = Phase::Open;
        self.current = Some(id);
        Some(id)
    }

    /// Nothing more is written to the current segment.
    pub(crate) fn seal(&mut self, segments: &mut Segments) {
        if let Some(id) = self.current.take() {
            segments.change(id).phase = Phase::Sealed;
        }
    }

    /// Payload blocks of the segments set aside: the current one's rest is lost in a crash, these are not.
    pub(crate) fn payload_set_aside(&self, slab_payload: u64) -> u64 {
        crate::number::wide(self.reserved.len()) * slab_payload
    }

    /// Payload blocks that can be written without another reservation, at the least.
    pub(crate) fn payload_blocks(&self, segments: &Segments, slab_payload: u64) -> u64 {
        let rest = self
            .current
            .and_then(|id| segments.get(id))
            .map_or(0, |segment| u64::from(segments.slab_blocks().saturating_sub(segment.used)));
        let rest = rest.saturating_sub(2 + rest / 64);
        rest + self.payload_set_aside(slab_payload)
    }
}

/// How a batch in flight is doing.
#[expect(clippy::large_enum_variant, reason = "few are in flight, and each becomes the large one")]
enum Flight {
    Writing,
    Ended(Batch, Result<()>),
}

/// The host stream's queue and batches in flight.
pub(crate) struct HostLog {
    queue: VecDeque<Item>,
    queued_blocks: u64,
    /// In order of their sequence numbers, which follow each other.
    flights: VecDeque<Flight>,
    /// The next batch to be built.
    next: Seq,
    /// The next batch to be applied to the map.
    applied: Seq,
    /// All batches below are on stable storage.
    durable: Seq,
    flushing: bool,
    /// The last batch written without durability.
    cached_last: Option<Seq>,
    /// A batch failed: nothing is written until the epoch has ended.
    failed: Option<BlockError>,
    rolling: bool,
    failures: u32,
    /// A task is about to make a batch of what is queued.
    gathering: bool,
}

impl HostLog {
    /// A log that goes on with `next`; all below is applied and durable.
    pub(crate) fn new(next: Seq) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_blocks: 0,
            flights: VecDeque::new(),
            next,
            applied: next,
            durable: next,
            flushing: false,
            cached_last: None,
            failed: None,
            rolling: false,
            failures: 0,
            gathering: false,
        }
    }

    /// The next batch to be applied to the map: all below is in it.
    pub(crate) fn applied(&self) -> Seq {
        self.applied
    }

    /// Nothing is queued, in flight or being cleared up.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty() && !self.rolling && !self.flushing
    }

    /// What a slab would be for that is taken now.
    pub(crate) fn first_waits_for(&self) -> WaitsFor {
        match self.queue.front() {
            Some(item) if item.payload.gives_back() => WaitsFor::Unmapping,
            Some(item) if item.request.has_begun() => WaitsFor::RestOfWrite,
            _ => WaitsFor::Write,
        }
    }

    /// Something waits to be written, and not only for what is being written.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.has_queue() && self.flights.is_empty()
    }

    /// Something waits to be written.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// What a host's request needs a slab for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// Space is given back.
    Unmapping,
    /// A part of the request is written already.
    RestOfWrite,
    /// A write of which nothing is written yet, or nothing at all.
    Write,
}

/// Streams whose batches are replayed.
pub(crate) const REPLAYED: [Stream; 2] = [Stream::Host, Stream::Relocation];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Slab;
    use crate::format::{DiskIndex, Redundancy, SlabIndex};
    use crate::segment::Segment;

    #[test]
    fn a_head_gives_up_what_is_named_and_goes_on_with_the_others() {
        let on = |number| {
            let slab = Slab { disk: DiskIndex(0), index: SlabIndex(number) };
            Copies::new(&[slab]).expect("one copy")
        };
        let number = |copies: &Copies| copies.only().map_or(0, |slab| slab.index.0);
        let mut segments = Segments::new(16, Redundancy::Single);
        let mut head = Head::default();
        for number in 1..=4 {
            segments.insert(SegmentId(number.into()), Segment::reserved(Stream::Host, on(number)));
            head.add([SegmentId(number.into())]);
        }
        assert_eq!(head.open(&mut segments), Some(SegmentId(1)));
        head.give_up(&mut segments, |copies| number(copies) == 3);
        assert_eq!(head.open(&mut segments), Some(SegmentId(1)), "it is not named");
        head.give_up(&mut segments, |copies| number(copies) < 3);
        let phases = [1, 2, 3].map(|number| segments.get(SegmentId(number)).map(|segment| segment.phase));
        assert_eq!(phases, [Some(Phase::Sealed); 3]);
        assert_eq!((head.open(&mut segments), head.reserved()), (Some(SegmentId(4)), 0));
    }
}
