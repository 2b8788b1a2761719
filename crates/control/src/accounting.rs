//! Where pools' space is, and what each volume and snapshot holds of it.

use crate::{Group, PoolEngine, VolumeId};
use std::sync::Arc;
use std::time::Duration;

/// Where a pool's space is, in bytes: the parts add up to `total_bytes`, but for `shared_bytes`, which is a part of parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSpace {
    /// What data and maps can fill.
    pub total_bytes: u64,
    /// Data that volumes refer to.
    pub volumes_bytes: u64,
    /// Data that only snapshots refer to.
    pub snapshots_bytes: u64,
    /// Data of deleted volumes and snapshots, about to be given up.
    pub released_bytes: u64,
    /// Of these, data that several volumes or snapshots refer to.
    pub shared_bytes: u64,
    /// Maps.
    pub map_bytes: u64,
    /// Reserved for thick volumes and not yet written.
    pub reserved_bytes: u64,
    /// Set aside for maps to change, and for writes under way.
    pub spare_bytes: u64,
    /// Held back for collection and deletion.
    pub headroom_bytes: u64,
    /// Room that may not be filled, by the pool's limit.
    pub withheld_bytes: u64,
    /// Room for new data where dead blocks are collected first.
    pub collectable_bytes: u64,
    /// Room for new data otherwise.
    pub unused_bytes: u64,
    /// When data was parted among volumes and snapshots, in ms since 1970; none if it was not yet: all is the volumes'
    /// then.
    pub as_of_unix_ms: Option<u64>,
}

/// What a volume or snapshot holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// What it maps.
    pub mapped_bytes: u64,
    /// Of that, what no other volume or snapshot has.
    pub unique_bytes: u64,
    /// Of a volume: what its snapshots have and neither it nor another volume has.
    pub snapshots_bytes: u64,
    /// When that was counted, in ms since 1970.
    pub as_of_unix_ms: u64,
}

/// How long people wait for what they look at to be counted; then they see what was counted before.
const COUNT_TIME_MAX: Duration = Duration::from_secs(1);

impl Group {
    /// Has what volumes and snapshots of the open pools hold be counted, if it has changed, and waits a moment for it.
    pub async fn count_space(&self) {
        let (working, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        for engine in self.open_engines() {
            let working = working.clone();
            self.runtime.spawn(Box::pin(async move {
                if let Err(error) = engine.count_space().await {
                    tracing::debug!(%error, "what volumes hold was not counted");
                }
                drop(working);
            }));
        }
        drop(working);
        tokio::select! {
            _ = all_done.recv() => {}
            () = self.runtime.sleep(COUNT_TIME_MAX) => {}
        }
    }

    /// What time it is, in ms since 1970.
    #[must_use]
    pub fn unix_time_ms(&self) -> u64 {
        self.runtime.unix_time_ms()
    }

    /// All pools that are open.
    pub(crate) fn open_engines(&self) -> Vec<Arc<dyn PoolEngine>> {
        let state = self.state.read();
        state.pools.values().filter_map(|entry| entry.engine.as_ref().ok()).cloned().collect()
    }

    /// Tells a pool which volumes its snapshots are of.
    pub(crate) fn tell_owners(&self, engine: &Arc<dyn PoolEngine>) {
        let owners: Vec<(VolumeId, VolumeId)> = {
            let state = self.state.read();
            state.snapshots.values().map(|snapshot| (snapshot.id, snapshot.volume)).collect()
        };
        engine.set_owners(owners);
    }
}
