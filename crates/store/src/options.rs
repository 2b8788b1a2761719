//! What callers tell a pool, and what it tells them.

use crate::format::keys::KeyCost;
use crate::format::{Redundancy, VolumeId};
use block::BufferPool;
use std::time::Duration;

/// How a pool is run. Only `slab_bytes` and `redundancy` are kept on disk, from creation.
#[derive(Clone)]
pub struct PoolOptions {
    /// Slab size in bytes, a power of two from 64 KiB to 1 GiB; `None` chooses by the disk's size. Used by
    /// [`crate::Pool::create`] only.
    pub slab_bytes: Option<u64>,
    /// How many copies there are of what is stored. Used by [`crate::Pool::create`] only.
    pub redundancy: Redundancy,
    /// Memory for clean leaves of volume maps, in bytes.
    pub map_cache_bytes: u64,
    /// A checkpoint starts after this many bytes of host log.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint starts this long after the first change.
    pub checkpoint_interval: Duration,
    /// A checkpoint starts at this many changed map nodes (or earlier, in a small pool).
    pub dirty_nodes_max: u64,
    /// Tell the disk which slabs are free.
    pub discard: bool,
    /// What passphrases cost to try, from now on.
    pub key_cost: KeyCost,
    /// Where I/O memory comes from.
    pub buffers: BufferPool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            slab_bytes: None,
            redundancy: Redundancy::Single,
            map_cache_bytes: 1 << 30,
            checkpoint_log_bytes: 256 << 20,
            checkpoint_interval: Duration::from_secs(30),
            dirty_nodes_max: 24 << 10,
            discard: true,
            key_cost: KeyCost::default(),
            buffers: BufferPool::default(),
        }
    }
}

/// A record of the layers above, kept in the pool's catalog: kind, name, content (`None` removes it).
pub type Fact = (String, String, Option<Vec<u8>>);

/// What a new volume is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its identity, for life.
    pub id: VolumeId,
    /// Size in bytes, a multiple of 512.
    pub size_bytes: u64,
    /// Reserve space for all of it.
    pub thick: bool,
    /// Acknowledge writes from the kernel's page cache (`cache=buffered`).
    pub buffered: bool,
    /// Encrypt what is written to it; the pool has keys and is unlocked.
    pub encrypted: bool,
}

/// A volume or a snapshot, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its identity.
    pub id: VolumeId,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Space for all of it is reserved.
    pub thick: bool,
    /// Writes are acknowledged from the kernel's page cache.
    pub buffered: bool,
    /// It is a snapshot: frozen, takes no writes.
    pub snapshot: bool,
    /// What is written to it is encrypted.
    pub encrypted: bool,
    /// Bytes mapped in its own layer: what was written since the last snapshot of it.
    pub mapped_bytes: u64,
}

/// How far the detaching of a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detachment {
    /// Bytes of the volume that were looked at, from its start on.
    pub done_bytes: u64,
    /// Size of the volume in bytes.
    pub size_bytes: u64,
    /// Why it does not go on for now; none if it does.
    pub waits: Option<String>,
}

/// What a disk's label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLabel {
    /// Identity of the pool it is part of.
    pub pool: [u8; 16],
    /// Name of that pool.
    pub pool_name: String,
    /// Identity of the disk.
    pub disk: [u8; 16],
    /// Size in bytes when it was last looked at by the pool.
    pub size_bytes: u64,
    /// Time of the pool's creation, ms since 1970.
    pub created_unix_ms: u64,
}

/// How a disk stands in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// What is on it is current.
    Current,
    /// What is on it is current; it takes nothing new.
    Leaving,
    /// It failed or was missing: what is on it does not count any more.
    Lost,
}

/// A disk of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskStatus {
    /// Its index in the pool.
    pub index: u16,
    /// Its identity.
    pub identity: [u8; 16],
    /// Its size in bytes, rounded down to MiB.
    pub size_bytes: u64,
    /// How it stands.
    pub state: DiskState,
    /// It has a current copy of the catalog.
    pub catalog: bool,
}

