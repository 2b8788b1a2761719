//! How much of an atomic write hosts are promised (SBC-4 6.6.4, MAXIMUM ATOMIC TRANSFER LENGTH).

use block::Volume;

/// The largest write that `volume` does as a whole wherever a logical block of `block_bytes` begins, in bytes: no more
/// than `transfer_bytes_max`, which bounds every transfer.
pub(crate) fn bytes_max(volume: &dyn Volume, block_bytes: u32, transfer_bytes_max: u32) -> u32 {
    let (most, granule) = (volume.atomic_bytes_max(), u64::from(volume.granularity_bytes()).max(1));
    let aligned = u64::from(block_bytes).is_multiple_of(granule);
    let most = if aligned { most } else { most.saturating_sub(granule) };
    let most = u32::try_from(most).unwrap_or(u32::MAX).min(transfer_bytes_max);
    most - most % block_bytes.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{BoxFuture, ByteRange, Comparison, Durability, Extent, Result};
    use bytes::Bytes;
    use std::future::ready;

    /// Writes so many bytes at once, by 4 KiB.
    struct AtOnce(u64);

    impl Volume for AtOnce {
        fn size_bytes(&self) -> u64 {
            1 << 30
        }
        fn granularity_bytes(&self) -> u32 {
            4096
        }
        fn atomic_bytes_max(&self) -> u64 {
            self.0
        }
        fn read(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
            Box::pin(ready(Ok(Vec::new())))
        }
        fn write(&self, _: u64, _: Vec<Bytes>, _: Durability) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn unmap(&self, _: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn compare_and_write(
            &self,
            _: u64,
            _: Vec<Bytes>,
            _: Vec<Bytes>,
            _: Durability,
        ) -> BoxFuture<'_, Result<Comparison>> {
            Box::pin(ready(Ok(Comparison::Equal)))
        }
        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(ready(Ok(())))
        }
        fn extents(&self, _: u64, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
            Box::pin(ready(Ok(Vec::new())))
        }
    }

    #[test]
    fn logical_blocks_that_begin_within_a_granule_cost_one() {
        let of = |most: u64, block_bytes: u32| bytes_max(&AtOnce(most), block_bytes, 8 << 20);
        assert_eq!((of(1 << 20, 4096), of(1 << 20, 512)), (1 << 20, (1 << 20) - 4096));
        assert_eq!((of(16 << 10, 4096), of(16 << 10, 512)), (16 << 10, 12 << 10));
        assert_eq!((of(4096, 4096), of(4096, 512)), (4096, 0), "a block is whole without being promised");
        assert_eq!((of(0, 4096), of(0, 512)), (0, 0));
    }

    #[test]
    fn no_atomic_write_is_longer_than_a_transfer() {
        for most in [64 << 20, 1 << 40, u64::MAX] {
            assert_eq!(bytes_max(&AtOnce(most), 4096, 8 << 20), 8 << 20);
        }
    }
}
