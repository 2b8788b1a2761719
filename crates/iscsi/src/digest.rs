//! CRC32C over headers and data (RFC 7143 §13.1).

use crc_fast::{CrcAlgorithm, Digest};

/// Length of a digest on the wire, bytes.
pub(crate) const DIGEST_LENGTH: usize = 4;

/// The digest of `bytes`, as it goes on the wire.
pub(crate) fn digest(bytes: &[u8]) -> [u8; DIGEST_LENGTH] {
    wire(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// A digest over bytes that come piece by piece.
#[derive(Clone, Copy)]
pub(crate) struct RunningDigest(Digest);

impl RunningDigest {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything so far, as it goes on the wire.
    pub(crate) fn finish(&self) -> [u8; DIGEST_LENGTH] {
        wire(self.0.finalize())
    }
}

/// Least significant byte first: the order in which the RFC's polynomial arithmetic sends it.
fn wire(crc: u64) -> [u8; DIGEST_LENGTH] {
    let [a, b, c, d, ..] = crc.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7143 Appendix A.4.
    #[test]
    fn digests_match_the_rfc_examples() {
        assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(digest(&ascending), [0x4e, 0x79, 0xdd, 0x46]);
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(digest(&descending), [0x5c, 0xdb, 0x3f, 0x11]);
        let read_command = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0,
            0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(digest(&read_command), [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn pieces_make_the_same_digest_as_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut running = RunningDigest::new();
        for piece in bytes.chunks(77) {
            running.update(piece);
        }
        assert_eq!(running.finish(), digest(&bytes));
    }
}
