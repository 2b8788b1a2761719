//! Reading the batches of a segment one after the other.

use super::is_whole;
use crate::catalog::Slab;
use crate::disks::Copies;
use crate::engine::Engine;
use crate::format::batch::{DESCRIPTOR_BLOCKS_MAX, Descriptor, decode, peek_descriptor_blocks};
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, SegmentId, Seq, Stream};
use crate::log::{BATCH_BLOCKS_MAX, IN_FLIGHT_MAX};
use crate::number::{count_of, narrow, wide};
use block::Result;
use bytes::Bytes;

/// Blocks that are read at a time (1 MiB).
const WINDOW_BLOCKS: u32 = 256;
/// How far behind a batch that is not valid another one is looked for: as many as are ever in flight.
const GAP_BLOCKS_MAX: u32 = IN_FLIGHT_MAX * (BATCH_BLOCKS_MAX + DESCRIPTOR_BLOCKS);
/// [`DESCRIPTOR_BLOCKS_MAX`] as a number of blocks.
const DESCRIPTOR_BLOCKS: u32 = 16;
const _: () = assert!(DESCRIPTOR_BLOCKS_MAX == 16);

/// A batch as it is on disk.
pub(crate) struct Found {
    pub(crate) descriptor: Descriptor,
    /// The first block of data in the segment.
    pub(crate) data_block: u32,
    /// The block after the batch.
    pub(crate) end_block: u32,
    /// Its data.
    pub(crate) data: Bytes,
}

/// Walks over the batches of a segment.
pub(crate) struct Scanner<'a> {
    engine: &'a Engine,
    id: SegmentId,
    stream: Stream,
    /// The copies that can be read, and which of them the window is of.
    copies: Vec<Slab>,
    copy: usize,
    at: u32,
    end: u32,
    last: Option<Seq>,
    window: Bytes,
    window_start: u32,
}

impl<'a> Scanner<'a> {
    /// From block `from` to block `end` of a segment.
    pub(crate) fn new(
        engine: &'a Engine,
        id: SegmentId,
        stream: Stream,
        copies: Copies,
        from: u32,
        end: u32,
    ) -> Self {
        let current = |slab: &Slab| engine.disks.current(slab.disk).is_some();
        let copies: Vec<_> = copies.slabs().iter().copied().filter(current).collect();
        let window = Bytes::new();
        Self { engine, id, stream, copies, copy: 0, at: from, end, last: None, window, window_start: from }
    }

