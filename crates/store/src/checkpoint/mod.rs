//! Checkpoints: changed map nodes are written, then one transaction moves the start of replay forward.
//!
//! 1. A *cut* is taken under the lock: maps, counts and the positions of the logs, all of one moment.
//! 2. Nodes are written level by level to segments of the node stream; writers go on meanwhile.
//! 3. A flush makes nodes and log durable.
//! 4. One transaction records roots, counts, segments and positions as of the cut. What has no live block any
//!    more leaves the catalog with it, and only then may its slabs be used again.

mod nodes;

use crate::catalog::{Changes, LayerRecord, LogRange, PoolRecord, SegmentRecord};
use crate::disks::Copies;
use crate::engine::Engine;
use crate::format::{Epoch, LayerId, SegmentId, Seq, Stream};
use crate::map::MapCut;
use crate::options::Health;
use crate::segment::Phase;
use crate::state::State;
use block::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One layer in a cut.
struct LayerCut {
    id: LayerId,
    map: MapCut,
    mapped: u64,
}

/// The pool at one moment.
struct Cut {
    layers: Vec<LayerCut>,
    host: Seq,
    relocation: Seq,
    /// Records of changed segments; those of the node stream are made later.
    segments: BTreeMap<SegmentId, Option<SegmentRecord>>,
    /// Segments without live blocks.
    empty: Vec<SegmentId>,
    /// Layers that can go: doomed or merged, and empty.
    gone: Vec<LayerId>,
}

impl Engine {
    /// Makes a checkpoint, if anything has changed.
    ///
    /// # Errors
    /// The disk's and the catalog's. Nothing is lost: the log is still there, and the next checkpoint tries again.
    pub(crate) async fn checkpoint(self: &Arc<Self>) -> Result<()> {
        let engine = Arc::clone(self);
        self.detached(async move { engine.checkpoint_now().await }).await
    }

    /// [`Engine::checkpoint`], for tasks.
    pub(crate) async fn checkpoint_now(self: &Arc<Self>) -> Result<()> {
        let _gate = self.checkpoint_gate.lock().await;
        if let Health::ReadOnly(why) = &self.state().health {
            return Err(self.error(ErrorKind::ReadOnly, format!("takes no writes: {why}")));
        }
        let cut = self.cut().await?;
        self.room_made.happen();
        let Some(mut cut) = cut else { return Ok(()) };
        let mut result = self.write_nodes(&mut cut).await;
        if result.is_ok() {
            result = self.flush_disks().await;
            if let Err(error) = &result {
                self.state().make_read_only(&format!("a flush failed: {error}"));
            }
        }
        if result.is_ok() {
            result = self.commit_cut(&mut cut).await;
        }
        if result.is_err() {
            self.state().undo_cut(&cut);
        }
        self.state().counters.last_checkpoint = Some(self.runtime.now());
        self.release_evacuated().await;
        self.room_made.happen();
        self.kick();
        result
    }

    /// Takes a cut when there is room to write it; none if nothing has changed.
    async fn cut(&self) -> Result<Option<Cut>> {
        loop {
            self.fold().await?;
            let needed = self.state().nodes_to_write();
            if !self.reserve_for(Stream::Nodes, needed).await? {
                return Err(self.error(ErrorKind::NoSpace, "no slab is left for a checkpoint; add space"));
            }
            let mut state = self.state();
            let payload = state.budget.slab_payload;
            let room =
                state.heads[usize::from(Stream::Nodes.code())].payload_blocks(&state.segments, payload);
            if !state.fold().is_empty() {
                continue;
            }
            if room >= state.nodes_to_write() {
                return Ok(state.take_cut());
            }
        }
    }

    async fn commit_cut(&self, cut: &mut Cut) -> Result<()> {
        let prepare = |state: &mut State| match &state.health {
            // A flush failed meanwhile: the nodes may not be on the disk.
            Health::ReadOnly(why) => Err(self.error(ErrorKind::ReadOnly, format!("takes no writes: {why}"))),
            _ => Ok(state.changes_of(cut)),
        };
        self.transact(prepare, |state, prepared| state.checkpoint_done(prepared)).await?;
        let mut state = self.state();
        for layer in &cut.layers {
            state.with_layer(layer.id, |kept, _| kept.map.settle(&layer.map));
        }
        state.counters.checkpoints += 1;
        for _ in 0..=state.clock.len() / 64 {
            state.evict();
        }
        Ok(())
    }

