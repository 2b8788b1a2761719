//! Slabs: which are free, and how much of the pool may be filled.

use crate::format::SlabIndex;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The free slabs of a disk. Shared with the catalog, which takes slabs when it grows.
#[derive(Default)]
pub(crate) struct Slabs {
    free: BTreeSet<SlabIndex>,
    /// Free slabs that were written and not discarded since: taken first, because writing them again costs a file
    /// system or a thin device no allocation.
    stale: BTreeSet<SlabIndex>,
    total: u32,
    catalog: u32,
    /// There while volumes are being sanitized.
    wipe: Option<Wipe>,
}

/// What is known of the slabs while old content has to leave the disk.
#[derive(Default)]
struct Wipe {
    /// Free slabs that may hold what was there before: taken last.
    unwiped: BTreeSet<SlabIndex>,
    /// Slabs, free or not, that held nothing but zeros at some time since it began.
    wiped: BTreeSet<SlabIndex>,
    /// Slabs that are being wiped.
    in_hand: BTreeSet<SlabIndex>,
}

/// [`Slabs`] as the engine and its catalog hold it. Its lock is taken last, and for moments.
pub(crate) type SharedSlabs = Arc<Mutex<Slabs>>;

impl Slabs {
    /// All of `total` slabs are free but those `taken`, of which `catalog` are the catalog's.
    pub(crate) fn set_up(&mut self, total: u32, catalog: u32, taken: &BTreeSet<SlabIndex>) {
        self.total = total;
        self.catalog = catalog;
        self.free = (0..total).map(SlabIndex).filter(|slab| !taken.contains(slab)).collect();
    }

    /// Slabs of the disk.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Slabs of the catalog.
    pub(crate) fn catalog(&self) -> u32 {
        self.catalog
    }

    /// Slabs in nobody's hands.
    pub(crate) fn free(&self) -> u64 {
        let unwiped = self.wipe.as_ref().map_or(0, |wipe| wipe.unwiped.len());
        crate::number::wide(self.free.len() + self.stale.len() + unwiped)
    }

    /// Takes a free slab: the first of those not discarded, else the first. Whoever writes to it asks before whether it
    /// [`Slabs::needs_wiping`].
    pub(crate) fn take(&mut self) -> Option<SlabIndex> {
        let sound = self.stale.pop_first().or_else(|| self.free.pop_first());
        sound.or_else(|| self.wipe.as_mut()?.unwiped.pop_first())
    }

    /// Takes a slab that is to be discarded and then given back with [`Slabs::give_discarded`]: none while few
    /// enough to be written again soon are not discarded.
    pub(crate) fn take_stale(&mut self) -> Option<SlabIndex> {
        let many = crate::number::wide(self.stale.len()) > u64::from(self.total) / STALE_PART;
        if many { self.stale.pop_last() } else { None }
    }

    /// From now on each slab may hold old content until it is wiped.
    pub(crate) fn begin_wipe(&mut self) {
        let mut unwiped = std::mem::take(&mut self.free);
        unwiped.append(&mut self.stale);
        self.wipe = Some(Wipe { unwiped, ..Wipe::default() });
    }

    /// It does not matter any more what slabs hold.
    pub(crate) fn end_wipe(&mut self) {
        self.stale.extend(self.wipe.take().into_iter().flat_map(|wipe| wipe.unwiped));
    }

    /// Free slabs that are to be wiped.
    pub(crate) fn unwiped(&self) -> u64 {
        self.wipe.as_ref().map_or(0, |wipe| crate::number::wide(wipe.unwiped.len()))
    }

    /// True if `slab`, which is taken, may hold old content that has to leave the disk.
    pub(crate) fn needs_wiping(&self, slab: SlabIndex) -> bool {
        self.wipe.as_ref().is_some_and(|wipe| !wipe.wiped.contains(&slab))
    }

    /// Takes a slab to wipe it and give it back.
    pub(crate) fn take_unwiped(&mut self) -> Option<SlabIndex> {
        let wipe = self.wipe.as_mut()?;
        let slab = wipe.unwiped.pop_first()?;
        wipe.in_hand.insert(slab);
        Some(slab)
    }

    /// Slabs that were taken to be wiped.
    pub(crate) fn in_hand(&self) -> u64 {
        self.wipe.as_ref().map_or(0, |wipe| crate::number::wide(wipe.in_hand.len()))
    }

    /// `slab`, which is taken, holds nothing but zeros.
    pub(crate) fn note_wiped(&mut self, slab: SlabIndex) {
        if let Some(wipe) = &mut self.wipe {
            wipe.wiped.insert(slab);
        }
    }

