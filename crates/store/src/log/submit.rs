//! Admission of writes: what they need in memory, whether there is space, and into the queue.

use super::{Batch, Guard, Item, Payload, Request};
use crate::catalog::LayerRecord;
use crate::engine::Engine;
use crate::format::node::Entry;
use crate::format::{BlockAddress, LayerId};
use crate::map::{Find, Next, leaf_of, leaves_of};
use crate::number::wide;
use crate::state::{Needed, State, slots_in};
use block::{ErrorKind, Result};
use futures_util::future::select;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Checkpoints that a write waits for at most which may give space back.
const WAITS_FOR_SPACE_MAX: u32 = 2;

/// How long a write waits for space that somebody makes, and how often it looks whether there is some.
const RELIEF_TIME_MAX: Duration = Duration::from_secs(10);
const RELIEF_LOOK: Duration = Duration::from_millis(50);

/// Why a volume may not take more, though there may be more.
const LIMIT_REACHED: &str =
    "lets the volume take no more: it has reached its limit; delete snapshots, unmap, or raise the limit";

/// A write that is ready for the log.
pub(crate) struct Write {
    pub(crate) layer: LayerId,
    pub(crate) pieces: Vec<(BlockAddress, Payload)>,
    pub(crate) durable: bool,
    /// In one batch, so that a crash leaves all of it or nothing. It is one piece then, and no larger than a batch.
    pub(crate) whole: bool,
    /// Held until the write has ended.
    pub(crate) guard: Option<Guard>,
}

/// What became of an attempt to admit a write.
enum Attempt {
    Queued(Arc<Request>, Start),
    /// This node is needed first.
    Load(Needed),
    /// Too much of the map has changed since the last checkpoint.
    Wait,
    /// There is no space, but the next checkpoint gives some back.
    WaitForSpace,
    /// There is no space, but somebody makes some.
    WaitForRelief,
}

/// What has to be started for a write that was queued.
#[expect(clippy::large_enum_variant, reason = "one at a time, and it is taken apart at once")]
enum Start {
    /// A batch to be written beside others.
    Batch(Batch),
    /// The task that makes a batch of what is queued by the time it runs.
    Gathering,
    /// Nothing: what is under way takes the write along.
    Nothing,
}

/// What zeroing a range touches.
pub(crate) struct ZeroPlan {
    /// Leaves that have entries in the range, here or in a layer below.
    pub(crate) leaves: Vec<u64>,
    /// How many blocks from the start of the range they cover.
    pub(crate) count: u64,
}

impl Engine {
    /// Writes, and waits for the end.
    ///
    /// # Errors
    /// `NoSpace`, with nothing changed; `Device`, `ReadOnly`, `Closed`.
    pub(crate) async fn write(self: &Arc<Self>, write: Write) -> Result<()> {
        let mut write = Some(write);
        let mut waits_for_space = WAITS_FOR_SPACE_MAX;
        let mut relief_until: Option<Duration> = None;
        loop {
            let times = self.room_made.times();
            let patient = relief_until.is_none_or(|until| self.runtime.now() < until);
            let (attempt, low) = {
                let mut state = self.state();
                let attempt = state.attempt(self, &mut write, waits_for_space > 0, patient)?;
                (attempt, state.notice_low())
            };
            if low {
                self.shortage.happen();
            }
            match attempt {
                Attempt::WaitForRelief => {
                    relief_until.get_or_insert_with(|| self.runtime.now() + RELIEF_TIME_MAX);
                    self.shortage.happen();
                    let made = pin!(self.room_made.after(times));
                    _ = select(made, self.runtime.sleep(RELIEF_LOOK)).await;
                }
                Attempt::Load(needed) => self.load(needed).await?,
                Attempt::WaitForSpace => {
                    waits_for_space -= 1;
                    self.work_wanted.happen();
                    self.room_made.after(times).await;
                }
                Attempt::Wait => {
                    self.work_wanted.happen();
                    self.room_made.after(times).await;
                }
                Attempt::Queued(request, start) => {
                    match start {
                        Start::Batch(batch) => self.launch(batch).await,
                        Start::Gathering => self.runtime.spawn(Box::pin(Arc::clone(self).write_gathered())),
                        Start::Nothing => self.stalled(),
                    }
                    return request.outcome().await;
                }
            }
        }
    }

