//! One step of detaching a layer: some blocks of one leaf.

use super::Progress;
use crate::format::node::{FAN_OUT, LEVEL_MAX};
use crate::format::{BlockAddress, LayerId, Location};
use crate::map::{Entries, Find, leaf_of};
use crate::number::wide;
use crate::share::owner_of;
use crate::state::{Needed, State};
use crate::volume::Shared;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Leaves of the shared layer that one step changes at most.
const STEP_SHARED: usize = 32;

/// What a step has done, or what is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The layer is not to be detached any more.
    Over,
    /// Some blocks are shared now, or there were none in a leaf.
    Shared,
    /// There is no room for the nodes that it takes.
    NoRoom,
    /// These blocks cannot be shared: they are to be written once more, as they are read from the layer `from` down.
    Move {
        /// The layer below.
        from: LayerId,
        /// The first block.
        first: BlockAddress,
        /// Number of blocks.
        count: u64,
    },
    /// It has all that it is read as.
    Complete,
}

/// Blocks of a leaf that a layer is read to have and has not itself.
struct Run {
    slots: Range<usize>,
    /// They can be shared.
    shareable: bool,
}

impl State {
    /// The next step for layer `id`.
    ///
    /// # Errors
    /// The node that has to be loaded first.
    pub(super) fn detach_step(&mut self, id: LayerId) -> std::result::Result<Step, Needed> {
        let Some(layer) = self.layers.get(&id) else { return Ok(Step::Over) };
        let Some(from) = layer.detaching.as_ref().map(|progress| progress.leaf) else {
            return Ok(Step::Over);
        };
        let Some(parent) = layer.parent else { return Ok(Step::Complete) };
        let Some(leaf) = self.next_leaf_of_chain(parent, from..=u64::MAX)? else { return Ok(Step::Complete) };
        let Some(run) = self.missing_run(id, parent, leaf)? else {
            self.advance_detaching(id, leaf + 1);
            return Ok(Step::Shared);
        };
        let first = BlockAddress((leaf << 8) + wide(run.slots.start));
        let step = match run.shareable {
            true => self.share_run(id, parent, first, run.slots)?,
            false => Step::Move { from: parent, first, count: wide(run.slots.len()) },
        };
        self.advance_detaching(id, leaf);
        Ok(step)
    }

    fn advance_detaching(&mut self, id: LayerId, leaf: u64) {
        if let Some(progress) = self.layers.get_mut(&id).and_then(|layer| layer.detaching.as_mut()) {
            *progress = Progress { leaf, waits: None };
        }
    }

    /// The first blocks of a leaf that layer `id` has not itself and the layers from `parent` down have.
    fn missing_run(
        &mut self,
        id: LayerId,
        parent: LayerId,
        leaf: u64,
    ) -> std::result::Result<Option<Run>, Needed> {
        let own = self.own_entries(id, leaf)?;
        let owners = self.owners(parent, leaf, 0..FAN_OUT)?;
        let kept = self.kept_layers();
        let missing = |slot: usize| {
            let has = own.as_ref().is_some_and(|own| own[slot].location != Location::NONE);
            let (owner, entry) = owner_of(&owners, slot);
            (!has && entry.location.is_mapped()).then(|| {
                let free = owner.is_none_or(|owner| !kept.contains(&owner));
                self.number_of(entry).filter(|_| free)
            })
        };
        let Some((start, number)) = (0..FAN_OUT).find_map(|slot| Some((slot, missing(slot)?))) else {
            return Ok(None);
        };
        let mut shared = BTreeSet::new();
        let mut end = start;
        while let Some(next) = (end < FAN_OUT).then(|| missing(end)).flatten() {
            shared.extend(next.map(leaf_of));
            if next.is_some() != number.is_some() || shared.len() > STEP_SHARED {
                break;
            }
            end += 1;
        }
        Ok(Some(Run { slots: start..end, shareable: number.is_some() }))
    }

    fn own_entries(&mut self, id: LayerId, leaf: u64) -> std::result::Result<Option<Arc<Entries>>, Needed> {
        let Some(map) = self.map(id) else { return Ok(None) };
        match map.find(leaf) {
            Find::Load(load) => Err(Needed { layer: id, load }),
            _ => Ok(map.leaf(leaf).cloned()),
        }
    }

