//! Writing: whole blocks are made of what comes, checksummed, and given to the log.

use super::{Blocks, Cipher, RangeGuard, StoreVolume, total_len};
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, BlockAddress, crc32c};
use crate::log::{BATCH_BLOCKS_MAX, Payload, Write};
use crate::number::{len_of, narrow, wide};
use block::{BufferPool, Comparison, Result};
use bytes::Bytes;
use std::sync::Arc;

/// Longer writes are made in parts: a request holds all leaves of its range in memory.
const REQUEST_BYTES_MAX: u64 = 8 << 20;
/// A write that is all or nothing takes this part of a slab at most.
const ATOMIC_PART: u32 = 4;

impl StoreVolume {
    pub(super) async fn write_bytes(&self, offset: u64, data: Vec<Bytes>, durable: bool) -> Result<()> {
        let len = total_len(&data);
        if len == 0 {
            return self.check(offset, len).map(|_| ());
        }
        if len > REQUEST_BYTES_MAX {
            return self.write_in_parts(offset, data, durable).await;
        }
        let blocks = self.blocks(offset, len)?;
        let guard = self.shared.ranges.hold(blocks.first, blocks.count).await;
        self.check(offset, len)?;
        self.write_held(blocks, data, durable, guard).await
    }

    /// What makes of blocks what is stored of them. The volume is held.
    fn sealer(&self) -> Result<Sealer> {
        let cipher = self.shared.cipher(&self.engine.state())?;
        Ok(Sealer { cipher, buffers: self.engine.options.buffers.clone() })
    }

    /// A very long write, as several.
    async fn write_in_parts(&self, offset: u64, mut data: Vec<Bytes>, durable: bool) -> Result<()> {
        self.check(offset, total_len(&data))?;
        data.reverse();
        let mut at = offset;
        while !data.is_empty() {
            let mut left = REQUEST_BYTES_MAX;
            let mut part = Vec::new();
            while left > 0 {
                let Some(mut chunk) = data.pop() else { break };
                let fits = chunk.len().min(len_of(left));
                left -= wide(fits);
                part.push(chunk.split_to(fits));
                if !chunk.is_empty() {
                    data.push(chunk);
                }
            }
            let len = total_len(&part);
            Box::pin(self.write_bytes(at, part, durable)).await?;
            at += len;
        }
        Ok(())
    }

    /// Writes a range that is held.
    async fn write_held(
        &self,
        blocks: Blocks,
        data: Vec<Bytes>,
        durable: bool,
        guard: Arc<RangeGuard>,
    ) -> Result<()> {
        let chunks = self.whole_blocks(&blocks, data).await?;
        let sealer = self.sealer()?;
        let pieces = pieces_of(blocks.first, chunks, &self.engine.zeros, &sealer);
        let layer = self.shared.top();
        self.engine.write(Write { layer, pieces, durable, whole: false, guard: Some(guard) }).await
    }

    /// Blocks that one batch surely holds, and whose want at the end of a slab wastes no large part of it.
    pub(super) fn atomic_blocks_max(&self) -> u64 {
        let slab_blocks = self.engine.state().segments.slab_blocks();
        u64::from(BATCH_BLOCKS_MAX.min(slab_blocks / ATOMIC_PART))
    }

    /// Writes all of `data` or nothing: as one piece of one batch. Readers see a batch as a whole, as it is taken into
    /// the map while nobody else looks; recovery replays it as a whole; and it is refused as a whole.
    pub(super) async fn write_as_one(&self, offset: u64, data: Vec<Bytes>, durable: bool) -> Result<()> {
        let len = total_len(&data);
        if len == 0 {
            return self.check(offset, len).map(|_| ());
        }
        let blocks = self.blocks(offset, len)?;
        if blocks.count > self.atomic_blocks_max() {
            let message = format!("{len} bytes cannot be written at once");
            return Err(self.shared.error(block::ErrorKind::Invalid, message).at(offset));
        }
        let guard = self.shared.ranges.hold(blocks.first, blocks.count).await;
        self.check(offset, len)?;
        let chunks = self.whole_blocks(&blocks, data).await?;
        let piece = one_piece(blocks.first, chunks, &self.engine.zeros, &self.sealer()?);
        let pieces = vec![(blocks.first, piece)];
        let layer = self.shared.top();
        self.engine.write(Write { layer, pieces, durable, whole: true, guard: Some(guard) }).await
    }

