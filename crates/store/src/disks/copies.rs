//! Where copies are: a slab of a disk for each.

use crate::catalog::Slab;
use crate::format::{DiskIndex, SegmentId};

/// Copies of a segment at most.
pub(crate) const COPIES_MAX: usize = 3;

/// The slabs that a segment lies on, each on a disk of its own, each with all of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copies {
    slabs: [Slab; COPIES_MAX],
    count: u8,
}

impl Copies {
    /// Copies on `slabs`; none if there are none, too many, or two on one disk.
    pub(crate) fn new(slabs: &[Slab]) -> Option<Self> {
        let first = *slabs.first()?;
        let apart = |i: usize| slabs.iter().skip(i + 1).all(|slab| Some(slab.disk) != disk_at(slabs, i));
        if slabs.len() > COPIES_MAX || !(0..slabs.len()).all(apart) {
            return None;
        }
        let mut copies = Self { slabs: [first; COPIES_MAX], count: 0 };
        for (place, slab) in copies.slabs.iter_mut().zip(slabs) {
            *place = *slab;
            copies.count += 1;
        }
        Some(copies)
    }

    /// The slabs.
    pub(crate) fn slabs(&self) -> &[Slab] {
        self.slabs.get(..usize::from(self.count)).unwrap_or(&self.slabs)
    }

    /// The slab, if there is just one.
    pub(crate) fn only(&self) -> Option<Slab> {
        match self.slabs() {
            [slab] => Some(*slab),
            _ => None,
        }
    }
}

fn disk_at(slabs: &[Slab], i: usize) -> Option<DiskIndex> {
    slabs.get(i).map(|slab| slab.disk)
}

/// A range's start in a segment, wherever its copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// The segment's slabs.
    pub(crate) copies: Copies,
    /// Bytes from the start of each.
    pub(crate) within: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SlabIndex;

    fn slab(disk: u16, index: u32) -> Slab {
        Slab { disk: DiskIndex(disk), index: SlabIndex(index) }
    }

    #[test]
    fn copies_are_on_disks_of_their_own() {
        let three = [slab(0, 5), slab(4, 5), slab(1, 9)];
        assert_eq!(Copies::new(&three).map(|copies| copies.slabs().to_vec()), Some(three.to_vec()));
        assert_eq!(Copies::new(&[slab(0, 5), slab(0, 6)]), None);
        assert_eq!(Copies::new(&[slab(0, 1), slab(1, 1), slab(2, 1), slab(3, 1)]), None);
        assert_eq!(Copies::new(&[]), None);
    }

    #[test]
    fn a_single_copy_is_told_from_several() {
        assert_eq!(Copies::new(&[slab(2, 7)]).and_then(|copies| copies.only()), Some(slab(2, 7)));
        assert_eq!(Copies::new(&[slab(2, 7), slab(3, 7)]).and_then(|copies| copies.only()), None);
    }
}
