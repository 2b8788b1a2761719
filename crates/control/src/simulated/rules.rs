//! What a simulated pool was told of limits and snapshots, for tests to look at.

use super::SimPool;
use crate::VolumeId;

impl SimPool {
    /// The limit of a volume, as last told.
    pub fn told_limit(&self, id: VolumeId) -> Option<u64> {
        self.inner.lock().limits.get(&id).copied()
    }

    /// The limit of the pool, as last told.
    pub fn told_pool_limit(&self) -> Option<u64> {
        self.inner.lock().limit
    }

    /// Whether there are snapshots that may be deleted when space is short, as last told.
    pub fn told_relief(&self) -> bool {
        self.inner.lock().relief
    }
}
