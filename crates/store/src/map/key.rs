//! Names of map nodes, and a hash for them.

use crate::format::node::{FAN_OUT, FAN_OUT_SHIFT};
use crate::format::{BLOCK_BYTES, BlockAddress};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::RangeInclusive;

const INDEX_BITS: u32 = 56;

/// Level and index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeKey(u64);

impl NodeKey {
    pub(crate) fn new(level: u8, index: u64) -> Self {
        assert!(index >> INDEX_BITS == 0, "indices fit their field");
        Self((u64::from(level) << INDEX_BITS) | index)
    }

    pub(crate) fn leaf(index: u64) -> Self {
        Self::new(0, index)
    }

    pub(crate) fn level(self) -> u8 {
        self.0.to_le_bytes()[7]
    }

    pub(crate) fn index(self) -> u64 {
        self.0 & ((1 << INDEX_BITS) - 1)
    }

    pub(crate) fn parent(self) -> Self {
        Self::new(self.level() + 1, self.index() >> FAN_OUT_SHIFT)
    }

    /// The node of `level` above this one, or itself.
    pub(crate) fn ancestor(self, level: u8) -> Self {
        let up = u32::from(level) - u32::from(self.level());
        Self::new(level, self.index() >> (FAN_OUT_SHIFT * up))
    }

    /// The first leaf that this node covers.
    pub(crate) fn first_leaf(self) -> u64 {
        self.index() << (FAN_OUT_SHIFT * u32::from(self.level()))
    }

    /// The leaf after the last one that this node covers.
    pub(crate) fn end_leaf(self) -> u64 {
        (self.index() + 1) << (FAN_OUT_SHIFT * u32::from(self.level()))
    }

    pub(crate) fn child(self, slot: usize) -> Self {
        let slot = u64::try_from(slot).unwrap_or(0);
        Self::new(self.level() - 1, (self.index() << FAN_OUT_SHIFT) | slot)
    }

    /// Which of its parent's entries names this node.
    pub(crate) fn slot(self) -> usize {
        usize::from(self.0.to_le_bytes()[0])
    }

    /// The first entry of this inner node below which leaves from `leaf` on can be.
    pub(crate) fn first_slot_for(self, leaf: u64) -> usize {
        let below = FAN_OUT_SHIFT * (u32::from(self.level()) - 1);
        let first = self.index() << FAN_OUT_SHIFT;
        usize::try_from((leaf >> below).saturating_sub(first)).unwrap_or(FAN_OUT).min(FAN_OUT)
    }

    /// The lowest level whose node 0 covers `leaf`.
    pub(crate) fn root_level_for(leaf: u64) -> u8 {
        let bits = u64::BITS - leaf.leading_zeros();
        u8::try_from(bits.div_ceil(FAN_OUT_SHIFT)).unwrap_or(u8::MAX)
    }
}

/// The leaf that holds the entry of `address`.
pub(crate) fn leaf_of(address: BlockAddress) -> u64 {
    address.0 >> FAN_OUT_SHIFT
}

/// The leaves that hold the entries of `count` blocks from `first` on; `count` is not 0.
pub(crate) fn leaves_of(first: BlockAddress, count: u64) -> RangeInclusive<u64> {
    leaf_of(first)..=leaf_of(BlockAddress(first.0 + count - 1))
}

const _: () = assert!(BLOCK_BYTES == 4096);

/// A fixed hash for node keys: the same in every run, and one multiplication.
pub(crate) type FastHash = BuildHasherDefault<Multiplicative>;

/// Hashes one 64-bit number.
#[derive(Default)]
pub(crate) struct Multiplicative(u64);

impl Hasher for Multiplicative {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}