    /// Chunks of whole blocks; where the range has parts of blocks, what is there now fills them up.
    async fn whole_blocks(&self, blocks: &Blocks, data: Vec<Bytes>) -> Result<Vec<Bytes>> {
        if blocks.is_whole() && data.iter().all(|chunk| chunk.len() % BLOCK_SIZE == 0) {
            return Ok(data);
        }
        let mut buffer = self.engine.options.buffers.take(len_of(blocks.count * BLOCK_BYTES));
        let last = BlockAddress(blocks.first.0 + blocks.count - 1);
        let end = buffer.len() - BLOCK_SIZE;
        if blocks.head > 0 || (blocks.tail > 0 && blocks.count == 1) {
            copy_chunks(&mut buffer[..BLOCK_SIZE], &self.read_blocks(blocks.first, 1).await?);
        }
        if blocks.tail > 0 && blocks.count > 1 {
            copy_chunks(&mut buffer[end..], &self.read_blocks(last, 1).await?);
        }
        let head = len_of(blocks.head);
        copy_chunks(&mut buffer[head..], &data);
        Ok(vec![buffer.freeze()])
    }

    pub(super) async fn compare_then_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        durable: bool,
    ) -> Result<Comparison> {
        let len = total_len(&expected);
        if len != total_len(&data) {
            let message = "what is compared and what is written differ in length";
            return Err(self.shared.error(block::ErrorKind::Invalid, message));
        }
        if len == 0 {
            return self.check(offset, len).map(|_| Comparison::Equal);
        }
        let blocks = self.blocks(offset, len)?;
        let guard = self.shared.ranges.hold(blocks.first, blocks.count).await;
        let found = self.read_bytes(offset, len).await?;
        if let Some(at) = first_difference(&found, &expected) {
            return Ok(Comparison::DiffersAt(at));
        }
        self.write_held(blocks, data, durable, guard).await?;
        Ok(Comparison::Equal)
    }
}

/// Encrypts blocks of a volume that is.
struct Sealer {
    cipher: Option<Arc<Cipher>>,
    buffers: BufferPool,
}

impl Sealer {
    /// What is stored of whole blocks from `first` on. The caller's bytes stay as they are.
    fn seal(&self, first: BlockAddress, blocks: Bytes) -> Bytes {
        match &self.cipher {
            Some(cipher) => cipher.encrypted(&self.buffers, first, &blocks),
            None => blocks,
        }
    }
}

/// Seals and checksums whole blocks, and sorts out those of zeros, which are not stored.
fn pieces_of(
    first: BlockAddress,
    chunks: Vec<Bytes>,
    zeros: &[u8],
    sealer: &Sealer,
) -> Vec<(BlockAddress, Payload)> {
    let mut pieces: Vec<(BlockAddress, Payload)> = Vec::with_capacity(1);
    let mut address = first.0;
    for chunk in chunks {
        let mut start = 0;
        while start < chunk.len() {
            let is_zero = |at: usize| chunk[at..at + BLOCK_SIZE] == zeros[..BLOCK_SIZE];
            let zero = is_zero(start);
            let mut end = start + BLOCK_SIZE;
            while end < chunk.len() && is_zero(end) == zero {
                end += BLOCK_SIZE;
            }
            let count = wide((end - start) / BLOCK_SIZE);
            let at = BlockAddress(address);
            let run = (!zero).then(|| sealer.seal(at, chunk.slice(start..end)));
            add_run(&mut pieces, at, run, count);
            address += count;
            start = end;
        }
    }
    pieces
}

/// Whole blocks as one piece: of zeros if all are, else of data, though some be zeros.
fn one_piece(first: BlockAddress, chunks: Vec<Bytes>, zeros: &[u8], sealer: &Sealer) -> Payload {
    let blocks = || chunks.iter().flat_map(|chunk| chunk.chunks_exact(BLOCK_SIZE));
    if blocks().all(|block| block == &zeros[..BLOCK_SIZE]) {
        return Payload::Zeros(narrow(wide(blocks().count())));
    }
    let mut address = first.0;
    let seal = |chunk: Bytes| {
        let at = BlockAddress(address);
        address += wide(chunk.len() / BLOCK_SIZE);
        sealer.seal(at, chunk)
    };
    let chunks: Vec<Bytes> = chunks.into_iter().map(seal).collect();
    let blocks = chunks.iter().flat_map(|chunk| chunk.chunks_exact(BLOCK_SIZE));
    let checksums = blocks.map(crc32c).collect();
    Payload::Data { chunks, checksums }
}

