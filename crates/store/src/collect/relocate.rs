//! Moving live blocks.
//!
//! Blocks are written to the relocation stream, flushed, and only then taken into the map: each if the map still
//! has it where it was. So a host write always wins, now and in replay.

use super::Victim;
use crate::engine::Engine;
use crate::format::batch::{
    Descriptor, Header, Move, PIECES_BYTES_MAX, Piece, PieceKind, descriptor_blocks, encode,
};
use crate::format::{BLOCK_SIZE, BlockAddress, LayerId, Location, SegmentId, Seq, Stream, crc32c};
use crate::log::BATCH_BLOCKS_MAX;
use crate::map::{Find, leaf_of};
use crate::number::{count_of, narrow, wide};
use crate::recover::Found;
use crate::state::{Needed, State};
use block::{Persist, Result};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// A live block on its way.
struct Block {
    layer: LayerId,
    address: BlockAddress,
    step: Move,
    data: Bytes,
}

/// What a round moves.
#[derive(Default)]
pub(super) struct Moving {
    blocks: VecDeque<Block>,
    /// Leaves that change with it.
    leaves: BTreeSet<(LayerId, u64)>,
    written: Vec<Written>,
}

/// A relocation batch on the disk, not yet in the map.
struct Written {
    seq: Seq,
    segment: SegmentId,
    pieces: Vec<Piece>,
    data_block: u32,
    end_block: u32,
}

impl Moving {
    /// Nodes that will be dirty when all of it is in the map, roughly.
    pub(super) fn dirties(&self) -> u64 {
        wide(self.leaves.len())
    }
}

