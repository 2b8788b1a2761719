//! Opening a pool after a crash: what the log holds beyond the last checkpoint is applied to the maps.

mod level;
mod replay;
mod scan;

pub(crate) use scan::{Found, Scanner};

use crate::catalog::{Changes, LogRange, SegmentRecord, SegmentState};
use crate::engine::{Engine, OPEN_END};
use crate::format::batch::{Descriptor, PieceKind};
use crate::format::{BLOCK_SIZE, Epoch, SegmentId, Seq, Stream, crc32c};
use crate::log::{HostLog, REPLAYED};
use crate::segment::Segment;
use crate::state::State;
use block::{ErrorKind, Result};
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Segments that are scanned at the same time.
const SCANS: usize = 8;

/// A batch to replay.
pub(super) struct Logged {
    pub(super) descriptor: Descriptor,
    pub(super) data_block: u32,
    pub(super) end_block: u32,
    /// All its data has the checksums it should have.
    pub(super) whole: bool,
}

impl Logged {
    /// Blocks of the batch, descriptors included.
    fn blocks(&self) -> u32 {
        self.descriptor.descriptor_blocks + self.descriptor.data_blocks
    }
}

type Log = BTreeMap<(Epoch, Seq), Logged>;

impl Engine {
    /// Replays the log, then begins a new epoch: with its transaction the pool is open for writing. `records` are
    /// the segments as of the last checkpoint.
    ///
    /// # Errors
    /// `Corrupt` if acknowledged writes cannot be read back; the disk's.
    pub(crate) async fn recover(
        self: &Arc<Self>,
        records: &BTreeMap<SegmentId, SegmentRecord>,
    ) -> Result<()> {
        let blocks = self.state().segments.slab_blocks();
        let to_scan: Vec<_> = records
            .iter()
            .filter(|(_, record)| REPLAYED.contains(&record.stream) && record.replay_from < blocks)
            .map(|(id, record)| (*id, record.stream, record.replay_from))
            .collect();
        let scans = to_scan.into_iter().map(|(id, stream, from)| self.scan(id, stream, from));
        let found: Vec<Vec<Logged>> = iter(scans).buffered(SCANS).try_collect().await?;
        let (mut host, mut relocation) = (Log::new(), Log::new());
        for batch in found.into_iter().flatten() {
            let header = &batch.descriptor.header;
            let log = if header.stream == Stream::Host { &mut host } else { &mut relocation };
            log.insert((header.epoch, header.seq), batch);
        }
        let ranges = self.state().ranges.clone();
        let mut ends = BTreeMap::new();
        for (epoch, range) in ranges {
            let host_end = self.replay_host(epoch, &range, &host).await?;
            let relocation_end = self.replay_relocation(epoch, &range, &relocation).await?;
            ends.insert(epoch, (host_end, relocation_end));
        }
        self.level(&[&host, &relocation]).await?;
        self.flush_disks().await?;
        self.begin_first_epoch(records, &ends).await
    }

    async fn scan(&self, id: SegmentId, stream: Stream, from: u32) -> Result<Vec<Logged>> {
        let (copies, end) = {
            let state = self.state();
            let segment = state.segments.get(id).expect("all segments of the catalog are in the table");
            (segment.copies, state.segments.slab_blocks())
        };
        let mut scanner = Scanner::new(self, id, stream, copies, from, end);
        let mut batches = Vec::new();
        while let Some(found) = scanner.next().await? {
            let known = self.state().ranges.contains_key(&found.descriptor.header.epoch);
            if !known {
                break;
            }
            let whole = is_whole(&found.descriptor, &found.data);
            let Found { descriptor, data_block, end_block, .. } = found;
            batches.push(Logged { descriptor, data_block, end_block, whole });
        }
        Ok(batches)
    }