/// Adds `count` blocks to the last piece if that is of the same kind, else as a new one. No data means zeros.
fn add_run(pieces: &mut Vec<(BlockAddress, Payload)>, at: BlockAddress, data: Option<Bytes>, count: u64) {
    match (pieces.last_mut(), data) {
        (Some((_, Payload::Zeros(before))), None) => *before += narrow(count),
        (_, None) => pieces.push((at, Payload::Zeros(narrow(count)))),
        (Some((_, Payload::Data { chunks, checksums })), Some(data)) => {
            checksums.extend(data.chunks_exact(BLOCK_SIZE).map(crc32c));
            chunks.push(data);
        }
        (_, Some(data)) => {
            let checksums = data.chunks_exact(BLOCK_SIZE).map(crc32c).collect();
            pieces.push((at, Payload::Data { chunks: vec![data], checksums }));
        }
    }
}

/// Copies chunks one after the other to the start of `target`.
fn copy_chunks(target: &mut [u8], chunks: &[Bytes]) {
    let mut at = 0;
    for chunk in chunks {
        target[at..at + chunk.len()].copy_from_slice(chunk);
        at += chunk.len();
    }
}

/// The first byte in which two lists of chunks of the same total length differ.
fn first_difference(left: &[Bytes], right: &[Bytes]) -> Option<u64> {
    let (left, right) = (left.concat(), right.concat());
    if left == right {
        return None;
    }
    left.iter().zip(&right).position(|(a, b)| a != b).map(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Sealer {
        Sealer { cipher: None, buffers: BufferPool::default() }
    }

    #[test]
    fn what_is_encrypted_is_the_callers_bytes_no_more_and_checksums_are_of_what_is_stored() {
        let cipher = Arc::new(Cipher::new(&[3; crate::volume::DATA_KEY_BYTES]));
        let sealer = Sealer { cipher: Some(Arc::clone(&cipher)), buffers: BufferPool::default() };
        let data = Bytes::from(vec![5; 3 * BLOCK_SIZE]);
        let expected = cipher.encrypted(&sealer.buffers, BlockAddress(9), &data);
        let parts = || vec![data.slice(..BLOCK_SIZE), data.slice(BLOCK_SIZE..)];
        let zeros = vec![0; BLOCK_SIZE];
        let pieces = pieces_of(BlockAddress(9), parts(), &zeros, &sealer);
        let whole = one_piece(BlockAddress(9), parts(), &zeros, &sealer);
        for payload in pieces.into_iter().map(|(_, payload)| payload).chain([whole]) {
            let Payload::Data { chunks, checksums } = payload else { panic!("there is data") };
            assert!(chunks.concat() == expected);
            assert_eq!(checksums, expected.chunks(BLOCK_SIZE).map(crc32c).collect::<Vec<_>>());
        }
        assert!(data.iter().all(|byte| *byte == 5));
    }

    #[test]
    fn zeros_and_data_become_pieces_of_their_own() {
        let zeros = vec![0; BLOCK_SIZE];
        let mut data = vec![0; 6 * BLOCK_SIZE];
        data[2 * BLOCK_SIZE] = 1;
        data[3 * BLOCK_SIZE + 9] = 1;
        let bytes = Bytes::from(data);
        let chunks = vec![bytes.slice(..3 * BLOCK_SIZE), bytes.slice(3 * BLOCK_SIZE..)];
        let pieces = pieces_of(BlockAddress(7), chunks, &zeros, &plain());
        let shape: Vec<_> = pieces.iter().map(|(at, p)| (at.0, p.count(), p.data_blocks())).collect();
        assert_eq!(shape, [(7, 2, 0), (9, 2, 2), (11, 2, 0)]);
    }

    #[test]
    fn differences_are_found_across_chunks() {
        let chunks =
            |parts: &[&'static [u8]]| parts.iter().map(|p| Bytes::from_static(p)).collect::<Vec<_>>();
        assert_eq!(first_difference(&chunks(&[b"ab", b"cd"]), &chunks(&[b"a", b"bcd"])), None);
        assert_eq!(first_difference(&chunks(&[b"ab", b"cd"]), &chunks(&[b"a", b"bce"])), Some(3));
    }
}