    /// Gives the slabs of evacuated segments back that nobody reads any more.
    pub(crate) async fn release_evacuated(self: &Arc<Self>) {
        let slabs = self.state().remove_evacuated();
        if slabs.is_empty() {
            return;
        }
        for copies in slabs {
            self.slabs.lock().give(copies);
        }
        self.room_made.happen();
        self.kick();
        if self.options.discard {
            self.discard_surplus().await;
        }
    }

    /// Has the disk forget slabs that will not be written again soon.
    async fn discard_surplus(&self) {
        loop {
            let Some(slab) = self.slabs.lock().take_stale() else { return };
            if let Some(member) = self.disks.current(slab.disk) {
                let discard = member.disk.discard(self.disks.offset(slab), self.disks.slab_bytes());
                if let Err(error) = self.discarded(slab.disk, discard).await {
                    tracing::debug!(%error, "a discard failed");
                }
            }
            self.slabs.lock().give_discarded(slab);
        }
    }
}

/// What a checkpoint's transaction changes in the state when it is durable.
struct Prepared {
    pool: PoolRecord,
    ranges: BTreeMap<Epoch, LogRange>,
    layers: Vec<(LayerId, Option<LayerRecord>)>,
    aliases: Vec<(LayerId, LayerId)>,
    evacuated: Vec<SegmentId>,
}

impl State {
    fn take_cut(&mut self) -> Option<Cut> {
        self.background.space_wanted = false;
        let segments = self.segments.take_changed();
        let idle = self.sums.dirty == 0 && self.log_since_cut == 0 && self.layers_gone().is_empty();
        if idle && segments.is_empty() && !self.layers.values().any(|layer| layer.changed) {
            return None;
        }
        let mut layers = Vec::new();
        let ids: Vec<_> = self.layers.keys().copied().collect();
        for id in ids {
            let cut = self.with_layer(id, |layer, _| {
                let wanted = layer.map.dirty_count() > 0 || std::mem::take(&mut layer.changed);
                wanted.then(|| LayerCut { id, map: layer.map.cut(), mapped: layer.mapped })
            });
            layers.extend(cut.flatten());
        }
        let records = segments.iter().map(|id| (*id, self.segments.record(*id)));
        let cut_segments = records.collect();
        let freed: Vec<_> = layers.iter().flat_map(|layer| layer.map.freed.iter().copied()).collect();
        for location in freed {
            self.node_gone(location);
        }
        self.log_since_cut = 0;
        self.background.dirty_since = None;
        Some(Cut {
            layers,
            host: self.host.applied(),
            relocation: self.relocation_applied,
            segments: cut_segments,
            empty: self.empty_segments(|stream| stream != Stream::Nodes),
            gone: self.layers_gone(),
        })
    }

    /// Blocks to set aside for a checkpoint now: some more than there are dirty nodes, for the ends of segments
    /// and levels.
    pub(crate) fn nodes_to_write(&self) -> u64 {
        let dirty = self.dirty_soon();
        dirty + dirty / 8 + 8
    }

    /// A node is no longer stored at `location`.
    fn node_gone(&mut self, location: crate::format::Location) {
        if location.is_place() && !self.segments.sub_live(location.segment(), 1) {
            self.degrade("a map node was in a segment that the table does not know");
        }
    }

    fn empty_segments(&self, wanted: impl Fn(Stream) -> bool) -> Vec<SegmentId> {
        let empty = |segment: &crate::segment::Segment| {
            segment.live == 0 && segment.is_settled() && wanted(segment.stream)
        };
        self.segments.iter().filter(|(_, segment)| empty(segment)).map(|(id, _)| id).collect()
    }