    /// Makes a batch of what is queued. As a task of its own it runs when the caller's thread has queued all that
    /// it has at hand: writes that arrived together share a batch from the first on.
    async fn write_gathered(self: Arc<Self>) {
        let batch = {
            let mut state = self.state();
            state.host.gathering = false;
            state.build(&self)
        };
        match batch {
            Some(batch) => self.run(batch).await,
            None => self.stalled(),
        }
    }

    /// Something was queued and no batch could start: makes sure that what it waits for is under way.
    fn stalled(self: &Arc<Self>) {
        if self.state().host_head_is_low() {
            self.tend();
        }
    }

    /// What zeroing `count` blocks from `first` on touches, up to some number of leaves.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub(crate) async fn plan_zeros(
        &self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        leaves_max: usize,
    ) -> Result<ZeroPlan> {
        loop {
            let plan = self.state().plan_zeros(layer, first, count, leaves_max);
            match plan {
                Ok(plan) => return Ok(plan),
                Err(needed) => self.load(needed).await?,
            }
        }
    }
}

impl State {
    fn attempt(
        &mut self,
        engine: &Engine,
        slot: &mut Option<Write>,
        may_wait: bool,
        patient: bool,
    ) -> Result<Attempt> {
        if let Some(refusal) = self.refusal(&engine.name) {
            return Err(refusal);
        }
        self.evict();
        let dirty_max = self.dirty_max(engine.slabs.lock().free());
        if self.touched > 0 && self.dirty_soon() + 2 * self.touched >= dirty_max
            || self.dirty_soon() >= dirty_max
            || self.log_is_long(&engine.options)
        {
            return Ok(Attempt::Wait);
        }
        let write = slot.as_ref().expect("a write is queued once");
        let mut needs = Needs::default();
        for (first, payload) in &write.pieces {
            let found = match payload {
                Payload::Data { .. } => self.look_at_data(write.layer, *first, payload.count(), &mut needs),
                Payload::Zeros(count) => {
                    self.look_at_zeros(write.layer, *first, u64::from(*count), &mut needs)
                }
                Payload::Copy { layer, address, count, .. } => {
                    let (from, count) = ((*layer, *address), u64::from(*count));
                    self.look_at_copy(write.layer, *first, from, count, &mut needs)
                }
            };
            if let Err(needed) = found {
                return Ok(Attempt::Load(needed));
            }
        }
        // What holds no range of a volume is the engine's own, which completes frozen layers that are detached.
        let closed = |record: LayerRecord| record.frozen && !(record.detaching && write.guard.is_none());
        if self.layers.get(&write.layer).is_none_or(|layer| closed(layer.record)) {
            return Err(engine.error(ErrorKind::ReadOnly, "a snapshot takes no writes"));
        }
        if needs.unshareable {
            return Err(engine.error(ErrorKind::Invalid, "blocks that were to be shared cannot be"));
        }
        let thick = self.layers.get(&write.layer).is_some_and(|layer| layer.reserved > 0);
        if self.is_beyond_limit(write.layer, &needs) {
            if patient && self.accounts.relief {
                return Ok(Attempt::WaitForRelief);
            }
            return Err(engine.error(ErrorKind::NoSpace, LIMIT_REACHED));
        }
        if thick {
            needs.blocks = 0;
        } else if needs.blocks + self.node_charge(needs.nodes) > self.room()
            && (needs.blocks > 0 || !needs.shared.is_empty())
        {
            if may_wait && self.pending.leaves() > 0 {
                self.background.space_wanted = true;
                return Ok(Attempt::WaitForSpace);
            }
            if patient && self.accounts.relief {
                return Ok(Attempt::WaitForRelief);
            }
            return Err(engine.error(
                ErrorKind::NoSpace,
                "is full; delete or unmap something, or add space, and write again",
            ));
        }
        let write = slot.take().expect("a write is queued once");
        Ok(self.enqueue(engine, write, needs))
    }

