//! How what pools and volumes take has grown, and when they will be full. Time comes from the runtime; who has a clock to
//! wait with calls [`Group::sample_space`] now and then.

mod forecast;
mod series;

pub use forecast::Forecast;

use crate::file::FileChange;
use crate::{Group, State, VolumeRecord};
use serde::{Deserialize, Serialize};
use series::Series;
use std::collections::BTreeMap;

/// What is remembered of a pool's or a volume's growth, as JSON in the group's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrowthRecord {
    /// Identity of the pool or volume.
    pub(crate) object: String,
    /// Samples of what it took.
    pub(crate) series: Series,
}

impl State {
    /// What pools and volumes take that are there now, by identity; and whether they outlive the process.
    fn taken(&self) -> BTreeMap<String, (u64, bool)> {
        let mut taken = BTreeMap::new();
        for entry in self.pools.values() {
            let Ok(engine) = &entry.engine else { continue };
            let usage = engine.usage();
            let lasting = !entry.record.volatile;
            let bytes = usage.size_bytes.saturating_sub(usage.free_bytes);
            taken.insert(entry.record.id.to_string(), (bytes, lasting));
            for volume in self.volumes_of(entry.record.id) {
                let bytes = engine.volume_used_bytes(volume.record.id);
                taken.insert(volume.record.id.to_string(), (bytes, lasting));
            }
        }
        taken
    }

    fn is_known(&self, object: &str) -> bool {
        self.find_pool(object).is_ok() || self.find_volume(object).is_ok()
    }

    /// When a pool of `size_bytes` will be full.
    pub(crate) fn pool_forecast(&self, object: &str, size_bytes: u64) -> Forecast {
        self.growth
            .get(object)
            .map_or(Forecast::TooLittleHistory, |record| forecast::forecast(&record.series, size_bytes))
    }

    /// When a volume will take all of its size, or of its limit.
    pub(crate) fn volume_forecast(&self, record: &VolumeRecord) -> Forecast {
        let capacity =
            record.rules.limit_bytes.map_or(record.size_bytes, |limit| limit.min(record.size_bytes));
        self.pool_forecast(&record.id.to_string(), capacity)
    }
}

impl Group {
    /// Notes what each pool and volume takes, of those for which it is an hour ago that this was done.
    pub async fn sample_space(&self) {
        let now_unix_ms = self.runtime.unix_time_ms();
        let _change = self.changes.lock().await;
        let changes: Vec<FileChange> = {
            let mut state = self.state.write();
            let mut changes = Vec::new();
            for (object, (bytes, lasting)) in state.taken() {
                let record = state.growth.entry(object.clone()).or_default();
                if !record.series.is_due(now_unix_ms) {
                    continue;
                }
                record.object = object;
                record.series.add(now_unix_ms, bytes);
                changes.extend(lasting.then(|| FileChange::PutGrowth(record.clone())));
            }
            let gone = state.growth.keys().filter(|object| !state.is_known(object));
            let gone: Vec<String> = gone.cloned().collect();
            for object in gone {
                state.growth.remove(&object);
                changes.push(FileChange::RemoveGrowth(object));
            }
            changes
        };
        if let Err(error) = self.persist(changes).await {
            tracing::warn!(%error, "how space grows cannot be written down");
        }
    }
}
