//! A volume of the pool.

use block::{BlockError, BoxFuture, ByteRange, Comparison, Durability, ErrorKind, Extent, Result, Volume};
use bytes::Bytes;

/// A volume of a [`crate::Pool`], open for I/O.
pub struct StoreVolume {
    size_bytes: u64,
}

impl StoreVolume {
    /// Bytes mapped in the volume's own layer and those below.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        0
    }
}

fn closed<T>() -> BoxFuture<'static, Result<T>>
where
    T: Send + 'static,
{
    Box::pin(std::future::ready(Err(BlockError::new(ErrorKind::Closed, "volume", "is not open"))))
}

impl Volume for StoreVolume {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn granularity_bytes(&self) -> u32 {
        4096
    }

    fn read(&self, _offset: u64, _len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        closed()
    }

    fn write(&self, _offset: u64, _data: Vec<Bytes>, _durability: Durability) -> BoxFuture<'_, Result<()>> {
        closed()
    }

    fn unmap(&self, _ranges: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
        closed()
    }

    fn compare_and_write(
        &self,
        _offset: u64,
        _expected: Vec<Bytes>,
        _data: Vec<Bytes>,
        _durability: Durability,
    ) -> BoxFuture<'_, Result<Comparison>> {
        closed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        closed()
    }

    fn extents(&self, _offset: u64, _len: u64, _extents_max: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
        closed()
    }
}