    /// The volume of `layer` may not take what is needed.
    fn is_beyond_limit(&self, layer: LayerId, needs: &Needs) -> bool {
        let account = self.layers.get(&layer).and_then(|layer| layer.account);
        needs.fresh > 0 && self.accounts.is_beyond(account, needs.fresh + needs.nodes)
    }

    /// Counts what writing data needs; names the first node that has to be loaded to know.
    fn look_at_data(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        needs: &mut Needs,
    ) -> std::result::Result<(), Needed> {
        let Some(map) = self.map(layer) else { return Ok(()) };
        for leaf in leaves_of(first, count) {
            let slots = slots_in(leaf, first, count);
            if let Some(entries) = map.leaf(leaf) {
                let free = entries[slots.clone()].iter().filter(|entry| !entry.location.is_place());
                needs.blocks += wide(free.count());
                let fresh = entries[slots.clone()].iter().filter(|entry| !entry.location.is_mapped());
                needs.fresh += wide(fresh.count());
                needs.released.extend(leaves_referred_to(&entries[slots]));
            } else {
                if let Find::Load(load) = map.find(leaf) {
                    return Err(Needed { layer, load });
                }
                needs.blocks += wide(slots.len());
                needs.fresh += wide(slots.len());
                needs.nodes += map.nodes_to_create(leaf);
            }
            needs.leaves.push(leaf);
        }
        Ok(())
    }

    fn look_at_zeros(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        needs: &mut Needs,
    ) -> std::result::Result<(), Needed> {
        let plan = self.plan_zeros(layer, first, count, usize::MAX)?;
        for leaf in &plan.leaves {
            let slots = slots_in(*leaf, first, count);
            if let Some(entries) = self.map(layer).and_then(|map| map.leaf(*leaf)) {
                needs.released.extend(leaves_referred_to(&entries[slots]));
            }
        }
        needs.leaves.extend(plan.leaves);
        Ok(())
    }

    /// Counts what copying needs: nodes, here and in the shared layer, but no blocks.
    fn look_at_copy(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        (source, from): (LayerId, BlockAddress),
        count: u64,
        needs: &mut Needs,
    ) -> std::result::Result<(), Needed> {
        let blocks = needs.blocks;
        self.look_at_data(layer, first, count, needs)?;
        needs.blocks = blocks;
        let mut shared = BTreeSet::new();
        needs.unshareable |= !self.look_at_source(source, from, count, &mut shared)?;
        for leaf in shared {
            if let Some(map) = self.map(LayerId::SHARED).filter(|map| map.find(leaf) == Find::Absent)
                && !needs.shared.contains(&leaf)
            {
                needs.nodes += map.nodes_to_create(leaf);
            }
            needs.shared.insert(leaf);
        }
        Ok(())
    }

