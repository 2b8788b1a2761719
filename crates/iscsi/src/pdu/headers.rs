//! Basic header segments, one type a PDU, laid over the 48 bytes as they stand on the wire.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

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

/// SCSI Command (RFC 7143 §11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ScsiCommand {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F, R, W and the task attribute.
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
    /// Expected Data Transfer Length, bytes.
    pub expected_length: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// The CDB, or its first 16 bytes.
    pub cdb: [u8; 16],
}

/// SCSI Response (RFC 7143 §11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ScsiResponse {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// Residual flags o, u, O, U.
    pub flags: u8,
    /// iSCSI service response.
    pub response: u8,
    /// SCSI status.
    pub status: u8,
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Reserved.
    pub reserved1: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// SNACK Tag.
    pub snack_tag: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// ExpDataSN.
    pub exp_data_sn: U32,
    /// Bidirectional read residual count, bytes.
    pub bidi_residual: U32,
    /// Residual count, bytes.
    pub residual: U32,
}

/// Task Management Function Request (RFC 7143 §11.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TaskManagementRequest {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F and the function.
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
    /// Referenced Task Tag.
    pub referenced_tag: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// RefCmdSN.
    pub ref_cmd_sn: U32,
    /// ExpDataSN.
    pub exp_data_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 8],
}

/// Task Management Function Response (RFC 7143 §11.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TaskManagementReply {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
    pub flags: u8,
    /// Response.
    pub response: u8,
    /// Reserved.
    pub reserved1: [u8; 1],
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Reserved.
    pub reserved2: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// Reserved.
    pub reserved3: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved4: [u8; 12],
}

/// SCSI Data-Out (RFC 7143 §11.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DataOut {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// Reserved.
    pub reserved2: [u8; 4],
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved3: [u8; 4],
    /// DataSN.
    pub data_sn: U32,
    /// Buffer offset, bytes.
    pub buffer_offset: U32,
    /// Reserved.
    pub reserved4: [u8; 4],
}

/// SCSI Data-In (RFC 7143 §11.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DataIn {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F, A, O, U, S.
    pub flags: u8,
    /// Reserved.
    pub reserved1: [u8; 1],
    /// SCSI status when S is set.
    pub status: u8,
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Logical Unit Number.
    pub lun: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// Target Transfer Tag.
    pub ttt: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// DataSN.
    pub data_sn: U32,
    /// Buffer offset, bytes.
    pub buffer_offset: U32,
    /// Residual count when S is set, bytes.
    pub residual: U32,
}

/// Ready To Transfer (RFC 7143 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReadyToTransfer {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// R2TSN.
    pub r2t_sn: U32,
    /// Buffer offset, bytes.
    pub buffer_offset: U32,
    /// Desired data transfer length, bytes.
    pub desired_length: U32,
}

/// Asynchronous Message (RFC 7143 §11.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AsyncMessage {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
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
    pub reserved2: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// AsyncEvent.
    pub event: u8,
    /// AsyncVCode.
    pub vendor_code: u8,
    /// Parameter1.
    pub parameter1: U16,
    /// Parameter2.
    pub parameter2: U16,
    /// Parameter3.
    pub parameter3: U16,
    /// Reserved.
    pub reserved3: [u8; 4],
}

/// Text Request (RFC 7143 §11.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TextRequest {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F and C.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 16],
}

/// Text Response (RFC 7143 §11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TextResponse {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F and C.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 12],
}

/// Login Request (RFC 7143 §11.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LoginRequest {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// T, C, CSG, NSG.
    pub flags: u8,
    /// Version-max.
    pub version_max: u8,
    /// Version-min.
    pub version_min: u8,
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH.
    pub tsih: U16,
    /// Initiator Task Tag.
    pub itt: U32,
    /// CID.
    pub cid: U16,
    /// Reserved.
    pub reserved1: [u8; 2],
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 16],
}

/// Login Response (RFC 7143 §11.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LoginResponse {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// T, C, CSG, NSG.
    pub flags: u8,
    /// Version-max.
    pub version_max: u8,
    /// Version-active.
    pub version_active: u8,
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH.
    pub tsih: U16,
    /// Initiator Task Tag.
    pub itt: U32,
    /// Reserved.
    pub reserved1: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Status class and detail.
    pub status: U16,
    /// Reserved.
    pub reserved2: [u8; 10],
}

/// Logout Request (RFC 7143 §11.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LogoutRequest {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F and the reason.
    pub flags: u8,
    /// Reserved.
    pub reserved1: [u8; 2],
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Reserved.
    pub reserved2: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// CID.
    pub cid: U16,
    /// Reserved.
    pub reserved3: [u8; 2],
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved4: [u8; 16],
}

/// Logout Response (RFC 7143 §11.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LogoutReply {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
    pub flags: u8,
    /// Response.
    pub response: u8,
    /// Reserved.
    pub reserved1: [u8; 1],
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Reserved.
    pub reserved2: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// Reserved.
    pub reserved3: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved4: [u8; 4],
    /// Time2Wait, seconds.
    pub time2wait: U16,
    /// Time2Retain, seconds.
    pub time2retain: U16,
    /// Reserved.
    pub reserved5: [u8; 4],
}

/// SNACK Request (RFC 7143 §11.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SnackRequest {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F and the type.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// Reserved.
    pub reserved2: [u8; 4],
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved3: [u8; 8],
    /// BegRun.
    pub begin_run: U32,
    /// RunLength.
    pub run_length: U32,
}

/// Reject (RFC 7143 §11.17); its data is the header of the rejected PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Reject {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
    pub flags: u8,
    /// Reason.
    pub reason: u8,
    /// Reserved.
    pub reserved1: [u8; 1],
    /// TotalAHSLength, four-byte words.
    pub ahs_words: u8,
    /// DataSegmentLength, bytes without padding.
    pub data_length: U24,
    /// Reserved.
    pub reserved2: [u8; 8],
    /// Initiator Task Tag.
    pub itt: U32,
    /// Reserved.
    pub reserved3: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// DataSN or R2TSN.
    pub data_sn: U32,
    /// Reserved.
    pub reserved4: [u8; 8],
}

/// NOP-Out (RFC 7143 §11.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NopOut {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 16],
}

/// NOP-In (RFC 7143 §11.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NopIn {
    /// Opcode and the immediate bit.
    pub opcode: u8,
    /// F.
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
    /// Target Transfer Tag.
    pub ttt: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved2: [u8; 12],
}

headers! {
    ScsiCommand = ScsiCommand,
    ScsiResponse = ScsiResponse,
    TaskManagementRequest = TaskManagementRequest,
    TaskManagementReply = TaskManagementResponse,
    DataOut = DataOut,
    DataIn = DataIn,
    ReadyToTransfer = ReadyToTransfer,
    AsyncMessage = AsyncMessage,
    TextRequest = TextRequest,
    TextResponse = TextResponse,
    LoginRequest = LoginRequest,
    LoginResponse = LoginResponse,
    LogoutRequest = LogoutRequest,
    LogoutReply = LogoutResponse,
    SnackRequest = SnackRequest,
    Reject = Reject,
    NopOut = NopOut,
    NopIn = NopIn,
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