    /// Step 4 of opening: what was replayed is what counts, and what is written from now on is of a new epoch.
    async fn begin_first_epoch(
        &self,
        records: &BTreeMap<SegmentId, SegmentRecord>,
        ends: &BTreeMap<Epoch, (Seq, Seq)>,
    ) -> Result<()> {
        let prepare = |state: &mut State| {
            let mut ranges = state.ranges.clone();
            let (mut host, mut relocation) = (state.pool_record.host_seq, state.pool_record.relocation_seq);
            for (epoch, (host_end, relocation_end)) in ends {
                host = host.max(*host_end);
                relocation = relocation.max(*relocation_end);
                if let Some(range) = ranges.get_mut(epoch) {
                    range.host_end = *host_end;
                    range.relocation_end = *relocation_end;
                }
            }
            let unused = state.unused_after_replay();
            let epoch = state.pool_record.epoch.next();
            let range = LogRange {
                host_first: host,
                host_end: OPEN_END,
                relocation_first: relocation,
                relocation_end: OPEN_END,
            };
            ranges.insert(epoch, range);
            let pool = crate::catalog::PoolRecord { epoch, clean: false, ..state.pool_record };
            let seal =
                |record: &SegmentRecord| SegmentRecord { state: SegmentState::Sealed, ..record.clone() };
            let sealed = records.iter().filter(|(_, record)| record.state != SegmentState::Sealed);
            let sealed = sealed.map(|(id, record)| (*id, Some(seal(record))));
            let mut segments: BTreeMap<_, _> = sealed.collect();
            segments.extend(unused.iter().map(|id| (*id, None)));
            let changes = Changes {
                pool: Some(pool),
                log_ranges: ranges.iter().map(|(epoch, range)| (*epoch, Some(*range))).collect(),
                segments: segments.into_iter().collect(),
                ..Changes::default()
            };
            Ok((changes, (pool, ranges, host, relocation, unused)))
        };
        let mut slabs = Vec::new();
        self.transact(prepare, |state, (pool, ranges, host, relocation, unused)| {
            state.pool_record = pool;
            state.epoch = pool.epoch;
            state.ranges = ranges;
            state.host = HostLog::new(host);
            state.relocation_seq = relocation;
            state.relocation_applied = relocation;
            slabs = unused.into_iter().map(|id| state.segments.remove(id)).collect();
        })
        .await?;
        let mut free = self.slabs.lock();
        slabs.into_iter().for_each(|copies| free.give(copies));
        Ok(())
    }

    pub(super) fn lost_log(&self, seq: Seq) -> block::BlockError {
        let message = format!(
            "acknowledged writes cannot be read back: log batch {seq} is damaged; restore the volumes from a copy"
        );
        self.error(ErrorKind::Corrupt, message)
    }
}

impl State {
    /// Segments that no map as of the last checkpoint and nothing replayed refers to: set aside or begun when the
    /// crash came. They are free at once: else crashes that follow each other could use all slabs up, and a checkpoint,
    /// which gives such segments back, would have none to be written to.
    fn unused_after_replay(&self) -> Vec<SegmentId> {
        let unused = |segment: &Segment| {
            segment.live == 0 && segment.pins == 0 && (segment.used == 0 || segment.stream == Stream::Nodes)
        };
        self.segments.iter().filter(|(_, segment)| unused(segment)).map(|(id, _)| id).collect()
    }
}

/// True if all data blocks have their checksums.
fn is_whole(descriptor: &Descriptor, data: &Bytes) -> bool {
    let mut blocks = data.chunks_exact(BLOCK_SIZE);
    descriptor.pieces.iter().all(|piece| {
        let mut fits = |checksum: u32| blocks.next().is_some_and(|block| crc32c(block) == checksum);
        match &piece.kind {
            PieceKind::Data(checksums) => checksums.iter().all(|checksum| fits(*checksum)),
            PieceKind::Relocated(moves) => moves.iter().all(|step| fits(step.checksum)),
            PieceKind::Zeros(_) | PieceKind::Copy { .. } => true,
            PieceKind::Node { checksum, .. } => fits(*checksum),
        }
    })
}