    /// Layers under volumes that have space reserved: these keep their blocks for themselves.
    fn kept_layers(&self) -> BTreeSet<LayerId> {
        let thick = self.volumes.values().filter(|entry| entry.record.thick);
        thick.flat_map(|entry| self.chain(entry.record.top)).collect()
    }

    /// Has layer `id` refer to blocks that the layers from `parent` down have.
    fn share_run(
        &mut self,
        id: LayerId,
        parent: LayerId,
        first: BlockAddress,
        slots: Range<usize>,
    ) -> std::result::Result<Step, Needed> {
        let (leaf, count) = (leaf_of(first), wide(slots.len()));
        let mut shared = BTreeSet::new();
        self.look_at_source(parent, first, count, &mut shared)?;
        let absent = |map: &mut crate::map::Map, leaf: u64| match map.find(leaf) {
            Find::Absent => map.nodes_to_create(leaf),
            _ => 0,
        };
        let own = self.map(id).map_or(0, |map| absent(map, leaf));
        let counting = |map: &mut crate::map::Map| shared.iter().map(|leaf| absent(map, *leaf)).sum::<u64>();
        let nodes = own + self.map(LayerId::SHARED).map_or(0, counting);
        if nodes > 0 && self.node_charge(nodes) > self.room() {
            return Ok(Step::NoRoom);
        }
        if self.map(id).is_some_and(|map| map.find(leaf) == Find::Absent) {
            self.create_leaf(id, leaf);
        }
        let references = self.adopt(parent, first, count);
        let start = slots.start;
        self.edit_leaf(id, leaf, slots, |slot, own| match references.get(slot - start) {
            Some(reference) if own.location == Location::NONE => *reference,
            _ => own,
        });
        for leaf in shared {
            self.fold_leaf(leaf);
        }
        Ok(Step::Shared)
    }

    /// The volume whose host may write to layer `id`.
    pub(super) fn host_of(&self, id: LayerId) -> Option<Arc<Shared>> {
        let frozen = self.layers.get(&id).is_none_or(|layer| layer.record.frozen);
        let on = self.volumes.values().find(|entry| entry.record.top == id);
        on.filter(|_| !frozen).map(|entry| Arc::clone(&entry.shared))
    }

    /// True if these blocks are still to be written to layer `id`, and nobody else does.
    pub(super) fn may_move(
        &mut self,
        id: LayerId,
        from: LayerId,
        first: BlockAddress,
        count: u64,
        held: bool,
    ) -> bool {
        let Some(layer) = self.layers.get(&id) else { return false };
        if layer.parent != Some(from) || layer.detaching.is_none() || layer.record.frozen == held {
            return false;
        }
        let run = self.missing_run(id, from, leaf_of(first)).ok().flatten();
        let start = usize::try_from(first.0 % wide(FAN_OUT)).unwrap_or(0);
        run.is_some_and(|run| !run.shareable && run.slots.start == start && wide(run.slots.len()) == count)
    }

    /// What detaching layer `id` takes of the room, at the most: blocks that are written once more, and nodes, of its
    /// map and of that of the shared layer, which has a leaf for 256 places that follow each other.
    pub(super) fn detach_charge(&self, id: LayerId) -> u64 {
        let below = self.chain(id).into_iter().skip(1);
        let kept = self.kept_layers();
        let (mut nodes, mut moved, mut mapped) = (u64::from(LEVEL_MAX), 0, 0);
        for (id, layer) in below.filter_map(|id| Some((id, self.layers.get(&id)?))) {
            nodes += layer.map.count();
            mapped += layer.mapped;
            moved += if kept.contains(&id) { layer.mapped } else { 0 };
        }
        let places =
            self.segments.iter().map(|(_, segment)| u64::from(segment.used).div_ceil(wide(FAN_OUT)) + 1);
        let shared = places.sum::<u64>().min(mapped - moved);
        let shared = shared + shared.div_ceil(wide(FAN_OUT)) + u64::from(LEVEL_MAX);
        self.node_charge(nodes + shared) + moved
    }
}
