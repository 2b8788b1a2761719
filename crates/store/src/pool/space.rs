//! Where a pool's space is: parts that add up to all of it.

use super::Pool;
use crate::format::{BLOCK_BYTES, LayerId};
use crate::options::PoolSpace;
use crate::state::State;
use crate::survey::Survey;

impl Pool {
    /// Where the pool's space is at this moment, parted among volumes and snapshots as `survey` found them.
    #[must_use]
    pub fn space(&self, survey: Option<&Survey>) -> PoolSpace {
        self.engine.state().space(survey)
    }
}

/// Takes parts of a whole, none of them more than is left.
struct Whole(u64);

impl Whole {
    fn take(&mut self, blocks: u64) -> u64 {
        let taken = blocks.min(self.0);
        self.0 -= taken;
        taken * BLOCK_BYTES
    }
}

impl State {
    pub(super) fn space(&self, survey: Option<&Survey>) -> PoolSpace {
        let data = self.segments.data_live();
        let by_reference = self.layers.get(&LayerId::SHARED).map_or(0, |layer| layer.mapped);
        let (snapshots, released, shared) =
            survey.map_or((0, 0, 0), |survey| (survey.snapshots(), survey.stranded(), survey.shared()));
        let mut of_data = Whole(data.min(self.budget.usable));
        let snapshots_bytes = of_data.take(snapshots);
        let released_bytes = of_data.take(released);
        let spare = self.budget.node_charge(self.sums.nodes).saturating_sub(self.sums.nodes)
            + self.zero_charge(self.zero_nodes)
            + self.admitted;
        let room = self.room();
        let dead: u64 = self.segments.iter().map(|(_, segment)| segment.dead()).sum();
        let mut whole = Whole(self.budget.usable);
        let data_bytes = whole.take(data);
        PoolSpace {
            usable_bytes: self.budget.usable * BLOCK_BYTES,
            volumes_bytes: data_bytes.saturating_sub(snapshots_bytes + released_bytes),
            snapshots_bytes,
            released_bytes,
            shared_bytes: ((shared + by_reference) * BLOCK_BYTES).min(data_bytes),
            map_bytes: whole.take(self.sums.nodes),
            collectable_bytes: whole.take(dead.min(room)),
            withheld_bytes: whole.take(self.room_within(u64::MAX) - room),
            unused_bytes: whole.take(room - dead.min(room)),
            reserved_bytes: whole.take(self.sums.unfulfilled),
            spare_bytes: whole.take(spare),
            headroom_bytes: whole.take(u64::MAX),
            as_of_unix_ms: survey.map(|survey| survey.as_of_unix_ms),
        }
    }
}
