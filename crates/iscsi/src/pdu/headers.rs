//! The basic header segment: 48 bytes that begin every PDU, and views of them (RFC 7143 §11.2).

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Opcode;

/// Length of a basic header segment, bytes (RFC 7143 §11.2.1).
pub const BHS_LENGTH: usize = 48;

/// A basic header segment as bytes.
pub type Bhs = [u8; BHS_LENGTH];

/// Bit 6 of byte 0: immediate delivery (RFC 7143 §11.2.1.1).
pub const IMMEDIATE: u8 = 0x40;

/// Bits of byte 1. Which of them a PDU has is said with the PDU.
pub mod flags {
    /// F: last or only PDU of a sequence.
    pub const FINAL: u8 = 0x80;
    /// T: go to the next stage (login).
    pub const TRANSIT: u8 = 0x80;
    /// C: the text goes on in the next PDU (login, text).
    pub const CONTINUE: u8 = 0x40;
    /// R: data is expected from the target (SCSI Command).
    pub const READ: u8 = 0x40;
    /// W: data goes to the target (SCSI Command).
    pub const WRITE: u8 = 0x20;
    /// ATTR: task attribute (SCSI Command).
    pub const ATTRIBUTE_MASK: u8 = 0x07;
    /// A: acknowledge asked for (Data-In).
    pub const ACKNOWLEDGE: u8 = 0x40;
    /// o: bidirectional read overflow (SCSI Response).
    pub const BIDI_OVERFLOW: u8 = 0x10;
    /// u: bidirectional read underflow (SCSI Response).
    pub const BIDI_UNDERFLOW: u8 = 0x08;
    /// O: residual overflow (SCSI Response, Data-In).
    pub const OVERFLOW: u8 = 0x04;
    /// U: residual underflow (SCSI Response, Data-In).
    pub const UNDERFLOW: u8 = 0x02;
    /// S: the status is in this Data-In.
    pub const STATUS: u8 = 0x01;
    /// Function or reason in the low seven bits (task management, logout).
    pub const CODE_MASK: u8 = 0x7f;
}

/// A 24-bit big-endian number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct U24([u8; 3]);

impl U24 {
    /// Largest value.
    pub const MAX: u32 = (1 << 24) - 1;

    /// The number for `value`, cut to 24 bits; callers keep within [`U24::MAX`].
    #[must_use]
    pub const fn new(value: u32) -> Self {
        debug_assert!(value <= Self::MAX);
        let [_, a, b, c] = value.to_be_bytes();
        Self([a, b, c])
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

/// A PDU's header as a view of 48 bytes.
pub trait Header: Sized {
    /// The PDU's opcode.
    const OPCODE: Opcode;

    /// Reads `bhs` as this PDU; every 48 bytes are valid as every PDU.
    fn of(bhs: &Bhs) -> &Self;

    /// The bytes.
    fn bytes(&self) -> &Bhs;

    /// A header of zeros but for the opcode and the F bit.
    fn blank() -> Self;
}

macro_rules! headers {
    ($($name:ident = $opcode:ident,)+) => {
        $(
            impl Header for $name {
                const OPCODE: Opcode = Opcode::$opcode;

                fn of(bhs: &Bhs) -> &Self {
                    zerocopy::transmute_ref!(bhs)
                }

                fn bytes(&self) -> &Bhs {
                    zerocopy::transmute_ref!(self)
                }

                fn blank() -> Self {
                    Self { opcode: Self::OPCODE.0, flags: flags::FINAL, ..Self::new_zeroed() }
                }
            }
        )+
    };
}
pub(super) use headers;

/// What every header has in the same place (RFC 7143 §11.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BasicHeader {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// Opcode-specific flags; F in bit 7.
    pub flags: u8,
    /// Reserved.
    pub reserved1: [u8; 2],
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Logical Unit Number.
    pub lun: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// Reserved.
    pub reserved2: [u8; 28],
}

impl BasicHeader {
    /// Reads `bhs` for what all PDUs share.
    #[must_use]
    pub fn of(bhs: &Bhs) -> &Self {
        zerocopy::transmute_ref!(bhs)
    }

    /// The opcode without the immediate bit.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        Opcode(self.opcode & 0x3f)
    }

    /// The immediate bit.
    #[must_use]
    pub const fn immediate(&self) -> bool {
        self.opcode & IMMEDIATE != 0
    }

    /// The F bit (T in login PDUs).
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & flags::FINAL != 0
    }
}
