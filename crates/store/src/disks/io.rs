//! Reading some copy, and writing all of them.
//!
//! A write has happened when every disk that takes part has it. One that fails does not take part any more, once the
//! labels of the others say so ([`Engine::lose`]): what it has missed can then never be taken for current.

use super::{Member, Place};
use crate::catalog::Slab;
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, DiskIndex, crc32c};
use crate::number::wide;
use block::{BlockError, BoxFuture, ErrorKind, Persist, Result};
use bytes::Bytes;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;

/// A disk that has not done by then what another did has failed. Longer than systems try again by themselves.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// A read that takes longer is done from another copy.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// What a read that fails counts as: failing is quick, and should not draw more of them.
const FAILURE_COSTS: Duration = Duration::from_millis(100);

/// Why blocks cannot be had.
#[derive(Debug)]
pub(crate) enum Bad {
    /// The disk failed.
    Disk(BlockError),
    /// This block, of those asked for, has not the checksum it should have.
    Block(usize),
}

impl Engine {
    /// Reads `len` bytes of one copy, which is not waited for if there is another.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn read_slab(&self, slab: Slab, within: u64, len: usize, only: bool) -> Result<Bytes> {
        let member = self.member(slab.disk)?;
        if only {
            return member.disk.read(self.disks.offset(slab) + within, len).await;
        }
        self.read_copy(slab, member, within, len).await
    }

    async fn read_copy(&self, slab: Slab, member: &Member, within: u64, len: usize) -> Result<Bytes> {
        let _busy = member.begin();
        let begun = self.runtime.now();
        let read = member.disk.read(self.disks.offset(slab) + within, len);
        let read = match select(read, self.runtime.sleep(READ_PATIENCE)).await {
            Either::Left((read, _)) => read,
            Either::Right(_) => Err(self.error(ErrorKind::Device, "the disk takes too long")),
        };
        let took = self.runtime.now().saturating_sub(begun);
        member.took(if read.is_ok() { took } else { took.max(FAILURE_COSTS) });
        read
    }

    /// Reads blocks that follow each other in a segment and verifies them. If there is only one copy, what is wrong is
    /// read once more; else it is taken from another copy, and mended where it was wrong. The segment is pinned.
    pub(crate) async fn read_verified(
        &self,
        place: Place,
        checksums: &[u32],
    ) -> std::result::Result<Bytes, Bad> {
        let len = checksums.len() * BLOCK_SIZE;
        let Some(slab) = place.copies.only() else { return self.read_sound(place, checksums).await };
        let member = self.member(slab.disk).map_err(Bad::Disk)?;
        let offset = self.disks.offset(slab) + place.within;
        let data = member.disk.read(offset, len).await.map_err(Bad::Disk)?;
        if first_wrong(&data, checksums).is_none() {
            return Ok(data);
        }
        tracing::warn!(offset, "a block has a wrong checksum and is read again");
        let data = member.disk.read(offset, len).await.map_err(Bad::Disk)?;
        first_wrong(&data, checksums).map_or(Ok(data), |wrong| Err(Bad::Block(wrong)))
    }

    /// [`Engine::read_verified`] where there are several copies.
    async fn read_sound(&self, place: Place, checksums: &[u32]) -> std::result::Result<Bytes, Bad> {
        let len = checksums.len() * BLOCK_SIZE;
        let mut bad = Bad::Disk(self.no_copy());
        // What was read of copies that were not all right, and which of its blocks are right.
        let mut best: Option<Bytes> = None;
        let mut broken: Vec<Slab> = Vec::new();
        let order = self.disks.in_order(&place.copies);
        let last = order.len().saturating_sub(1);
        for (turn, (slab, member)) in order.into_iter().enumerate() {
            let read = if turn < last || best.is_some() {
                self.read_copy(slab, member, place.within, len).await
            } else {
                // There is no other: it is waited for.
                member.disk.read(self.disks.offset(slab) + place.within, len).await
            };
            let data = match read {
                Ok(data) => data,
                Err(error) => {
                    tracing::warn!(%error, "a copy cannot be read; another is");
                    bad = if best.is_none() { Bad::Disk(error) } else { bad };
                    broken.push(slab);
                    continue;
                }
            };
            let merged =
                best.take().map_or_else(|| data.clone(), |best| self.merged(&best, &data, checksums));
            if first_wrong(&data, checksums).is_some() {
                tracing::warn!(
                    disk = slab.disk.0,
                    "a copy has a block with a wrong checksum; another is read"
                );
                broken.push(slab);
            }
            match first_wrong(&merged, checksums) {
                None => {
                    self.mend(place, &broken, &merged);
                    return Ok(merged);
                }
                Some(wrong) => bad = Bad::Block(wrong),
            }
            best = Some(merged);
        }
        Err(bad)
    }

    /// Of two copies of the same blocks, those that are right.
    fn merged(&self, one: &Bytes, other: &Bytes, checksums: &[u32]) -> Bytes {
        let mut merged = self.options.buffers.take(one.len());
        let blocks = merged.chunks_exact_mut(BLOCK_SIZE).zip(one.chunks_exact(BLOCK_SIZE));
        for ((target, (one, other)), checksum) in blocks
            .zip(other.chunks_exact(BLOCK_SIZE))
            .map(|((target, one), other)| (target, (one, other)))
            .zip(checksums)
        {
            target.copy_from_slice(if crc32c(one) == *checksum { one } else { other });
        }
        merged.freeze()
    }

    /// Writes what is right over copies that are not: what is there should be just that, and nobody else writes there.
    fn mend(&self, place: Place, broken: &[Slab], data: &Bytes) {
        if broken.is_empty() {
            return;
        }
        let Some(engine) = self.me.upgrade() else { return };
        let pinned = self.state().segments.pin(place.segment);
        if !pinned {
            return;
        }
        let (broken, data) = (broken.to_vec(), data.clone());
        self.runtime.spawn(Box::pin(async move {
            let _pin = engine.pinned(vec![place.segment]);
            for slab in broken {
                let written = engine.write_slab(slab, place.within, vec![data.clone()]).await;
                if written.is_ok_and(|there| there) {
                    engine.state().counters.mended += wide(data.len()) / BLOCK_BYTES;
                    tracing::warn!(disk = slab.disk.0, ?place, "a damaged copy was written anew");
                }
            }
        }));
    }

    /// Writes `chunks` to one copy, not durably. A disk that does not do it leaves the pool, if there are others for what
    /// is on it. False if the disk has left.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn write_slab(&self, slab: Slab, within: u64, chunks: Vec<Bytes>) -> Result<bool> {
        let Some(member) = self.disks.current(slab.disk) else { return Ok(false) };
        let written = member.disk.write(self.disks.offset(slab) + within, chunks, Persist::Cached);
        if self.disks.alone() {
            return written.await.map(|()| true);
        }
        let written = self.patiently(slab.disk, written).await;
        self.settle_copies(&[(slab.disk, written)], true)
            .await
            .map(|()| self.disks.current(slab.disk).is_some())
    }

    /// Writes `chunks` to all copies. They have it when this returns, with `persist`.
    ///
    /// # Errors
    /// The disk's. Copies may then hold the old content or the new, unit by unit.
    pub(crate) async fn write_copies(
        &self,
        place: &Place,
        chunks: Vec<Bytes>,
        persist: Persist,
    ) -> Result<()> {
        if let Some(slab) = place.copies.only() {
            let member = self.member(slab.disk)?;
            return member.disk.write(self.disks.offset(slab) + place.within, chunks, persist).await;
        }
        let writes = place.copies.slabs().iter().filter_map(|slab| {
            let offset = self.disks.offset(*slab) + place.within;
            let member = self.disks.current(slab.disk)?;
            Some((slab.disk, member.disk.write(offset, chunks.clone(), persist)))
        });
        let results = self.all_or_most(writes.collect()).await;
        self.settle_copies(&results, false).await?;
        // What was left out is not current, and the labels say so before anybody relies on that.
        self.wait_for_losses().await?;
        let has = |slab: &Slab| {
            let written = results.iter().any(|(disk, result)| *disk == slab.disk && result.is_ok());
            written && self.disks.current(slab.disk).is_some()
        };
        if place.copies.slabs().iter().any(has) { Ok(()) } else { Err(self.no_copy()) }
    }

    /// Writes `data` at `offset` of every disk. They have it on stable storage when this returns.
    ///
    /// # Errors
    /// The disk's. Disks may then hold the old content or the new, unit by unit.
    pub(crate) async fn write_everywhere(&self, offset: u64, data: &Bytes) -> Result<()> {
        let mut writes = Vec::new();
        for (index, member) in self.disks.all_current() {
            writes.push((index, member.disk.write(offset, vec![data.clone()], Persist::Durable)));
        }
        let results = self.all_or_most(writes).await;
        self.settle_copies(&results, false).await?;
        self.wait_for_losses().await?;
        if results.iter().any(|(_, result)| result.is_ok()) { Ok(()) } else { Err(self.no_copy()) }
    }

    /// Makes what was written durable on all disks.
    ///
    /// # Errors
    /// The disk's: what was written since the last flush that succeeded may be lost.
    pub(crate) async fn flush_disks(&self) -> Result<()> {
        let mut current = self.disks.all_current();
        let Some((_, first)) = current.next() else { return Err(self.no_copy()) };
        if current.next().is_none() {
            first.disk.flush().await?;
            return self.wait_for_losses().await;
        }
        let flushes = self.disks.all_current().map(|(index, member)| (index, member.disk.flush()));
        let results = self.all_or_most(flushes.collect()).await;
        self.settle_copies(&results, false).await?;
        self.wait_for_losses().await
    }

    /// Waits for an operation on a disk that others can do without; what hangs is not waited for.
    pub(crate) async fn patiently(
        &self,
        disk: DiskIndex,
        operation: BoxFuture<'_, Result<()>>,
    ) -> Result<()> {
        match select(operation, self.runtime.sleep(HANGS_AFTER)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                self.disks.hang(disk);
                Err(self.error(ErrorKind::Device, "the disk does not answer"))
            }
        }
    }

    /// Waits for a discard. A disk that does not do it is lost, if it can be: the slab may be forgotten at any time.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn discarded(&self, disk: DiskIndex, discard: BoxFuture<'_, Result<()>>) -> Result<()> {
        if self.disks.alone() {
            return discard.await;
        }
        let mut discard = discard;
        match select(&mut discard, self.runtime.sleep(HANGS_AFTER)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                let why = self.error(ErrorKind::Device, "the disk does not answer");
                if self.lose(disk, &why).await.is_err() { discard.await } else { Err(why) }
            }
        }
    }

    /// Waits for operations on several disks. Those that have not ended long after others have succeeded have failed:
    /// what hangs is not waited for.
    async fn all_or_most(
        &self,
        operations: Vec<(DiskIndex, BoxFuture<'_, Result<()>>)>,
    ) -> Vec<(DiskIndex, Result<()>)> {
        let mut left: Vec<DiskIndex> = operations.iter().map(|(index, _)| *index).collect();
        let mut running = FuturesUnordered::new();
        for (index, operation) in operations {
            running.push(operation.map(move |result| (index, result)));
        }
        let mut results: Vec<(DiskIndex, Result<()>)> = Vec::with_capacity(left.len());
        let mut patience: Option<BoxFuture<'static, ()>> = None;
        while !left.is_empty() {
            if patience.is_none() && results.iter().any(|(_, result)| result.is_ok()) {
                patience = Some(self.runtime.sleep(HANGS_AFTER));
            }
            let next = match &mut patience {
                None => running.next().await,
                Some(patience) => match select(running.next(), patience).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) => None,
                },
            };
            let Some((index, result)) = next else { break };
            left.retain(|other| *other != index);
            results.push((index, result));
        }
        for index in left {
            self.disks.hang(index);
            results.push((index, Err(self.error(ErrorKind::Device, "the disk does not answer"))));
        }
        results
    }

    /// Disks on which something failed that others did, or which there are `others` for, leave the pool.
    async fn settle_copies(&self, results: &[(DiskIndex, Result<()>)], others: bool) -> Result<()> {
        let failed = results.iter().filter_map(|(disk, result)| Some((*disk, result.as_ref().err()?)));
        let mut first = None;
        for (disk, error) in failed {
            first.get_or_insert(error);
            if others || results.iter().any(|(_, result)| result.is_ok()) {
                let lost = self.lose(disk, error).await;
                if lost.is_err() && self.disks.hangs(disk) {
                    // What it was given may still be written, at any time: nothing may come to lie there.
                    self.state()
                        .make_read_only("a disk does not answer, and there is no other for what is on it");
                }
                lost?;
            }
        }
        match first {
            Some(error) if !others && results.iter().all(|(_, result)| result.is_err()) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn member(&self, disk: DiskIndex) -> Result<&Member> {
        self.disks.current(disk).ok_or_else(|| self.no_copy())
    }

    fn no_copy(&self) -> BlockError {
        self.error(ErrorKind::Device, "no disk with a copy is left")
    }
}

fn first_wrong(data: &[u8], checksums: &[u32]) -> Option<usize> {
    let mut blocks = data.chunks_exact(BLOCK_SIZE).zip(checksums);
    blocks.position(|(block, checksum)| crc32c(block) != *checksum)
}
