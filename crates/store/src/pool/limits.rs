//! How much volumes and the pool may take, and who is told when it runs short.

use super::Pool;
use crate::format::{BLOCK_BYTES, VolumeId};

impl Pool {
    /// Says when a volume was made, in ms since 1970, and how much of the pool it and its snapshots may take, in bytes;
    /// none for as much as there is. A layer that several volumes share counts for the oldest of them. What is written
    /// beyond the limit is refused with `NoSpace`; blocks that are mapped are overwritten, and unmapped, all the same. Not
    /// kept: to be said again after opening.
    pub fn set_limit(&self, id: VolumeId, since_unix_ms: u64, bytes: Option<u64>) {
        self.engine.state().set_limit(id, since_unix_ms, bytes.map(|bytes| bytes / BLOCK_BYTES));
        self.engine.room_made.happen();
    }

    /// Says how much of what may be filled is filled at the most, in bytes; none for all. Not kept.
    pub fn set_pool_limit(&self, bytes: Option<u64>) {
        self.engine.state().accounts.pool_limit = bytes.map(|bytes| bytes / BLOCK_BYTES);
        self.engine.room_made.happen();
    }

    /// What a volume with a limit and its snapshots have taken, in bytes: data and maps. None without a limit.
    #[must_use]
    pub fn taken_bytes(&self, id: &VolumeId) -> Option<u64> {
        self.engine.state().accounts.limit(id).map(|limit| limit.taken * BLOCK_BYTES)
    }

    /// Has space be called short when there is no more room than `low_bytes`, 0 for never. With `relief` somebody makes
    /// room then, by deleting snapshots: writes that do not fit wait for that a while. Not kept.
    pub fn watch_space(&self, low_bytes: u64, relief: bool) {
        let mut state = self.engine.state();
        state.accounts.low = low_bytes / BLOCK_BYTES;
        state.accounts.relief = relief;
        drop(state);
        self.engine.room_made.happen();
    }

    /// True while deleted volumes or snapshots still give their space back.
    #[must_use]
    pub fn is_giving_back(&self) -> bool {
        self.engine.state().background.layers_changed
    }

    /// How often space was short. To be looked at before deciding that it is not, and given to
    /// [`Pool::shortage_after`].
    #[must_use]
    pub fn shortages(&self) -> u64 {
        self.engine.shortage.times()
    }

    /// Is ready once space has been short more than `times` times.
    pub async fn shortage_after(&self, times: u64) {
        self.engine.shortage.after(times).await;
    }
}
