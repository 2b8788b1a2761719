//! What is remembered of a snapshot, as JSON in its pool. Fields are only ever added, with a default.

use crate::{Error, ErrorKind, FactChange, Name, Result, ScheduleId, SnapshotSetId, VolumeId};
use serde::{Deserialize, Serialize};

/// Kind under which pools keep snapshots' records.
pub(crate) const SNAPSHOT_FACT: &str = "snapshot";

/// A snapshot: what a volume held at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Identity, under which the pool knows it.
    pub id: VolumeId,
    /// Name, among the snapshots of its volume.
    pub name: Name,
    /// The volume it is of, which is there as long as the snapshot is.
    pub volume: VolumeId,
    /// Size in bytes that the volume had.
    pub size_bytes: u64,
    /// Those that were made with it, at the same instant, have the same; none if it was made alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SnapshotSetId>,
    /// The schedule that made it, and counts it among those it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    /// Neither schedules nor want of space delete it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// When it was made, in ms since 1970.
    pub created_unix_ms: u64,
}

/// A snapshot that a volume was cloned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSnapshot {
    /// Its identity.
    pub id: VolumeId,
    /// Its name.
    pub name: Name,
}

/// Where a clone comes from, whether that is still there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The volume.
    pub volume: VolumeId,
    /// Name of the volume at that time.
    pub name: Name,
    /// The snapshot; none if what the volume held at that moment was cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<OriginSnapshot>,
    /// The clone is to have nothing more to do with it, or has nothing already: the pool knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

impl SnapshotRecord {
    /// The record as its pool keeps it.
    pub(crate) fn fact(&self) -> Result<FactChange> {
        let content = serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("snapshot {}", self.name), error.to_string())
        })?;
        Ok(FactChange { kind: SNAPSHOT_FACT, name: self.id.to_string(), content: Some(content) })
    }

    /// Has its pool forget it.
    pub(crate) fn forgotten(&self) -> FactChange {
        FactChange { kind: SNAPSHOT_FACT, name: self.id.to_string(), content: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on disks of those who use it: fields are only ever added, with a default.
    #[test]
    fn the_form_of_a_record_is_what_it_was() {
        let text = r#"{"id":"00000000-0000-4000-8000-000000000000","name":"daily","volume":"01010101-0101-4101-8101-010101010101","size_bytes":4096,"created_unix_ms":7}"#;
        let record = SnapshotRecord {
            id: VolumeId::from_random([0; 16]),
            name: Name::parse("daily").unwrap(),
            volume: VolumeId::from_random([1; 16]),
            size_bytes: 4096,
            set: None,
            schedule: None,
            kept: false,
            created_unix_ms: 7,
        };
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<SnapshotRecord>(text).unwrap(), record);
    }
}
