//! Little-endian fields at fixed offsets. Offsets are constants of the format and inside the block by
//! construction; readers check lengths first.

pub(super) fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(block, offset))
}

pub(super) fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(block, offset))
}

pub(super) fn u64_at(block: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(block, offset))
}

/// The `N` bytes at `offset`.
///
/// # Panics
/// If they are not all inside `block`.
pub(super) fn array_at<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&block[offset..offset + N]);
    array
}

pub(super) fn put(block: &mut [u8], offset: usize, field: &[u8]) {
    block[offset..offset + field.len()].copy_from_slice(field);
}

/// Where each structure keeps its checksum.
const CHECKSUM_AT: usize = 8;

/// Writes the checksum of `block` into its field, which must be zero.
pub(super) fn seal(block: &mut [u8]) {
    let checksum = super::crc32c(block);
    put(block, CHECKSUM_AT, &checksum.to_le_bytes());
}

/// True if the checksum field of `block` fits the rest of it.
pub(super) fn is_sealed(block: &[u8]) -> bool {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&block[..CHECKSUM_AT]);
    digest.update(&[0; 4]);
    digest.update(&block[CHECKSUM_AT + 4..]);
    digest.finalize() == u64::from(u32_at(block, CHECKSUM_AT))
}
