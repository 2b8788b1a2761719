//! Headers of everything that is not SCSI: login, text, logout, NOP, messages (RFC 7143 §11.9-11.19).

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Opcode;
use super::headers::{Bhs, Header, U24, flags};

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

super::headers::headers! {
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
