//! What differs between two volumes or snapshots: found in the layers that they do not have in common, so that it takes
//! as long as there are changes, whatever the size.
//!
//! A block that was written with what it had before is in those layers, too, and is no difference. Checksums that differ
//! tell blocks apart; where they are the same, the blocks are read and compared.

use super::Pool;
use crate::engine::Engine;
use crate::format::node::{Entry, FAN_OUT};
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, LayerId, VolumeId, crc32c};
use crate::map::{Find, Next};
use crate::number::{len_of, wide};
use crate::share::owner_of;
use crate::state::{Needed, State};
use crate::volume::StoreVolume;
use block::{ByteRange, Result, Volume};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most ranges of one answer, whatever is asked for.
const RANGES_MAX: usize = 65_536;

/// A part of what differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Ranges of bytes that differ, in order; of whole blocks, but for the end.
    pub ranges: Vec<ByteRange>,
    /// From where on to ask again for more, in bytes; none at the end.
    pub next: Option<u64>,
}

/// What the maps say of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Different,
    /// It was written, perhaps with what it had.
    Unclear,
}

impl Pool {
    /// The bytes that differ between the volumes or snapshots `one` and `other`, from byte `from` on: at least
    /// `ranges_max` ranges, and not many more, unless there are fewer. What one of them is too short for counts as zeros.
    /// Of volumes that are written to meanwhile each block is compared at some moment during the call.
    ///
    /// # Errors
    /// `NotFound`; what reading says.
    pub async fn difference(
        &self,
        one: VolumeId,
        other: VolumeId,
        from: u64,
        ranges_max: usize,
    ) -> Result<Difference> {
        let volumes = [self.open_volume(one)?, self.open_volume(other)?];
        self.engine.difference(&volumes, from / BLOCK_BYTES / wide(FAN_OUT), ranges_max.min(RANGES_MAX)).await
    }
}

impl Engine {
    async fn difference(
        &self,
        volumes: &[Arc<StoreVolume>; 2],
        from_leaf: u64,
        ranges_max: usize,
    ) -> Result<Difference> {
        let end = volumes.iter().map(|volume| volume.size_bytes()).max().unwrap_or(0);
        let mut ranges: Vec<ByteRange> = Vec::new();
        let mut at = from_leaf;
        loop {
            let tops = [volumes[0].top(), volumes[1].top()];
            let found = self.state().compare_leaf(tops, at);
            let (leaf, verdicts) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(Difference { ranges, next: None }),
                Err(needed) => {
                    self.load(needed).await?;
                    continue;
                }
            };
            let first = leaf * wide(FAN_OUT);
            for (block, verdict) in (first..).zip(verdicts) {
                let offset = block * BLOCK_BYTES;
                if offset >= end {
                    break;
                }
                let differs = match verdict {
                    Verdict::Same => false,
                    Verdict::Different => true,
                    Verdict::Unclear => {
                        content(&volumes[0], offset).await? != content(&volumes[1], offset).await?
                    }
                };
                if differs {
                    add(&mut ranges, offset, BLOCK_BYTES.min(end - offset));
                }
            }
            at = leaf + 1;
            if ranges.len() >= ranges_max {
                return Ok(Difference { ranges, next: Some(at * wide(FAN_OUT) * BLOCK_BYTES) });
            }
        }
    }
}

/// The block at `offset`, with zeros behind the volume's end.
async fn content(volume: &StoreVolume, offset: u64) -> Result<Vec<u8>> {
    let len = volume.size_bytes().saturating_sub(offset).min(BLOCK_BYTES);
    let mut bytes = if len == 0 { Vec::new() } else { volume.read(offset, len).await?.concat() };
    bytes.resize(len_of(BLOCK_BYTES), 0);
    Ok(bytes)
}

fn add(ranges: &mut Vec<ByteRange>, offset: u64, len: u64) {
    match ranges.last_mut() {
        Some(last) if last.offset + last.len == offset => last.len += len,
        _ => ranges.push(ByteRange { offset, len }),
    }
}

impl State {
    /// The layers that only one of two stacks has.
    fn own_layers(&self, tops: [LayerId; 2]) -> Vec<LayerId> {
        let chain = |top| {
            let parent = |id: &LayerId| self.layers.get(id).and_then(|layer| layer.parent);
            std::iter::successors(Some(top), parent).collect()
        };
        let [one, other]: [BTreeSet<LayerId>; 2] = tops.map(chain);
        one.symmetric_difference(&other).copied().collect()
    }

    /// Compares the first leaf from `from` on that a layer has of which only one stack knows. None if there are no more.
    ///
    /// # Errors
    /// The node that has to be loaded to know.
    fn compare_leaf(
        &mut self,
        tops: [LayerId; 2],
        from: u64,
    ) -> std::result::Result<Option<(u64, Vec<Verdict>)>, Needed> {
        let layers = self.own_layers(tops);
        let mut first: Option<u64> = None;
        for layer in &layers {
            let next = self.map(*layer).map_or(Next::End, |map| map.next_leaf(from));
            match next {
                Next::End => {}
                Next::Load(load) => return Err(Needed { layer: *layer, load }),
                Next::Leaf(leaf) => first = Some(first.map_or(leaf, |first| first.min(leaf))),
            }
        }
        let Some(leaf) = first else { return Ok(None) };
        for layer in &layers {
            if let Some(Find::Load(load)) = self.map(*layer).map(|map| map.find(leaf)) {
                return Err(Needed { layer: *layer, load });
            }
        }
        let one = self.owners(tops[0], leaf, 0..FAN_OUT)?;
        let other = self.owners(tops[1], leaf, 0..FAN_OUT)?;
        let zeros = crc32c(&[0; BLOCK_SIZE]);
        let verdict = |slot| verdict(owner_of(&one, slot).1, owner_of(&other, slot).1, zeros);
        Ok(Some((leaf, (0..FAN_OUT).map(verdict).collect())))
    }
}

fn verdict(one: Entry, other: Entry, zeros: u32) -> Verdict {
    let checksum = |entry: Entry| if entry.location.is_mapped() { entry.checksum } else { zeros };
    let mapped = [one, other].iter().any(|entry| entry.location.is_mapped());
    match (mapped, one.location == other.location) {
        (false, _) | (_, true) => Verdict::Same,
        (true, false) if checksum(one) != checksum(other) => Verdict::Different,
        (true, false) => Verdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlockAddress, Location, SegmentId};

    #[test]
    fn checksums_tell_blocks_apart_and_not_together() {
        let at = |segment, checksum| Entry { location: Location::new(SegmentId(segment), 1), checksum };
        let shared = Entry { location: Location::shared(BlockAddress(3)), checksum: 5 };
        let [hole, zeroed] =
            [Location::NONE, Location::ZEROS].map(|location| Entry { location, checksum: 0 });
        for (one, other, expected) in [
            (hole, zeroed, Verdict::Same),
            (at(1, 5), at(1, 5), Verdict::Same),
            (at(1, 5), at(2, 6), Verdict::Different),
            (at(1, 5), at(2, 5), Verdict::Unclear),
            (at(1, 5), shared, Verdict::Unclear),
            (at(1, 5), hole, Verdict::Different),
            (at(1, 9), zeroed, Verdict::Unclear),
        ] {
            assert_eq!(verdict(one, other, 9), expected, "{one:?} {other:?}");
            assert_eq!(verdict(other, one, 9), expected, "{other:?} {one:?}");
        }
    }
}
