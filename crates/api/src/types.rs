//! What requests and answers carry. Sizes are bytes, times milliseconds since 1970.

use crate::chap::Chap;
use crate::keys::{KeySecret, PoolEncryption, VolumeEncryption};
use crate::sessions::Connection;
use crate::snapshots::{Detachment, VolumeOrigin};
use crate::space::{
    Forecast, PoolRules, PoolSpace, UpdatePoolRules, UpdateVolumeRules, VolumeRules, VolumeSpace,
};
use crate::targets::VolumeTarget;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a request that may find its work already done has ended: asking twice is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The object is new.
    Created,
    /// The object was changed.
    Changed,
    /// The object was already as asked for.
    Unchanged,
    /// The object is gone.
    Deleted,
}

/// The answer to a request that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change<T> {
    /// What was done.
    pub outcome: Outcome,
    /// The object as it is now, or as it was before it was deleted.
    #[serde(flatten)]
    pub item: T,
}

/// The group: the SAN as hosts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Identity, a UUID.
    pub id: String,
    /// Name.
    pub name: String,
}

/// The daemon at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// The group.
    pub group: Group,
    /// Data directory of the daemon.
    pub data_directory: String,
    /// When the daemon started.
    pub started_unix_ms: u64,
    /// Addresses on which iSCSI hosts are served.
    pub portals: Vec<String>,
    /// How disks are read and written, for example `io_uring`.
    pub disk_io: String,
    /// Number of pools.
    pub pools: u32,
    /// Number of volumes.
    pub volumes: u32,
    /// Number of hosts.
    pub hosts: u32,
    /// Number of iSCSI sessions.
    pub sessions: u32,
    /// Logins refused since the daemon started because they did not prove what CHAP demands.
    #[serde(default)]
    pub logins_failed: u64,
    /// Logins refused unheard since then, after too many failures.
    #[serde(default)]
    pub logins_unheard: u64,
    /// Space of all open pools.
    pub size_bytes: u64,
    /// Of it used.
    pub used_bytes: u64,
    /// What an administrator should look at, most urgent first.
    pub warnings: Vec<String>,
}

/// Whether a pool serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// Open: its volumes are served.
    Online,
    /// Could not be opened; it is tried again every few seconds.
    Offline,
}

/// One disk of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolDisk {
    /// Path, as given.
    pub path: String,
    /// Size; zero while the pool is offline.
    pub size_bytes: u64,
    /// `device`, `file` or `memory`; `unknown` while the pool is offline.
    pub media: String,
}

/// Where volumes get their space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Identity, a UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether it serves.
    pub state: PoolState,
    /// Why it is offline.
    pub reason: Option<String>,
    /// Redundancy class: `single`.
    pub class: String,
    /// Disks.
    pub disks: Vec<PoolDisk>,
    /// Space for data; zero while offline.
    pub size_bytes: u64,
    /// Of it holding data that volumes refer to.
    pub used_bytes: u64,
    /// What can still be written before the pool is full.
    pub free_bytes: u64,
    /// Where its space is; none while offline.
    #[serde(default)]
    pub space: Option<PoolSpace>,
    /// How much of it may be filled, and what becomes of snapshots when space is short.
    #[serde(default)]
    pub rules: PoolRules,
    /// When it will be full.
    #[serde(default)]
    pub forecast: Forecast,
    /// Hosts and the administrator are warned when so many percent are taken; none: never.
    pub warn_percent: Option<u8>,
    /// Sum of the sizes of all volumes.
    pub provisioned_bytes: u64,
    /// Number of volumes.
    pub volumes: u32,
    /// The pool is in memory: everything in it is gone when the daemon stops.
    pub lost_at_exit: bool,
    /// The keys of its encrypted volumes; none if it has none, or is offline.
    #[serde(default)]
    pub encryption: Option<PoolEncryption>,
    /// When it was created.
    pub created_unix_ms: u64,
}

/// A pool to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    /// Name.
    pub name: String,
    /// Disks: `PATH`, `PATH:SIZE` for a sparse file that is created, `ram:SIZE` for memory lost at exit.
    pub disks: Vec<String>,
    /// What opens the keys of a pool whose new volumes are encrypted; none: the pool has no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<KeySecret>,
}

