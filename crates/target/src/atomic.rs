//! How much of an atomic write hosts are promised (SBC-4 6.6.4, MAXIMUM ATOMIC TRANSFER LENGTH).

/// The largest write done as a whole wherever a logical block of `block_bytes` begins, in bytes, by a volume that does one
/// of `most` bytes at multiples of `granule`, and one granule less elsewhere: no more than `transfer_bytes_max`, which
/// bounds every transfer.
pub(crate) fn bytes_max(most: u64, granule: u32, block_bytes: u32, transfer_bytes_max: u32) -> u32 {
    let granule = granule.max(1);
    let aligned = block_bytes.is_multiple_of(granule);
    let most = if aligned { most } else { most.saturating_sub(granule.into()) };
    let most = u32::try_from(most).unwrap_or(u32::MAX).min(transfer_bytes_max);
    most - most % block_bytes.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_blocks_that_begin_within_a_granule_cost_one() {
        let of = |most: u64, block_bytes: u32| bytes_max(most, 4096, block_bytes, 8 << 20);
        assert_eq!((of(1 << 20, 4096), of(1 << 20, 512)), (1 << 20, (1 << 20) - 4096));
        assert_eq!((of(16 << 10, 4096), of(16 << 10, 512)), (16 << 10, 12 << 10));
        assert_eq!((of(4096, 4096), of(4096, 512)), (4096, 0), "a block is whole without being promised");
        assert_eq!((of(0, 4096), of(0, 512)), (0, 0));
        assert_eq!(
            (bytes_max(4096, 0, 512, 8192), bytes_max(4096, 512, 0, 8192)),
            (4096, 4096),
            "nobody divides by it"
        );
    }

    #[test]
    fn no_atomic_write_is_longer_than_a_transfer() {
        for most in [64 << 20, 1 << 40, u64::MAX] {
            assert_eq!(bytes_max(most, 4096, 4096, 8 << 20), 8 << 20);
        }
    }
}
