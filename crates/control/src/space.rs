//! When an administrator, and hosts, are warned that space runs short.

use crate::file::FileChange;
use crate::{Error, Group, Outcome, PoolRulesUpdate, PoolView, Result, State, VolumeRecord};

/// A pool warns from so many percent on, unless told otherwise.
pub(crate) const POOL_WARN_PERCENT: u8 = 80;

/// How full, in percent from 1 to 99, is worth a warning; none: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceWarning {
    /// So much of the pool is taken.
    pub pool_percent: Option<u8>,
    /// So much of the volume's size is taken.
    pub volume_percent: Option<u8>,
}

/// What is to change about a pool.
#[derive(Debug, Clone, Default)]
pub struct PoolUpdate {
    /// Warn when so many percent are taken; 0: never.
    pub warn_percent: Option<u8>,
    /// How much of it may be filled, and what becomes of snapshots.
    pub rules: PoolRulesUpdate,
}

/// What a request says, as it is kept: 0 is never.
///
/// # Errors
/// `Invalid` above 99.
pub(crate) fn warn_percent(object: &str, percent: u8) -> Result<Option<u8>> {
    match percent {
        0 => Ok(None),
        1..=99 => Ok(Some(percent)),
        _ => Err(Error::invalid(object, "the warning is at 1 to 99 percent, or 0 for never")),
    }
}

/// What a pool that was made before warnings could be chosen has.
#[expect(clippy::unnecessary_wraps, reason = "serde asks for the field's type")]
pub(crate) fn default_pool_warning() -> Option<u8> {
    Some(POOL_WARN_PERCENT)
}

impl State {
    /// What hosts of a volume are to be warned of.
    pub(crate) fn warning_of(&self, record: &VolumeRecord) -> SpaceWarning {
        let pool = self.pools.get(&record.pool);
        SpaceWarning {
            pool_percent: pool.and_then(|pool| pool.record.warn_percent),
            volume_percent: record.warn_percent,
        }
    }
}

impl Group {
    /// Changes when a pool warns.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`.
    pub async fn update_pool(&self, pool: &str, update: PoolUpdate) -> Result<(Outcome, PoolView)> {
        let _change = self.changes.lock().await;
        let mut record = self.pool(pool)?.record;
        let object = format!("pool {}", record.name);
        let wanted = update.warn_percent.map(|percent| warn_percent(&object, percent)).transpose()?;
        let wanted = wanted.unwrap_or(record.warn_percent);
        let rules = update.rules.applied_to(&record)?;
        if wanted == record.warn_percent && rules == record.rules {
            return Ok((Outcome::Unchanged, self.pool(pool)?));
        }
        record.warn_percent = wanted;
        record.rules = rules;
        // A pool in memory is gone with the process, and what is said of it too.
        let remember = (!record.volatile).then(|| FileChange::PutPool(record.clone()));
        self.persist(remember.into_iter().collect()).await?;
        if let Some(entry) = self.state.write().pools.get_mut(&record.id) {
            entry.record = record.clone();
        }
        if let Ok(engine) = self.state.read().find_pool(pool).and_then(crate::state::PoolEntry::open) {
            self.tell_pool_limit(&record, &engine);
        }
        self.space_changed.notify_one();
        tracing::info!(pool = %record.name, warn_percent = wanted, rules = ?record.rules, "pool changed");
        self.tell_of_space(&record.id.to_string());
        Ok((Outcome::Changed, self.pool(&record.id.to_string())?))
    }

    /// Has the hosts of a pool's volumes hear what has become of its space, or of the wish to be warned.
    pub(crate) fn tell_of_space(&self, pool: &str) {
        let told: Vec<_> = {
            let state = self.state.read();
            let Ok(pool) = state.find_pool(pool) else { return };
            let volumes = state.volumes_of(pool.record.id);
            volumes.map(|entry| (entry.record.id, state.warning_of(&entry.record))).collect()
        };
        for (volume, warning) in told {
            self.frontend.space_warning(volume, warning);
        }
    }
}