/// What is to change about a pool; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePool {
    /// Warn when so many percent are taken, 1 to 99; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_percent: Option<u8>,
    /// How much of it may be filled, and what becomes of snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<UpdatePoolRules>,
}

/// More space for a pool, by growing a disk that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendPool {
    /// `PATH:NEWSIZE` for a file, `PATH` for a device that has already grown.
    pub disk: String,
}

/// Whether a volume takes its space at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioning {
    /// Space is taken when written.
    #[default]
    Thin,
    /// All space is reserved: writes never fail for want of it.
    Thick,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// When it is on stable storage.
    #[default]
    Durable,
    /// When the kernel has it: survives the daemon's end, not the machine's. Hosts are told of a write cache.
    Buffered,
}

/// Whether a volume is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Hosts can use it.
    Online,
    /// Its pool is offline, or it could not be opened.
    Offline,
}

/// A host that may use a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Name of the host.
    pub host: String,
    /// The host may only read.
    pub read_only: bool,
}

/// What copies a volume has seen since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyCounts {
    /// Copies that hosts had done by way of this volume: EXTENDED COPY and WRITE USING TOKEN commands.
    pub done: u64,
    /// Tokens made for parts of it: POPULATE TOKEN commands.
    pub tokens: u64,
    /// Those of either kind that ended early.
    pub failed: u64,
    /// Bytes copied.
    pub bytes: u64,
}

/// How far a volume is with being sanitized (SANITIZE); hosts neither read nor write until it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sanitization {
    /// Percent done.
    pub percent: u8,
    /// It could not be done: hosts neither read nor write until it is tried again.
    pub failed: bool,
}

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Identity, a UUID.
    pub id: String,
    /// Name; may change.
    pub name: String,
    /// Name of its pool.
    pub pool: String,
    /// Whether it is served.
    pub state: VolumeState,
    /// Why it is offline.
    pub reason: Option<String>,
    /// Size as hosts see it.
    pub size_bytes: u64,
    /// Space that its data and what its snapshots keep of it take in the pool, at most its size; what clones share is
    /// counted for each. Zero while offline.
    pub used_bytes: u64,
    /// Of it written since its last snapshot, or since the volume was made or cloned.
    #[serde(default)]
    pub written_bytes: u64,
    /// What it holds of its pool; none if that was not counted.
    #[serde(default)]
    pub space: Option<VolumeSpace>,
    /// How much it and its snapshots may take, and what becomes of these when space is short.
    #[serde(default)]
    pub rules: VolumeRules,
    /// When it will take all of its size, or of its limit.
    #[serde(default)]
    pub forecast: Forecast,
    /// Number of its snapshots.
    #[serde(default)]
    pub snapshots: u32,
    /// No host may write to it, whatever the grants say.
    #[serde(default)]
    pub read_only: bool,
    /// It is a template: read only, and not deleted while there are clones of it.
    #[serde(default)]
    pub template: bool,
    /// What it was cloned from.
    #[serde(default)]
    pub origin: Option<VolumeOrigin>,
    /// How far it is with becoming independent of that; none if it does not.
    #[serde(default)]
    pub detachment: Option<Detachment>,
    /// Names of the volumes that were cloned from it and its snapshots.
    #[serde(default)]
    pub clones: Vec<String>,
    /// Hosts and the administrator are warned when so many percent of its size are taken; none: never.
    pub warn_percent: Option<u8>,
    /// Logical block size: 512 or 4096.
    pub block_size: u32,
    /// Thin or thick.
    pub provisioning: Provisioning,
    /// When writes are acknowledged.
    pub cache: CacheMode,
    /// Hosts may have copies done by the group (EXTENDED COPY, ODX).
    pub offload: bool,
    /// What copies it has seen since the daemon started.
    pub copies: CopyCounts,
    /// How far it is with being sanitized; none if it is not.
    #[serde(default)]
    pub sanitization: Option<Sanitization>,
    /// How it is stored.
    #[serde(default)]
    pub encryption: VolumeEncryption,
    /// Target name; the same for life.
    pub iqn: String,
    /// The targets of several volumes that it is in.
    #[serde(default)]
    pub targets: Vec<VolumeTarget>,
    /// NAA identifier (VPD page 83h), 32 hexadecimal digits; the same for life.
    pub naa: String,
    /// Unit serial number (VPD page 80h); the same for life.
    pub serial: String,
    /// Who may use it.
    pub grants: Vec<Grant>,
    /// Number of sessions on it.
    pub sessions: u32,
    /// When it was created.
    pub created_unix_ms: u64,
}

