//! Batch descriptors: what a batch holds, for replay, collection and scrubbing.

use super::bytes::{array_at, is_sealed, put, seal, u16_at, u32_at, u64_at};
use super::node::LEVEL_MAX;
use super::{
    BLOCK_SIZE, BlockAddress, Epoch, FORMAT_VERSION, Invalid, LayerId, Location, PoolId, SegmentId, Seq,
    Stream,
};
use block::{BufferPool, PageBuf};

/// Blocks that a descriptor may have at most.
pub(crate) const DESCRIPTOR_BLOCKS_MAX: usize = 16;

const MAGIC: &[u8; 8] = b"PALBATCH";
const HEADER_BYTES: usize = 128;
const PIECE_BYTES: usize = 24;
/// Bytes of a copy's piece that say what is copied.
pub(crate) const COPY_BYTES: usize = 16;
const INDEX_BITS: u32 = 56;

/// What a descriptor says of its batch as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The log it belongs to.
    pub(crate) stream: Stream,
    /// The pool it belongs to.
    pub(crate) pool: PoolId,
    /// The segment it was written to.
    pub(crate) segment: SegmentId,
    /// Its position in the log.
    pub(crate) seq: Seq,
    /// The opening of the pool that wrote it.
    pub(crate) epoch: Epoch,
    /// Batches of this stream and epoch below this were on stable storage before this one was written.
    pub(crate) durable: Seq,
    /// The block of the segment it starts at.
    pub(crate) start_block: u32,
}

/// A data block that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    /// Where it was.
    pub(crate) from: Location,
    /// CRC-32C of its content.
    pub(crate) checksum: u32,
}

/// What a piece says of its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PieceKind {
    /// New data; a checksum for each block.
    Data(Vec<u32>),
    /// This many blocks are zeros from now on; no data follows.
    Zeros(u32),
    /// Data that was elsewhere.
    Relocated(Vec<Move>),
    /// This many blocks are from now on what the same number are in `layer`, and those below it, from `address` on.
    Copy {
        /// Number of blocks.
        count: u32,
        /// The layer they are copied from.
        layer: LayerId,
        /// The first block that is copied.
        address: BlockAddress,
    },
    /// A map node of this level, with its block's checksum; the piece's address is its index.
    Node {
        /// Level in the map.
        level: u8,
        /// CRC-32C of the node's block.
        checksum: u32,
    },
}

/// A run of blocks in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The layer the blocks belong to.
    pub(crate) layer: LayerId,
    /// The first block's address; for a node its index.
    pub(crate) address: BlockAddress,
    /// What they are.
    pub(crate) kind: PieceKind,
}

impl Piece {
    fn code(&self) -> u8 {
        match self.kind {
            PieceKind::Data(_) => 0,
            PieceKind::Zeros(_) => 1,
            PieceKind::Relocated(_) => 2,
            PieceKind::Node { .. } => 3,
            PieceKind::Copy { .. } => 4,
        }
    }

    /// How many blocks it speaks of.
    pub(crate) fn count(&self) -> u32 {
        let count = match &self.kind {
            PieceKind::Data(checksums) => checksums.len(),
            PieceKind::Relocated(moves) => moves.len(),
            PieceKind::Zeros(count) | PieceKind::Copy { count, .. } => return *count,
            PieceKind::Node { .. } => 1,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many blocks of data it has in the batch.
    pub(crate) fn data_blocks(&self) -> u32 {
        if matches!(self.kind, PieceKind::Zeros(_) | PieceKind::Copy { .. }) { 0 } else { self.count() }
    }

    /// Bytes it takes in the descriptor.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let tail = match &self.kind {
            PieceKind::Data(checksums) => 4 * checksums.len(),
            PieceKind::Zeros(_) => 0,
            PieceKind::Relocated(moves) => 12 * moves.len(),
            PieceKind::Node { .. } => 4,
            PieceKind::Copy { .. } => COPY_BYTES,
        };
        PIECE_BYTES + tail
    }

    fn encode_into(&self, field: &mut [u8]) {
        let address = match self.kind {
            PieceKind::Node { level, .. } => (u64::from(level) << INDEX_BITS) | self.address.0,
            _ => self.address.0,
        };
        put(field, 0, &self.layer.0.to_le_bytes());
        put(field, 8, &address.to_le_bytes());
        put(field, 16, &self.count().to_le_bytes());
        put(field, 20, &[self.code()]);
        match &self.kind {
            PieceKind::Zeros(_) => {}
            PieceKind::Copy { layer, address, .. } => {
                put(field, PIECE_BYTES, &layer.0.to_le_bytes());
                put(field, PIECE_BYTES + 8, &address.0.to_le_bytes());
            }
            PieceKind::Node { checksum, .. } => put(field, PIECE_BYTES, &checksum.to_le_bytes()),
            PieceKind::Data(checksums) => {
                for (slot, checksum) in field[PIECE_BYTES..].chunks_exact_mut(4).zip(checksums) {
                    slot.copy_from_slice(&checksum.to_le_bytes());
                }
            }
            PieceKind::Relocated(moves) => {
                for (slot, step) in field[PIECE_BYTES..].chunks_exact_mut(12).zip(moves) {
                    slot[..8].copy_from_slice(&step.from.0.to_le_bytes());
                    slot[8..].copy_from_slice(&step.checksum.to_le_bytes());
                }
            }
        }
    }

