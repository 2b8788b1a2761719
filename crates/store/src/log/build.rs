//! Making a batch of what is queued.

use super::{
    BATCH_BLOCKS_MAX, Flight, IN_FLIGHT_MAX, Item, Payload, QUEUED_BLOCKS_FOR_MORE, REST_BLOCKS_MIN,
};
use crate::disks::Place;
use crate::engine::Engine;
use crate::format::batch::{COPY_BYTES, Header, PIECES_BYTES_MAX, Piece, PieceKind, descriptor_blocks};
use crate::format::node::Entry;
use crate::format::{BLOCK_SIZE, BlockAddress, Stream};
use crate::number::{narrow, wide};
use crate::state::State;
use block::Persist;
use bytes::Bytes;

/// Bytes of a piece without its checksums.
const PIECE_BYTES: usize = 24;

/// A batch of the host stream.
pub(crate) struct Batch {
    pub(super) header: Header,
    pub(super) pieces: Vec<Piece>,
    /// For each piece: the request it is part of.
    pub(super) requests: Vec<std::sync::Arc<super::Request>>,
    pub(super) data: Vec<Bytes>,
    /// For each piece that copies: what its blocks become.
    pub(super) references: Vec<Vec<Entry>>,
    pub(super) place: Place,
    pub(super) descriptor_blocks: u32,
    pub(super) blocks: u32,
    pub(super) persist: Persist,
    /// Some request of it wants to be durable.
    pub(super) durable: bool,
}

/// How much a batch holds already.
#[derive(Clone, Copy, Default)]
struct Fill {
    pieces_bytes: usize,
    data_blocks: u32,
}

impl Fill {
    fn blocks(self) -> u32 {
        narrow(wide(descriptor_blocks(self.pieces_bytes))) + self.data_blocks
    }

    fn with(self, data_blocks: u32) -> Self {
        let checksums = 4 * crate::number::count_of(data_blocks);
        Self {
            pieces_bytes: self.pieces_bytes + PIECE_BYTES + checksums,
            data_blocks: self.data_blocks + data_blocks,
        }
    }

    /// With another piece for `payload`, of `data_blocks` blocks of data.
    fn with_piece(self, payload: &Payload, data_blocks: u32) -> Self {
        let mut next = self.with(data_blocks);
        next.pieces_bytes += if matches!(payload, Payload::Copy { .. }) { COPY_BYTES } else { 0 };
        next
    }

    fn fits(self, room: u32) -> bool {
        self.pieces_bytes <= PIECES_BYTES_MAX && self.data_blocks <= BATCH_BLOCKS_MAX && self.blocks() <= room
    }

    /// How many of `wanted` data blocks fit in one more piece.
    fn data_that_fits(self, wanted: u64, room: u32) -> u32 {
        let most = room.saturating_sub(self.blocks()).min(BATCH_BLOCKS_MAX - self.data_blocks);
        let mut count = narrow(wanted.min(u64::from(most)));
        while count > 0 && !self.with(count).fits(room) {
            count -= 1;
        }
        count
    }
}

impl State {
    /// A batch of what is queued, if one may start now. The second value asks for more reserved segments.
    pub(super) fn build(&mut self, engine: &Engine) -> Option<Batch> {
        let host = &self.host;
        let waits = !host.flights.is_empty() && host.queued_blocks < QUEUED_BLOCKS_FOR_MORE;
        if host.queue.is_empty()
            || host.failed.is_some()
            || waits
            || wide(host.flights.len()) >= u64::from(IN_FLIGHT_MAX)
        {
            return None;
        }
        let head = &mut self.heads[usize::from(Stream::Host.code())];
        let least = host.queue.front().map_or(REST_BLOCKS_MIN, least_blocks);
        let id = head.open_for(&mut self.segments, least)?;
        let segment = self.segments.get(id).expect("an open segment is in the table");
        let start_block = segment.used;
        let place = self.segments.place(id, start_block)?;
        let room = self.segments.slab_blocks() - start_block;
        assert!(room >= REST_BLOCKS_MIN, "an open segment has room for a batch");

        let mut batch = Batch {
            header: Header {
                stream: Stream::Host,
                pool: engine.pool,
                segment: id,
                seq: self.host.next,
                epoch: self.epoch,
                durable: self.host.durable,
                start_block,
            },
            pieces: Vec::new(),
            requests: Vec::new(),
            data: Vec::new(),
            references: Vec::new(),
            place,
            descriptor_blocks: 0,
            blocks: 0,
            persist: Persist::Cached,
            durable: false,
        };
        let fill = self.fill(&mut batch, room);
        batch.blocks = fill.blocks();
        batch.descriptor_blocks = batch.blocks - fill.data_blocks;
        if batch.durable && self.host.is_durable_so_far() {
            batch.persist = Persist::Durable;
        }
        let host = &mut self.host;
        host.durable_written(batch.persist);
        host.next = host.next.next();
        host.flights.push_back(Flight::Writing);
        self.segments.change(id).used += batch.blocks;
        self.log_since_cut += u64::from(batch.blocks);
        self.counters.host_blocks += u64::from(fill.data_blocks);
        self.counters.host_log += u64::from(batch.blocks);
        self.counters.written_blocks += u64::from(batch.blocks);
        Some(batch)
    }

