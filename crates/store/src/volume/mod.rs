//! A volume of the pool.

mod cipher;
mod copy;
mod extents;
mod ranges;
mod read;
mod sanitize;
mod unmap;
mod write;

pub(crate) use cipher::{Cipher, DATA_KEY_BYTES};
pub(crate) use ranges::{RangeGuard, Ranges};

use crate::engine::Engine;
use crate::format::keys::FamilyId;
use crate::format::{BLOCK_BYTES, BlockAddress, LayerId, VolumeId};
use crate::number::wide;
use crate::sanitize::Status;
use crate::state::State;
use block::{
    BlockError, BoxFuture, ByteRange, Comparison, Durability, ErrorKind, Extent, Resources, Result,
    Sanitization, SanitizeMethod, Volume,
};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What all handles of a volume share.
pub(crate) struct Shared {
    pub(crate) id: VolumeId,
    name: String,
    /// Changed only under the engine's lock.
    top: AtomicU64,
    size_bytes: AtomicU64,
    /// Number of the family whose key it has, changed only under the engine's lock; 0 if it is not encrypted.
    family: AtomicU64,
    closed: AtomicBool,
    pub(crate) buffered: bool,
    pub(crate) ranges: Arc<Ranges>,
    pub(crate) sanitizing: Status,
}

impl Shared {
    pub(crate) fn new(id: VolumeId, record: &crate::catalog::VolumeRecord) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: uuid::Uuid::from_bytes(id).to_string(),
            top: AtomicU64::new(record.top.0),
            size_bytes: AtomicU64::new(record.size_bytes),
            family: AtomicU64::new(record.family.map_or(0, |family| family.0)),
            closed: AtomicBool::new(false),
            buffered: record.buffered,
            ranges: Arc::default(),
            sanitizing: Status::default(),
        })
    }

    pub(crate) fn top(&self) -> LayerId {
        LayerId(self.top.load(Ordering::Acquire))
    }

    pub(crate) fn set_top(&self, top: LayerId) {
        self.top.store(top.0, Ordering::Release);
    }

    pub(crate) fn set_size(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Release);
    }

    /// Whose key it has, if it is encrypted.
    pub(crate) fn family(&self) -> Option<FamilyId> {
        let family = self.family.load(Ordering::Acquire);
        (family != 0).then_some(FamilyId(family))
    }

    pub(crate) fn set_family(&self, family: Option<FamilyId>) {
        self.family.store(family.map_or(0, |family| family.0), Ordering::Release);
    }

    /// What its blocks are encrypted with, if they are.
    ///
    /// # Errors
    /// `Locked`.
    pub(crate) fn cipher(&self, state: &State) -> Result<Option<Arc<Cipher>>> {
        let Some(family) = self.family() else { return Ok(None) };
        let cipher = state.ciphers.get(&family).map(Arc::clone);
        cipher.map(Some).ok_or_else(|| self.locked())
    }

    fn locked(&self) -> BlockError {
        self.error(ErrorKind::Locked, "is encrypted, and its pool is locked; unlock the pool")
    }

    /// Waits until nothing is written to the volume, and holds writers back until the guard goes.
    pub(crate) async fn hold_all(&self) -> Arc<RangeGuard> {
        self.ranges.hold(BlockAddress(0), u64::MAX).await
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> BlockError {
        BlockError::new(kind, &self.name, message)
    }
}

/// A volume of a [`crate::Pool`], open for I/O. Cheap to clone through its `Arc`.
pub struct StoreVolume {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
}

/// A checked range of a volume, in blocks.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    first: BlockAddress,
    count: u64,
    /// Bytes of the first block that are before the range.
    head: u64,
    /// Bytes of the last block that are after the range.
    tail: u64,
}

impl StoreVolume {
    pub(crate) fn new(engine: Arc<Engine>, shared: Arc<Shared>) -> Self {
        Self { engine, shared }
    }

    /// What is read from layer `top` down, as if it were a volume that nobody else has.
    pub(crate) fn of_layer(engine: Arc<Engine>, top: LayerId) -> Self {
        let record =
            // What is read is what is stored: encrypted, if it is.
            crate::catalog::VolumeRecord { top, size_bytes: u64::MAX, thick: false, buffered: false, family: None };
        Self::new(engine, Shared::new([0; 16], &record))
    }

    /// The layer that takes its writes, or the frozen one.
    pub(crate) fn top(&self) -> LayerId {
        self.shared.top()
    }

