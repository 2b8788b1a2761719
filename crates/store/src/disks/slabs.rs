//! Slabs: which are free, on which disk, and where the next segment goes.

use super::copies::{COPIES_MAX, Copies};
use crate::catalog::Slab;
use crate::format::{DiskIndex, SlabIndex};
use crate::number::wide;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// At most this part of all slabs is free and not discarded.
const STALE_PART: u64 = 8;
/// Free slabs of each disk with a copy of the catalog that only the catalog may take, where there are several disks:
/// what others hold does not help it.
const CATALOG_HELD: u64 = 1;

/// What draws lots between disks: an odd number without a pattern.
const LOTS: u64 = 0x9E37_79B9_7F4A_7C15;

/// The free slabs of a disk.
#[derive(Default)]
struct DiskSlabs {
    free: BTreeSet<SlabIndex>,
    /// Free slabs that were written and not discarded since: taken first, because writing them again costs a file
    /// system or a thin device no allocation.
    stale: BTreeSet<SlabIndex>,
    total: u32,
    /// Slabs of the catalog.
    catalog: u32,
    /// It takes new segments.
    open: bool,
    /// There while volumes are being sanitized.
    wipe: Option<Wipe>,
}

/// What is known of the slabs of a disk while old content has to leave it.
#[derive(Default)]
struct Wipe {
    /// Free slabs that may hold what was there before: taken last.
    unwiped: BTreeSet<SlabIndex>,
    /// Slabs, free or not, that held nothing but zeros at some time since it began.
    wiped: BTreeSet<SlabIndex>,
    /// Slabs that are being wiped.
    in_hand: BTreeSet<SlabIndex>,
}

/// The slabs of all disks. Shared with the catalog, which takes slabs when it grows.
pub(crate) struct Slabs {
    disks: Vec<DiskSlabs>,
    /// Copies that a segment should have.
    copies: usize,
    /// Segments that the free slabs suffice for.
    free: u64,
    /// Who begins among disks that have equally much: all in turn.
    turn: usize,
}

/// [`Slabs`] as the engine and its catalog hold it. Its lock is taken last, and for moments.
pub(crate) type SharedSlabs = Arc<Mutex<Slabs>>;

impl Slabs {
    /// No disks yet, of a pool whose segments have `copies` copies.
    pub(crate) fn new(copies: usize) -> Self {
        Self { disks: Vec::new(), copies: copies.clamp(1, COPIES_MAX), free: 0, turn: 0 }
    }

    /// The disk has `total` slabs, of which all are free but those `taken`, and `catalog` of these are the catalog's.
    pub(crate) fn set_up(&mut self, disk: DiskIndex, total: u32, catalog: u32, taken: &BTreeSet<SlabIndex>) {
        let index = usize::from(disk.0);
        if self.disks.len() <= index {
            self.disks.resize_with(index + 1, DiskSlabs::default);
        }
        let free = (0..total).map(SlabIndex).filter(|slab| !taken.contains(slab)).collect();
        self.disks[index] =
            DiskSlabs { free, stale: BTreeSet::new(), total, catalog, open: true, wipe: None };
        self.count();
    }

    /// The disk takes new segments, or no more.
    pub(crate) fn set_open(&mut self, disk: DiskIndex, open: bool) {
        if let Some(slabs) = self.disks.get_mut(usize::from(disk.0)) {
            slabs.open = open;
        }
        self.count();
    }

    /// Segments that the disks could hold if nothing but the catalog were on them.
    pub(crate) fn capacity(&self) -> u64 {
        let held = |disk: &DiskSlabs| if self.disks.len() > 1 { disk.held() } else { 0 };
        self.segments_on(|disk| u64::from(disk.total - disk.catalog).saturating_sub(held(disk)))
    }

    /// Slabs of a disk, those of the catalog, and those in nobody's hands but the wiper's.
    pub(crate) fn counts(&self, disk: DiskIndex) -> (u32, u32, u64) {
        self.disks.get(usize::from(disk.0)).map_or((0, 0, 0), |disk| {
            let in_hand = disk.wipe.as_ref().map_or(0, |wipe| wide(wipe.in_hand.len()));
            (disk.total, disk.catalog, disk.free() + in_hand)
        })
    }

