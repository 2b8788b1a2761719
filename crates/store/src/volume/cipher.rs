//! Encryption of blocks: AES-256 in XTS mode (IEEE 1619), each block of 4 KiB a data unit of its own, numbered by its
//! address in the volume.
//!
//! AES is the `aes` crate's, many cipher blocks at once. What is here is the chain of tweaks, as the crate for XTS
//! encrypts one cipher block after the other, at a tenth of the speed; tests compare with it, and with the standard.

use crate::format::{BLOCK_SIZE, BlockAddress};
use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use block::BufferPool;
use bytes::Bytes;

/// Bytes of a data key: two AES keys, for the data and for the tweak.
pub(crate) const DATA_KEY_BYTES: usize = 64;

/// Bytes that AES takes at once.
const UNIT: usize = 16;
/// What is added when a tweak's highest bit is shifted out (IEEE 1619 5.2).
const FEEDBACK: u128 = 0x87;

/// The cipher of a family of volumes. Its keys are overwritten when it goes.
pub(crate) struct Cipher {
    data: Aes256,
    tweak: Aes256,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    pub(crate) fn new(key: &[u8; DATA_KEY_BYTES]) -> Self {
        let half = |at: usize| {
            let mut half = zeroize::Zeroizing::new([0; DATA_KEY_BYTES / 2]);
            half.copy_from_slice(&key[at..at + DATA_KEY_BYTES / 2]);
            Aes256::new((&*half).into())
        };
        Self { data: half(0), tweak: half(DATA_KEY_BYTES / 2) }
    }

    /// Whole blocks from `first` on, encrypted, in memory of their own.
    pub(crate) fn encrypted(&self, buffers: &BufferPool, first: BlockAddress, plain: &[u8]) -> Bytes {
        self.map(buffers, first, plain, |this, address, block| this.encrypt(address, block))
    }

    /// Whole blocks from `first` on, decrypted, in memory of their own.
    pub(crate) fn decrypted(&self, buffers: &BufferPool, first: BlockAddress, stored: &[u8]) -> Bytes {
        self.map(buffers, first, stored, |this, address, block| this.decrypt(address, block))
    }

    fn map(
        &self,
        buffers: &BufferPool,
        first: BlockAddress,
        from: &[u8],
        change: impl Fn(&Self, BlockAddress, &mut [u8]),
    ) -> Bytes {
        assert!(from.len().is_multiple_of(BLOCK_SIZE), "whole blocks are encrypted");
        let mut buffer = buffers.take(from.len());
        let blocks = buffer.chunks_exact_mut(BLOCK_SIZE).zip(from.chunks_exact(BLOCK_SIZE));
        for ((to, from), address) in blocks.zip(first.0..) {
            to.copy_from_slice(from);
            change(self, BlockAddress(address), to);
        }
        buffer.freeze()
    }

    fn encrypt(&self, address: BlockAddress, block: &mut [u8]) {
        let tweaks = self.tweaks(address);
        mask(block, &tweaks);
        let (units, _) = Array::slice_as_chunks_mut(block);
        self.data.encrypt_blocks(units);
        mask(block, &tweaks);
    }

    fn decrypt(&self, address: BlockAddress, block: &mut [u8]) {
        let tweaks = self.tweaks(address);
        mask(block, &tweaks);
        let (units, _) = Array::slice_as_chunks_mut(block);
        self.data.decrypt_blocks(units);
        mask(block, &tweaks);
    }

    /// The masks of a block's units: the encrypted number of the block, doubled from one to the next in GF(2^128).
    fn tweaks(&self, address: BlockAddress) -> [u128; BLOCK_SIZE / UNIT] {
        let mut first = Array(u128::from(address.0).to_le_bytes());
        self.tweak.encrypt_block(&mut first);
        let mut next = u128::from_le_bytes(first.0);
        std::array::from_fn(|_| {
            let tweak = next;
            next = (tweak << 1) ^ ((tweak >> 127) * FEEDBACK);
            tweak
        })
    }
}

fn mask(block: &mut [u8], tweaks: &[u128]) {
    let (units, _) = block.as_chunks_mut::<UNIT>();
    for (unit, tweak) in units.iter_mut().zip(tweaks) {
        *unit = (u128::from_le_bytes(*unit) ^ tweak).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::consts::U32;
    use xts_mode::{Xts128, get_tweak_default};

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn key() -> [u8; DATA_KEY_BYTES] {
        // IEEE 1619 annex B, vectors 10 to 12.
        let halves = [
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592",
        ];
        bytes(&halves.concat()).try_into().expect("64 bytes")
    }

    fn counting() -> Vec<u8> {
        (0..BLOCK_SIZE).map(|i| u8::try_from(i % 256).expect("a byte")).collect()
    }

    /// IEEE 1619 annex B, vectors 10, 11 and 12: data units of 512 bytes with AES-256. The first 512 bytes of a longer
    /// unit with the same number are the same.
    #[test]
    fn ieee_1619_vectors_of_aes_256() {
        let cipher = Cipher::new(&key());
        let vectors = [
            (0xff, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"),
            (0xffff, "77a31251618a15e6b92d1d66dffe7b50b50bad552305ba0217a610688eff7e11"),
            (0x00ff_ffff, "e387aaa58ba483afa7e8eb469778317ecf4cf573aa9d4eac23f2cdf914e4e200"),
        ];
        for (number, start) in vectors {
            let mut block = counting();
            cipher.encrypt(BlockAddress(number), &mut block);
            assert_eq!(block[..32], bytes(start)[..], "data unit {number:#x}");
            cipher.decrypt(BlockAddress(number), &mut block);
            assert!(block == counting());
        }
    }

    #[test]
    fn all_of_a_block_is_as_another_implementation_has_it() {
        let (first, second) = (Array::<u8, U32>::try_from(&key()[..32]), Array::try_from(&key()[32..]));
        let other =
            Xts128::new(Aes256::new(&first.expect("32 bytes")), Aes256::new(&second.expect("32 bytes")));
        let plain: Vec<u8> =
            (0..5 * BLOCK_SIZE).map(|i| u8::try_from(i * i % 251).expect("a byte")).collect();
        let mut expected = plain.clone();
        let first = (1 << 40) - 2;
        other.encrypt_area(&mut expected, BLOCK_SIZE, u128::from(first), get_tweak_default);
        let (cipher, buffers) = (Cipher::new(&key()), BufferPool::default());
        let stored = cipher.encrypted(&buffers, BlockAddress(first), &plain);
        assert!(stored == expected);
        assert!(cipher.decrypted(&buffers, BlockAddress(first), &stored) == plain);
    }

    #[test]
    fn equal_blocks_differ_by_address_and_by_key_and_nothing_shows_a_key() {
        let (cipher, buffers) = (Cipher::new(&key()), BufferPool::default());
        let plain = [7; 2 * BLOCK_SIZE];
        let stored = cipher.encrypted(&buffers, BlockAddress(3), &plain);
        assert_ne!(stored[..BLOCK_SIZE], stored[BLOCK_SIZE..]);
        let other = Cipher::new(&[9; DATA_KEY_BYTES]).encrypted(&buffers, BlockAddress(3), &plain);
        assert_ne!(stored, other);
        assert_eq!(format!("{cipher:?}"), "Cipher");
    }
}
