//! How much of a pool volumes and their snapshots may take, and what becomes of snapshots when it runs short.

use crate::{Error, Group, PoolEngine, PoolRecord, Result, VolumeRecord};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What becomes of snapshots when space runs short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnShort {
    /// They stay; the administrator is warned.
    #[default]
    Warn,
    /// The oldest of those that schedules made go.
    DeleteOldest,
    /// The oldest go, whoever made them.
    DeleteOldestOfAll,
}

/// What happened to snapshots for want of space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many were deleted since the volume was made.
    pub count: u64,
    /// The name of the last.
    pub last: String,
    /// When that was, in ms since 1970.
    pub at_unix_ms: u64,
}

/// What is kept of a volume's space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRules {
    /// What the volume and its snapshots may take, in bytes; none for as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What its snapshots may keep, in bytes; none for as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_reserve_bytes: Option<u64>,
    /// The administrator is warned when snapshots keep so many percent of that; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_warn_percent: Option<u8>,
    /// What becomes of its snapshots; none for what the pool says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_short: Option<OnShort>,
    /// What happened to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
}

/// What is kept of a pool's space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRules {
    /// How many percent of its size may be filled; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_percent: Option<u8>,
    /// How many bytes of it may be filled; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What becomes of snapshots of volumes that say nothing themselves.
    #[serde(default)]
    pub on_short: OnShort,
}

impl VolumeRules {
    pub(crate) fn are_default(&self) -> bool {
        *self == Self::default()
    }
}

impl PoolRules {
    pub(crate) fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many bytes of a pool of `size_bytes` may be filled; none for all.
    #[must_use]
    pub fn limit_of(&self, size_bytes: u64) -> Option<u64> {
        let percent = self.limit_percent.map(|percent| size_bytes / 100 * u64::from(percent));
        self.limit_bytes.or(percent)
    }
}

/// What is to change of a volume's rules; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeRulesUpdate {
    /// In bytes; 0: as much as there is.
    pub limit_bytes: Option<u64>,
    /// In bytes; 0: as much as there is.
    pub snapshot_reserve_bytes: Option<u64>,
    /// In percent; 0: never.
    pub snapshot_warn_percent: Option<u8>,
    /// Inside, none for what the pool says.
    pub on_short: Option<Option<OnShort>>,
}

/// What is to change of a pool's rules; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolRulesUpdate {
    /// In percent; 0: all.
    pub limit_percent: Option<u8>,
    /// In bytes; 0: all.
    pub limit_bytes: Option<u64>,
    /// What becomes of snapshots.
    pub on_short: Option<OnShort>,
}

fn unless_zero(bytes: u64) -> Option<u64> {
    Some(bytes).filter(|bytes| *bytes > 0)
}

impl VolumeRulesUpdate {
    /// The rules of a volume after this.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn applied_to(&self, record: &VolumeRecord) -> Result<VolumeRules> {
        let object = format!("volume {}", record.name);
        let mut rules = record.rules.clone();
        if let Some(bytes) = self.limit_bytes {
            if record.thick && bytes > 0 {
                return Err(Error::invalid(object, "all its space is reserved; limits are for thin volumes"));
            }
            rules.limit_bytes = unless_zero(bytes);
        }
        if let Some(bytes) = self.snapshot_reserve_bytes {
            rules.snapshot_reserve_bytes = unless_zero(bytes);
        }
        if let Some(percent) = self.snapshot_warn_percent {
            rules.snapshot_warn_percent = crate::space::warn_percent(&object, percent)?;
        }
        if let Some(on_short) = self.on_short {
            rules.on_short = on_short;
        }
        if rules.snapshot_warn_percent.is_some() && rules.snapshot_reserve_bytes.is_none() {
            let message =
                "say what its snapshots may keep with --snapshot-reserve; the warning is a part of that";
            return Err(Error::invalid(object, message));
        }
        Ok(rules)
    }
}

impl PoolRulesUpdate {
    /// The rules of a pool after this.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn applied_to(&self, record: &PoolRecord) -> Result<PoolRules> {
        let object = format!("pool {}", record.name);
        let mut rules = record.rules.clone();
        if let Some(percent) = self.limit_percent {
            if percent > 99 {
                return Err(Error::invalid(object, "the limit is 1 to 99 percent, or 0 for none"));
            }
            rules.limit_percent = Some(percent).filter(|percent| *percent > 0);
            rules.limit_bytes = None;
        }
        if let Some(bytes) = self.limit_bytes {
            rules.limit_bytes = unless_zero(bytes);
            rules.limit_percent = None;
        }
        rules.on_short = self.on_short.unwrap_or(rules.on_short);
        Ok(rules)
    }
}

impl Group {
    /// Tells a pool how much of it may be filled.
    pub(crate) fn tell_pool_limit(&self, record: &PoolRecord, engine: &Arc<dyn PoolEngine>) {
        engine.set_pool_limit(record.rules.limit_of(engine.usage().size_bytes));
    }
}
