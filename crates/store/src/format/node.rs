//! Map nodes: 256 entries of location and checksum in a block.

use super::bytes::{array_at, is_sealed, put, seal, u32_at, u64_at};
use super::{BLOCK_SIZE, Invalid, LayerId, Location};

/// Entries of a node.
pub(crate) const FAN_OUT: usize = 256;
/// [`FAN_OUT`] as a power of two.
pub(crate) const FAN_OUT_SHIFT: u32 = 8;
/// The highest level a root may have: levels 0 to 4 cover 4 PiB, more than a volume's size; 5 covers the numbers of all
/// shared blocks.
pub(crate) const LEVEL_MAX: u8 = 5;

const MAGIC: &[u8; 8] = b"PALNODE1";
const ENTRIES_AT: usize = 64;
const ENTRY_BYTES: usize = 12;

/// Where a block of data or a child node is, and its checksum there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) location: Location,
    /// CRC-32C of the block there; 0 where there is none. In leaves of the shared layer: how many entries of others
    /// refer to the block.
    pub(crate) checksum: u32,
}

/// A node of a layer's map, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// The layer it belongs to.
    pub(crate) layer: LayerId,
    /// Which node of its level it is.
    pub(crate) index: u64,
    /// The entries.
    pub(crate) entries: Box<[Entry; FAN_OUT]>,
}

impl Node {
    /// Writes the node to `block`, of [`BLOCK_SIZE`] bytes.
    pub(crate) fn encode_into(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_SIZE);
        block.fill(0);
        put(block, 0, MAGIC);
        put(block, 12, &[self.level]);
        put(block, 16, &self.layer.0.to_le_bytes());
        put(block, 24, &self.index.to_le_bytes());
        for (field, entry) in block[ENTRIES_AT..].chunks_exact_mut(ENTRY_BYTES).zip(self.entries.iter()) {
            field[..8].copy_from_slice(&entry.location.0.to_le_bytes());
            field[8..].copy_from_slice(&entry.checksum.to_le_bytes());
        }
        seal(block);
    }

    /// The node in `block`.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, Invalid> {
        if block.len() != BLOCK_SIZE || &array_at::<8>(block, 0) != MAGIC {
            return Err(Invalid::Magic);
        }
        if !is_sealed(block) {
            return Err(Invalid::Checksum);
        }
        let [level] = array_at(block, 12);
        if level > LEVEL_MAX {
            return Err(Invalid::Field("level"));
        }
        let mut entries = Box::new([Entry::default(); FAN_OUT]);
        for (entry, field) in entries.iter_mut().zip(block[ENTRIES_AT..].chunks_exact(ENTRY_BYTES)) {
            *entry = Entry { location: Location(u64_at(field, 0)), checksum: u32_at(field, 8) };
        }
        Ok(Self { level, layer: LayerId(u64_at(block, 16)), index: u64_at(block, 24), entries })
    }
}

#[cfg(test)]
mod tests {
    use super::super::SegmentId;
    use super::*;

    #[test]
    fn a_node_comes_back_as_it_was_and_damage_is_noticed() {
        let mut entries = Box::new([Entry::default(); FAN_OUT]);
        entries[0].location = Location::ZEROS;
        for (i, entry) in (1..=255u32).zip(entries[1..].iter_mut()) {
            *entry = Entry {
                location: Location::new(SegmentId(u64::from(i)), i * 7),
                checksum: i.rotate_left(13),
            };
        }
        let node = Node { level: 3, layer: LayerId(42), index: 77, entries };
        let mut block = vec![0xff; BLOCK_SIZE];
        node.encode_into(&mut block);
        assert_eq!(Node::decode(&block), Ok(node));
        for i in 0..BLOCK_SIZE {
            block[i] ^= 1;
            assert!(Node::decode(&block).is_err(), "byte {i}");
            block[i] ^= 1;
        }
    }
}
