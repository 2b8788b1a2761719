//! The numbers of the format, each a type of its own.

use std::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub(crate) struct $name(pub(crate) $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a segment; never used twice in a pool. The first is 1.
    SegmentId(u64)
}
number! {
    /// Number of a layer; never used twice in a pool. The first is 1.
    LayerId(u64)
}
number! {
    /// Position of a batch in its stream's log.
    Seq(u64)
}
number! {
    /// One opening of the pool for writing.
    Epoch(u64)
}
number! {
    /// Index of a slab on its disk.
    SlabIndex(u32)
}
number! {
    /// Index of a disk in its pool.
    DiskIndex(u16)
}
number! {
    /// Number of a 4 KiB block of a volume.
    BlockAddress(u64)
}

impl Seq {
    /// The one after.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LayerId {
    /// The layer that blocks belong to which several entries refer to.
    pub(crate) const SHARED: Self = Self(u64::MAX);
}

impl Epoch {
    /// The one after.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Identity of a pool.
pub(crate) type PoolId = [u8; 16];

/// Identity of a volume.
pub type VolumeId = [u8; 16];

/// The logs of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stream {
    /// What hosts write.
    Host,
    /// Blocks that the mover relocates.
    Relocation,
    /// Map nodes; not replayed.
    Nodes,
}

impl Stream {
    /// All of them, in the order of their codes.
    pub(crate) const ALL: [Self; 3] = [Self::Host, Self::Relocation, Self::Nodes];

    /// The code on disk.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Host => 0,
            Self::Relocation => 1,
            Self::Nodes => 2,
        }
    }

    /// The stream with this code.
    #[must_use]
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.code() == code)
    }
}

/// Where a block is: a segment and a block in it, the number of a shared block, or one of two answers without either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Location(pub(crate) u64);

/// Bits of a location that hold the block in the segment.
const BLOCK_BITS: u32 = 24;
/// Marks a location as the number of a shared block.
const SHARED_MARK: u64 = 1 << 63;
/// Bits of a shared block's number: what a map of the highest level covers.
const SHARED_BITS: u32 = 48;

/// Sorts of locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocationSort {
    /// [`Location::NONE`].
    None,
    /// [`Location::ZEROS`].
    Zeros,
    /// A block of a segment.
    Place,
    /// The number of a shared block.
    Shared,
}

impl Location {
    /// Not in this layer: the parent knows.
    pub(crate) const NONE: Self = Self(0);
    /// Zeros, and no place.
    pub(crate) const ZEROS: Self = Self(1);
    /// Blocks that a segment may have at most.
    pub(crate) const SEGMENT_BLOCKS_MAX: u32 = 1 << BLOCK_BITS;

    /// Block `block` of `segment`.
    ///
    /// # Panics
    /// If the segment is 0 or the block is beyond [`Location::SEGMENT_BLOCKS_MAX`]: no such place is ever given out.
    #[must_use]
    pub(crate) fn new(segment: SegmentId, block: u32) -> Self {
        assert!(segment.0 > 0 && segment.0 < 1 << (63 - BLOCK_BITS) && block < Self::SEGMENT_BLOCKS_MAX);
        Self((segment.0 << BLOCK_BITS) | u64::from(block))
    }

    /// True if this names a block of a segment.
    #[must_use]
    pub(crate) fn is_place(self) -> bool {
        self.0 >> BLOCK_BITS != 0 && self.0 & SHARED_MARK == 0
    }

    /// The shared block `number`, an address in the map of [`LayerId::SHARED`].
    ///
    /// # Panics
    /// If that map cannot have it: [`Location::shared_number`] gives no such number.
    #[must_use]
    pub(crate) fn shared(number: BlockAddress) -> Self {
        assert!(number.0 >> SHARED_BITS == 0);
        Self(SHARED_MARK | number.0)
    }

    /// The number of the shared block that this refers to, if it does.
    #[must_use]
    pub(crate) fn shared_block(self) -> Option<BlockAddress> {
        let number = self.0 & !SHARED_MARK;
        (self.0 != number && number >> SHARED_BITS == 0).then_some(BlockAddress(number))
    }

    /// True if there is data: here, or in a shared block.
    #[must_use]
    pub(crate) fn is_mapped(self) -> bool {
        self.is_place() || self.shared_block().is_some()
    }

    /// What sort of location it is: two of a sort tell the same of whether there is data, and whether it is shared.
    #[must_use]
    pub(crate) fn sort(self) -> LocationSort {
        match self {
            Self::NONE => LocationSort::None,
            Self::ZEROS => LocationSort::Zeros,
            _ if self.is_place() => LocationSort::Place,
            _ => LocationSort::Shared,
        }
    }

    /// The number that the block here gets when it is shared, in a pool whose segments have `slab_blocks` blocks; none
    /// if this is no place, or there are no numbers left.
    #[must_use]
    pub(crate) fn shared_number(self, slab_blocks: u32) -> Option<BlockAddress> {
        let number =
            self.segment().0.checked_mul(u64::from(slab_blocks))?.checked_add(u64::from(self.block()))?;
        (self.is_place() && number >> SHARED_BITS == 0).then_some(BlockAddress(number))
    }

    /// The segment; 0 if this is no place.
    #[must_use]
    pub(crate) fn segment(self) -> SegmentId {
        SegmentId(self.0 >> BLOCK_BITS)
    }

    /// The block in the segment.
    #[must_use]
    pub(crate) fn block(self) -> u32 {
        let low = self.0 & u64::from(Self::SEGMENT_BLOCKS_MAX - 1);
        u32::try_from(low).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => write!(f, "none"),
            Self::ZEROS => write!(f, "zeros"),
            place => match place.shared_block() {
                Some(number) => write!(f, "shared {number}"),
                None => write!(f, "{}:{}", place.segment(), place.block()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_segment_and_block_apart() {
        for (segment, block) in [(1, 0), (1, (1 << 24) - 1), ((1 << 39) - 1, 12_345)] {
            let location = Location::new(SegmentId(segment), block);
            assert!(location.is_place());
            assert_eq!((location.segment(), location.block()), (SegmentId(segment), block));
        }
        assert!(!Location::NONE.is_place() && !Location::ZEROS.is_place());
    }

    #[test]
    fn a_shared_block_is_mapped_and_no_place_and_has_the_number_of_its_first_place() {
        let place = Location::new(SegmentId(77), 13);
        let number = place.shared_number(16_384).unwrap();
        assert_eq!(number, BlockAddress(77 * 16_384 + 13));
        let shared = Location::shared(number);
        assert_eq!(
            (shared.is_place(), shared.is_mapped(), shared.shared_block()),
            (false, true, Some(number))
        );
        assert_eq!((place.is_mapped(), place.shared_block()), (true, None));
        for location in [Location::NONE, Location::ZEROS, Location(SHARED_MARK | 1 << 50)] {
            assert!(!location.is_mapped() && !location.is_place(), "{location:?}");
            assert_eq!(location.shared_number(16), None);
        }
        let last = Location::new(SegmentId((1 << 34) - 1), 16_383);
        assert_eq!(last.shared_number(16_384), Some(BlockAddress((1 << 48) - 1)));
        assert_eq!(Location::new(SegmentId(1 << 34), 0).shared_number(16_384), None, "numbers are used up");
    }

    #[test]
    fn every_stream_has_its_code() {
        for stream in Stream::ALL {
            assert_eq!(Stream::from_code(stream.code()), Some(stream));
        }
        assert_eq!(Stream::from_code(3), None);
    }
}
