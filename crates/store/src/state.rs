//! What the engine knows, under one lock that is held for moments and never across a wait.

use crate::accounts::Accounts;
use crate::background::Background;
use crate::catalog::{LogRange, PoolRecord, VolumeRecord};
use crate::format::keys::FamilyId;
use crate::format::node::{Entry, FAN_OUT, LEVEL_MAX};
use crate::format::{BlockAddress, Epoch, LayerId, Location, SegmentId, Seq, Stream, VolumeId};
use crate::layer::Layer;
use crate::log::{Head, HostLog};
use crate::map::{Evicted, Find, Map, ToLoad, leaf_of, leaves_of, slot_of};
use crate::number::wide;
use crate::options::Health;
use crate::sanitize::Sanitizing;
use crate::segment::Segments;
use crate::share::Pending;
use crate::space::Budget;
use crate::views::Views;
use crate::volume::{Cipher, Shared};
use block::{BlockError, ErrorKind};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A node that some layer's map needs in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) layer: LayerId,
    pub(crate) load: ToLoad,
}

/// Counters for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) host_blocks: u64,
    /// What hosts had done, data or not, in blocks of log.
    pub(crate) host_log: u64,
    pub(crate) written_blocks: u64,
    pub(crate) checkpoints: u64,
    pub(crate) last_checkpoint: Option<Duration>,
    pub(crate) recovery: Duration,
    pub(crate) replayed: u64,
    /// Blocks of copies that were found damaged and written anew.
    pub(crate) mended: u64,
}

/// A volume or snapshot.
pub(crate) struct VolumeEntry {
    pub(crate) record: VolumeRecord,
    pub(crate) shared: Arc<Shared>,
}

/// Sums over all layers, kept up to date by [`State::with_layer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) nodes: u64,
    pub(crate) in_memory: u64,
    pub(crate) dirty: u64,
    pub(crate) unfulfilled: u64,
    /// Of one layer only.
    pub(crate) mapped: u64,
}

/// Everything.
pub(crate) struct State {
    pub(crate) layers: BTreeMap<LayerId, Layer>,
    pub(crate) aliases: BTreeMap<LayerId, LayerId>,
    pub(crate) volumes: BTreeMap<VolumeId, VolumeEntry>,
    pub(crate) segments: Segments,
    pub(crate) heads: [Head; 3],
    pub(crate) host: HostLog,
    /// Next relocation batch to be applied: all below are in the map.
    pub(crate) relocation_applied: Seq,
    /// Next sequence number of the relocation stream.
    pub(crate) relocation_seq: Seq,
    /// Next sequence number of the node stream; it is not replayed.
    pub(crate) nodes_seq: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) ranges: BTreeMap<Epoch, LogRange>,
    pub(crate) pool_record: PoolRecord,
    pub(crate) next_segment: u64,
    pub(crate) budget: Budget,
    pub(crate) sums: Sums,
    /// Blocks admitted and not yet in the map.
    pub(crate) admitted: u64,
    /// Map nodes that unmapping in clones may make at the most ([`State::count_zero_nodes`]).
    pub(crate) zero_nodes: u64,
    /// Leaves that requests between admission and their end may change.
    pub(crate) touched: u64,
    /// What stacks of frozen layers read as.
    pub(crate) views: Views,
    /// Leaves in memory, in the order of the clock.
    pub(crate) clock: VecDeque<(LayerId, u64)>,
    pub(crate) nodes_max: u64,
    /// Blocks of host log since the last cut.
    pub(crate) log_since_cut: u64,
    pub(crate) health: Health,
    pub(crate) closing: bool,
    /// The label says that volumes may share blocks.
    pub(crate) sharing: bool,
    /// Changes of the counts of shared blocks.
    pub(crate) pending: Pending,
    pub(crate) counters: Counters,
    pub(crate) background: Background,
    /// Volumes that are being sanitized.
    pub(crate) sanitizing: Sanitizing,
    /// What opens encrypted volumes, while the pool is unlocked.
    pub(crate) ciphers: BTreeMap<FamilyId, Arc<Cipher>>,
    /// Who answers for what.
    pub(crate) accounts: Accounts,
}

impl State {
    pub(crate) fn head(&mut self, stream: Stream) -> &mut Head {
        &mut self.heads[usize::from(stream.code())]
    }

    /// Changes a layer and keeps the sums right. None if there is no such layer.
    pub(crate) fn with_layer<R>(
        &mut self,
        id: LayerId,
        change: impl FnOnce(&mut Layer, &mut Segments) -> R,
    ) -> Option<R> {
        let layer = self.layers.get_mut(&id)?;
        let before = sums_of(layer);
        let result = change(layer, &mut self.segments);
        let after = sums_of(layer);
        self.accounts.moved(layer.account, before.nodes + before.mapped, after.nodes + after.mapped);
        let sums = &mut self.sums;
        sums.nodes = sums.nodes + after.nodes - before.nodes;
        sums.in_memory = sums.in_memory + after.in_memory - before.in_memory;
        sums.dirty = sums.dirty + after.dirty - before.dirty;
        sums.unfulfilled = sums.unfulfilled + after.unfulfilled - before.unfulfilled;
        Some(result)
    }