    /// Disks that slabs are known of.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = DiskIndex> {
        (0..self.disks.len()).filter_map(|index| u16::try_from(index).ok()).map(DiskIndex)
    }

    /// Segments that the free slabs suffice for.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// Slabs that each copy of the catalog can take.
    pub(crate) fn free_for_catalog(&self) -> u64 {
        let with_catalog = self.disks.iter().filter(|disk| disk.open && disk.catalog > 0);
        with_catalog.map(DiskSlabs::free).min().unwrap_or(0)
    }

    /// Copies that a new segment gets: fewer than it should have where disks are wanting.
    fn width(&self) -> usize {
        self.disks.iter().filter(|disk| disk.open).count().clamp(1, self.copies)
    }

    /// Segments that the disks suffice for if each has `slabs`. With the most loaded `j` disks full, what the others
    /// have must do for the rest of each segment's copies: the least of these bounds can be reached, by taking from the
    /// disks that have most.
    fn segments_on(&self, slabs: impl Fn(&DiskSlabs) -> u64) -> u64 {
        let mut each: Vec<u64> = self.disks.iter().filter(|disk| disk.open).map(slabs).collect();
        each.sort_unstable_by(|a, b| b.cmp(a));
        let width = self.width();
        let bound = |full: usize| each.iter().skip(full).sum::<u64>() / wide(width - full);
        (0..width).map(bound).min().unwrap_or(0)
    }

    fn count(&mut self) {
        let alone = self.disks.len() == 1;
        self.free = if alone {
            self.disks.first().filter(|disk| disk.open).map_or(0, DiskSlabs::free)
        } else {
            self.segments_on(DiskSlabs::for_segments)
        };
    }

    /// Takes free slabs for a segment: of the disks that have most of them, each once.
    pub(crate) fn take(&mut self) -> Option<Copies> {
        if self.free == 0 {
            return None;
        }
        if let [disk] = &mut self.disks[..] {
            let slab = disk.take()?;
            self.count();
            return Copies::new(&[Slab { disk: DiskIndex(0), index: slab }]);
        }
        let width = self.width();
        let turn = wide(self.turn).wrapping_mul(wide(self.disks.len()));
        // Among equals a different one each time, so that neighbours are not always the same.
        let lot = |index: usize| (turn.wrapping_add(wide(index)) ^ turn >> 7).wrapping_mul(LOTS) >> 32;
        let ranks = self.disks.iter().enumerate();
        let mut choice: Vec<_> =
            ranks.map(|(index, disk)| (disk.for_segments_if_open(), lot(index), index)).collect();
        choice.sort_unstable_by(|a, b| b.cmp(a));
        let mut slabs = Vec::with_capacity(width);
        for (_, _, index) in choice.into_iter().take(width) {
            let disk = u16::try_from(index).ok().map(DiskIndex)?;
            slabs.push(Slab { disk, index: self.disks.get_mut(index)?.take()? });
        }
        self.turn = self.turn.wrapping_add(1);
        self.count();
        Copies::new(&slabs)
    }

    /// Takes a slab that is to be discarded and then given back with [`Slabs::give_discarded`]: none while few
    /// enough to be written again soon are not discarded.
    pub(crate) fn take_stale(&mut self) -> Option<Slab> {
        let slab = self.disks.iter_mut().enumerate().find_map(|(index, disk)| {
            let many = disk.open && wide(disk.stale.len()) > u64::from(disk.total) / STALE_PART;
            let slab = if many { disk.stale.pop_last() } else { None }?;
            Some(Slab { disk: DiskIndex(u16::try_from(index).ok()?), index: slab })
        });
        self.count();
        slab
    }

    /// Takes a slab of a disk for the catalog, for good.
    pub(crate) fn take_for_catalog(&mut self, disk: DiskIndex) -> Option<SlabIndex> {
        let slabs = self.disks.get_mut(usize::from(disk.0))?;
        let slab = slabs.take()?;
        slabs.catalog += 1;
        self.count();
        Some(slab)
    }

    /// From now on each slab may hold old content until it is wiped.
    pub(crate) fn begin_wipe(&mut self) {
        for disk in &mut self.disks {
            let mut unwiped = std::mem::take(&mut disk.free);
            unwiped.append(&mut disk.stale);
            disk.wipe = Some(Wipe { unwiped, ..Wipe::default() });
        }
        self.count();
    }

    /// It does not matter any more what slabs hold.
    pub(crate) fn end_wipe(&mut self) {
        for disk in &mut self.disks {
            disk.stale.extend(disk.wipe.take().into_iter().flat_map(|wipe| wipe.unwiped));
        }
        self.count();
    }

    /// Free slabs that are to be wiped. What is on a disk that has left is out of reach.
    pub(crate) fn unwiped(&self) -> u64 {
        let unwiped = |disk: &DiskSlabs| disk.wipe.as_ref().map_or(0, |wipe| wide(wipe.unwiped.len()));
        self.disks.iter().filter(|disk| disk.open).map(unwiped).sum()
    }

    /// True if `slab`, which is taken, may hold old content that has to leave the disk.
    pub(crate) fn slab_needs_wiping(&self, slab: Slab) -> bool {
        let disk = self.disks.get(usize::from(slab.disk.0)).filter(|disk| disk.open);
        disk.and_then(|disk| disk.wipe.as_ref()).is_some_and(|wipe| !wipe.wiped.contains(&slab.index))
    }

    /// True if one of the slabs may.
    pub(crate) fn needs_wiping(&self, copies: &Copies) -> bool {
        copies.slabs().iter().any(|slab| self.slab_needs_wiping(*slab))
    }

    /// Takes a slab to wipe it and give it back.
    pub(crate) fn take_unwiped(&mut self) -> Option<Slab> {
        let taken =
            self.disks.iter_mut().enumerate().filter(|(_, disk)| disk.open).find_map(|(index, disk)| {
                let wipe = disk.wipe.as_mut()?;
                let slab = wipe.unwiped.pop_first()?;
                wipe.in_hand.insert(slab);
                Some(Slab { disk: DiskIndex(u16::try_from(index).ok()?), index: slab })
            });
        self.count();
        taken
    }

    /// `slab`, which is taken, holds nothing but zeros.
    pub(crate) fn note_wiped(&mut self, slab: Slab) {
        if let Some(wipe) = &mut self.disk_of(slab).wipe {
            wipe.wiped.insert(slab.index);
        }
    }

    /// True if every slab of disks that are there is free, the catalog's, or in one of `in_segments` by disk.
    pub(crate) fn are_accounted(&self, in_segments: impl Fn(DiskIndex) -> u64) -> bool {
        self.indexes().zip(&self.disks).filter(|(_, disk)| disk.open).all(|(index, disk)| {
            in_segments(index) + disk.free() + u64::from(disk.catalog) == u64::from(disk.total)
        })
    }

    /// Gives back one slab that was written.
    pub(crate) fn give_slab(&mut self, slab: Slab) {
        let disk = self.disk_of(slab);
        assert!(disk.is_taken(slab.index) && disk.insert(slab.index, false), "a slab is given back once");
        self.count();
    }

    /// Gives back slabs that were written.
    pub(crate) fn give(&mut self, copies: Copies) {
        for slab in copies.slabs() {
            let disk = self.disk_of(*slab);
            assert!(disk.is_taken(slab.index) && disk.insert(slab.index, false), "a slab is given back once");
        }
        self.count();
    }

    /// Gives a slab back whose content the disk has been told to forget.
    pub(crate) fn give_discarded(&mut self, slab: Slab) {
        let disk = self.disk_of(slab);
        assert!(disk.is_taken(slab.index) && disk.insert(slab.index, true), "a slab is given back once");
        self.count();
    }

    fn disk_of(&mut self, slab: Slab) -> &mut DiskSlabs {
        self.disks.get_mut(usize::from(slab.disk.0)).expect("slabs are of disks of the pool")
    }

    /// The disk has `total` slabs now.
    pub(crate) fn grow(&mut self, disk: DiskIndex, total: u32) {
        if let Some(slabs) = self.disks.get_mut(usize::from(disk.0)) {
            let news = slabs.total..total;
            slabs.total = slabs.total.max(total);
            news.map(SlabIndex).for_each(|slab| _ = slabs.insert(slab, true));
        }
        self.count();
    }
}

