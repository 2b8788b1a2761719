//! Group commit: batches are written side by side, and applied and acknowledged strictly in order.

use super::request::{Ended, failed};
use super::{Batch, Flight, HostLog};
use crate::engine::Engine;
use crate::format::batch::{PieceKind, encode};
use crate::format::node::Entry;
use crate::format::{BlockAddress, LayerId, Location};
use crate::number::{count_of, wide};
use crate::options::Health;
use crate::state::{State, entry_at, slots_in};
use crate::sync::yield_once;
use block::{BlockError, ErrorKind, Persist, Result};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

/// What there is to do after a batch, or a flush, has ended.
#[derive(Default)]
pub(super) struct Steps {
    ended: Ended,
    next: Option<Batch>,
    flush: bool,
    rollover: bool,
    /// The background loops may have work.
    pub(super) nudge: bool,
}

impl Engine {
    /// Writes `batch` and what can follow it. The first poll happens in the caller's; if it does not suffice, the
    /// rest is a task of its own, so that it is of no matter what becomes of the caller.
    pub(super) async fn launch(self: &Arc<Self>, batch: Batch) {
        let mut work = Some(Box::pin(Arc::clone(self).run(batch)));
        poll_fn(|context| {
            let ready = work.as_mut().is_some_and(|work| work.as_mut().poll(context).is_ready());
            if let Some(work) = work.take().filter(|_| !ready) {
                self.runtime.spawn(work);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Starts a batch if one may start: after something that held writes back has gone.
    pub(crate) fn kick(self: &Arc<Self>) {
        let batch = self.state().build(self);
        if let Some(batch) = batch {
            self.runtime.spawn(Box::pin(Arc::clone(self).run(batch)));
        }
        self.tend();
    }

    pub(super) async fn run(self: Arc<Self>, batch: Batch) {
        let mut next = Some(batch);
        let mut first = true;
        while let Some(batch) = next.take() {
            if !std::mem::take(&mut first) {
                yield_once().await;
            }
            next = self.write_batch(batch).await;
        }
    }

    async fn write_batch(self: &Arc<Self>, mut batch: Batch) -> Option<Batch> {
        let descriptor = encode(&batch.header, &batch.pieces, &self.options.buffers).freeze();
        let mut chunks = Vec::with_capacity(1 + batch.data.len());
        chunks.push(descriptor);
        chunks.append(&mut batch.data);
        let result = self.write_copies(&batch.place, chunks, batch.persist).await;
        let steps = {
            let mut state = self.state();
            // After a failed flush nothing that is still on its way may be acknowledged.
            let refusal = state.refusal(&self.name).filter(|error| error.kind == ErrorKind::ReadOnly);
            state.host.end(batch, refusal.map_or(result, Err));
            state.advance(self)
        };
        self.take(steps)
    }

    /// Does what can be done at once; returns the batch to be written next.
    pub(super) fn take(self: &Arc<Self>, steps: Steps) -> Option<Batch> {
        let some_ended = !steps.ended.0.is_empty();
        steps.ended.tell();
        if some_ended {
            // Writers that wait because of what others touch look again.
            self.room_made.happen();
        }
        if steps.flush {
            self.runtime.spawn(Box::pin(Arc::clone(self).flush_for_batches()));
        }
        if steps.rollover {
            self.runtime.spawn(Box::pin(Arc::clone(self).end_epoch()));
        }
        if steps.nudge {
            self.tend();
        }
        steps.next
    }

    /// Has the background loops look for work, if there may be some.
    pub(crate) fn tend(self: &Arc<Self>) {
        self.progress.happen();
        self.top_up();
        let wanted = self.state().background_wanted(self);
        if wanted {
            self.work_wanted.happen();
        }
    }
}

impl HostLog {
    fn end(&mut self, batch: Batch, result: Result<()>) {
        let first = self.next.0 - wide(self.flights.len());
        let index = usize::try_from(batch.header.seq.0 - first).expect("a batch in flight is in the queue");
        self.flights[index] = Flight::Ended(batch, result);
    }

    /// All earlier batches are durable, or will be when they have ended.
    pub(super) fn is_durable_so_far(&self) -> bool {
        self.cached_last.is_none_or(|seq| seq < self.durable)
    }

    pub(super) fn durable_written(&mut self, persist: Persist) {
        if persist == Persist::Cached {
            self.cached_last = Some(self.next);
        }
    }

    /// The end of the run of batches that have ended well.
    pub(super) fn written(&self) -> crate::format::Seq {
        let first = self.next.0 - wide(self.flights.len());
        let done = self.flights.iter().take_while(|flight| matches!(flight, Flight::Ended(_, Ok(()))));
        crate::format::Seq(first + wide(done.count()))
    }
}

impl State {
    /// Applies what has ended, in order, and says what is to be done next.
    pub(super) fn advance(&mut self, engine: &Engine) -> Steps {
        let mut steps = Steps::default();
        while let Some(Flight::Ended(batch, result)) = self.host.flights.front() {
            if let Err(error) = result {
                let error = error.clone();
                self.host.failed.get_or_insert(error);
                break;
            }
            let seq = batch.header.seq;
            if batch.persist == Persist::Durable && self.host.durable == seq {
                self.host.durable = seq.next();
            }
            if batch.durable && self.host.durable <= seq {
                steps.flush = !std::mem::replace(&mut self.host.flushing, true);
                break;
            }
            let Some(Flight::Ended(batch, _)) = self.host.flights.pop_front() else {
                unreachable!("seen above")
            };
            self.apply(&batch);
            self.host.failures = 0;
            self.end_parts(batch, &Ok(()), &mut steps.ended);
        }
        if let Some(Flight::Ended(_, Err(error))) =
            self.host.flights.iter().find(|flight| matches!(flight, Flight::Ended(_, Err(_))))
        {
            let error = error.clone();
            self.host.failed.get_or_insert(error);
        }
        let front_failed = matches!(self.host.flights.front(), Some(Flight::Ended(_, Err(_))));
        let writing = self.host.flights.iter().any(|flight| matches!(flight, Flight::Writing));
        if front_failed && !writing && !self.host.flushing {
            steps.rollover = !std::mem::replace(&mut self.host.rolling, true);
        }
        steps.next = self.build(engine);
        steps.nudge = self.closing || self.background_wanted(engine) || self.host_head_is_low();
        steps
    }

    /// Takes a batch into the map.
    fn apply(&mut self, batch: &Batch) {
        assert_eq!(batch.header.seq, self.host.applied, "batches are applied in order");
        let mut block = batch.header.start_block + batch.descriptor_blocks;
        let mut references = batch.references.iter();
        for (piece, request) in batch.pieces.iter().zip(&batch.requests) {
            match &piece.kind {
                PieceKind::Data(checksums) => {
                    self.apply_data(piece.layer, piece.address, checksums, batch.header.segment, block);
                }
                PieceKind::Zeros(count) => {
                    self.apply_zeros(piece.layer, piece.address, u64::from(*count), &request.leaves);
                }
                PieceKind::Copy { .. } => {
                    let references = references.next().expect("made with the piece");
                    self.apply_copy(piece.layer, piece.address, references);
                }
                _ => unreachable!("the host stream has data, zeros and copies"),
            }
            block += piece.data_blocks();
        }
        self.host.applied = batch.header.seq.next();
        let segment = self.segments.change(batch.header.segment);
        segment.applied = segment.applied.max(batch.header.start_block + batch.blocks);
    }

    /// The blocks from `first` on are at `block` of `segment` now. Their leaves are in memory.
    pub(crate) fn apply_data(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        checksums: &[u32],
        segment: crate::format::SegmentId,
        block: u32,
    ) {
        let new = |i: u64| {
            let offset = crate::number::narrow(i);
            entry_at(segment, block + offset, checksums[count_of(offset)])
        };
        self.set_entries(layer, first, wide(checksums.len()), new);
    }

    /// The blocks from `first` on are zeros now; `leaves` are those that may say otherwise.
    pub(crate) fn apply_zeros(&mut self, layer: LayerId, first: BlockAddress, count: u64, leaves: &[u64]) {
        let Some(hole) = self.hole_in(layer) else { return };
        let range = crate::map::leaves_of(first, count);
        for leaf in leaves.iter().filter(|leaf| range.contains(leaf)) {
            let slots = slots_in(*leaf, first, count);
            self.edit_leaf(layer, *leaf, slots, |_, _| hole);
        }
    }

    /// The entry that makes a block of `layer` zeros; none if there is no such layer.
    pub(crate) fn hole_in(&self, layer: LayerId) -> Option<Entry> {
        let parent = self.layers.get(&layer)?.parent;
        let location = if parent.is_some() { Location::ZEROS } else { Location::NONE };
        Some(Entry { location, checksum: 0 })
    }

    pub(super) fn end_parts(&mut self, batch: Batch, outcome: &Result<()>, ended: &mut Ended) {
        for request in batch.requests {
            if request.part_ended(outcome.clone()) {
                self.let_go(&request);
                ended.0.push(request);
            }
        }
    }

    /// Gives back what the admission of `request` holds.
    pub(super) fn let_go(&mut self, request: &super::Request) {
        self.admitted -= request.admitted;
        let account = self.layers.get(&request.layer).and_then(|layer| layer.account);
        self.accounts.let_go(account, request.fresh);
        self.touched -= request.touched;
        self.with_layer(request.layer, |layer, _| {
            for leaf in &request.leaves {
                layer.map.unpin(*leaf);
            }
        });
        if !request.shared.is_empty() {
            self.with_layer(LayerId::SHARED, |layer, _| {
                request.shared.iter().for_each(|leaf| layer.map.unpin(*leaf));
            });
        }
    }

    /// Ends everything that is queued with `error`.
    pub(super) fn fail_queue(
        &mut self,
        error: &BlockError,
        ended: &mut Ended,
        which: impl Fn(&super::Item) -> bool,
    ) {
        let queue = std::mem::take(&mut self.host.queue);
        for item in queue {
            if !which(&item) {
                self.host.queue.push_back(item);
                continue;
            }
            self.host.queued_blocks -= item.payload.data_blocks();
            if item.request.part_ended(failed(error)) {
                self.let_go(&item.request);
                ended.0.push(item.request);
            }
        }
    }

    /// Nothing more can be written: everything queued fails.
    pub(super) fn fail_queue_if_read_only(&mut self, object: &str, ended: &mut Ended) {
        if let Health::ReadOnly(why) = &self.health {
            let error = BlockError::new(ErrorKind::ReadOnly, object, format!("takes no writes: {why}"));
            self.fail_queue(&error, ended, |_| true);
        }
    }
}
