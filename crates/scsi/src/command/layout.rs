//! The words a command is described in.

use crate::cdb::Cdb;

/// What a command does: the key by which the logical unit dispatches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the command of the same name")]
pub enum Operation {
    TestUnitReady,
    RequestSense,
    Inquiry,
    ReportLuns,
    ReadCapacity10,
    ReadCapacity16,
    Read,
    Write,
    WriteAtomic,
    WriteAndVerify,
    Verify,
    SynchronizeCache,
    Prefetch,
    Unmap,
    WriteSame,
    CompareAndWrite,
    GetLbaStatus,
    ReportTargetPortGroups,
    SetTargetPortGroups,
    OrWrite,
    ReadDefectData10,
    ReadDefectData12,
    LogSense,
    ModeSense6,
    ModeSense10,
    ModeSelect6,
    ModeSelect10,
    StartStopUnit,
    PreventAllowMediumRemoval,
    Reserve,
    Release,
    PersistentReserveIn,
    PersistentReserveOut,
    ReportSupportedOperationCodes,
    ReportSupportedTaskManagementFunctions,
    ExtendedCopyLid1,
    ExtendedCopyLid4,
    PopulateToken,
    WriteUsingToken,
    CopyOperationAbort,
    ReceiveCopyStatusLid1,
    ReceiveCopyOperatingParameters,
    ReceiveCopyFailureDetailsLid1,
    ReceiveCopyStatusLid4,
    ReceiveRodTokenInformation,
    SanitizeOverwrite,
    SanitizeBlockErase,
    SanitizeCryptoErase,
    SanitizeExitFailureMode,
}

/// A big-endian number in the CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// First byte.
    pub byte: u8,
    /// Bytes, 0 for a field the command does not have.
    pub len: u8,
    /// Bits of the number that belong to the field.
    pub mask: u64,
}

impl Field {
    /// The command has no such field; reads as 0.
    pub const NONE: Self = Self { byte: 0, len: 0, mask: 0 };

    /// The value in `cdb`.
    pub fn read(self, cdb: &Cdb) -> u64 {
        // The field's last byte is moved down to bit 0 of the CDB read as one number.
        let end = u32::from(self.byte) + u32::from(self.len);
        let shifted = cdb.as_number().checked_shr(8 * 16_u32.saturating_sub(end)).unwrap_or(0);
        let low = shifted & u128::from(u64::MAX);
        u64::try_from(low).unwrap_or(0) & self.mask
    }
}

/// Which way data goes and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// No data.
    None,
    /// Data-In, up to the length field's bytes (ALLOCATION LENGTH).
    InBytes,
    /// Data-In, the length field's blocks.
    InBlocks,
    /// Data-In of a fixed number of bytes.
    InFixed(u8),
    /// Data-Out.
    Out(OutLength),
}

/// How much Data-Out a command takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutLength {
    /// The length field's bytes (PARAMETER LIST LENGTH).
    Bytes,
    /// The length field's blocks.
    Blocks,
    /// Twice the length field's blocks: COMPARE AND WRITE.
    TwiceBlocks,
    /// One block: WRITE SAME(10).
    OneBlock,
    /// One block unless NDOB (byte 1 bit 0) says there is none: WRITE SAME(16).
    OneBlockUnlessNdob,
    /// By BYTCHK (byte 1 bits 2-1): nothing, the length field's blocks, or one block.
    ByteCheck,
}

/// When another nexus's persistent reservation makes the command conflict (SPC-4 tables 66 and 67, SBC-3
/// table 13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// Never.
    Never,
    /// With exclusive access reservations only: the command reads.
    ExclusiveAccess,
    /// With every type: the command writes or changes state.
    Any,
    /// With every type if any bit of `mask` is set in byte `byte`, else never.
    AnyIfSet {
        /// Byte of the CDB.
        byte: u8,
        /// Its bits.
        mask: u8,
    },
    /// With every type unless any bit of `mask` is set in byte `byte`.
    AnyUnlessSet {
        /// Byte of the CDB.
        byte: u8,
        /// Its bits.
        mask: u8,
    },
}

/// What a pending unit attention does to the command (SAM-5 5.14.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attention {
    /// The command ends with it.
    Ends,
    /// The command runs; the attention stays pending.
    Waits,
    /// The command reports it as its data.
    Reports,
}

/// How bad a path a command still runs on (SPC-4 5.15.2.4 and 5.15.2.5): each reaches as far as those before it,
/// and further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// On active paths only: it needs the medium.
    Active,
    /// On paths in standby, too: it describes or reserves the unit.
    Standby,
    /// On paths that are unavailable or offline, too: it may change that.
    Unavailable,
    /// Always, even while the path is in transition.
    Transition,
}

/// What a unit has to be for the command to exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Any unit.
    Any,
    /// Thin provisioned.
    Thin,
    /// Offered for copy offload.
    Offload,
    /// Its volume writes as a whole.
    Atomic,
    /// Its volume can be sanitized.
    Sanitize,
    /// Its volume is encrypted, and can be given another key.
    CryptoErase,
}

/// Command timeouts in seconds (SPC-4 6.35.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// NOMINAL COMMAND PROCESSING TIMEOUT: after this, a host may ask how it is going. 0: none.
    pub nominal_seconds: u32,
    /// RECOMMENDED COMMAND TIMEOUT: before this, a host should not give up.
    pub recommended_seconds: u32,
}
