//! The disks of a pool: which there are, which copy a read goes to, and writing all copies of what is written.
//!
//! Disks are found by index without a lock; one that has left keeps its index while the pool is open.

mod copies;
mod io;
mod loss;
mod slabs;

pub(crate) use copies::{Copies, Place};
pub(crate) use io::Bad;
pub(crate) use slabs::{SharedSlabs, Slabs};

use crate::catalog::Slab;
use crate::format::DiskIndex;
use crate::format::label::RESERVED_BYTES;
use crate::format::members::DISKS_MAX;
use block::Disk;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// One read in so many goes to the copy that is not the quickest, so that what is known of it stays true.
const PROBE_INTERVAL: u64 = 64;
/// How much a new measurement counts: an eighth.
const WEIGHT_SHIFT: u32 = 3;

/// A disk of the pool.
pub(crate) struct Member {
    pub(crate) disk: Arc<dyn Disk>,
    standing: AtomicU8,
    /// An operation on it was not waited for.
    hangs: AtomicBool,
    /// Reads in progress.
    busy: AtomicU32,
    /// What a read took lately, in ns.
    latency: AtomicU64,
}

/// How a disk stands, as the engine goes by it. [`CURRENT`] is what lies on it current.
const CURRENT: u8 = 0;
/// It is neither read nor written any more, but its leaving is not yet written down.
const DROPPED: u8 = 1;
/// The labels of the others say that it is lost.
const RECORDED: u8 = 2;

/// A read in progress.
struct Busy<'a>(&'a Member);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All disks of a pool, by index.
pub(crate) struct Disks {
    slots: Box<[OnceLock<Member>]>,
    slab_shift: u32,
    reads: AtomicU64,
}

impl Disks {
    /// No disks yet, with slabs of `1 << slab_shift` bytes.
    pub(crate) fn new(slab_shift: u32) -> Self {
        let slots = std::iter::repeat_with(OnceLock::new).take(DISKS_MAX).collect();
        Self { slots, slab_shift, reads: AtomicU64::new(0) }
    }

    /// Adds a disk whose content is current. False if there has been one at this index.
    pub(crate) fn add(&self, index: DiskIndex, disk: Arc<dyn Disk>) -> bool {
        let latency = AtomicU64::new(0);
        let member = Member {
            disk,
            standing: AtomicU8::new(CURRENT),
            hangs: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            latency,
        };
        self.slots.get(usize::from(index.0)).is_some_and(|slot| slot.set(member).is_ok())
    }

    /// The disk, if its content is current.
    pub(crate) fn current(&self, index: DiskIndex) -> Option<&Member> {
        let member = self.slots.get(usize::from(index.0))?.get()?;
        (member.standing.load(Ordering::Acquire) == CURRENT).then_some(member)
    }

    /// The labels tell of every disk that was dropped.
    pub(crate) fn losses_are_recorded(&self) -> bool {
        let members = self.slots.iter().filter_map(OnceLock::get);
        members.into_iter().all(|member| member.standing.load(Ordering::Acquire) != DROPPED)
    }

    /// True if there has been one disk only.
    pub(crate) fn alone(&self) -> bool {
        self.slots.iter().skip(1).all(|slot| slot.get().is_none())
    }

    /// The disk is neither read nor written from now on.
    fn drop_disk(&self, index: DiskIndex) {
        self.set_standing(index, DROPPED);
    }

    /// The labels of the others tell of every disk that was dropped.
    fn record_losses(&self) {
        for member in self.slots.iter().filter_map(OnceLock::get) {
            let (from, to) = (DROPPED, RECORDED);
            let _ = member.standing.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// An operation on the disk is not waited for any more.
    fn hang(&self, index: DiskIndex) {
        if let Some(member) = self.slots.get(usize::from(index.0)).and_then(OnceLock::get) {
            member.hangs.store(true, Ordering::Release);
        }
    }

    fn hangs(&self, index: DiskIndex) -> bool {
        let member = self.slots.get(usize::from(index.0)).and_then(OnceLock::get);
        member.is_some_and(|member| member.hangs.load(Ordering::Acquire))
    }

    fn set_standing(&self, index: DiskIndex, standing: u8) {
        if let Some(member) = self.slots.get(usize::from(index.0)).and_then(OnceLock::get) {
            member.standing.store(standing, Ordering::Release);
        }
    }

    /// All disks whose content is current.
    pub(crate) fn all_current(&self) -> impl Iterator<Item = (DiskIndex, &Member)> {
        let index = |i: usize| u16::try_from(i).ok().map(DiskIndex);
        (0..self.slots.len()).filter_map(index).filter_map(|index| Some((index, self.current(index)?)))
    }

    /// Offset of a slab on its disk, in bytes.
    pub(crate) fn offset(&self, slab: Slab) -> u64 {
        RESERVED_BYTES + (u64::from(slab.index.0) << self.slab_shift)
    }

    /// Bytes of a slab.
    pub(crate) fn slab_bytes(&self) -> u64 {
        1 << self.slab_shift
    }

    /// The copies of a segment that may be read, the one to be preferred first.
    fn in_order<'a>(&'a self, copies: &Copies) -> Vec<(Slab, &'a Member)> {
        let there = |slab: &Slab| self.current(slab.disk).map(|member| (*slab, member));
        let mut there: Vec<_> = copies.slabs().iter().filter_map(there).collect();
        there.sort_by_key(|(_, member)| member.wait());
        let turn = self.reads.fetch_add(1, Ordering::Relaxed);
        if there.len() > 1 && turn.is_multiple_of(PROBE_INTERVAL) {
            there.rotate_left(1);
        }
        there
    }
}

impl Member {
    /// What another read would take, as far as can be told.
    fn wait(&self) -> u64 {
        let busy = u64::from(self.busy.load(Ordering::Relaxed));
        self.latency.load(Ordering::Relaxed).max(1).saturating_mul(busy + 1)
    }

    /// A read of it begins; it is in progress as long as what comes back lives.
    fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn took(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.latency.load(Ordering::Relaxed);
        let now = before - (before >> WEIGHT_SHIFT) + (took >> WEIGHT_SHIFT);
        self.latency.store(now, Ordering::Relaxed);
    }
}