    /// Adds a free slab, to those that are to be wiped if it has not been.
    fn insert(&mut self, slab: SlabIndex, discarded: bool) -> bool {
        if let Some(wipe) = &mut self.wipe {
            wipe.in_hand.remove(&slab);
        }
        match &mut self.wipe {
            Some(wipe) if !wipe.wiped.contains(&slab) => wipe.unwiped.insert(slab),
            _ if discarded => self.free.insert(slab),
            _ => self.stale.insert(slab),
        }
    }

    /// Takes a slab for the catalog, for good.
    pub(crate) fn take_for_catalog(&mut self) -> Option<SlabIndex> {
        let slab = self.take()?;
        self.catalog += 1;
        Some(slab)
    }

    /// Gives a slab back that was written.
    pub(crate) fn give(&mut self, slab: SlabIndex) {
        assert!(self.is_taken(slab) && self.insert(slab, false), "a slab is given back once");
    }

    /// Gives a slab back whose content the disk has been told to forget.
    pub(crate) fn give_discarded(&mut self, slab: SlabIndex) {
        assert!(self.is_taken(slab) && self.insert(slab, true), "a slab is given back once");
    }

    fn is_taken(&self, slab: SlabIndex) -> bool {
        let unwiped = self.wipe.as_ref().is_some_and(|wipe| wipe.unwiped.contains(&slab));
        slab.0 < self.total && !self.free.contains(&slab) && !self.stale.contains(&slab) && !unwiped
    }

    /// The disk has `total` slabs now.
    pub(crate) fn grow(&mut self, total: u32) {
        let news = self.total..total;
        self.total = self.total.max(total);
        news.map(SlabIndex).for_each(|slab| _ = self.insert(slab, true));
    }
}

/// What may be filled and what is held back, in blocks or slabs. Follows from the number of slabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Data or nodes that a slab holds when written in full batches: the rest are descriptors.
    pub(crate) slab_payload: u64,
    /// What data and nodes could fill.
    pub(crate) usable: u64,
    /// Of that, held back so that collection, checkpoints, unmapping and deletion always work.
    pub(crate) headroom: u64,
    /// Of that, for map nodes that unmapping in clones makes.
    pub(crate) zero_slack: u64,
    /// Of that, for writing map nodes again ([`SPARE_PER_NODE`]).
    pub(crate) node_slack: u64,
    /// Changed nodes that start a checkpoint; twice as many make writers wait for it.
    pub(crate) dirty_nodes: u64,
    /// Free slabs that only the catalog may take.
    pub(crate) catalog_floor: u64,
    /// Free slabs that only node segments and the catalog may take: a checkpoint always finds room.
    pub(crate) relocation_floor: u64,
    /// Free slabs that unmapping, but no data, may take.
    pub(crate) unmap_floor: u64,
    /// Free slabs that host data does not take.
    pub(crate) host_floor: u64,
    /// The collector starts at this many free slabs.
    pub(crate) collect_below: u64,
    /// Segments to keep reserved for the host stream.
    pub(crate) host_ahead: u64,
}

/// At most this part of all slabs is free and not discarded.
const STALE_PART: u64 = 8;
/// Slabs held back at the least.
const HEADROOM_SLABS_MIN: u64 = 24;
/// Slabs held back for crashes: each leaves part-filled segments that only collection gives back, and collection
/// needs slabs itself.
const CRASH_SLABS: u64 = 6;
/// Blocks set aside for each map node beside its own place. Moving or overwriting a block writes the nodes above it
/// again; where few blocks share a node, a pool that is full of blocks and nodes could only be collected by writing
/// more than that gains.
const SPARE_PER_NODE: u64 = 4;
/// Slabs without which a pool makes no sense.
pub(crate) const POOL_SLABS_MIN: u64 = 40;
/// Bytes of segments to keep reserved for the host stream, roughly.
const AHEAD_BYTES: u64 = 64 << 20;

impl Budget {
    /// The budget of `slabs` slabs (without the catalog's) of `slab_blocks` blocks.
    pub(crate) fn new(slabs: u64, slab_blocks: u32, dirty_nodes_max: u64) -> Self {
        let blocks = u64::from(slab_blocks);
        let slab_payload = blocks - 1 - blocks / 64;
        let usable = slabs * slab_payload;
        let headroom = (usable / 20).max(HEADROOM_SLABS_MIN * slab_payload);
        let zero_slack = (headroom - HEADROOM_SLABS_MIN * slab_payload) / 2;
        let node_slack = zero_slack;
        let dirty_nodes = (headroom / 16).min(dirty_nodes_max).max(4);
        let catalog_floor = 1;
        let relocation_floor = catalog_floor + (4 * dirty_nodes).div_ceil(slab_payload) + CRASH_SLABS;
        let unmap_floor = relocation_floor + 1;
        let host_floor = unmap_floor + 2;
        let by_bytes = (AHEAD_BYTES / 4096 / blocks).clamp(8, 64);
        let host_ahead = by_bytes.min(slabs / 16).max(2);
        let collect_below = host_floor + host_ahead / 2 + slabs / 50;
        Self {
            slab_payload,
            usable,
            headroom,
            zero_slack,
            node_slack,
            dirty_nodes,
            catalog_floor,
            relocation_floor,
            unmap_floor,
            host_floor,
            collect_below,
            host_ahead,
        }
    }

