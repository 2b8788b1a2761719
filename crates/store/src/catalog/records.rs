//! What the catalog holds, as values.

use crate::format::keys::FamilyId;
use crate::format::{
    BLOCK_SIZE, DiskIndex, Epoch, LayerId, Location, Redundancy, SegmentId, Seq, SlabIndex, Stream, VolumeId,
};
use std::collections::BTreeMap;

/// The counters and marks of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PoolRecord {
    /// The last epoch that was begun.
    pub(crate) epoch: Epoch,
    /// The next segment number to give.
    pub(crate) next_segment: SegmentId,
    /// The next layer number to give.
    pub(crate) next_layer: LayerId,
    /// The sequence number that the host stream goes on with at the least.
    pub(crate) host_seq: Seq,
    /// The sequence number that the relocation stream goes on with at the least.
    pub(crate) relocation_seq: Seq,
    /// True from an orderly close until the next opening.
    pub(crate) clean: bool,
}

/// The sequence numbers of an epoch that replay has to apply; ends are exclusive, `Seq(u64::MAX)` is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogRange {
    /// First of the host stream.
    pub(crate) host_first: Seq,
    /// End of the host stream.
    pub(crate) host_end: Seq,
    /// First of the relocation stream.
    pub(crate) relocation_first: Seq,
    /// End of the relocation stream.
    pub(crate) relocation_end: Seq,
}

/// A disk of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskRecord {
    /// Its identity.
    pub(crate) identity: [u8; 16],
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
    /// Its number of slabs.
    pub(crate) slabs: u32,
}

/// How far a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SegmentState {
    /// May have been written since the last checkpoint.
    Reserved,
    /// Being written.
    Open,
    /// Will not be written any more.
    Sealed,
}

impl SegmentState {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::Open => 1,
            Self::Sealed => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Reserved, Self::Open, Self::Sealed].into_iter().find(|state| state.code() == code)
    }
}

/// A slab of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slab {
    /// The disk.
    pub(crate) disk: DiskIndex,
    /// Which of its slabs.
    pub(crate) index: SlabIndex,
}

/// A segment as of the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    /// How far it is in its life.
    pub(crate) state: SegmentState,
    /// The stream that writes to it.
    pub(crate) stream: Stream,
    /// Replay reads batches from this block on.
    pub(crate) replay_from: u32,
    /// Blocks written.
    pub(crate) used_blocks: u32,
    /// Blocks that the map points to.
    pub(crate) live_blocks: u32,
    /// How many copies it should have.
    pub(crate) class: Redundancy,
    /// The slabs it lies on.
    pub(crate) slabs: Vec<Slab>,
}

/// A layer as of the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LayerRecord {
    /// The layer below.
    pub(crate) parent: Option<LayerId>,
    /// Takes no writes any more.
    pub(crate) frozen: bool,
    /// Is being deleted.
    pub(crate) doomed: bool,
    /// Is being merged into its only child.
    pub(crate) merging: bool,
    /// Is to have all that it is read as, and then no parent.
    pub(crate) detaching: bool,
    /// Where the root node is; [`Location::NONE`] for an empty map.
    pub(crate) root: Location,
    /// The root's checksum.
    pub(crate) root_checksum: u32,
    /// The root's level.
    pub(crate) root_level: u8,
    /// Blocks mapped to data.
    pub(crate) mapped_blocks: u64,
    /// Nodes of the map.
    pub(crate) nodes: u64,
}

/// A volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumeRecord {
    /// The layer that takes its writes.
    pub(crate) top: LayerId,
    /// Size in bytes.
    pub(crate) size_bytes: u64,
    /// Space for all of it is reserved.
    pub(crate) thick: bool,
    /// Writes are acknowledged from the kernel's page cache.
    pub(crate) buffered: bool,
    /// Whose data key its blocks are encrypted with, if they are.
    pub(crate) family: Option<FamilyId>,
}

/// How far the sanitizing of a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SanitizePhase {
    /// What the volume held has to leave the disks.
    Wiping,
    /// It has; the volume is overwritten with the pattern.
    Filling,
    /// It could not be done.
    Failed,
}

impl SanitizePhase {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Wiping => 0,
            Self::Filling => 1,
            Self::Failed => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Wiping, Self::Filling, Self::Failed].into_iter().find(|phase| phase.code() == code)
    }
}

/// A volume that is being sanitized, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SanitizeRecord {
    /// How far it is.
    pub(crate) phase: SanitizePhase,
    /// Reads and writes may be allowed again after a failure.
    pub(crate) unrestricted_exit: bool,
    /// What the volume is overwritten with, again and again; nothing if it is empty.
    pub(crate) pattern: Vec<u8>,
}

impl SanitizeRecord {
    /// True for what a volume can be overwritten with: 512 bytes, or a block.
    pub(crate) fn is_pattern(bytes: &[u8]) -> bool {
        [512, BLOCK_SIZE].contains(&bytes.len())
    }
}

/// All of the catalog but the facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    /// Counters and marks.
    pub(crate) pool: PoolRecord,
    /// What replay has to apply, by epoch.
    pub(crate) log_ranges: BTreeMap<Epoch, LogRange>,
    /// The disks.
    pub(crate) disks: BTreeMap<DiskIndex, DiskRecord>,
    /// The segments.
    pub(crate) segments: BTreeMap<SegmentId, SegmentRecord>,
    /// The layers.
    pub(crate) layers: BTreeMap<LayerId, LayerRecord>,
    /// Layers that were merged, and into which.
    pub(crate) aliases: BTreeMap<LayerId, LayerId>,
    /// The volumes.
    pub(crate) volumes: BTreeMap<VolumeId, VolumeRecord>,
    /// What is being sanitized: volumes, also those that were deleted meanwhile.
    pub(crate) sanitizing: BTreeMap<VolumeId, SanitizeRecord>,
}

/// What a transaction changes: each entry sets a record, or removes it with `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Counters and marks.
    pub(crate) pool: Option<PoolRecord>,
    /// Log ranges.
    pub(crate) log_ranges: Vec<(Epoch, Option<LogRange>)>,
    /// Disks.
    pub(crate) disks: Vec<(DiskIndex, Option<DiskRecord>)>,
    /// Segments.
    pub(crate) segments: Vec<(SegmentId, Option<SegmentRecord>)>,
    /// Layers.
    pub(crate) layers: Vec<(LayerId, Option<LayerRecord>)>,
    /// Aliases.
    pub(crate) aliases: Vec<(LayerId, Option<LayerId>)>,
    /// Volumes.
    pub(crate) volumes: Vec<(VolumeId, Option<VolumeRecord>)>,
    /// What is being sanitized.
    pub(crate) sanitizing: Vec<(VolumeId, Option<SanitizeRecord>)>,
    /// Records of the layers above: kind, name, content.
    pub(crate) facts: Vec<(String, String, Option<Vec<u8>>)>,
}