    /// The piece at the start of `bytes`.
    fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let head = bytes.get(..PIECE_BYTES).ok_or(Invalid::Field("piece"))?;
        let count = u32_at(head, 16);
        let tail = |each: usize| {
            let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(each));
            len.and_then(|len| bytes.get(PIECE_BYTES..)?.get(..len)).ok_or(Invalid::Field("piece length"))
        };
        let [code] = array_at(head, 20);
        let mut address = u64_at(head, 8);
        let kind = match code {
            0 => PieceKind::Data(tail(4)?.chunks_exact(4).map(|field| u32_at(field, 0)).collect()),
            1 => PieceKind::Zeros(count),
            2 => {
                let step =
                    |field: &[u8]| Move { from: Location(u64_at(field, 0)), checksum: u32_at(field, 8) };
                PieceKind::Relocated(tail(12)?.chunks_exact(12).map(step).collect())
            }
            3 if count == 1 => {
                let level = u8::try_from(address >> INDEX_BITS).unwrap_or(u8::MAX);
                address &= (1 << INDEX_BITS) - 1;
                if level > LEVEL_MAX {
                    return Err(Invalid::Field("node level"));
                }
                PieceKind::Node { level, checksum: u32_at(tail(4)?, 0) }
            }
            4 => {
                let from =
                    bytes.get(PIECE_BYTES..PIECE_BYTES + COPY_BYTES).ok_or(Invalid::Field("piece length"))?;
                let (layer, address) = (LayerId(u64_at(from, 0)), BlockAddress(u64_at(from, 8)));
                if address.0.checked_add(u64::from(count)).is_none() {
                    return Err(Invalid::Field("piece range"));
                }
                PieceKind::Copy { count, layer, address }
            }
            _ => return Err(Invalid::Field("piece kind")),
        };
        if count == 0 || address.checked_add(u64::from(count)).is_none() {
            return Err(Invalid::Field("piece range"));
        }
        Ok(Self { layer: LayerId(u64_at(head, 0)), address: BlockAddress(address), kind })
    }
}

/// A descriptor that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// What it says of the batch.
    pub(crate) header: Header,
    /// What is in the batch, in order.
    pub(crate) pieces: Vec<Piece>,
    /// Blocks of the descriptor itself.
    pub(crate) descriptor_blocks: u32,
    /// Blocks of data that follow.
    pub(crate) data_blocks: u32,
}

/// Bytes of pieces that fit in a descriptor of the largest size.
pub(crate) const PIECES_BYTES_MAX: usize = DESCRIPTOR_BLOCKS_MAX * BLOCK_SIZE - HEADER_BYTES;

/// Blocks of a descriptor whose pieces take `pieces_bytes`.
pub(crate) fn descriptor_blocks(pieces_bytes: usize) -> usize {
    (HEADER_BYTES + pieces_bytes).div_ceil(BLOCK_SIZE)
}

/// The descriptor's blocks.
///
/// # Panics
/// If the pieces do not fit in [`DESCRIPTOR_BLOCKS_MAX`]; callers count with [`Piece::encoded_bytes`].
pub(crate) fn encode(header: &Header, pieces: &[Piece], buffers: &BufferPool) -> PageBuf {
    let pieces_bytes: usize = pieces.iter().map(Piece::encoded_bytes).sum();
    let blocks = descriptor_blocks(pieces_bytes);
    assert!(blocks <= DESCRIPTOR_BLOCKS_MAX && !pieces.is_empty() && pieces.len() <= usize::from(u16::MAX));
    let mut buffer = buffers.take(blocks * BLOCK_SIZE);
    let bytes = &mut buffer[..];
    bytes[..HEADER_BYTES].fill(0);
    put(bytes, 0, MAGIC);
    put(bytes, 12, &FORMAT_VERSION.to_le_bytes());
    put(bytes, 14, &[header.stream.code()]);
    put(bytes, 16, &header.pool);
    put(bytes, 32, &header.segment.0.to_le_bytes());
    put(bytes, 40, &header.seq.0.to_le_bytes());
    put(bytes, 48, &header.epoch.0.to_le_bytes());
    put(bytes, 56, &header.durable.0.to_le_bytes());
    put(bytes, 64, &header.start_block.to_le_bytes());
    put(bytes, 68, &u16::try_from(blocks).unwrap_or(0).to_le_bytes());
    put(bytes, 70, &u16::try_from(pieces.len()).unwrap_or(0).to_le_bytes());
    put(bytes, 72, &pieces.iter().map(Piece::data_blocks).sum::<u32>().to_le_bytes());
    let mut at = HEADER_BYTES;
    for piece in pieces {
        let end = at + piece.encoded_bytes();
        bytes[at + 21..at + PIECE_BYTES].fill(0);
        piece.encode_into(&mut bytes[at..end]);
        at = end;
    }
    bytes[at..].fill(0);
    seal(bytes);
    buffer
}