    /// What live data, nodes and reservations may fill.
    pub(crate) fn fillable(&self) -> u64 {
        self.usable.saturating_sub(self.headroom)
    }

    /// What `nodes` map nodes take of that: their places, and what the headroom has not of what is set aside for
    /// writing them again.
    pub(crate) fn node_charge(&self, nodes: u64) -> u64 {
        nodes + (SPARE_PER_NODE * nodes).saturating_sub(self.node_slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_fit_into_the_headroom_whatever_the_size() {
        for (slabs, blocks) in [(40, 16), (64, 16), (1000, 16), (30, 256), (2000, 256), (2047, 16_384)] {
            let budget = Budget::new(slabs, blocks, 32 << 10);
            let headroom_slabs = budget.headroom / budget.slab_payload;
            assert!(budget.host_floor < headroom_slabs, "{slabs} slabs of {blocks}: {budget:?}");
            assert!(budget.fillable() > 0);
        }
    }

    #[test]
    fn nodes_of_side_by_side_blocks_cost_a_large_pool_only_their_places() {
        let large = Budget::new(2000, 16_384, 32 << 10);
        let nodes = large.fillable() / 257;
        assert_eq!(large.node_charge(nodes), nodes);
        let small = Budget::new(64, 256, 32 << 10);
        assert_eq!(small.node_charge(10), 50);
    }

    #[test]
    fn slabs_are_given_once() {
        let mut slabs = Slabs::default();
        slabs.set_up(4, 1, &BTreeSet::from([SlabIndex(0)]));
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).collect();
        assert_eq!(taken, [SlabIndex(1), SlabIndex(2), SlabIndex(3)]);
        slabs.give(SlabIndex(2));
        slabs.grow(5);
        assert_eq!((slabs.free(), slabs.take_for_catalog(), slabs.catalog()), (2, Some(SlabIndex(2)), 2));
    }

    #[test]
    fn what_was_written_last_is_written_again_and_only_the_surplus_is_discarded() {
        let mut slabs = Slabs::default();
        slabs.set_up(16, 0, &(0..8).map(SlabIndex).collect());
        [3, 5, 6].into_iter().for_each(|slab| slabs.give(SlabIndex(slab)));
        assert_eq!(slabs.free(), 11);
        let surplus = slabs.take_stale().expect("three are more than an eighth of sixteen");
        assert_eq!((surplus, slabs.take_stale()), (SlabIndex(6), None));
        slabs.give_discarded(surplus);
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).take(4).collect();
        assert_eq!(taken, [3, 5, 6, 8].map(SlabIndex), "those not discarded first");
    }

    #[test]
    fn while_old_content_has_to_go_slabs_are_taken_that_have_none_and_others_are_wiped() {
        let mut slabs = Slabs::default();
        slabs.set_up(6, 0, &BTreeSet::from([SlabIndex(0), SlabIndex(1)]));
        slabs.give(SlabIndex(1));
        slabs.begin_wipe();
        assert_eq!((slabs.free(), slabs.unwiped()), (5, 5));
        let first = slabs.take_unwiped().expect("none is wiped yet");
        assert!(first == SlabIndex(1) && slabs.needs_wiping(first));
        slabs.note_wiped(first);
        slabs.give_discarded(first);
        assert_eq!(slabs.take(), Some(first), "what is wiped comes first");
        slabs.give(first);
        slabs.give(SlabIndex(0));
        slabs.grow(7);
        assert_eq!((slabs.free(), slabs.unwiped()), (7, 6), "what was in use is wiped when it is given back");
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).collect();
        assert_eq!(taken, [1, 0, 2, 3, 4, 5, 6].map(SlabIndex));
        slabs.give(SlabIndex(4));
        slabs.end_wipe();
        assert_eq!((slabs.free(), slabs.unwiped(), slabs.needs_wiping(SlabIndex(5))), (1, 0, false));
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn a_discarded_slab_is_not_given_back_again() {
        let mut slabs = Slabs::default();
        slabs.set_up(4, 0, &BTreeSet::from([SlabIndex(0)]));
        slabs.give_discarded(SlabIndex(0));
        slabs.give(SlabIndex(0));
    }
}
