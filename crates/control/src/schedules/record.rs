//! What is remembered of a schedule, as JSON in the group's file. Fields are only ever added, with a default.

use super::{Every, Keep};
use crate::{Name, ScheduleId, VolumeId};
use serde::{Deserialize, Serialize};

/// A run that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleFailure {
    /// When, in ms since 1970.
    pub at_unix_ms: u64,
    /// What happened.
    pub message: String,
}

/// Snapshots to be made by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Identity; its snapshots have it.
    pub id: ScheduleId,
    /// Name.
    pub name: Name,
    /// The volumes, of one pool, all at one instant.
    pub volumes: Vec<VolumeId>,
    /// How often.
    pub every: Every,
    /// Which of its snapshots are kept.
    pub keep: Keep,
    /// What snapshots are called; see [`ScheduleRecord::snapshot_name`].
    pub pattern: String,
    /// It runs.
    pub enabled: bool,
    /// When it is due, in ms since 1970.
    pub next_unix_ms: u64,
    /// When it last made snapshots, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_unix_ms: Option<u64>,
    /// What went wrong the last time; none if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ScheduleFailure>,
    /// When it was created, in ms since 1970.
    pub created_unix_ms: u64,
}

/// What snapshots are called unless something else is said.
pub(super) const PATTERN: &str = "{schedule}-{date}-{time}";

impl ScheduleRecord {
    /// The name of snapshots made at a time: the pattern with `{schedule}`, `{date}` (20261122) and `{time}` (210533,
    /// UTC) put in.
    pub(super) fn snapshot_name(&self, unix_ms: u64) -> String {
        let stamp = crate::utc::stamp(unix_ms);
        let (date, time) = stamp.split_once('-').unwrap_or((&stamp, ""));
        let named = self.pattern.replace("{schedule}", self.name.as_str());
        named.replace("{date}", date).replace("{time}", time)
    }
}