    fn enqueue(&mut self, engine: &Engine, write: Write, needs: Needs) -> Attempt {
        let layer = write.layer;
        for leaf in &needs.leaves {
            if self.map(layer).is_some_and(|map| map.find(*leaf) == Find::Absent) {
                self.create_leaf(layer, *leaf);
            }
            self.map(layer).expect("the layer of a volume exists").pin(*leaf);
        }
        self.admitted += needs.blocks;
        let account = self.layers.get(&layer).and_then(|layer| layer.account);
        self.accounts.admit(account, needs.fresh);
        self.touched += needs.touched();
        let Write { mut pieces, durable, whole, guard, .. } = write;
        for (_, payload) in &mut pieces {
            if let Payload::Copy { layer, address, count, references } = payload {
                *references = self.adopt(*layer, *address, u64::from(*count));
            }
        }
        if !needs.shared.is_empty() {
            self.with_layer(LayerId::SHARED, |layer, _| {
                needs.shared.iter().for_each(|leaf| layer.map.pin(*leaf));
            });
        }
        let request = Request::new(layer, needs, durable, whole, pieces.len(), guard);
        for (address, payload) in pieces {
            self.host.queued_blocks += payload.data_blocks();
            self.host.queue.push_back(Item { request: Arc::clone(&request), address, payload });
        }
        let start = if !self.host.flights.is_empty() {
            self.build(engine).map_or(Start::Nothing, Start::Batch)
        } else if std::mem::replace(&mut self.host.gathering, true) {
            Start::Nothing
        } else {
            Start::Gathering
        };
        Attempt::Queued(request, start)
    }

    /// What zeroing `count` blocks from `first` on touches: all of it if that is at most `leaves_max` leaves.
    ///
    /// # Errors
    /// The node that has to be loaded to know.
    pub(crate) fn plan_zeros(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        leaves_max: usize,
    ) -> std::result::Result<ZeroPlan, Needed> {
        let range = leaves_of(first, count);
        let mut leaves = Vec::new();
        let mut from = *range.start();
        while let Some(leaf) = self.next_leaf_of_chain(layer, from..=*range.end())? {
            if leaves.len() >= leaves_max {
                return Ok(ZeroPlan { leaves, count: (leaf << 8) - first.0 });
            }
            let own = self.map(layer).map(|map| map.find(leaf));
            if let Some(Find::Load(load)) = own {
                return Err(Needed { layer, load });
            }
            leaves.push(leaf);
            from = leaf + 1;
        }
        Ok(ZeroPlan { leaves, count })
    }

    /// The first leaf in `range` that a layer or one below it has.
    pub(crate) fn next_leaf_of_chain(
        &mut self,
        layer: LayerId,
        range: RangeInclusive<u64>,
    ) -> std::result::Result<Option<u64>, Needed> {
        let mut next: Option<u64> = None;
        let mut at = Some(layer);
        if range.is_empty() {
            return Ok(None);
        }
        while let Some(id) = at {
            let Some(below) = self.layers.get(&id) else { break };
            match below.map.next_leaf(*range.start()) {
                Next::Leaf(leaf) if range.contains(&leaf) => {
                    next = Some(next.map_or(leaf, |next| next.min(leaf)));
                }
                Next::Load(load) if load.key.first_leaf() <= *range.end() => {
                    return Err(Needed { layer: id, load });
                }
                _ => {}
            }
            at = below.parent;
        }
        Ok(next)
    }
}

/// What a write needs.
#[derive(Default)]
pub(in crate::log) struct Needs {
    /// Leaves of its layer.
    pub(super) leaves: Vec<u64>,
    /// Leaves of the shared layer whose blocks it comes to refer to.
    pub(super) shared: BTreeSet<u64>,
    /// Leaves of the shared layer whose blocks it refers to no more.
    released: BTreeSet<u64>,
    /// Blocks of data.
    pub(super) blocks: u64,
    /// Blocks that are not mapped yet, also of copies, which take no blocks of data.
    pub(super) fresh: u64,
    /// Map nodes.
    nodes: u64,
    /// Blocks that are to be shared cannot be.
    unshareable: bool,
}

impl Needs {
    /// Leaves that it may change.
    pub(super) fn touched(&self) -> u64 {
        wide(self.leaves.len() + self.shared.union(&self.released).count())
    }
}

/// Leaves of the shared layer to whose blocks `entries` refer.
fn leaves_referred_to(entries: &[Entry]) -> impl Iterator<Item = u64> {
    entries.iter().filter_map(|entry| entry.location.shared_block()).map(leaf_of)
}
