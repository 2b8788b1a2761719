//! A volume in memory.

use block::{BlockError, BoxFuture, ByteRange, Comparison, Durability, Extent, Provisioning, Volume};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK: u64 = 4096;

/// A volume in memory.
pub(crate) struct SimVolume {
    size_bytes: AtomicU64,
    blocks: Mutex<BTreeMap<u64, [u8; 4096]>>,
}

impl SimVolume {
    pub(crate) fn new(size_bytes: u64) -> Self {
        Self { size_bytes: AtomicU64::new(size_bytes), blocks: Mutex::new(BTreeMap::new()) }
    }

    /// Another volume with the same content.
    pub(crate) fn copy(&self) -> Self {
        let blocks = Mutex::new(self.blocks.lock().clone());
        Self { size_bytes: AtomicU64::new(self.size_bytes()), blocks }
    }

    /// The blocks in which another volume differs.
    pub(crate) fn differences(&self, other: &Self) -> Vec<ByteRange> {
        let (own, other) = (self.blocks.lock().clone(), other.blocks.lock().clone());
        let content = |blocks: &BTreeMap<u64, [u8; 4096]>, at| blocks.get(at).copied().unwrap_or([0; 4096]);
        let known: std::collections::BTreeSet<u64> = own.keys().chain(other.keys()).copied().collect();
        let differ = known.iter().filter(|at| content(&own, at) != content(&other, at));
        differ.map(|at| ByteRange { offset: at * BLOCK, len: BLOCK }).collect()
    }

    pub(crate) fn grow(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Release);
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        BLOCK.saturating_mul(u64::try_from(self.blocks.lock().len()).unwrap_or(u64::MAX))
    }

    fn check(&self, offset: u64, len: u64) -> block::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes() => Ok(()),
            _ => Err(BlockError::new(block::ErrorKind::Invalid, "volume", "past the end").at(offset)),
        }
    }

    fn byte(blocks: &BTreeMap<u64, [u8; 4096]>, position: u64) -> u8 {
        let within = usize::try_from(position % BLOCK).unwrap_or(0);
        blocks.get(&(position / BLOCK)).map_or(0, |block| block[within])
    }

    fn put(blocks: &mut BTreeMap<u64, [u8; 4096]>, offset: u64, data: &[Bytes]) {
        for (position, byte) in (offset..).zip(data.iter().flatten()) {
            let within = usize::try_from(position % BLOCK).unwrap_or(0);
            blocks.entry(position / BLOCK).or_insert([0; 4096])[within] = *byte;
        }
    }
}

fn len_of(data: &[Bytes]) -> u64 {
    data.iter().map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX)).sum()
}

impl Volume for SimVolume {
    fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    fn granularity_bytes(&self) -> u32 {
        4096
    }

    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, block::Result<Vec<Bytes>>> {
        let read = || {
            self.check(offset, len)?;
            let blocks = self.blocks.lock();
            Ok(vec![(offset..offset + len).map(|position| Self::byte(&blocks, position)).collect()])
        };
        Box::pin(ready(read()))
    }

    fn write(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        _durability: Durability,
    ) -> BoxFuture<'_, block::Result<()>> {
        let done = self.check(offset, len_of(&data));
        Box::pin(ready(done.map(|()| Self::put(&mut self.blocks.lock(), offset, &data))))
    }

    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, block::Result<()>> {
        let run = || {
            for range in ranges {
                self.check(range.offset, range.len)?;
                let zeros = Bytes::from(vec![0; usize::try_from(range.len).unwrap_or(0)]);
                let mut blocks = self.blocks.lock();
                Self::put(&mut blocks, range.offset, &[zeros]);
                blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
            }
            Ok(())
        };
        Box::pin(ready(run()))
    }

    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        _durability: Durability,
    ) -> BoxFuture<'_, block::Result<Comparison>> {
        let run = || {
            self.check(offset, len_of(&expected))?;
            let mut blocks = self.blocks.lock();
            let mut bytes = (0..).zip(expected.iter().flatten());
            if let Some((at, _)) = bytes.find(|(at, byte)| Self::byte(&blocks, offset + at) != **byte) {
                return Ok(Comparison::DiffersAt(at));
            }
            Self::put(&mut blocks, offset, &data);
            Ok(Comparison::Equal)
        };
        Box::pin(ready(run()))
    }

    fn flush(&self) -> BoxFuture<'_, block::Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn extents(&self, offset: u64, len: u64, _max: usize) -> BoxFuture<'_, block::Result<Vec<Extent>>> {
        let whole = Extent { range: ByteRange { offset, len }, provisioning: Provisioning::Mapped };
        Box::pin(ready(self.check(offset, len).map(|()| vec![whole])))
    }
}