    /// Bytes mapped in the volume's own layer and those below, at most its size.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        let state = self.engine.state();
        let mut at = Some(self.shared.top());
        let mut blocks = 0;
        while let Some(layer) = at.and_then(|id| state.layers.get(&id)) {
            blocks += layer.mapped;
            at = layer.parent;
        }
        (blocks * BLOCK_BYTES).min(self.size_bytes())
    }

    /// The blocks of `len` bytes at `offset`; `len` is not 0.
    fn blocks(&self, offset: u64, len: u64) -> Result<Blocks> {
        let end = self.check(offset, len)?;
        let first = BlockAddress(offset / BLOCK_BYTES);
        let count = end.div_ceil(BLOCK_BYTES) - first.0;
        Ok(Blocks { first, count, head: offset % BLOCK_BYTES, tail: (first.0 + count) * BLOCK_BYTES - end })
    }

    /// True if it is encrypted, and cannot be read or written before the pool is unlocked.
    fn is_sealed(&self) -> bool {
        let family = self.shared.family();
        family.is_some_and(|family| !self.engine.state().ciphers.contains_key(&family))
    }

    /// The end of a range that is aligned and inside the volume.
    fn check(&self, offset: u64, len: u64) -> Result<u64> {
        if self.shared.is_closed() {
            return Err(self.shared.error(ErrorKind::Closed, "was deleted or is closed"));
        }
        self.shared.sanitizing.refusal(&self.shared.name).map_or(Ok(()), Err)?;
        if self.is_sealed() {
            return Err(self.shared.locked());
        }
        let end = offset.checked_add(len).filter(|end| *end <= self.size_bytes());
        match end {
            Some(end) if offset.is_multiple_of(512) && len.is_multiple_of(512) => Ok(end),
            _ => {
                let message = format!("a request for {len} bytes is not aligned or not inside the volume");
                Err(self.shared.error(ErrorKind::Invalid, message).at(offset))
            }
        }
    }

    fn wants_durable(&self, durability: Durability) -> bool {
        durability == Durability::Durable || !self.shared.buffered
    }
}

impl Blocks {
    fn is_whole(&self) -> bool {
        self.head == 0 && self.tail == 0
    }
}

fn total_len(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| wide(chunk.len())).sum()
}

impl Volume for StoreVolume {
    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    fn granularity_bytes(&self) -> u32 {
        4096
    }

    fn resources(&self) -> Option<Resources> {
        let used_bytes = self.mapped_bytes();
        let state = self.engine.state();
        let available = state.room_of(&self.shared.id).map_or(state.room(), |room| room.min(state.room()));
        Some(Resources {
            pool_bytes: state.budget.fillable() * BLOCK_BYTES,
            available_bytes: available * BLOCK_BYTES,
            used_bytes,
        })
    }

    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(self.read_bytes(offset, len))
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, durability: Durability) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.write_bytes(offset, data, self.wants_durable(durability)))
    }

    fn atomic_bytes_max(&self) -> u64 {
        self.atomic_blocks_max() * BLOCK_BYTES
    }

    fn write_atomic(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.write_as_one(offset, data, self.wants_durable(durability)))
    }

    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.unmap_ranges(ranges))
    }

    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Comparison>> {
        Box::pin(self.compare_then_write(offset, expected, data, self.wants_durable(durability)))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.check(0, 0)?;
            self.engine.flush().await
        })
    }

    fn extents(&self, offset: u64, len: u64, extents_max: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
        Box::pin(self.find_extents(offset, len, extents_max))
    }

    fn is_locked(&self) -> bool {
        self.is_sealed()
    }

    fn can_sanitize(&self) -> bool {
        self.takes_writes()
    }

    fn can_crypto_erase(&self) -> bool {
        self.shared.family().is_some() && self.takes_writes()
    }

    fn sanitization(&self) -> Sanitization {
        self.shared.sanitizing.get()
    }

    fn sanitize(&self, method: SanitizeMethod, unrestricted_exit: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.begin_sanitize(method, unrestricted_exit))
    }

    fn sanitized(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.shared.sanitizing.over(&self.shared.name, || self.shared.is_closed()))
    }

    fn leave_failed_sanitize(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.leave_sanitize())
    }

    fn copy_from<'a>(
        &'a self,
        offset: u64,
        len: u64,
        source: &'a dyn Volume,
        source_offset: u64,
    ) -> Option<BoxFuture<'a, Result<Vec<ByteRange>>>> {
        self.share_from(offset, len, source, source_offset)
    }
}
