//! Emptying all segments on slabs that have to be wiped, whatever is in them.

use super::Victim;
use super::choose::keep_what_fits;
use crate::disks::Slabs;
use crate::engine::Engine;
use crate::format::Stream;
use crate::segment::Phase;
use crate::state::State;
use block::Result;
use std::sync::Arc;

/// Live blocks that a round moves at most (8 MiB), so that others get their turn; one segment may have more.
const ROUND_BLOCKS: u64 = 2048;

impl Engine {
    /// One bounded round. True if something was moved, or given up as empty.
    pub(crate) async fn empty_unwiped(self: &Arc<Self>) -> Result<bool> {
        let (victims, empty) = self.state().choose_unwiped(&self.slabs.lock());
        if victims.is_empty() && !empty {
            return Ok(false);
        }
        let walked = self.empty_segments(&victims).await?;
        self.checkpoint_now().await?;
        for victim in walked {
            self.state().note_rest(victim);
        }
        Ok(true)
    }
}

impl State {
    /// The next segments to be emptied, and whether there are some that only wait for a checkpoint.
    fn choose_unwiped(&self, slabs: &Slabs) -> (Vec<Victim>, bool) {
        let mut victims = Vec::new();
        let mut empty = false;
        for (id, segment) in self.segments.iter() {
            if segment.phase != Phase::Sealed || !segment.is_settled() || !slabs.needs_wiping(&segment.copies)
            {
                continue;
            }
            empty |= segment.live == 0;
            if segment.live > 0 && !segment.damaged {
                victims.push(Victim { id, stream: segment.stream, live: segment.live });
            }
        }
        // Those first that take least: what they give back makes room for the others.
        victims.sort_by_key(|victim| (victim.live, victim.id));
        let payload = self.budget.slab_payload;
        let head = &self.heads[usize::from(Stream::Relocation.code())];
        let free = slabs.free().saturating_sub(self.relocation_floor_now(true));
        let room = head.payload_blocks(&self.segments, payload) + free * payload;
        keep_what_fits(&mut victims, room, ROUND_BLOCKS);
        (victims, empty)
    }
}
