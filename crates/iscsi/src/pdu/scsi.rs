//! Headers of SCSI commands, their data, and task management (RFC 7143 §11.3-11.8).

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Opcode;
use super::headers::{Bhs, Header, U24, flags};

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

super::headers::headers! {
    ScsiCommand = ScsiCommand,
    ScsiResponse = ScsiResponse,
    TaskManagementRequest = TaskManagementRequest,
    TaskManagementReply = TaskManagementResponse,
    DataOut = DataOut,
    DataIn = DataIn,
    ReadyToTransfer = ReadyToTransfer,
}
