//! Shared blocks: a copy makes the source's blocks shared and refers to them, and references are counted.
//!
//! A block that becomes shared changes hands from the layer that wrote it to [`LayerId::SHARED`]; what both read as
//! stays the same, so the log is not told. References come and go with the entries of all other layers. Changes of
//! their numbers wait in [`Pending`] until the leaf that counts them is in memory: nobody who overwrites or unmaps
//! waits for it. A checkpoint begins with taking in all that waits, so that what it writes fits together.

use crate::engine::Engine;
use crate::format::node::{Entry, FAN_OUT};
use crate::format::{BlockAddress, LayerId, Location};
use crate::map::{Entries, Find, leaf_of, leaves_of, slot_of};
use crate::number::wide;
use crate::state::{Needed, State, slots_in};
use block::{ErrorKind, Result};
use futures_util::stream::{StreamExt, iter};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Leaves of the shared layer that are loaded at the same time.
const LOADS: usize = 64;
/// Checkpoints in a row that may fail because a leaf of the shared layer cannot be read; then its counts stay as they
/// are, and its blocks are never given back.
const FAILURES_MAX: u32 = 8;

/// Changes of the counts of shared blocks that have not been taken in, by leaf of the shared layer.
#[derive(Default)]
pub(crate) struct Pending {
    leaves: BTreeMap<u64, Box<[i32; FAN_OUT]>>,
    failures: u32,
}

impl Pending {
    /// Leaves of the shared layer that have to change.
    pub(crate) fn leaves(&self) -> u64 {
        wide(self.leaves.len())
    }

    /// What is pending for a shared block.
    pub(crate) fn of(&self, number: BlockAddress) -> i32 {
        self.leaves.get(&leaf_of(number)).map_or(0, |changes| changes[slot_of(number)])
    }

    /// An entry with `location` came (1) or went (-1).
    pub(crate) fn change(&mut self, location: Location, by: i32) {
        if let Some(number) = location.shared_block() {
            let changes = self.leaves.entry(leaf_of(number)).or_insert_with(|| Box::new([0; FAN_OUT]));
            changes[slot_of(number)] += by;
        }
    }
}

impl Engine {
    /// Takes all pending changes into the counts.
    ///
    /// # Errors
    /// The disk's, where a leaf of the shared layer may be read the next time.
    pub(crate) async fn fold(&self) -> Result<()> {
        loop {
            let missing = self.state().fold();
            if missing.is_empty() {
                self.state().pending.failures = 0;
                return Ok(());
            }
            let loads =
                missing.into_iter().map(|(leaf, needed)| async move { (leaf, self.load(needed).await) });
            let loaded: Vec<_> = iter(loads).buffered(LOADS).collect().await;
            for (leaf, result) in loaded {
                let Err(error) = result else { continue };
                let mut state = self.state();
                state.pending.failures += 1;
                if error.kind != ErrorKind::Corrupt && state.pending.failures < FAILURES_MAX {
                    return Err(error);
                }
                state.pending.failures = 0;
                state.pending.leaves.remove(&leaf);
                state.degrade(&format!("space of shared blocks cannot be given back: {error}"));
            }
        }
    }
}

impl State {
    /// Takes pending changes into the counts, as far as these are in memory. Returns what else has to be loaded.
    pub(crate) fn fold(&mut self) -> Vec<(u64, Needed)> {
        let leaves: Vec<u64> = self.pending.leaves.keys().copied().collect();
        leaves.into_iter().filter_map(|leaf| self.fold_leaf(leaf).map(|needed| (leaf, needed))).collect()
    }

    /// Takes what is pending of one leaf into its counts. Returns what has to be loaded first.
    pub(crate) fn fold_leaf(&mut self, leaf: u64) -> Option<Needed> {
        match self.map(LayerId::SHARED).map(|map| map.find(leaf)) {
            Some(Find::Load(load)) if self.pending.leaves.contains_key(&leaf) => {
                return Some(Needed { layer: LayerId::SHARED, load });
            }
            Some(Find::Here) => {}
            _ => return None,
        }
        let changes = self.pending.leaves.remove(&leaf)?;
        if changes.iter().all(|change| *change == 0) {
            return None;
        }
        let mut sound = true;
        self.edit_leaf(LayerId::SHARED, leaf, 0..FAN_OUT, |slot, old| {
            if changes[slot] == 0 {
                return old;
            }
            match old.checksum.checked_add_signed(changes[slot]) {
                Some(0) => Entry::default(),
                Some(count) if old.location.is_place() => Entry { checksum: count, ..old },
                _ => {
                    sound = false;
                    old
                }
            }
        });
        if !sound {
            self.degrade("the counts of shared blocks are wrong; restore from a copy");
        }
        None
    }