/// A volume to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Name.
    pub name: String,
    /// Size; a multiple of 1 MiB is best, a multiple of the block size a must.
    pub size_bytes: u64,
    /// Name of the pool; may be left out if there is only one.
    #[serde(default)]
    pub pool: Option<String>,
    /// Logical block size, 512 (default) or 4096.
    #[serde(default)]
    pub block_size: Option<u32>,
    /// Thin (default) or thick.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Durable (default) or buffered.
    #[serde(default)]
    pub cache: CacheMode,
    /// Whether hosts may have copies done by the group; true (default) or false.
    #[serde(default)]
    pub offload: Option<bool>,
    /// Whether it is stored encrypted; left out: as the pool does with new volumes.
    #[serde(default)]
    pub encrypt: Option<bool>,
}

/// What is to change about a volume; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateVolume {
    /// New name. Target name, NAA and serial stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New size, not smaller than now. Takes effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Warn when so many percent of its size are taken, 1 to 99; 0: never. For thin volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_percent: Option<u8>,
    /// Whether hosts may have copies done by the group. Takes effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<bool>,
    /// Whether it is read only for every host. Refused while hosts that may write use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether it is a template. Refused while hosts that may write use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<bool>,
    /// How much it and its snapshots may take, and what becomes of these when space is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<UpdateVolumeRules>,
}

/// How a host may use a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The host may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// A volume that a host may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostGrant {
    /// Name of the volume.
    pub volume: String,
    /// The host may only read.
    pub read_only: bool,
}

/// An initiator machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Identity, a UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Initiator names; `*` for any.
    pub iqns: Vec<String>,
    /// Networks its sessions come from, as CIDR; empty for any.
    pub addresses: Vec<String>,
    /// What it has to prove at a login; none for nothing.
    #[serde(default)]
    pub chap: Option<Chap>,
    /// Volumes it may use.
    pub grants: Vec<HostGrant>,
    /// Number of its sessions.
    pub sessions: u32,
    /// When it was created.
    pub created_unix_ms: u64,
}

/// A host to be made known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateHost {
    /// Name.
    pub name: String,
    /// Initiator names (iqn, eui or naa), or `*` for any, which then needs addresses.
    pub iqns: Vec<String>,
    /// Networks as CIDR or single addresses; empty for any.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What is to change about a host; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateHost {
    /// Initiator names it gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_iqns: Vec<String>,
    /// Initiator names it loses; sessions with them end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_iqns: Vec<String>,
    /// Networks instead of those it has, empty for any; sessions from elsewhere end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
}

/// An iSCSI session of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Number of the session, unique while the daemon runs.
    pub id: u64,
    /// Name of the host it belongs to; none for one that was let in before a change of hosts.
    pub host: Option<String>,
    /// Initiator name.
    pub initiator: String,
    /// Address and port it comes from.
    pub address: String,
    /// Portal it came to.
    pub portal: String,
    /// Its connections, in the order they came.
    #[serde(default)]
    pub connections: Vec<Connection>,
    /// Name of the volume whose own target it uses; none for discovery and for a target of several volumes.
    pub volume: Option<String>,
    /// Names of the volumes that it sees in a target of several.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Target name; none for discovery.
    pub target: Option<String>,
    /// It may only read.
    pub read_only: bool,
    /// When it logged in.
    pub since_unix_ms: u64,
    /// Commands done so far.
    pub commands: u64,
    /// Bytes read so far.
    pub read_bytes: u64,
    /// Bytes written so far.
    pub written_bytes: u64,
}