    /// The transaction of a cut whose nodes are written.
    fn changes_of(&mut self, cut: &Cut) -> (Changes, Prepared) {
        let mut segments = cut.segments.clone();
        for id in self.segments.take_changed_of(Stream::Nodes) {
            segments.insert(id, self.segments.record(id));
        }
        for (id, record) in &mut segments {
            if self.segments.get(*id).is_some_and(|segment| segment.stream == Stream::Nodes) {
                *record = self.segments.record(*id);
            }
        }
        let mut evacuated = cut.empty.clone();
        evacuated.extend(self.empty_segments(|stream| stream == Stream::Nodes));
        segments.extend(evacuated.iter().map(|id| (*id, None)));
        segments.retain(|id, _| self.segments.get(*id).is_some_and(|s| s.phase != Phase::Evacuated));

        let pool = PoolRecord { host_seq: cut.host, relocation_seq: cut.relocation, ..self.pool_record };
        let ranges = self.ranges_after(cut);
        let dropped =
            self.ranges.keys().filter(|epoch| !ranges.contains_key(epoch)).map(|epoch| (*epoch, None));
        let mut log_ranges: Vec<_> = dropped.collect();
        log_ranges.extend(ranges.iter().map(|(epoch, range)| (*epoch, Some(*range))));

        let (layers, aliases) = self.layers_after(cut);
        let changes = Changes {
            pool: Some(pool),
            log_ranges,
            segments: segments.into_iter().collect(),
            layers: layers.clone(),
            aliases: aliases.iter().map(|(from, to)| (*from, Some(*to))).collect(),
            ..Changes::default()
        };
        (changes, Prepared { pool, ranges, layers, aliases, evacuated })
    }

    /// What is left to replay after `cut`.
    fn ranges_after(&self, cut: &Cut) -> BTreeMap<Epoch, LogRange> {
        let mut ranges = self.ranges.clone();
        ranges.retain(|epoch, range| {
            range.host_first = range.host_first.max(cut.host);
            range.relocation_first = range.relocation_first.max(cut.relocation);
            let spent = range.host_first >= range.host_end && range.relocation_first >= range.relocation_end;
            range.host_first = range.host_first.min(range.host_end);
            range.relocation_first = range.relocation_first.min(range.relocation_end);
            *epoch == self.epoch || !spent
        });
        ranges
    }

    #[expect(clippy::type_complexity, reason = "two lists of a transaction")]
    fn layers_after(&self, cut: &Cut) -> (Vec<(LayerId, Option<LayerRecord>)>, Vec<(LayerId, LayerId)>) {
        let mut records = BTreeMap::new();
        for layer in &cut.layers {
            if let Some(kept) = self.layers.get(&layer.id) {
                records.insert(layer.id, Some(kept.record_after(&layer.map, layer.mapped)));
            }
        }
        let mut aliases = Vec::new();
        for id in &cut.gone {
            let Some(layer) = self.layers.get(id) else { continue };
            for child in self.children(*id) {
                let record =
                    records.get(&child).copied().flatten().or(self.layers.get(&child).map(|c| c.record));
                if let Some(record) = record {
                    records.insert(child, Some(LayerRecord { parent: layer.record.parent, ..record }));
                }
                aliases.push((*id, child));
            }
            records.insert(*id, None);
        }
        (records.into_iter().collect(), aliases)
    }

    fn checkpoint_done(&mut self, prepared: Prepared) {
        self.pool_record = prepared.pool;
        self.ranges = prepared.ranges;
        for (from, to) in prepared.aliases {
            // In memory all aliases lead straight to the layer that lives.
            for target in self.aliases.values_mut().filter(|target| **target == from) {
                *target = to;
            }
            self.aliases.insert(from, to);
        }
        for (id, record) in prepared.layers {
            match record {
                Some(record) => {
                    if let Some(layer) = self.layers.get_mut(&id) {
                        layer.parent = record.parent;
                        layer.record = record;
                    }
                }
                None => self.remove_layer(id),
            }
        }
        for id in prepared.evacuated {
            self.segments.evacuate(id);
        }
        self.count_zero_nodes();
        self.assign_layers();
    }

    fn undo_cut(&mut self, cut: &Cut) {
        for layer in &cut.layers {
            self.with_layer(layer.id, |kept, _| {
                kept.map.undo(&layer.map);
                kept.changed = true;
            });
        }
        for id in cut.segments.keys() {
            self.segments.mark_changed(*id);
        }
    }

    fn remove_evacuated(&mut self) -> Vec<Copies> {
        let free = |segment: &crate::segment::Segment| segment.phase == Phase::Evacuated && segment.pins == 0;
        let ids: Vec<_> = self.segments.iter().filter(|(_, s)| free(s)).map(|(id, _)| id).collect();
        ids.into_iter().map(|id| self.segments.remove(id)).collect()
    }
}
