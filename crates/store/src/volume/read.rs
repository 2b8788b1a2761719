//! Reading: resolve through the layers, read what lies together at once, verify every block.

use super::{Blocks, Cipher, StoreVolume};
use crate::disks::{Bad, Place};
use crate::engine::Engine;
use crate::format::node::Entry;
use crate::format::{BLOCK_BYTES, BlockAddress, LayerId, Location, SegmentId};
use crate::map::leaves_of;
use crate::number::{len_of, wide};
use crate::state::{Needed, State, slots_in};
use crate::views::entry_in;
use block::{BlockError, ErrorKind, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;

/// Blocks that are read at once at most (4 MiB).
const RUN_BLOCKS_MAX: usize = 1024;

/// Blocks of a volume that are together where they are.
enum Run {
    Zeros(u64),
    Data {
        address: BlockAddress,
        start: Location,
        place: Place,
        checksums: Vec<u32>,
    },
    /// The map names a place that does not exist.
    Lost(BlockAddress),
}

impl StoreVolume {
    pub(super) async fn read_bytes(&self, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        if len == 0 {
            self.check(offset, len)?;
            return Ok(Vec::new());
        }
        let blocks = self.blocks(offset, len)?;
        let mut chunks = self.read_blocks(blocks.first, blocks.count).await?;
        // What was read before the volume began to be sanitized is not told afterwards.
        self.check(offset, len)?;
        if !blocks.is_whole() {
            trim(&mut chunks, &blocks);
        }
        Ok(chunks)
    }

    /// The content of whole blocks.
    pub(crate) async fn read_blocks(&self, first: BlockAddress, count: u64) -> Result<Vec<Bytes>> {
        let (cipher, runs) = loop {
            let resolved = {
                let mut state = self.engine.state();
                // At one moment: a volume that is given a new key is given a new layer with it.
                let cipher = self.shared.cipher(&state)?;
                state.resolve(self.shared.top(), first, count).map(|runs| (cipher, runs))
            };
            match resolved {
                Ok(found) => break found,
                Err(needed) => self.engine.load(needed).await?,
            }
        };
        let segments = runs.iter().filter_map(Run::segment).collect();
        let _pins = self.engine.pinned(segments);
        let [run] = &runs[..] else {
            let reads = runs.iter().map(|run| self.read_run(run, cipher.as_deref()));
            return Ok(try_join_all(reads).await?.into_iter().flatten().collect());
        };
        self.read_run(run, cipher.as_deref()).await
    }

    async fn read_run(&self, run: &Run, cipher: Option<&Cipher>) -> Result<Vec<Bytes>> {
        match run {
            Run::Zeros(count) => Ok(self.engine.zero_chunks(*count)),
            Run::Data { address, start, place, checksums } => {
                let result = self.engine.read_verified(*place, checksums).await;
                let plain = |data: Bytes| match cipher {
                    Some(cipher) => cipher.decrypted(&self.engine.options.buffers, *address, &data),
                    None => data,
                };
                result.map(|data| vec![plain(data)]).map_err(|bad| match bad {
                    Bad::Disk(error) => error,
                    Bad::Block(index) => {
                        self.engine.state().mark_damaged(start.segment());
                        self.damaged(BlockAddress(address.0 + wide(index)))
                    }
                })
            }
            Run::Lost(address) => Err(self.damaged(*address)),
        }
    }

    fn damaged(&self, address: BlockAddress) -> BlockError {
        self.engine.state().degrade("blocks with a wrong checksum were read");
        let message = "the stored data is damaged and there is no other copy";
        self.shared.error(ErrorKind::Corrupt, message).at(address.0 * BLOCK_BYTES)
    }
}

impl Run {
    fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::Zeros(_) | Self::Lost(_) => None,
            Self::Data { start, .. } => Some(start.segment()),
        }
    }
}

impl Engine {
    /// `count` blocks of zeros.
    pub(crate) fn zero_chunks(&self, count: u64) -> Vec<Bytes> {
        let mut left = len_of(count * BLOCK_BYTES);
        let mut chunks = Vec::new();
        while left > 0 {
            let len = left.min(self.zeros.len());
            chunks.push(self.zeros.slice(..len));
            left -= len;
        }
        chunks
    }
}

/// Cuts off what is in the blocks but not in the range.
fn trim(chunks: &mut [Bytes], blocks: &Blocks) {
    if let Some(first) = chunks.first_mut() {
        *first = first.slice(len_of(blocks.head)..);
    }
    if let Some(last) = chunks.last_mut() {
        last.truncate(last.len() - len_of(blocks.tail));
    }
}

impl State {
    /// Where blocks are, as seen from layer `top`. The segments named are pinned, once for each run.
    ///
    /// # Errors
    /// The node that has to be loaded to know; nothing is pinned then.
    fn resolve(
        &mut self,
        top: LayerId,
        first: BlockAddress,
        count: u64,
    ) -> std::result::Result<Vec<Run>, Needed> {
        let mut runs = Vec::new();
        for leaf in leaves_of(first, count) {
            let slots = slots_in(leaf, first, count);
            let views = self.views(top, leaf, slots.clone())?;
            for slot in slots {
                let address = BlockAddress((leaf << 8) + wide(slot));
                let entry = entry_in(&views, slot);
                match entry.location.shared_block() {
                    None => self.add_block(&mut runs, address, entry),
                    Some(number) => match self.shared_place(number)? {
                        place if place.is_place() => {
                            self.add_block(&mut runs, address, Entry { location: place, ..entry });
                        }
                        _ => runs.push(Run::Lost(address)),
                    },
                }
            }
        }
        for run in &runs {
            if let Some(id) = run.segment() {
                assert!(self.segments.pin(id), "a place was found in a segment of the table");
            }
        }
        Ok(runs)
    }

    fn add_block(&self, runs: &mut Vec<Run>, address: BlockAddress, entry: Entry) {
        let place = entry.location;
        if !place.is_place() {
            match runs.last_mut() {
                Some(Run::Zeros(count)) => *count += 1,
                _ => runs.push(Run::Zeros(1)),
            }
            return;
        }
        if let Some(Run::Data { start, checksums, .. }) = runs.last_mut() {
            let next = start.0 + wide(checksums.len());
            if next == place.0 && checksums.len() < RUN_BLOCKS_MAX {
                checksums.push(entry.checksum);
                return;
            }
        }
        let start = place;
        runs.push(match self.segments.place_of(start) {
            Some(place) => Run::Data { address, start, place, checksums: vec![entry.checksum] },
            None => Run::Lost(address),
        });
    }

    /// Blocks of a segment were found to be wrong.
    pub(crate) fn mark_damaged(&mut self, id: SegmentId) {
        if self.segments.get(id).is_some() {
            self.segments.change(id).damaged = true;
        }
    }
}
