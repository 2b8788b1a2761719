//! Where space is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a pool's space is. All parts but `shared_bytes`, which is a part of others, add up to `total_bytes`. How data is
/// parted among volumes and snapshots is as of `as_of_unix_ms`; all else is as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolSpace {
    /// What data and maps can fill.
    pub total_bytes: u64,
    /// Data that volumes refer to.
    pub volumes_bytes: u64,
    /// Data that only snapshots refer to.
    pub snapshots_bytes: u64,
    /// Data of deleted volumes and snapshots, about to be given up.
    pub released_bytes: u64,
    /// Of these three, data that several volumes or snapshots refer to.
    pub shared_bytes: u64,
    /// Maps: where each block is.
    pub map_bytes: u64,
    /// Reserved for thick volumes and not yet written.
    pub reserved_bytes: u64,
    /// Set aside for maps to change, so that unmapping always works, and for writes under way.
    pub spare_bytes: u64,
    /// Held back for collection and deletion.
    pub headroom_bytes: u64,
    /// Room that may not be filled, by the pool's limit.
    #[serde(default)]
    pub withheld_bytes: u64,
    /// Room for new data where what was overwritten or unmapped is collected first.
    pub collectable_bytes: u64,
    /// Room for new data otherwise.
    pub unused_bytes: u64,
    /// When data was parted among volumes and snapshots; none if it was not yet: all is the volumes' then.
    pub as_of_unix_ms: Option<u64>,
}

/// What a volume or snapshot holds of its pool. `unique_bytes` and `shared_bytes` add up to `mapped_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeSpace {
    /// What it maps: where reading finds data.
    pub mapped_bytes: u64,
    /// Of it, what no other volume or snapshot has: it comes back when this one alone is deleted.
    pub unique_bytes: u64,
    /// Of it, what others have, too; also what a copy by the group has made shared.
    pub shared_bytes: u64,
    /// Of a volume: what its snapshots have and neither it nor another volume has; it comes back when they are deleted.
    pub snapshots_bytes: u64,
    /// When that was counted.
    pub as_of_unix_ms: u64,
}

/// Whether something grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Growth {
    /// It was not watched for a day yet.
    #[default]
    TooLittleHistory,
    /// It does not grow, or would take more than 10 years to be full.
    NotGrowing,
    /// It grows.
    Growing,
}

/// When a pool, or a volume's size or limit, is full, if it goes on growing as in the last 30 days: by the median of
/// what was gained from one day to the next, or of what was watched for three weeks from one week to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forecast {
    /// Whether it grows.
    pub growth: Growth,
    /// By how much a day; none if it does not.
    pub bytes_a_day: Option<u64>,
    /// When it is full; none if it does not grow.
    pub full_unix_ms: Option<u64>,
}

/// What becomes of snapshots when space runs short: in the pool, of a volume's limit, or of what its snapshots may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnShort {
    /// They stay; the status warns.
    #[default]
    Warn,
    /// The oldest of those that schedules made are deleted, before writes fail.
    DeleteOldest,
    /// The oldest are deleted, whoever made them.
    DeleteOldestOfAll,
}

/// Snapshots of a volume that were deleted for want of space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dropped {
    /// How many, since the volume was made.
    pub count: u64,
    /// The name of the last.
    pub last: String,
    /// When that was.
    pub at_unix_ms: u64,
}

/// How much a volume and its snapshots may take, and what becomes of these when space is short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeRules {
    /// What the volume and its snapshots may take of the pool; none for as much as there is.
    pub limit_bytes: Option<u64>,
    /// What they have taken of it, maps included; none without a limit.
    pub taken_bytes: Option<u64>,
    /// What its snapshots alone may keep; none for as much as there is.
    pub snapshot_reserve_bytes: Option<u64>,
    /// The status warns when snapshots keep so many percent of that; none: never.
    pub snapshot_warn_percent: Option<u8>,
    /// What becomes of its snapshots: as said for the volume, or else for the pool.
    pub on_short: OnShort,
    /// It was said for the pool.
    pub on_short_of_pool: bool,
    /// What became of some.
    pub dropped: Option<Dropped>,
}

/// How much of a pool may be filled, and what becomes of snapshots when space is short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolRules {
    /// How many percent of its size may be filled; none for all, unless `limit_bytes` says less.
    pub limit_percent: Option<u8>,
    /// How many bytes may be filled.
    pub limit_bytes: Option<u64>,
    /// What becomes of snapshots of volumes for which nothing else is said.
    pub on_short: OnShort,
}

/// What is to change of a volume's rules; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateVolumeRules {
    /// What the volume and its snapshots may take of the pool; 0: as much as there is. For thin volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What its snapshots alone may keep; 0: as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_reserve_bytes: Option<u64>,
    /// Warn when they keep so many percent of that, 1 to 99; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_warn_percent: Option<u8>,
    /// What becomes of snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_short: Option<OnShort>,
    /// What becomes of snapshots is as said for the pool.
    #[serde(default)]
    pub on_short_of_pool: bool,
}

/// What is to change of a pool's rules; what is left out stays. Of the limits, one in percent replaces one in bytes and
/// the other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePoolRules {
    /// How many percent of its size may be filled, 1 to 99; 0: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_percent: Option<u8>,
    /// How many bytes may be filled; 0: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What becomes of snapshots of volumes for which nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_short: Option<OnShort>,
}