impl DiskSlabs {
    fn free(&self) -> u64 {
        let unwiped = self.wipe.as_ref().map_or(0, |wipe| wipe.unwiped.len());
        wide(self.free.len() + self.stale.len() + unwiped)
    }

    /// Free slabs that segments may take.
    fn for_segments(&self) -> u64 {
        self.free().saturating_sub(self.held())
    }

    fn held(&self) -> u64 {
        if self.catalog > 0 { CATALOG_HELD } else { 0 }
    }

    fn for_segments_if_open(&self) -> u64 {
        if self.open { self.for_segments() } else { 0 }
    }

    /// Takes a free slab: the first of those not discarded, else the first. Whoever writes to it asks before whether it
    /// [`Slabs::needs_wiping`].
    fn take(&mut self) -> Option<SlabIndex> {
        let sound = self.stale.pop_first().or_else(|| self.free.pop_first());
        sound.or_else(|| self.wipe.as_mut()?.unwiped.pop_first())
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

    fn is_taken(&self, slab: SlabIndex) -> bool {
        let unwiped = self.wipe.as_ref().is_some_and(|wipe| wipe.unwiped.contains(&slab));
        slab.0 < self.total && !self.free.contains(&slab) && !self.stale.contains(&slab) && !unwiped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(disk: u16, index: u32) -> Slab {
        Slab { disk: DiskIndex(disk), index: SlabIndex(index) }
    }

    fn one(index: u32) -> Copies {
        Copies::new(&[slab(0, index)]).expect("one copy")
    }

    fn alone(total: u32, catalog: u32, taken: &BTreeSet<SlabIndex>) -> Slabs {
        let mut slabs = Slabs::new(1);
        slabs.set_up(DiskIndex(0), total, catalog, taken);
        slabs
    }

    /// Empty disks with so many slabs each.
    fn disks(copies: usize, totals: &[u32]) -> Slabs {
        let mut slabs = Slabs::new(copies);
        for (disk, total) in (0..).map(DiskIndex).zip(totals) {
            slabs.set_up(disk, *total, 0, &BTreeSet::new());
        }
        slabs
    }

    #[test]
    fn slabs_are_given_once() {
        let mut slabs = alone(4, 1, &BTreeSet::from([SlabIndex(0)]));
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).collect();
        assert_eq!(taken, [1, 2, 3].map(one));
        slabs.give(one(2));
        slabs.grow(DiskIndex(0), 5);
        assert_eq!((slabs.free(), slabs.take_for_catalog(DiskIndex(0))), (2, Some(SlabIndex(2))));
        assert_eq!(slabs.counts(DiskIndex(0)), (5, 2, 1));
    }

    #[test]
    fn what_was_written_last_is_written_again_and_only_the_surplus_is_discarded() {
        let mut slabs = alone(16, 0, &(0..8).map(SlabIndex).collect());
        [3, 5, 6].into_iter().for_each(|slab| slabs.give(one(slab)));
        assert_eq!(slabs.free(), 11);
        let surplus = slabs.take_stale().expect("three are more than an eighth of sixteen");
        assert_eq!((surplus, slabs.take_stale()), (slab(0, 6), None));
        slabs.give_discarded(surplus);
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).take(4).collect();
        assert_eq!(taken, [3, 5, 6, 8].map(one), "those not discarded first");
    }

