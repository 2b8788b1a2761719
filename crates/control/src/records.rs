//! What is remembered of each object, as JSON: of the group, its pools and hosts in the group's file, of a volume in
//! its pool. Fields are only ever added, with a default.

use crate::{
    HostId, Initiator, InitiatorName, IsnsRecord, Naa, Name, Network, Origin, PoolId, PoolRules, Sealed,
    VolumeId, VolumeRules,
};
use serde::{Deserialize, Serialize};

/// The group itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Version of all records in the file: 1.
    pub version: u32,
    /// Identity, a UUID.
    pub id: String,
    /// Name.
    pub name: Name,
    /// What discovery demands of everybody; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<ChapRecord>,
    /// The name servers that are told of targets; none for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isns: Option<IsnsRecord>,
}

/// A secret to be proven by CHAP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChapRecord {
    /// User name; none for the initiator's own name.
    pub user: Option<String>,
    /// The secret, encrypted.
    pub secret: Sealed,
    /// What the group proves in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<MutualRecord>,
}

/// What the group proves to an initiator that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutualRecord {
    /// User name.
    pub user: String,
    /// The secret, encrypted.
    pub secret: Sealed,
}

/// A pool that the group knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Identity.
    pub id: PoolId,
    /// Name.
    pub name: Name,
    /// Where its disks are: paths, without sizes.
    pub disks: Vec<String>,
    /// The pool is in memory, and gone with the process.
    pub volatile: bool,
    /// Hosts and the administrator are warned when so many percent are taken; none: never.
    #[serde(default = "crate::space::default_pool_warning")]
    pub warn_percent: Option<u8>,
    /// Where the key file is that unlocks it when it is opened; none: it waits for a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// What is kept of its space.
    #[serde(default, skip_serializing_if = "PoolRules::are_default")]
    pub rules: PoolRules,
    /// When it was created, in ms since 1970.
    pub created_unix_ms: u64,
}

/// When writes are acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// On stable storage.
    #[default]
    Durable,
    /// In the kernel's page cache.
    Buffered,
}

/// Volumes made before there was copy offload have it.
fn offered() -> bool {
    true
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// A host that may use a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The host.
    pub host: HostId,
    /// It may only read.
    pub read_only: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Identity.
    pub id: VolumeId,
    /// Name; may change.
    pub name: Name,
    /// Pool that holds it.
    pub pool: PoolId,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// All its space is reserved.
    pub thick: bool,
    /// When writes are acknowledged.
    pub cache: Cache,
    /// Hosts may have copies done by the group.
    #[serde(default = "offered")]
    pub offload: bool,
    /// Target name; for life.
    pub iqn: InitiatorName,
    /// NAA identifier; for life.
    pub naa: Naa,
    /// Unit serial number; for life.
    pub serial: String,
    /// Who may use it.
    pub grants: Vec<Grant>,
    /// Hosts and the administrator are warned when so many percent of its size are taken; none: never.
    #[serde(default)]
    pub warn_percent: Option<u8>,
    /// It may not be written, whatever the grants say.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// It is there to be cloned: read only, and not deleted while there are clones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub template: bool,
    /// What it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What is written to it is encrypted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub encrypted: bool,
    /// What is kept of its space.
    #[serde(default, skip_serializing_if = "VolumeRules::are_default")]
    pub rules: VolumeRules,
    /// When it was created, in ms since 1970.
    pub created_unix_ms: u64,
}

impl VolumeRecord {
    /// No host may write to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.template
    }

    /// Who may use it, and how: as granted, but for what the volume forbids everybody.
    pub fn effective_grants(&self) -> impl Iterator<Item = Grant> {
        let read_only = self.is_read_only();
        self.grants.iter().map(move |grant| Grant { read_only: grant.read_only || read_only, ..*grant })
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Identity.
    pub id: HostId,
    /// Name.
    pub name: Name,
    /// Its initiator names.
    pub initiators: Vec<Initiator>,
    /// Where its sessions come from; empty for anywhere.
    pub addresses: Vec<Network>,
    /// What it has to prove; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<ChapRecord>,
    /// When it was created, in ms since 1970.
    pub created_unix_ms: u64,
}
