//! The on-disk format: numbers, labels, batch descriptors and map nodes, as `docs/format.md` draws them.
//!
//! Pure encoding and decoding. Decoders take any bytes: what is not valid comes back as [`Invalid`].

pub(crate) mod batch;
mod bytes;
mod ids;
pub(crate) mod keys;
pub(crate) mod label;
pub(crate) mod members;
pub(crate) mod node;
mod redundancy;

pub use ids::VolumeId;
pub(crate) use ids::{
    BlockAddress, DiskIndex, Epoch, LayerId, Location, PoolId, SegmentId, Seq, SlabIndex, Stream,
};
pub use redundancy::Redundancy;

/// Bytes in a block: the unit of the map, of checksums and of locations.
pub(crate) const BLOCK_SIZE: usize = 4096;

/// [`BLOCK_SIZE`] for byte offsets.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The version of batches, and of labels of pools whose volumes share no blocks.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// The version of labels of pools whose volumes may share blocks.
pub(crate) const SHARING_VERSION: u16 = 2;

/// The version of labels of pools whose volumes may be being sanitized, and may share blocks.
pub(crate) const SANITIZING_VERSION: u16 = 3;

/// The version of labels of pools of several disks.
pub(crate) const MEMBERS_VERSION: u16 = 4;

/// The version of labels of pools that have keys, of one disk or several.
pub(crate) const ENCRYPTED_VERSION: u16 = 5;

/// Why some bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The magic number is not there: something else, or nothing, is stored here.
    Magic,
    /// The checksum does not fit: damaged, or not written to its end.
    Checksum,
    /// Written by another version of Palisade.
    Version(u16),
    /// A field has a value that makes no sense.
    Field(&'static str),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => write!(f, "no magic number"),
            Self::Checksum => write!(f, "wrong checksum"),
            Self::Version(version) => {
                write!(f, "format version {version}, known are those up to {ENCRYPTED_VERSION}")
            }
            Self::Field(name) => write!(f, "impossible value of {name}"),
        }
    }
}

/// CRC-32C (Castagnoli) of `data`.
#[must_use]
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(data)
}