impl Engine {
    /// Collects what lives in `victim`, writing full batches as it goes. False if there is no more room.
    pub(super) async fn gather(&self, victim: &Victim, moving: &mut Moving) -> Result<bool> {
        let Some((mut scanner, _pin)) = self.walk(victim) else { return Ok(true) };
        while let Some(found) = self.next_of(victim, &mut scanner).await {
            if let Err(error) = self.gather_batch(victim.id, &found, moving).await {
                self.give_up(victim, &error);
                return Ok(true);
            }
            while wide(moving.blocks.len()) >= u64::from(BATCH_BLOCKS_MAX) {
                if !self.write_moved(moving).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn gather_batch(&self, segment: SegmentId, found: &Found, moving: &mut Moving) -> Result<()> {
        let mut live = Vec::new();
        for (address, layer, index, checksum) in blocks_of(&found.descriptor) {
            let place = Location::new(segment, found.data_block + index);
            let holder = loop {
                let holder = self.state().holder(layer, address, place);
                match holder {
                    Ok(holder) => break holder,
                    Err(needed) => self.load(needed).await?,
                }
            };
            let Some((layer, address)) = holder else { continue };
            let start = count_of(index) * BLOCK_SIZE;
            let data = &found.data[start..start + BLOCK_SIZE];
            // What is damaged stays where it is: a copy would make it look sound.
            if crc32c(data) == checksum {
                live.push((layer, address, Move { from: place, checksum }, data));
            }
        }
        if live.is_empty() {
            return Ok(());
        }
        // Copied: a few live blocks must not keep the megabyte in memory that was read with them.
        let mut copies = self.options.buffers.take(live.len() * BLOCK_SIZE);
        for (copy, (.., data)) in copies.chunks_exact_mut(BLOCK_SIZE).zip(&live) {
            copy.copy_from_slice(data);
        }
        let copies = copies.freeze();
        for (i, (layer, address, step, _)) in live.into_iter().enumerate() {
            let data = copies.slice(i * BLOCK_SIZE..(i + 1) * BLOCK_SIZE);
            moving.leaves.insert((layer, leaf_of(address)));
            moving.blocks.push_back(Block { layer, address, step, data });
        }
        Ok(())
    }

    /// Writes one batch of what was gathered. False if there is no room for it.
    async fn write_moved(&self, moving: &mut Moving) -> Result<bool> {
        // If there is not room for all of it, what there is does for a part.
        let wanted = wide(moving.blocks.len()).min(u64::from(BATCH_BLOCKS_MAX));
        self.reserve_for(Stream::Relocation, wanted).await?;
        let batch = self.state().relocation_batch(self, moving);
        let Some((written, header, data)) = batch else { return Ok(false) };
        let place = self.state().segments.place(written.segment, header.start_block);
        let mut chunks = vec![encode(&header, &written.pieces, &self.options.buffers).freeze()];
        chunks.extend(data);
        moving.written.push(written);
        let place = place.expect("an open segment has a place");
        let result = self.write_copies(&place, chunks, Persist::Cached).await;
        if result.is_err() {
            self.state().give_up_relocation(moving);
        }
        result.map(|()| true)
    }

    /// Writes the rest, makes all of it durable, and takes it into the map. False if there was not room for all.
    pub(super) async fn relocate(&self, mut moving: Moving) -> Result<bool> {
        while !moving.blocks.is_empty() && self.write_moved(&mut moving).await? {}
        let all = moving.blocks.is_empty();
        if moving.written.is_empty() {
            return Ok(all);
        }
        if let Err(error) = self.flush_disks().await {
            let mut state = self.state();
            state.give_up_relocation(&mut moving);
            state.make_read_only(&format!("a flush failed: {error}"));
            return Err(error);
        }
        for written in std::mem::take(&mut moving.written) {
            let mut block = written.data_block;
            for piece in &written.pieces {
                if let PieceKind::Relocated(moves) = &piece.kind {
                    self.take_moves(piece, moves, written.segment, block).await?;
                }
                block += piece.data_blocks();
            }
            let mut state = self.state();
            let segment = state.segments.change(written.segment);
            segment.applied = segment.applied.max(written.end_block);
            state.relocation_applied = written.seq.next();
        }
        Ok(all)
    }

    async fn take_moves(&self, piece: &Piece, moves: &[Move], segment: SegmentId, block: u32) -> Result<()> {
        loop {
            let needed = {
                let mut state = self.state();
                let layer = state.layer_now(piece.layer);
                let needed = state.needed(layer, piece.address, wide(moves.len()));
                if needed.is_none() {
                    state.apply_moves(layer, piece.address, moves, segment, block);
                }
                needed
            };
            let Some(needed) = needed else { return Ok(()) };
            // A leaf that cannot be read any more keeps its blocks where they were.
            if let Err(error) = self.load(needed).await {
                tracing::error!(%error, "moved blocks could not be taken into the map");
                return Ok(());
            }
        }
    }
}

/// The data blocks of a batch: address, layer, index among the data, checksum.
fn blocks_of(descriptor: &Descriptor) -> Vec<(BlockAddress, LayerId, u32, u32)> {
    let mut blocks = Vec::new();
    for piece in &descriptor.pieces {
        let checksums: Vec<u32> = match &piece.kind {
            PieceKind::Data(checksums) => checksums.clone(),
            PieceKind::Relocated(moves) => moves.iter().map(|step| step.checksum).collect(),
            PieceKind::Zeros(_) | PieceKind::Node { .. } | PieceKind::Copy { .. } => Vec::new(),
        };
        for (i, checksum) in checksums.into_iter().enumerate() {
            let address = BlockAddress(piece.address.0 + wide(i));
            blocks.push((address, piece.layer, narrow(wide(blocks.len())), checksum));
        }
    }
    blocks
}

impl State {
    /// The layer whose map names `place`, and for which block: the layer that wrote it, one that was or is being merged
    /// into, or the shared layer.
    fn holder(
        &mut self,
        layer: LayerId,
        address: BlockAddress,
        place: Location,
    ) -> std::result::Result<Option<(LayerId, BlockAddress)>, Needed> {
        if layer != LayerId::SHARED
            && let Some(layer) = self.first_holder(layer, address, place)?
        {
            return Ok(Some((layer, address)));
        }
        // Moved as a shared block before, or shared where it was written.
        let own = (layer == LayerId::SHARED).then_some(address);
        let number = own.or_else(|| place.shared_number(self.segments.slab_blocks()));
        let Some(number) = number else { return Ok(None) };
        let holds = self.shared_place(number)? == place;
        Ok(holds.then_some((LayerId::SHARED, number)))
    }

    /// The layer that wrote a block, or that it was merged into, if its map still names the place.
    fn first_holder(
        &mut self,
        layer: LayerId,
        address: BlockAddress,
        place: Location,
    ) -> std::result::Result<Option<LayerId>, Needed> {
        let mut id = self.layer_now(layer);
        loop {
            let Some(map) = self.map(id) else { return Ok(None) };
            if let Find::Load(load) = map.find(leaf_of(address)) {
                return Err(Needed { layer: id, load });
            }
            if map.get(address).location == place {
                return Ok(Some(id));
            }
            let merging = self.layers.get(&id).is_some_and(|layer| layer.record.merging);
            match self.children(id)[..] {
                [child] if merging => id = child,
                _ => return Ok(None),
            }
        }
    }

    /// A batch of gathered blocks, as many as fit where the relocation stream is written.
    fn relocation_batch(
        &mut self,
        engine: &Engine,
        moving: &mut Moving,
    ) -> Option<(Written, Header, Vec<Bytes>)> {
        let State { heads, segments, .. } = self;
        let id = heads[usize::from(Stream::Relocation.code())].open(segments)?;
        let start_block = segments.get(id)?.used;
        let room = count_of(segments.slab_blocks() - start_block);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut data = Vec::new();
        let mut bytes = 0;
        while let Some(block) = moving.blocks.front() {
            let joins = pieces.last().is_some_and(|piece| continues(piece, block));
            let next = bytes + if joins { 12 } else { 36 };
            let fits = descriptor_blocks(next) + data.len() < room
                && next <= PIECES_BYTES_MAX
                && wide(data.len()) < u64::from(BATCH_BLOCKS_MAX);
            if !fits {
                break;
            }
            bytes = next;
            let Some(block) = moving.blocks.pop_front() else { break };
            match pieces.last_mut() {
                Some(Piece { kind: PieceKind::Relocated(moves), .. }) if joins => moves.push(block.step),
                _ => {
                    let kind = PieceKind::Relocated(vec![block.step]);
                    pieces.push(Piece { layer: block.layer, address: block.address, kind });
                }
            }
            data.push(block.data);
        }
        if pieces.is_empty() {
            return None;
        }
        let data_block = start_block + narrow(wide(descriptor_blocks(bytes)));
        let end_block = data_block + narrow(wide(data.len()));
        segments.change(id).used = end_block;
        self.counters.written_blocks += u64::from(end_block - start_block);
        let seq = self.relocation_seq;
        self.relocation_seq = seq.next();
        let header = Header {
            stream: Stream::Relocation,
            pool: engine.pool,
            segment: id,
            seq,
            epoch: self.epoch,
            durable: self.relocation_applied,
            start_block,
        };
        Some((Written { seq, segment: id, pieces, data_block, end_block }, header, data))
    }

    /// Batches that were written in this round do not count: their blocks stay where they were.
    fn give_up_relocation(&mut self, moving: &mut Moving) {
        let State { heads, segments, .. } = self;
        heads[usize::from(Stream::Relocation.code())].seal(segments);
        for written in moving.written.drain(..) {
            let segment = segments.change(written.segment);
            segment.applied = segment.used;
        }
        moving.blocks.clear();
        self.relocation_applied = self.relocation_seq;
    }
}

/// True if `block` follows the blocks of `piece`.
fn continues(piece: &Piece, block: &Block) -> bool {
    piece.layer == block.layer && piece.address.0 + u64::from(piece.count()) == block.address.0
}