    /// The leaves of the layers from `top` down that have a say in `slots`, with their layers.
    pub(crate) fn owners(
        &mut self,
        top: LayerId,
        leaf: u64,
        slots: Range<usize>,
    ) -> std::result::Result<Vec<(LayerId, Arc<Entries>)>, Needed> {
        let mut owners: Vec<(LayerId, Arc<Entries>)> = Vec::with_capacity(1);
        let mut at = Some(top);
        while let Some(id) = at {
            let Some(layer) = self.layers.get_mut(&id) else { break };
            at = layer.parent;
            if let Some(entries) = layer.map.leaf(leaf) {
                owners.push((id, Arc::clone(entries)));
                let decided = |slot: usize| owner_of(&owners, slot).1.location != Location::NONE;
                if at.is_none() || slots.clone().all(decided) {
                    break;
                }
            } else if let Find::Load(load) = layer.map.find(leaf) {
                return Err(Needed { layer: id, load });
            }
        }
        Ok(owners)
    }

    /// Where a shared block is; no place if it is lost.
    ///
    /// # Errors
    /// The node that has to be loaded to know.
    pub(crate) fn shared_place(&mut self, number: BlockAddress) -> std::result::Result<Location, Needed> {
        let layer = LayerId::SHARED;
        let Some(map) = self.map(layer) else { return Ok(Location::NONE) };
        match map.find(leaf_of(number)) {
            Find::Load(load) => Err(Needed { layer, load }),
            _ => Ok(map.get(number).location),
        }
    }

    /// The number that a mapped block has, or will have, as a shared one; none if it cannot be shared.
    pub(crate) fn number_of(&self, entry: Entry) -> Option<BlockAddress> {
        let place = entry.location;
        place.shared_block().or_else(|| place.shared_number(self.segments.slab_blocks()))
    }

    /// Adds the leaves of the shared layer that sharing `count` blocks from `first` on needs. False if some block cannot
    /// be shared.
    ///
    /// # Errors
    /// The node that has to be loaded first.
    pub(crate) fn look_at_source(
        &mut self,
        layer: LayerId,
        first: BlockAddress,
        count: u64,
        shared: &mut BTreeSet<u64>,
    ) -> std::result::Result<bool, Needed> {
        let mut all = true;
        for leaf in leaves_of(first, count) {
            let slots = slots_in(leaf, first, count);
            let owners = self.owners(layer, leaf, slots.clone())?;
            for slot in slots {
                match self.number_of(owner_of(&owners, slot).1) {
                    Some(number) => _ = shared.insert(leaf_of(number)),
                    None => all = false,
                }
            }
        }
        for leaf in shared.iter() {
            if let Some(Find::Load(load)) = self.map(LayerId::SHARED).map(|map| map.find(*leaf)) {
                return Err(Needed { layer: LayerId::SHARED, load });
            }
        }
        Ok(all)
    }

    /// Makes `count` blocks from `first` on shared, as far as they are not. Returns the entries that refer to them.
    /// What [`State::look_at_source`] names is in memory.
    pub(crate) fn adopt(&mut self, layer: LayerId, first: BlockAddress, count: u64) -> Vec<Entry> {
        let mut references = Vec::new();
        let mut adopted: BTreeMap<u64, BTreeMap<usize, Location>> = BTreeMap::new();
        for leaf in leaves_of(first, count) {
            let slots = slots_in(leaf, first, count);
            let owners =
                self.owners(layer, leaf, slots.clone()).expect("looked at before, under the same lock");
            for slot in slots.clone() {
                let entry = owner_of(&owners, slot).1;
                let number = self.number_of(entry);
                references.push(number.map_or(entry, |s| Entry { location: Location::shared(s), ..entry }));
                if let Some(number) = number.filter(|_| entry.location.is_place()) {
                    adopted.entry(leaf_of(number)).or_default().insert(slot_of(number), entry.location);
                }
            }
            let of_leaf = references.len() - slots.len();
            for (owner, _) in &owners {
                let start = slots.start;
                self.edit_leaf(*owner, leaf, slots.clone(), |slot, own| {
                    let reference = references[of_leaf + slot - start];
                    let visible = own.location.is_place() && owner_of(&owners, slot).0 == Some(*owner);
                    if visible { reference } else { own }
                });
            }
        }
        for (leaf, places) in adopted {
            if self.map(LayerId::SHARED).map(|map| map.find(leaf)) == Some(Find::Absent) {
                self.create_leaf(LayerId::SHARED, leaf);
            }
            self.edit_leaf(LayerId::SHARED, leaf, 0..FAN_OUT, |slot, old| match places.get(&slot) {
                Some(place) => Entry { location: *place, checksum: 0 },
                None => old,
            });
            self.fold_leaf(leaf);
        }
        references
    }

