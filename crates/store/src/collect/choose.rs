//! Which segments to collect.

use super::Victim;
use crate::format::Stream;
use crate::segment::Phase;
use crate::state::State;

/// Live blocks that a round moves at most (32 MiB), so that checkpoints and layers get their turn.
const ROUND_BLOCKS: u64 = 8192;
/// Unless writes wait, segments are collected of which at least this share, in percent, is garbage.
const GARBAGE_PERCENT: u64 = 15;

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
        let mut room = (head.payload_blocks(&self.segments, payload) + slabs * payload).min(ROUND_BLOCKS);
        victims.retain(|victim| {
            let moved = if victim.stream == Stream::Nodes { 0 } else { u64::from(victim.live) };
            let fits = moved <= room;
            room -= if fits { moved } else { 0 };
            fits
        });
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
