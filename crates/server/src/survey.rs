//! What was counted of a pool's space, and when it is counted again.

use block::Runtime;
use control::{Holding, PoolSpace, Result, VolumeId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use store::{Pool, Survey};

/// Counting takes at most one part in so many of the time.
const PART: u32 = 10;

/// What was counted last.
#[derive(Default)]
pub(crate) struct Kept {
    last: Mutex<Option<Arc<Survey>>>,
    /// Held while it is counted. Inside: from when on it may be counted again.
    counting: tokio::sync::Mutex<Duration>,
}

impl Kept {
    /// Counts what has changed, unless counting took much of the time just now.
    pub(crate) async fn renew(&self, pool: &Pool, runtime: &dyn Runtime) -> Result<()> {
        let mut not_before = self.counting.lock().await;
        let begun = runtime.now();
        if begun < *not_before {
            return Ok(());
        }
        let former = self.last.lock().clone();
        let survey = pool.survey(former.as_deref()).await?;
        *self.last.lock() = Some(Arc::new(survey));
        let ended = runtime.now();
        *not_before = ended + ended.saturating_sub(begun) * PART;
        Ok(())
    }

    pub(crate) fn space(&self, pool: &Pool) -> PoolSpace {
        let survey = self.last.lock().clone();
        let space = pool.space(survey.as_deref());
        PoolSpace {
            total_bytes: space.usable_bytes,
            volumes_bytes: space.volumes_bytes,
            snapshots_bytes: space.snapshots_bytes,
            released_bytes: space.released_bytes,
            shared_bytes: space.shared_bytes,
            map_bytes: space.map_bytes,
            reserved_bytes: space.reserved_bytes,
            spare_bytes: space.spare_bytes,
            headroom_bytes: space.headroom_bytes,
            withheld_bytes: space.withheld_bytes,
            collectable_bytes: space.collectable_bytes,
            unused_bytes: space.unused_bytes,
            as_of_unix_ms: space.as_of_unix_ms,
        }
    }

    pub(crate) fn holding(&self, id: VolumeId) -> Option<Holding> {
        let survey = self.last.lock().clone()?;
        let found = survey.holding(&id.bytes())?;
        let store::Holding { mapped_bytes, unique_bytes, snapshots_bytes } = found;
        Some(Holding { mapped_bytes, unique_bytes, snapshots_bytes, as_of_unix_ms: survey.as_of_unix_ms })
    }
}