    /// Moves what fits from the queue to the batch.
    fn fill(&mut self, batch: &mut Batch, room: u32) -> Fill {
        let mut fill = Fill::default();
        while let Some(item) = self.host.queue.pop_front() {
            let wanted = item.payload.data_blocks();
            let count = fill.data_that_fits(wanted, room);
            let next = fill.with_piece(&item.payload, count);
            let cut = u64::from(count) < wanted;
            if (wanted > 0 && count == 0) || (cut && item.request.whole) || !next.fits(room) {
                self.host.queue.push_front(item);
                break;
            }
            fill = next;
            self.host.queued_blocks -= u64::from(count);
            batch.durable |= item.request.durable;
            let (part, rest) = split(item, count);
            batch.add(part);
            if let Some(rest) = rest {
                self.host.queue.push_front(rest);
                break;
            }
        }
        assert!(!batch.pieces.is_empty(), "a fresh batch has room for a piece");
        fill
    }
}

impl Batch {
    fn add(&mut self, item: Item) {
        let kind = match item.payload {
            Payload::Zeros(count) => PieceKind::Zeros(count),
            Payload::Copy { layer, address, count, references } => {
                self.references.push(references);
                PieceKind::Copy { count, layer, address }
            }
            Payload::Data { chunks, checksums } => {
                self.data.extend(chunks);
                PieceKind::Data(checksums)
            }
        };
        self.pieces.push(Piece { layer: item.request.layer, address: item.address, kind });
        self.requests.push(item.request);
    }
}

/// Blocks that a batch needs that begins with `item`.
fn least_blocks(item: &Item) -> u32 {
    if !item.request.whole {
        return REST_BLOCKS_MIN;
    }
    Fill::default().with(narrow(item.payload.data_blocks())).blocks()
}

/// The first `count` data blocks of `item`, and the rest if there is one.
fn split(item: Item, count: u32) -> (Item, Option<Item>) {
    let whole = item.payload.data_blocks() == u64::from(count);
    let Item { request, address, payload } = item;
    let Payload::Data { mut chunks, mut checksums } = payload else {
        return (Item { request, address, payload }, None);
    };
    if whole {
        return (Item { request, address, payload: Payload::Data { chunks, checksums } }, None);
    }
    let rest_checksums = checksums.split_off(crate::number::count_of(count));
    let mut bytes_left = crate::number::count_of(count) * BLOCK_SIZE;
    let mut first = Vec::new();
    let mut rest = Vec::new();
    for mut chunk in chunks.drain(..) {
        if bytes_left >= chunk.len() {
            bytes_left -= chunk.len();
            first.push(chunk);
        } else {
            if bytes_left > 0 {
                first.push(chunk.split_to(bytes_left));
                bytes_left = 0;
            }
            rest.push(chunk);
        }
    }
    request.one_more_part();
    let rest = Item {
        request: std::sync::Arc::clone(&request),
        address: BlockAddress(address.0 + u64::from(count)),
        payload: Payload::Data { chunks: rest, checksums: rest_checksums },
    };
    (Item { request, address, payload: Payload::Data { chunks: first, checksums } }, Some(rest))
}