    #[test]
    fn while_old_content_has_to_go_slabs_are_taken_that_have_none_and_others_are_wiped() {
        let mut slabs = alone(6, 0, &BTreeSet::from([SlabIndex(0), SlabIndex(1)]));
        slabs.give(one(1));
        slabs.begin_wipe();
        assert_eq!((slabs.free(), slabs.unwiped()), (5, 5));
        let first = slabs.take_unwiped().expect("none is wiped yet");
        assert!(first == slab(0, 1) && slabs.needs_wiping(&one(1)));
        slabs.note_wiped(first);
        slabs.give_discarded(first);
        assert_eq!(slabs.take(), Some(one(1)), "what is wiped comes first");
        slabs.give_slab(first);
        slabs.give(one(0));
        slabs.grow(DiskIndex(0), 7);
        assert_eq!((slabs.free(), slabs.unwiped()), (7, 6), "what was in use is wiped when it is given back");
        let taken: Vec<_> = std::iter::from_fn(|| slabs.take()).collect();
        assert_eq!(taken, [1, 0, 2, 3, 4, 5, 6].map(one));
        slabs.give(one(4));
        slabs.end_wipe();
        assert_eq!((slabs.free(), slabs.unwiped(), slabs.needs_wiping(&one(5))), (1, 0, false));
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn a_discarded_slab_is_not_given_back_again() {
        let mut slabs = alone(4, 0, &BTreeSet::from([SlabIndex(0)]));
        slabs.give_discarded(slab(0, 0));
        slabs.give(one(0));
    }

    #[test]
    fn what_is_promised_of_unequal_disks_can_be_placed() {
        for (copies, totals, segments) in [
            (2, &[10, 10, 10][..], 15),
            (2, &[10, 3, 4], 7),
            (2, &[100, 1], 1),
            (3, &[10, 10, 2, 2], 4),
            (3, &[9, 9, 9, 9], 12),
            (1, &[3, 7, 1], 11),
        ] {
            let mut slabs = disks(copies, totals);
            assert_eq!((slabs.capacity(), slabs.free()), (segments, segments), "{copies} on {totals:?}");
            let mut placed: u64 = 0;
            while let Some(taken) = slabs.take() {
                placed += 1;
                assert_eq!(taken.slabs().len(), copies);
                assert_eq!(slabs.free(), segments - placed, "each segment takes one");
            }
            assert_eq!(placed, segments, "{copies} on {totals:?}");
        }
    }

    #[test]
    fn segments_are_spread_over_all_disks() {
        let mut slabs = disks(2, &[12, 12, 12, 12]);
        let mut pairs = BTreeSet::new();
        for _ in 0..12 {
            let taken = slabs.take().expect("half of it is free");
            pairs.insert(taken.slabs().iter().map(|slab| slab.disk).collect::<BTreeSet<_>>());
        }
        let left: Vec<u64> = slabs.indexes().map(|disk| slabs.counts(disk).2).collect();
        assert_eq!(left, [6; 4]);
        assert!(pairs.len() > 2, "neighbours are not always the same: {pairs:?}");
    }

    #[test]
    fn a_disk_that_has_left_holds_nothing_new_and_a_lone_disk_does_with_fewer_copies() {
        let mut slabs = disks(2, &[8, 8]);
        slabs.set_open(DiskIndex(1), false);
        assert_eq!((slabs.capacity(), slabs.free()), (8, 8));
        assert_eq!(slabs.take().and_then(|copies| copies.only()), Some(slab(0, 0)));
        slabs.set_open(DiskIndex(1), true);
        assert_eq!(slabs.free(), 7);
    }

    #[test]
    fn each_copy_of_the_catalog_finds_a_slab_when_segments_find_none() {
        let mut slabs = disks(2, &[8, 8, 8]);
        for disk in [0, 1].map(DiskIndex) {
            slabs.set_up(disk, 8, 1, &BTreeSet::from([SlabIndex(0)]));
        }
        while slabs.take().is_some() {}
        assert_eq!(slabs.free_for_catalog(), 1);
        assert!([0, 1].map(DiskIndex).into_iter().all(|disk| slabs.take_for_catalog(disk).is_some()));
    }
}