    /// The blocks from `first` on are from now on what `references` refer to; those that do not are zeros.
    pub(crate) fn apply_copy(&mut self, layer: LayerId, first: BlockAddress, references: &[Entry]) {
        let Some(hole) = self.hole_in(layer) else { return };
        self.set_entries(layer, first, wide(references.len()), |i| {
            let entry = references[crate::number::len_of(i)];
            if entry.location.is_mapped() { entry } else { hole }
        });
        let numbers = references.iter().filter_map(|entry| entry.location.shared_block());
        let leaves: BTreeSet<u64> = numbers.map(leaf_of).collect();
        for leaf in leaves {
            self.fold_leaf(leaf);
        }
    }

    /// Changed nodes, and those that pending changes of counts will change, roughly with the nodes above them.
    pub(crate) fn dirty_soon(&self) -> u64 {
        self.sums.dirty + 2 * self.pending.leaves()
    }

    /// True if a volume on `layer` has space reserved: its layers keep their blocks.
    pub(crate) fn is_under_thick(&self, layer: LayerId) -> bool {
        let thick = self.volumes.values().filter(|entry| entry.record.thick).map(|entry| entry.record.top);
        let parent = |id: &LayerId| self.layers.get(id).and_then(|layer| layer.parent);
        thick.into_iter().any(|top| std::iter::successors(Some(top), parent).any(|id| id == layer))
    }
}

/// What the topmost layer that knows says, and which layer that is.
pub(crate) fn owner_of(owners: &[(LayerId, Arc<Entries>)], slot: usize) -> (Option<LayerId>, Entry) {
    let found = owners.iter().find(|(_, entries)| entries[slot].location != Location::NONE);
    found.map_or((None, Entry::default()), |(layer, entries)| (Some(*layer), entries[slot]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SegmentId;

    fn shared(number: u64) -> Location {
        Location::shared(BlockAddress(number))
    }

    #[test]
    fn references_that_come_and_go_are_summed_up_by_block_and_leaf() {
        let mut pending = Pending::default();
        for (number, by) in [(5, 1), (5, 1), (256, 1), (5, -1), (511, -1), (1 << 47, 1)] {
            pending.change(shared(number), by);
        }
        let sums = [5, 256, 511, 1 << 47, 6].map(|number| pending.of(BlockAddress(number)));
        assert_eq!((sums, pending.leaves()), ([1, 1, -1, 1, 0], 3));
    }

    #[test]
    fn entries_that_refer_to_nothing_shared_are_not_counted() {
        let mut pending = Pending::default();
        for location in [Location::NONE, Location::ZEROS, Location::new(SegmentId(9), 3)] {
            pending.change(location, 1);
        }
        assert_eq!(pending.leaves(), 0);
    }

    #[test]
    fn the_topmost_layer_that_knows_owns_a_block() {
        let entry = |location| Entry { location, checksum: 1 };
        let mut top = [Entry::default(); FAN_OUT];
        top[1] = entry(Location::ZEROS);
        top[2] = entry(shared(7));
        let below = [entry(Location::new(SegmentId(4), 4)); FAN_OUT];
        let owners = [(LayerId(9), Arc::new(top)), (LayerId(3), Arc::new(below))];
        let found = [0, 1, 2].map(|slot| owner_of(&owners, slot));
        assert_eq!(found[0], (Some(LayerId(3)), below[0]));
        assert_eq!(found[1], (Some(LayerId(9)), top[1]));
        assert_eq!(found[2], (Some(LayerId(9)), top[2]));
        assert_eq!(owner_of(&[], 0), (None, Entry::default()));
    }
}