/// How many descriptor blocks the batch says it has whose first block is `first`; for reading the rest.
pub(crate) fn peek_descriptor_blocks(first: &[u8]) -> Result<usize, Invalid> {
    if first.len() < BLOCK_SIZE || &array_at::<8>(first, 0) != MAGIC {
        return Err(Invalid::Magic);
    }
    let blocks = usize::from(u16_at(first, 68));
    if (1..=DESCRIPTOR_BLOCKS_MAX).contains(&blocks) {
        Ok(blocks)
    } else {
        Err(Invalid::Field("descriptor blocks"))
    }
}

/// The descriptor at the start of `bytes`, which may go on behind it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Descriptor, Invalid> {
    let blocks = peek_descriptor_blocks(bytes)?;
    let bytes = bytes.get(..blocks * BLOCK_SIZE).ok_or(Invalid::Field("descriptor blocks"))?;
    if !is_sealed(bytes) {
        return Err(Invalid::Checksum);
    }
    let version = u16_at(bytes, 12);
    if version != FORMAT_VERSION {
        return Err(Invalid::Version(version));
    }
    let [stream] = array_at(bytes, 14);
    let header = Header {
        stream: Stream::from_code(stream).ok_or(Invalid::Field("stream"))?,
        pool: array_at(bytes, 16),
        segment: SegmentId(u64_at(bytes, 32)),
        seq: Seq(u64_at(bytes, 40)),
        epoch: Epoch(u64_at(bytes, 48)),
        durable: Seq(u64_at(bytes, 56)),
        start_block: u32_at(bytes, 64),
    };
    let mut pieces = Vec::with_capacity(usize::from(u16_at(bytes, 70)));
    let mut at = HEADER_BYTES;
    for _ in 0..u16_at(bytes, 70) {
        let piece = Piece::decode(bytes.get(at..).ok_or(Invalid::Field("piece"))?)?;
        at += piece.encoded_bytes();
        pieces.push(piece);
    }
    let data_blocks = u32_at(bytes, 72);
    if pieces.iter().map(|piece| u64::from(piece.data_blocks())).sum::<u64>() != u64::from(data_blocks) {
        return Err(Invalid::Field("number of data blocks"));
    }
    let descriptor_blocks = u32::try_from(blocks).map_err(|_| Invalid::Field("descriptor blocks"))?;
    Ok(Descriptor { header, pieces, descriptor_blocks, data_blocks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            stream: Stream::Host,
            pool: [9; 16],
            segment: SegmentId(5),
            seq: Seq(1000),
            epoch: Epoch(3),
            durable: Seq(990),
            start_block: 17,
        }
    }

    fn pieces() -> Vec<Piece> {
        let from = Location::new(SegmentId(4), 9);
        vec![
            Piece { layer: LayerId(1), address: BlockAddress(0), kind: PieceKind::Data((0..2000).collect()) },
            Piece { layer: LayerId(2), address: BlockAddress(1 << 34), kind: PieceKind::Zeros(u32::MAX) },
            Piece {
                layer: LayerId(1),
                address: BlockAddress(8),
                kind: PieceKind::Relocated(vec![Move { from, checksum: 5 }; 3]),
            },
            Piece {
                layer: LayerId(1),
                address: BlockAddress(77),
                kind: PieceKind::Node { level: 2, checksum: 6 },
            },
            Piece {
                layer: LayerId(3),
                address: BlockAddress(1 << 30),
                kind: PieceKind::Copy { count: 5000, layer: LayerId(2), address: BlockAddress(9) },
            },
        ]
    }

    #[test]
    fn a_descriptor_comes_back_as_it_was() {
        let bytes = encode(&header(), &pieces(), &BufferPool::default());
        let descriptor = decode(&bytes).unwrap();
        assert_eq!((descriptor.header, &descriptor.pieces), (header(), &pieces()));
        assert_eq!((descriptor.descriptor_blocks, descriptor.data_blocks), (3, 2004));
        assert_eq!(bytes.len(), 3 * BLOCK_SIZE);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let good = encode(&header(), &pieces(), &BufferPool::default()).to_vec();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x04;
            assert!(decode(&bad).is_err(), "byte {i}");
        }
    }

    proptest! {
        #[test]
        fn nonsense_with_a_right_checksum_is_an_error_not_a_panic(
            noise in proptest::collection::vec(any::<u8>(), 70..200), at in 12usize..300,
        ) {
            let mut bytes = encode(&header(), &pieces()[1..], &BufferPool::default()).to_vec();
            put(&mut bytes, at, &noise);
            put(&mut bytes, 8, &[0; 4]);
            put(&mut bytes, 68, &1u16.to_le_bytes());
            seal(&mut bytes);
            let _ = decode(&bytes);
        }
    }
}
