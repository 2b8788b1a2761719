//! Which segments to collect.

use super::Victim;
use crate::format::Stream;
use crate::segment::Phase;
use crate::state::State;

/// Live blocks that a round moves at most (32 MiB), so that checkpoints and layers get their turn. One segment may have
/// more: slabs are up to 1 GiB.
const ROUND_BLOCKS: u64 = 8192;
/// Unless writes wait, segments are collected of which at least this share, in percent, is garbage.
const GARBAGE_PERCENT: u64 = 15;

/// Keeps the victims whose live blocks fit `room` together, and but for the first one, `wanted`.
pub(super) fn keep_what_fits(victims: &mut Vec<Victim>, room: u64, wanted: u64) {
    let mut taken = 0;
    victims.retain(|victim| {
        // Map nodes move with the next checkpoint.
        let moved = if victim.stream == Stream::Nodes { 0 } else { u64::from(victim.live) };
        let fits = taken + moved <= if taken == 0 { room } else { room.min(wanted) };
        taken += if fits { moved } else { 0 };
        fits
    });
}

impl State {
    /// The next victims, and whether there are segments that only wait for a checkpoint.
    pub(super) fn choose(&self, stalled: bool, free: u64) -> (Vec<Victim>, bool) {
        let payload = self.budget.slab_payload;
        let live_max =
            if stalled { payload - 1 } else { payload - (payload * GARBAGE_PERCENT).div_ceil(100) };
        let mut victims = Vec::new();
        let mut empty = false;
        for (id, segment) in self.segments.iter() {
            if segment.phase != Phase::Sealed || !segment.is_settled() || segment.damaged {
                continue;
            }
            empty |= segment.live == 0;
            if u64::from(segment.live) <= live_max {
                victims.push(Victim { id, stream: segment.stream, live: segment.live });
            }
        }
        victims.sort_by_key(|victim| (victim.live, victim.id));
        // No more than there is room for: half-emptied segments gain nothing.
        let head = &self.heads[usize::from(Stream::Relocation.code())];
        let slabs = free.saturating_sub(self.relocation_floor_now(stalled));
        let room = head.payload_blocks(&self.segments, payload) + slabs * payload;
        keep_what_fits(&mut victims, room, ROUND_BLOCKS);
        if stalled {
            // Near the end one segment at a time: its checkpoint gives back what the next one needs.
            victims.truncate(1.max(usize::try_from(slabs).unwrap_or(usize::MAX)));
        }
        (victims, empty)
    }

    /// Blocks of full segments that hold nothing.
    pub(crate) fn waste(&self) -> u64 {
        let sealed = self.segments.iter().filter(|(_, segment)| segment.phase == Phase::Sealed);
        sealed.map(|(_, segment)| u64::from(self.segments.slab_blocks() - segment.live)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SegmentId;

    /// What is kept of data segments with these live blocks.
    fn kept(live: &[u32], room: u64, wanted: u64) -> Vec<u32> {
        let victim = |(i, live): (usize, &u32)| Victim {
            id: SegmentId(crate::number::wide(i)),
            stream: Stream::Host,
            live: *live,
        };
        let mut victims: Vec<_> = live.iter().enumerate().map(victim).collect();
        keep_what_fits(&mut victims, room, wanted);
        victims.iter().map(|victim| victim.live).collect()
    }

    #[test]
    fn a_segment_of_more_blocks_than_a_round_moves_is_moved_alone() {
        assert_eq!(kept(&[10_000, 10_001], 16_000, 8192), [10_000]);
        assert_eq!(kept(&[10_000], 9_999, 8192), [0; 0], "not without room for it");
    }

    #[test]
    fn several_are_moved_as_far_as_a_round_and_the_room_go() {
        assert_eq!(kept(&[0, 3000, 4000, 5000], 16_000, 8192), [0, 3000, 4000]);
        assert_eq!(kept(&[0, 3000, 4000, 5000], 6000, 8192), [0, 3000]);
    }

    #[test]
    fn map_nodes_take_no_room_for_data() {
        let mut victims = vec![Victim { id: SegmentId(1), stream: Stream::Nodes, live: 99 }; 3];
        keep_what_fits(&mut victims, 0, 0);
        assert_eq!(victims.len(), 3);
    }
}