/// What opens a pool's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    /// Its number.
    pub index: u8,
    /// A passphrase does; else a key file.
    pub passphrase: bool,
}

/// The keys of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyStatus {
    /// Encrypted volumes can be neither read nor written.
    pub locked: bool,
    /// The keys are damaged on all disks.
    pub lost: bool,
    /// New volumes are encrypted unless something else is asked for.
    pub encrypt_new: bool,
    /// What opens them.
    pub slots: Vec<KeySlot>,
    /// Data keys there are: one for each encrypted volume with its snapshots and clones.
    pub families: usize,
    /// How many there can be.
    pub families_max: usize,
}

/// Whether a pool takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Healthy,
    /// It does, but stored blocks were found damaged; reads of them fail.
    Degraded(String),
    /// It does not, for this reason; reads go on. Opening it again may help.
    ReadOnly(String),
}

/// How many segments are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentCounts {
    /// Slabs in no segment.
    pub free: u64,
    /// Set aside for coming writes.
    pub reserved: u64,
    /// Being written.
    pub open: u64,
    /// Full.
    pub sealed: u64,
    /// Without live data, until the next checkpoint or the end of a read.
    pub evacuated: u64,
    /// Sealed, holding blocks whose checksum is wrong.
    pub damaged: u64,
}

/// The state of a pool. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Identity.
    pub pool: [u8; 16],
    /// Name.
    pub name: String,
    /// What data and maps can fill, headroom included.
    pub usable_bytes: u64,
    /// Held back for collection, maps and deletion.
    pub headroom_bytes: u64,
    /// Live data of all volumes.
    pub data_bytes: u64,
    /// Map nodes.
    pub map_bytes: u64,
    /// Reserved for thick volumes and not yet written.
    pub reserved_bytes: u64,
    /// What new data may still take.
    pub free_bytes: u64,
    /// Slab size.
    pub slab_bytes: u64,
    /// Segments by state.
    pub segments: SegmentCounts,
    /// Layers of deleted volumes or snapshots that stay because a part of their map cannot be read.
    pub layers_set_aside: u64,
    /// Bytes hosts wrote since opening.
    pub host_bytes: u64,
    /// Bytes written to the log for it since opening: descriptors, relocation and map nodes included.
    pub written_bytes: u64,
    /// When the last checkpoint ended, in the runtime's time.
    pub last_checkpoint: Option<Duration>,
    /// Checkpoints since opening.
    pub checkpoints: u64,
    /// How long recovery took at opening.
    pub recovery: Duration,
    /// Log batches replayed at opening.
    pub replayed_batches: u64,
    /// Map nodes in memory.
    pub nodes_in_memory: u64,
    /// Map nodes changed since the last checkpoint.
    pub nodes_dirty: u64,
    /// Whether it takes writes.
    pub health: Health,
}

/// Where a pool's space is, in bytes. `usable_bytes` is the sum of all parts, `shared_bytes` apart, which is a part of
/// parts. How data is parted among volumes and snapshots is as it was counted last; all else is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSpace {
    /// What data and maps can fill: all slabs, without descriptors of batches and the catalog.
    pub usable_bytes: u64,
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
    /// Held back for collection and deletion: what is left of it.
    pub headroom_bytes: u64,
    /// Room that may not be filled, by the pool's limit.
    pub withheld_bytes: u64,
    /// Room for new data where dead blocks are collected first.
    pub collectable_bytes: u64,
    /// Room for new data otherwise.
    pub unused_bytes: u64,
    /// When data was parted among volumes and snapshots, in ms since 1970; none if it was not: all is the volumes' then.
    pub as_of_unix_ms: Option<u64>,
}

/// What [`crate::Pool::check`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Blocks of data that maps point to.
    pub data_blocks: u64,
    /// Map nodes.
    pub nodes: u64,
    /// What does not fit together; empty for a sound pool.
    pub problems: Vec<String>,
}