    /// Adds a layer.
    pub(crate) fn insert_layer(&mut self, id: LayerId, layer: Layer) {
        let sums = sums_of(&layer);
        self.sums.nodes += sums.nodes;
        self.sums.in_memory += sums.in_memory;
        self.sums.dirty += sums.dirty;
        self.sums.unfulfilled += sums.unfulfilled;
        self.accounts.shape += 1;
        let before = self.layers.insert(id, layer);
        assert!(before.is_none(), "layer numbers are never used twice");
    }

    /// Forgets a layer whose map is empty.
    pub(crate) fn remove_layer(&mut self, id: LayerId) {
        self.accounts.shape += 1;
        let layer = self.layers.remove(&id).expect("a layer is removed once");
        assert!(layer.map.is_empty(), "only empty layers are removed");
        self.sums.unfulfilled -= layer.unfulfilled();
    }

    /// The map of a layer, to look at.
    pub(crate) fn map(&mut self, id: LayerId) -> Option<&mut Map> {
        self.layers.get_mut(&id).map(|layer| &mut layer.map)
    }

    /// Blocks that new data may still take.
    pub(crate) fn room(&self) -> u64 {
        self.room_within(self.accounts.pool_limit.unwrap_or(u64::MAX))
    }

    /// The same with no more than `limit` blocks filled.
    pub(crate) fn room_within(&self, limit: u64) -> u64 {
        let nodes = self.budget.node_charge(self.sums.nodes);
        let taken = self.segments.data_live() + nodes + self.sums.unfulfilled + self.admitted;
        self.budget.fillable().min(limit).saturating_sub(taken + self.zero_charge(self.zero_nodes))
    }

    /// What making `nodes` more map nodes takes of the room.
    pub(crate) fn node_charge(&self, nodes: u64) -> u64 {
        let now = self.sums.nodes;
        self.budget.node_charge(now + nodes) - self.budget.node_charge(now)
    }

    /// What has to be set aside of the room for `nodes` that unmapping may make: what the headroom has not.
    pub(crate) fn zero_charge(&self, nodes: u64) -> u64 {
        nodes.saturating_sub(self.budget.zero_slack)
    }

    /// Unmapping in a layer on others writes "zeros" over what these have, and may need a node for each of theirs.
    /// As it must always work, that is set aside beforehand.
    pub(crate) fn zero_nodes_on(&self, parent: Option<LayerId>) -> u64 {
        let below = std::iter::successors(parent, |id| self.layers.get(id).and_then(|layer| layer.parent));
        let nodes: u64 = below.filter_map(|id| self.layers.get(&id)).map(|layer| layer.map.count()).sum();
        if parent.is_some() { nodes + u64::from(LEVEL_MAX) } else { 0 }
    }

    /// Counts anew what all volumes together may need for that. A thick volume has its nodes set aside already.
    pub(crate) fn count_zero_nodes(&mut self) {
        let tops = self.volumes.values().filter(|entry| !entry.record.thick).map(|entry| entry.record.top);
        let writable = tops.filter_map(|id| self.layers.get(&id)).filter(|layer| !layer.record.frozen);
        self.zero_nodes = writable.map(|layer| self.zero_nodes_on(layer.parent)).sum();
    }

    /// Why there are no writes, if there are none.
    pub(crate) fn refusal(&self, object: &str) -> Option<BlockError> {
        if let Health::ReadOnly(why) = &self.health {
            return Some(BlockError::new(ErrorKind::ReadOnly, object, format!("takes no writes: {why}")));
        }
        self.closing.then(|| BlockError::new(ErrorKind::Closed, object, "is being closed"))
    }

    /// The pool takes no more writes.
    pub(crate) fn make_read_only(&mut self, why: &str) {
        if !matches!(self.health, Health::ReadOnly(_)) {
            tracing::error!(why, "the pool takes no more writes");
            self.health = Health::ReadOnly(why.to_owned());
        }
    }

    /// Something on the disk is damaged; the pool goes on.
    pub(crate) fn degrade(&mut self, what: &str) {
        if self.health == Health::Healthy {
            tracing::error!(what, "stored data is damaged");
            self.health = Health::Degraded(what.to_owned());
        }
    }

    /// Sets the entries of `count` blocks from `first` on; their leaves are in memory.
    pub(crate) fn set_entries(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        mut new: impl FnMut(u64) -> Entry,
    ) {
        for leaf in leaves_of(first, count) {
            let slots = slots_in(leaf, first, count);
            let start = (leaf << 8) + wide(slots.start) - first.0;
            self.edit_leaf(layer, leaf, slots.clone(), |slot, _| new(start + wide(slot - slots.start)));
        }
    }

