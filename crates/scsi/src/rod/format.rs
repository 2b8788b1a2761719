//! The bytes of a token.

use crate::copy::TokenCreator;

/// Bytes of a ROD token.
pub const ROD_TOKEN_LEN: usize = 512;

/// Seconds a token may go unused, at most and if the host does not say.
pub(crate) const INACTIVITY_SECONDS_MAX: u32 = 600;
pub(crate) const INACTIVITY_SECONDS_DEFAULT: u32 = 60;

/// ROD types (SPC-4 table 110).
pub(crate) const CHANGE_VULNERABLE: u32 = 0x0080_0001;
pub(crate) const POINT_IN_TIME_ANY: u32 = 0x0080_ffff;
const BLOCK_DEVICE_ZERO: u32 = 0xffff_0001;

/// ROD TOKEN LENGTH: the bytes after it.
const LENGTH: u16 = 0x01f8;

/// A ROD token as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct RodToken(Box<[u8; ROD_TOKEN_LEN]>);

impl std::fmt::Debug for RodToken {
    /// Who knows a token's bytes may read what it stands for: they go into no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RodToken({:08x}, {:016x})", self.kind(), self.id())
    }
}

impl RodToken {
    /// Takes the first 512 bytes; fewer are filled up with zeroes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut token = Box::new([0; ROD_TOKEN_LEN]);
        token.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(token)
    }

    /// The block device zero ROD token (SBC-4 4.28.4), which stands for zeroes without end.
    pub fn zero() -> Self {
        let mut bytes = BLOCK_DEVICE_ZERO.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&LENGTH.to_be_bytes());
        Self::from_bytes(&bytes)
    }

    /// A token of `creator` (SPC-4 table 112); `secret` makes it hard to guess.
    pub(super) fn generic(creator: &TokenCreator, id: u64, bytes: u64, secret: &[u8; 256]) -> Self {
        let mut token = Vec::with_capacity(ROD_TOKEN_LEN);
        token.extend_from_slice(&CHANGE_VULNERABLE.to_be_bytes());
        token.extend_from_slice(&[0, 0]);
        token.extend_from_slice(&LENGTH.to_be_bytes());
        token.extend_from_slice(&id.to_be_bytes());
        push_unit_descriptor(&mut token, creator);
        token.extend_from_slice(&u128::from(bytes).to_be_bytes());
        token.resize(96, 0);
        // As READ CAPACITY(16) has it from byte 8 on.
        token.extend_from_slice(&creator.block_size.bytes().to_be_bytes());
        token.resize(128, 0);
        push_target_descriptor(&mut token, &creator.target_name);
        token.resize(256, 0);
        token.extend_from_slice(secret);
        Self::from_bytes(&token)
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8; ROD_TOKEN_LEN] {
        &self.0
    }

    /// ROD TYPE.
    pub(super) fn kind(&self) -> u32 {
        let [a, b, c, d, ..] = *self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// COPY MANAGER ROD TOKEN IDENTIFIER.
    pub(super) fn id(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    pub(super) fn has_right_length(&self) -> bool {
        let [_, _, _, _, _, _, high, low, ..] = *self.0;
        u16::from_be_bytes([high, low]) == LENGTH
    }

    /// Whether it is the zero token; what is reserved in it is not looked at.
    pub fn is_zero(&self) -> bool {
        self.kind() == BLOCK_DEVICE_ZERO
    }

    /// Compares in a time that does not depend on where the two differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// CREATOR LOGICAL UNIT DESCRIPTOR: an identification descriptor CSCD descriptor (SPC-4 6.4.5.6).
fn push_unit_descriptor(token: &mut Vec<u8>, creator: &TokenCreator) {
    const IDENTIFICATION: u8 = 0xe4;
    const BINARY: u8 = 0x01;
    const NAA: u8 = 0x03;
    token.extend_from_slice(&[IDENTIFICATION, 0, 0, 0, BINARY, NAA, 0, 16]);
    token.extend_from_slice(&creator.naa);
    token.extend_from_slice(&[0; 4]);
    token.extend_from_slice(&creator.block_size.bytes().to_be_bytes());
}

/// TARGET DEVICE DESCRIPTOR: a SCSI name string of the target device. Names too long for it are cut.
fn push_target_descriptor(token: &mut Vec<u8>, name: &str) {
    const UTF_8: u8 = 0x03;
    const TARGET_NAME: u8 = 0x20 | 0x08;
    const NAME_MAX: usize = 120;
    let mut text: Vec<u8> = name.bytes().take(NAME_MAX - 1).collect();
    text.resize((text.len() + 1).next_multiple_of(4), 0);
    token.extend_from_slice(&[UTF_8, TARGET_NAME, 0, u8::try_from(text.len()).unwrap_or(0)]);
    token.append(&mut text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::BlockSize;

    /// SPC-4 table 112 and 5.17.6.4, byte by byte.
    #[test]
    fn a_token_is_laid_out_as_the_standard_has_it() {
        let creator = TokenCreator {
            naa: *b"\x60123456789abcdef",
            block_size: BlockSize::B4096,
            target_name: "iqn.2026-01.test:v".to_owned(),
        };
        let token = RodToken::generic(&creator, 0x0102_0304_0506_0708, 1 << 33, &[0xa5; 256]);
        let bytes = token.bytes();
        assert_eq!(bytes[..8], [0, 0x80, 0, 1, 0, 0, 1, 0xf8]);
        assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[16..24], [0xe4, 0, 0, 0, 1, 3, 0, 16]);
        assert_eq!((&bytes[24..40], &bytes[44..48]), (&creator.naa[..], &[0, 0, 0x10, 0][..]));
        assert_eq!(bytes[48..64], (1_u128 << 33).to_be_bytes());
        assert_eq!(bytes[96..100], [0, 0, 0x10, 0]);
        assert_eq!(bytes[128..136], [3, 0x28, 0, 20, b'i', b'q', b'n', b'.']);
        assert_eq!(bytes[256..], [0xa5; 256]);
        assert!(token.has_right_length() && !token.is_zero());
    }

    #[test]
    fn a_long_target_name_does_not_move_the_secret() {
        let target_name = "iqn.2026-01.test:".to_owned() + &"x".repeat(200);
        let creator = TokenCreator { naa: [0x60; 16], block_size: BlockSize::B512, target_name };
        let token = RodToken::generic(&creator, 1, 512, &[9; 256]);
        assert_eq!((token.bytes()[255], token.bytes()[256]), (0, 9));
    }

    /// SBC-4 table 31.
    #[test]
    fn the_zero_token_is_a_type_and_a_length() {
        let zero = RodToken::zero();
        assert_eq!(zero.bytes()[..8], [0xff, 0xff, 0, 1, 0, 0, 1, 0xf8]);
        assert!(zero.is_zero() && zero.has_right_length());
        assert_eq!(zero.bytes()[8..], [0; 504]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let token = RodToken::from_bytes(&[0x5a; 512]);
        assert_eq!(format!("{token:?}"), "RodToken(5a5a5a5a, 5a5a5a5a5a5a5a5a)");
        assert!(!token.is_same(&RodToken::from_bytes(&[0x5a; 511])));
    }
}