    /// The next batch. Where no descriptor is valid the log ends, or a batch is damaged: one behind it then says
    /// that there is more, so it is looked for as far as batches that are written side by side can reach.
    ///
    /// # Errors
    /// The disk's, where the next batch should be.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>> {
        if let Some(found) = self.whole_here().await? {
            return Ok(Some(found));
        }
        let start = self.at;
        let mut end = self.end.min(start.saturating_add(GAP_BLOCKS_MAX));
        let mut nearest = None;
        for copy in 0..self.copies.len() {
            self.turn_to(copy);
            self.go_to(start);
            let last = self.last;
            while self.at + 1 < end {
                self.at += 1;
                let here = self.at;
                // A bad sector where perhaps nothing was written is no reason to stop.
                if let Ok(Some(found)) = self.batch_here().await {
                    (self.last, end, nearest) = (last, here, Some((here, found)));
                    break;
                }
            }
        }
        if let Some((here, found)) = nearest {
            self.go_to(here);
            if self.copies.len() > 1 {
                return self.whole_here().await;
            }
            (self.at, self.last) = (found.end_block, Some(found.descriptor.header.seq));
            return Ok(Some(found));
        }
        self.at = start;
        self.end = start;
        Ok(None)
    }

    /// The batch that begins here, from a copy that has all of it if there is one.
    async fn whole_here(&mut self) -> Result<Option<Found>> {
        let (at, last, copies) = (self.at, self.last, self.copies.len());
        let (mut torn, mut failure, mut none) = (None, None, copies == 0);
        for turn in 0..copies {
            self.turn_to((self.copy + usize::from(turn > 0)) % copies);
            self.go_to(at);
            self.last = last;
            match self.batch_here().await {
                Ok(Some(found)) if copies == 1 || is_whole(&found.descriptor, &found.data) => {
                    return Ok(Some(found));
                }
                Ok(Some(found)) => torn = torn.or(Some(found)),
                Ok(None) => none = true,
                Err(error) => failure = Some(error),
            }
        }
        self.go_to(at);
        self.last = last;
        match (torn, failure) {
            (Some(found), _) => {
                (self.at, self.last) = (found.end_block, Some(found.descriptor.header.seq));
                Ok(Some(found))
            }
            // What one copy lacks was never acknowledged, whatever another cannot say.
            (None, Some(error)) if !none => Err(error),
            _ => Ok(None),
        }
    }

    fn go_to(&mut self, at: u32) {
        self.at = at;
        if at < self.window_start {
            (self.window, self.window_start) = (Bytes::new(), at);
        }
    }

    fn turn_to(&mut self, copy: usize) {
        if self.copy != copy {
            self.copy = copy;
            (self.window, self.window_start) = (Bytes::new(), self.at);
        }
    }

    /// The batch that begins here, if there is one.
    async fn batch_here(&mut self) -> Result<Option<Found>> {
        if self.at >= self.end || !self.have(1).await? {
            return Ok(None);
        }
        let Ok(blocks) = peek_descriptor_blocks(self.here()) else { return Ok(None) };
        if blocks > DESCRIPTOR_BLOCKS_MAX || !self.have(narrow(wide(blocks))).await? {
            return Ok(None);
        }
        let Ok(descriptor) = decode(self.here()) else { return Ok(None) };
        let header = &descriptor.header;
        let belongs = header.pool == self.engine.pool
            && header.segment == self.id
            && header.stream == self.stream
            && header.start_block == self.at
            && self.last.is_none_or(|last| header.seq > last)
            && descriptor.data_blocks <= BATCH_BLOCKS_MAX;
        let length = descriptor.descriptor_blocks + descriptor.data_blocks;
        if !belongs || !self.have(length).await? {
            return Ok(None);
        }
        self.last = Some(header.seq);
        let data_block = self.at + descriptor.descriptor_blocks;
        let start = count_of(descriptor.descriptor_blocks) * BLOCK_SIZE;
        let data = self.here_bytes().slice(start..count_of(length) * BLOCK_SIZE);
        self.at += length;
        Ok(Some(Found { descriptor, data_block, end_block: self.at, data }))
    }

    fn here_bytes(&self) -> Bytes {
        self.window.slice(count_of(self.at - self.window_start) * BLOCK_SIZE..)
    }

    fn here(&self) -> &[u8] {
        &self.window[count_of(self.at - self.window_start) * BLOCK_SIZE..]
    }

    /// Makes sure that `blocks` blocks from here on are in the window. False if the segment ends before.
    async fn have(&mut self, blocks: u32) -> Result<bool> {
        if self.end - self.at < blocks {
            return Ok(false);
        }
        let there = (self.window.len() / BLOCK_SIZE).saturating_sub(count_of(self.at - self.window_start));
        let there = narrow(wide(there));
        if there < blocks {
            let least = blocks - there;
            let count = WINDOW_BLOCKS.max(least).min(self.end - self.at - there);
            let within = u64::from(self.at + there) * BLOCK_BYTES;
            let Some(slab) = self.copies.get(self.copy).copied() else { return Ok(false) };
            let only = self.copies.len() == 1;
            let ahead = self.engine.read_slab(slab, within, count_of(count) * BLOCK_SIZE, only).await;
            // A bad sector in what is only read ahead is not met where nothing was written.
            let more = match ahead {
                Err(_) if count > least => {
                    self.engine.read_slab(slab, within, count_of(least) * BLOCK_SIZE, only).await?
                }
                ahead => ahead?,
            };
            // What is there already is not read again: batches are as large as windows where hosts write much.
            self.window = if there == 0 { more } else { self.joined(&more) };
            self.window_start = self.at;
        }
        Ok(true)
    }

    /// The window from here on, and `more` after it.
    fn joined(&self, more: &Bytes) -> Bytes {
        let rest = self.here();
        let mut joined = self.engine.options.buffers.take(rest.len() + more.len());
        joined[..rest.len()].copy_from_slice(rest);
        joined[rest.len()..].copy_from_slice(more);
        joined.freeze()
    }
}
