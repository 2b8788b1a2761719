//! Writing the nodes of a cut, children before parents.

use super::Cut;
use crate::disks::Place;
use crate::engine::Engine;
use crate::format::batch::{Header, Piece, PieceKind, encode};
use crate::format::node::{Entry, Node};
use crate::format::{BLOCK_SIZE, BlockAddress, LayerId, SegmentId, Stream, crc32c};
use crate::map::{Entries, NodeKey};
use crate::number::{narrow, wide};
use crate::state::{State, entry_at};
use block::{ErrorKind, Persist, Result};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;

/// Nodes in a batch at most: two blocks of descriptor and a little less than 1 MiB.
const NODES_MAX: u32 = 250;
/// Batches of nodes in flight at most.
const IN_FLIGHT_MAX: usize = 4;

/// A node that gets a place: which layer of the cut, and which node of it.
#[derive(Clone, Copy)]
struct Pick {
    layer: usize,
    node: usize,
    id: LayerId,
    key: NodeKey,
}

/// A place for some nodes.
struct Spot {
    segment: SegmentId,
    start_block: u32,
    descriptor_blocks: u32,
    place: Place,
    header: Header,
}

impl Engine {
    /// Writes all nodes of `cut` and tells the maps where they are. The places count as live from then on, also
    /// if a later step of the checkpoint fails: the nodes are then written again, elsewhere.
    pub(super) async fn write_nodes(&self, cut: &mut Cut) -> Result<()> {
        let mut picks = Vec::new();
        for (layer, part) in cut.layers.iter().enumerate() {
            let nodes = part.map.nodes.iter().enumerate();
            picks.extend(nodes.map(|(node, n)| Pick { layer, node, id: part.id, key: n.key }));
        }
        picks.sort_by_key(|pick| (pick.key.level(), pick.layer, pick.key));
        let mut writes = FuturesUnordered::new();
        let mut result = Ok(());
        let mut left = &picks[..];
        while let (Some(first), Ok(())) = (left.first(), &result) {
            let same_level = left.iter().take_while(|pick| pick.key.level() == first.key.level());
            let count = narrow(wide(same_level.count()).min(u64::from(NODES_MAX)));
            let Some((spot, count)) = self.state().spot_for_nodes(self, count) else {
                result = Err(self.error(ErrorKind::NoSpace, "no slab is left for a checkpoint; add space"));
                break;
            };
            let (now, later) = left.split_at(crate::number::count_of(count));
            left = later;
            let chunks = self.place(cut, now, &spot);
            let place = spot.place;
            writes.push(async move { self.write_copies(&place, chunks, Persist::Cached).await });
            if writes.len() >= IN_FLIGHT_MAX {
                result = writes.next().await.unwrap_or(Ok(()));
            }
        }
        while let Some(written) = writes.next().await {
            result = result.and(written);
        }
        if result.is_err() {
            let mut state = self.state();
            let State { heads, segments, .. } = &mut *state;
            heads[usize::from(Stream::Nodes.code())].seal(segments);
        }
        result
    }

    /// Encodes nodes for `spot` and gives them their places.
    fn place(&self, cut: &mut Cut, picks: &[Pick], spot: &Spot) -> Vec<Bytes> {
        let entries: Vec<Arc<Entries>> = {
            let state = self.state();
            let entries_of = |pick: &Pick| {
                let layer = state.layers.get(&pick.id).expect("layers of a cut stay");
                layer.map.entries_of(&cut.layers[pick.layer].map.nodes[pick.node])
            };
            picks.iter().map(entries_of).collect()
        };
        let mut buffer = self.options.buffers.take(picks.len() * BLOCK_SIZE);
        let mut pieces = Vec::with_capacity(picks.len());
        for ((pick, entries), block) in picks.iter().zip(&entries).zip(buffer.chunks_exact_mut(BLOCK_SIZE)) {
            let (level, index) = (pick.key.level(), pick.key.index());
            Node { level, layer: pick.id, index, entries: Box::new(**entries) }.encode_into(block);
            let kind = PieceKind::Node { level, checksum: crc32c(block) };
            pieces.push(Piece { layer: pick.id, address: BlockAddress(index), kind });
        }
        let descriptor = encode(&spot.header, &pieces, &self.options.buffers);
        assert_eq!(wide(descriptor.len() / BLOCK_SIZE), u64::from(spot.descriptor_blocks));
        let mut state = self.state();
        let first_block = spot.start_block + spot.descriptor_blocks;
        for (block, (pick, piece)) in (first_block..).zip(picks.iter().zip(&pieces)) {
            let PieceKind::Node { checksum, .. } = piece.kind else { unreachable!("made above") };
            state.assign(cut, *pick, entry_at(spot.segment, block, checksum));
        }
        vec![descriptor.freeze(), buffer.freeze()]
    }
}

impl State {
    /// A place for up to `count` nodes, and for how many.
    fn spot_for_nodes(&mut self, engine: &Engine, count: u32) -> Option<(Spot, u32)> {
        let State { heads, segments, .. } = self;
        let id = heads[usize::from(Stream::Nodes.code())].open(segments)?;
        let segment = segments.get(id).expect("an open segment is in the table");
        let start_block = segment.used;
        let room = segments.slab_blocks() - start_block;
        let piece = 28;
        let descriptors = |count: u32| {
            narrow(wide(crate::format::batch::descriptor_blocks(piece * crate::number::count_of(count))))
        };
        let mut count = count.min(room - 1);
        while count + descriptors(count) > room {
            count -= 1;
        }
        let descriptor_blocks = descriptors(count);
        let place = segments.place(id, start_block)?;
        let segment = segments.change(id);
        segment.used += descriptor_blocks + count;
        segment.applied = segment.used;
        self.counters.written_blocks += u64::from(descriptor_blocks + count);
        let header = Header {
            stream: Stream::Nodes,
            pool: engine.pool,
            segment: id,
            seq: self.nodes_seq,
            epoch: self.epoch,
            durable: crate::format::Seq(0),
            start_block,
        };
        self.nodes_seq = self.nodes_seq.next();
        Some((Spot { segment: id, start_block, descriptor_blocks, place, header }, count))
    }

    fn assign(&mut self, cut: &mut Cut, pick: Pick, place: Entry) {
        let map = &mut cut.layers[pick.layer].map;
        let former = self.with_layer(pick.id, |layer, _| layer.map.assign(map, pick.key, place));
        self.segments.add_live(place.location.segment(), 1);
        if let Some(former) = former {
            self.node_gone(former);
        }
    }
}
