//! What a logical unit asks of the volume behind it, and what the volume answers.
//!
//! Offsets and lengths are bytes, multiples of the logical block size, and inside the capacity at the
//! time of decoding.

use bytes::Bytes;

use crate::copy::{CopyCommand, CopyReport};

/// When a write may be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Once it survives a loss of power.
    Stable,
    /// Once it survives a crash of the process: the unit reports a write cache (WCE = 1).
    Cached,
}

/// What VERIFY compares the medium with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// Nothing: the blocks only have to be readable (BYTCHK = 0).
    Readable,
    /// Exactly these bytes, as long as the range (BYTCHK = 1).
    Bytes(Vec<Bytes>),
    /// This one block, with every block of the range (BYTCHK = 3).
    RepeatedBlock(Bytes),
}

/// A run of bytes on the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Bytes, not 0.
    pub len: u64,
}

/// Work for the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "the command waits for its outcome"]
pub enum MediaCommand {
    /// Read; answered by [`MediaOutcome::Data`] of exactly `len` bytes.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// FUA with a write cache: what is cached of the range goes to stable storage first.
        fua: bool,
    },
    /// Write `data`.
    Write {
        /// First byte.
        offset: u64,
        /// What to write.
        data: Vec<Bytes>,
        /// When it is done.
        durability: Durability,
    },
    /// Write all of `data` or nothing of it, whatever happens, and let no other command see a part.
    WriteAtomic {
        /// First byte.
        offset: u64,
        /// What to write.
        data: Vec<Bytes>,
        /// When it is done.
        durability: Durability,
    },
    /// Write `data` to stable storage, then read it back from there; compare if told.
    WriteAndVerify {
        /// First byte.
        offset: u64,
        /// What to write.
        data: Vec<Bytes>,
        /// BYTCHK = 1: the bytes read back have to be those of `data`.
        compare: bool,
    },
    /// Write one block's `pattern` to every block of the range. Never all zeroes: see `WriteZeroes`.
    WriteSame {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// One logical block.
        pattern: Bytes,
        /// When it is done.
        durability: Durability,
    },
    /// Make every byte of the range read as zero.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// The host asks for the space back (UNMAP = 1); otherwise the range stays provisioned if the
        /// volume is thick.
        deallocate: bool,
        /// When it is done.
        durability: Durability,
    },
    /// Give the space of these ranges back. Every byte of them reads as zero afterwards (LBPRZ), also at
    /// edges inside an allocation unit. Ranges may overlap.
    Unmap {
        /// The ranges, in the host's order.
        ranges: Vec<ByteRange>,
    },
    /// Atomically with all other commands: if the medium equals `compare`, write `write`.
    CompareAndWrite {
        /// First byte.
        offset: u64,
        /// What the medium has to hold.
        compare: Vec<Bytes>,
        /// What to write; as long as `compare`.
        write: Vec<Bytes>,
        /// When it is done.
        durability: Durability,
    },
    /// Check that a range can be read, and compare it.
    Verify {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// With what.
        comparison: Comparison,
    },
    /// Make all writes to the range that were acknowledged before stable.
    Flush {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Report what is allocated; answered by [`MediaOutcome::Status`].
    BlockStatus {
        /// First byte.
        offset: u64,
        /// Bytes at most.
        len: u64,
        /// Extents at most, not 0.
        max_extents: usize,
    },
    /// Copy, perhaps from or to other volumes; answered by [`MediaOutcome::Copied`].
    Copy(CopyCommand),
    /// Atomically with all other commands: set every bit of the range that is set in `data`, and leave the others.
    OrWrite {
        /// First byte.
        offset: u64,
        /// What is ORed into the medium.
        data: Vec<Bytes>,
        /// When it is done.
        durability: Durability,
    },
    /// Begin to sanitize the volume (SBC-4 4.11), which then goes on by itself through everything, a loss of power
    /// included; what is acknowledged before is sanitized, too. Fails if it does not begin.
    Sanitize {
        /// What the volume holds afterwards.
        method: SanitizeMethod,
        /// AUSE: reads and writes may be allowed again after a failure.
        unrestricted_exit: bool,
        /// Done when it has ended, [`MediaOutcome::SanitizeFailed`] if badly; else when it has begun.
        wait: bool,
    },
    /// After a failure to sanitize the volume: allow reads and writes again.
    LeaveFailedSanitize,
    /// Tell how much space there is; answered by [`MediaOutcome::Resources`].
    Resources,
    /// The host will read this soon. The volume may do nothing.
    Prefetch {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// What a volume holds once it is sanitized.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SanitizeMethod {
    /// Nothing: all of it is deallocated and reads as zeroes.
    BlockErase,
    /// This in every logical block; one block long.
    Overwrite(Bytes),
    /// Nothing, as before; what was there is still stored, and cannot be decrypted any more.
    CryptoErase,
}

/// How far a volume is with being sanitized.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sanitization {
    /// It is not being sanitized.
    #[default]
    Idle,
    /// It is on its way.
    Running {
        /// What is done of it, in 65536ths.
        progress: u16,
    },
    /// It could not be done.
    Failed {
        /// It was begun with AUSE.
        unrestricted_exit: bool,
    },
}

/// The provisioning state of a run of bytes, in GET LBA STATUS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockExtent {
    /// Bytes.
    pub len: u64,
    /// Whether space is allocated to it.
    pub mapped: bool,
}

/// The space behind a thin volume, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// What the pool holds at most.
    pub pool_bytes: u64,
    /// Of it still to be had, by this volume and all others of the pool.
    pub available_bytes: u64,
    /// What the volume takes.
    pub used_bytes: u64,
}

/// The volume's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaOutcome {
    /// Done, nothing to return.
    Done,
    /// The bytes of a [`MediaCommand::Read`].
    Data(Vec<Bytes>),
    /// Consecutive extents from the offset of a [`MediaCommand::BlockStatus`] on, at least one.
    Status(Vec<BlockExtent>),
    /// The space behind the volume, if it can be told.
    Resources(Option<Resources>),
    /// A comparison failed at this byte, counted from the start of the command's range.
    Miscompare {
        /// The first byte that differs.
        offset: u64,
    },
    /// A [`MediaCommand::Sanitize`] began and ended badly.
    SanitizeFailed,
    /// A [`MediaCommand::Copy`] has ended, at its end or before.
    Copied(CopyReport),
    /// It failed.
    Failed(MediaFailure),
}

/// Why the volume could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaFailure {
    /// The class.
    pub kind: MediaFailureKind,
    /// The first byte of the volume that is affected, if known. Becomes the LBA in the sense data.
    pub offset: Option<u64>,
}

/// Classes of failure, as far as hosts can tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaFailureKind {
    /// Stored data is lost or cannot be written there.
    MediumError,
    /// No space left in the pool, and none is coming by itself.
    SpaceExhausted,
    /// No space left now, but some is being made.
    SpaceAllocationInProgress,
    /// The volume is offline for now.
    NotReady,
    /// The volume takes no writes.
    WriteProtected,
    /// The range ends past the volume, which has shrunk since.
    OutOfRange,
    /// Given up (shutdown, reset, time-out); the host should retry.
    Aborted,
    /// Overloaded; the host should retry later.
    Busy,
    /// The volume is encrypted, and has to be unlocked by someone.
    Locked,
    /// A defect in the target itself.
    Internal,
}

impl From<MediaFailureKind> for MediaFailure {
    fn from(kind: MediaFailureKind) -> Self {
        Self { kind, offset: None }
    }
}
