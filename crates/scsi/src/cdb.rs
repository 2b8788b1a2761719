//! The command descriptor block as it arrives, before anything in it is believed.

/// A command descriptor block (SAM-5 5.2), zero-padded to 16 bytes as iSCSI carries it.
///
/// Longer ones (variable length, opcode 7Fh) keep their first 16 bytes: enough to be refused, as no
/// supported command is that long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cdb([u8; Cdb::LEN]);

impl Cdb {
    /// Bytes kept of a CDB.
    pub const LEN: usize = 16;

    /// Takes the first 16 bytes of `bytes`, padding with zeroes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut cdb = [0; Self::LEN];
        cdb.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(cdb)
    }

    /// The 16 bytes.
    pub const fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The operation code, byte 0.
    pub const fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Byte `at`, or 0 past the end.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Whether any bit of `mask` is set in byte `at`.
    pub(crate) fn bit(&self, at: usize, mask: u8) -> bool {
        self.byte(at) & mask != 0
    }

    /// The whole block as one big-endian number, for mask arithmetic.
    pub(crate) const fn as_number(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl From<[u8; Cdb::LEN]> for Cdb {
    fn from(bytes: [u8; Cdb::LEN]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_blocks_are_padded_and_long_ones_cut() {
        assert_eq!(Cdb::new(&[0x12, 1]).bytes(), &[0x12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let long: Vec<u8> = (0..40).collect();
        assert_eq!(Cdb::new(&long).bytes(), &long[..16]);
        assert_eq!(Cdb::new(&[]).opcode(), 0);
    }

    #[test]
    fn bytes_past_the_end_read_as_zero() {
        let cdb = Cdb::from([0xff; 16]);
        assert_eq!(cdb.byte(15), 0xff);
        assert_eq!(cdb.byte(16), 0);
        assert!(!cdb.bit(16, 0xff));
    }
}