    /// Replaces entries of a leaf in memory and keeps all accounts.
    pub(crate) fn edit_leaf(
        &mut self,
        layer: LayerId,
        leaf: u64,
        slots: Range<usize>,
        mut new: impl FnMut(usize, Entry) -> Entry,
    ) {
        let mut sound = true;
        if self.layers.get(&layer).is_some_and(|layer| layer.record.frozen) {
            self.views.forget(leaf);
        }
        let mut pending = std::mem::take(&mut self.pending);
        self.with_layer(layer, |layer, segments| {
            let mut gained = Run::default();
            let mut lost = Run::default();
            let (mapped, edits) = (&mut layer.mapped, &mut layer.edits);
            layer.map.edit(leaf, slots, |slot, entry| {
                let old = std::mem::replace(entry, new(slot, *entry));
                if old.location == entry.location {
                    return;
                }
                *edits += u64::from(entry.location.sort() != old.location.sort());
                *mapped += u64::from(entry.location.is_mapped());
                *mapped = mapped.saturating_sub(u64::from(old.location.is_mapped()));
                pending.change(entry.location, 1);
                pending.change(old.location, -1);
                if entry.location.is_place() {
                    gained.add(entry.location.segment(), |id, count| segments.add_live(id, count));
                }
                if old.location.is_place() {
                    lost.add(old.location.segment(), |id, count| sound &= segments.sub_live(id, count));
                }
            });
            gained.end(|id, count| segments.add_live(id, count));
            lost.end(|id, count| sound &= segments.sub_live(id, count));
        });
        self.pending = pending;
        if !sound {
            self.degrade("a map names blocks that the segment table does not know; restore from a copy");
        }
    }

    /// Moves the clock's hand while more leaves are in memory than wanted.
    pub(crate) fn evict(&mut self) {
        let mut steps = 64;
        while self.sums.in_memory + self.views.count() > self.nodes_max && steps > 0 {
            steps -= 1;
            let Some((layer, leaf)) = self.clock.pop_front() else { return };
            if self.with_layer(layer, |layer, _| layer.map.evict(leaf)) == Some(Evicted::Kept) {
                self.clock.push_back((layer, leaf));
            }
        }
    }

    /// Makes the absent leaf of a layer.
    pub(crate) fn create_leaf(&mut self, layer: LayerId, leaf: u64) {
        self.with_layer(layer, |layer, _| layer.map.create(leaf));
        self.enter_clock(layer, leaf);
    }

    /// A leaf has come to memory.
    pub(crate) fn enter_clock(&mut self, layer: LayerId, leaf: u64) {
        self.clock.push_back((layer, leaf));
        // Leaves that went by themselves left their entries behind.
        if wide(self.clock.len()) > 2 * self.sums.in_memory + 64 {
            for _ in 0..2 {
                let Some((layer, leaf)) = self.clock.pop_front() else { break };
                if self.map(layer).is_some_and(|map| map.find(leaf) == Find::Here) {
                    self.clock.push_back((layer, leaf));
                }
            }
        }
    }

    /// The first node that has to be loaded before the leaves of a range are in memory or known to be absent.
    pub(crate) fn needed(&mut self, layer: LayerId, first: BlockAddress, count: u64) -> Option<Needed> {
        let map = self.map(layer)?;
        leaves_of(first, count).find_map(|leaf| match map.find(leaf) {
            Find::Load(load) => Some(Needed { layer, load }),
            _ => None,
        })
    }

    /// The layer that `id` is now: itself, or what it was merged into.
    pub(crate) fn layer_now(&self, id: LayerId) -> LayerId {
        let mut now = id;
        while let Some(next) = self.aliases.get(&now) {
            now = *next;
        }
        now
    }
}

/// Consecutive changes to one segment's count, told to the segment table at once.
#[derive(Default)]
struct Run {
    segment: SegmentId,
    count: u32,
}

impl Run {
    fn add(&mut self, segment: SegmentId, tell: impl FnOnce(SegmentId, u32)) {
        if self.segment != segment {
            self.end(tell);
            self.segment = segment;
        }
        self.count += 1;
    }

    fn end(&mut self, tell: impl FnOnce(SegmentId, u32)) {
        let count = std::mem::take(&mut self.count);
        if count > 0 {
            tell(self.segment, count);
        }
    }
}

fn sums_of(layer: &Layer) -> Sums {
    Sums {
        nodes: layer.map.count(),
        in_memory: wide(layer.map.in_memory()),
        dirty: wide(layer.map.dirty_count()),
        unfulfilled: layer.unfulfilled(),
        mapped: layer.mapped,
    }
}

/// The slots of `leaf` that blocks `first..first + count` have.
pub(crate) fn slots_in(leaf: u64, first: BlockAddress, count: u64) -> Range<usize> {
    let last = BlockAddress(first.0 + count - 1);
    let start = if leaf_of(first) == leaf { slot_of(first) } else { 0 };
    let end = if leaf_of(last) == leaf { slot_of(last) + 1 } else { FAN_OUT };
    start..end
}

/// An entry that names a place.
pub(crate) fn entry_at(segment: SegmentId, block: u32, checksum: u32) -> Entry {
    Entry { location: Location::new(segment, block), checksum }
}
