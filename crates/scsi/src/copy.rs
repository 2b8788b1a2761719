//! Copies that a host only names and the target carries out: what a unit asks for, and what became of it.
//!
//! A copy may reach beyond the unit that took the command, so the target resolves the units by their names, checks
//! what the host may do with each, and answers with a [`CopyReport`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::completion::Status;
use crate::media::{ByteRange, Durability, MediaFailure};
use crate::rod::{RodToken, TokenFault};
use crate::sense::Sense;
use crate::unit::{BlockSize, NexusId};

/// Largest segment of an EXTENDED COPY, in bytes (MAXIMUM SEGMENT LENGTH).
pub(crate) const SEGMENT_BYTES_MAX: u32 = 256 << 20;

/// One end of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopySide {
    /// What is read.
    Source,
    /// What is written.
    Destination,
}

/// Which unit a copy means (SPC-4 table 131 and 6.4.5.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitReference {
    /// The one that took the command.
    Own,
    /// The one of this NAA identifier.
    Naa([u8; 16]),
    /// None that could be found: another kind of name, or an index without a descriptor.
    Unknown,
}

/// The source or the destination of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyEnd {
    /// The unit.
    pub unit: UnitReference,
    /// First logical block.
    pub lba: u64,
    /// Bytes into that block.
    pub byte_offset: u16,
    /// DISK BLOCK LENGTH: the size of its blocks in bytes as the host takes it to be; 0 if it does not say.
    pub block_bytes: u32,
    /// The host takes it for a disk.
    pub is_disk: bool,
    /// Where its descriptor is in the parameter list, if there is one.
    pub described_at: Option<u16>,
}

/// How much a segment copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyLength {
    /// Blocks of the source (DC = 0).
    SourceBlocks(u16),
    /// Blocks of the destination (DC = 1).
    DestinationBlocks(u16),
    /// Bytes.
    Bytes(u32),
}

/// A segment of an EXTENDED COPY (SPC-4 6.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopySegment {
    /// What is read.
    pub source: CopyEnd,
    /// What is written.
    pub destination: CopyEnd,
    /// How much.
    pub length: CopyLength,
}

/// What a segment is worked out with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Logical block size.
    pub block_size: BlockSize,
    /// Capacity in logical blocks.
    pub blocks: u64,
}

/// A segment in bytes, inside both units; `len` may be 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyRange {
    /// First byte at the source.
    pub source_offset: u64,
    /// First byte at the destination.
    pub destination_offset: u64,
    /// Bytes.
    pub len: u64,
}

/// How a unit answered the copy manager's own access to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceAnswer {
    /// Status, not GOOD.
    pub status: Status,
    /// Sense data of a CHECK CONDITION.
    pub sense: Option<Sense>,
}

/// What a unit lets a copy do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyGrant {
    /// Its size.
    pub geometry: Geometry,
    /// When a write may be acknowledged.
    pub durability: Durability,
    /// The nexus in whose name the copy goes on, if the host has one here.
    pub nexus: Option<NexusId>,
}

/// In whose name a copy uses a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyAgent<'a> {
    /// The nexus that sent the command, if that is one of this unit.
    pub nexus: Option<NexusId>,
    /// The initiator's iSCSI name, as in the initiator ports of its nexuses.
    pub initiator: &'a str,
    /// The host may not write this unit.
    pub read_only: bool,
}

/// Why a copy ended before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyFault {
    /// The unit is not there, or the host may not use it.
    Unreachable(CopySide),
    /// It is not what the host takes it for: not a disk, or one of other blocks.
    WrongType(CopySide),
    /// The segment reaches past the unit's end.
    OutOfRange(CopySide),
    /// The segment is longer than a segment may be.
    TooLong,
    /// The segment does not begin or end at a block's boundary.
    Granularity,
    /// The bytes to be copied are no whole number of the other side's blocks.
    Inexact,
    /// The unit refused.
    Refused(CopySide, DeviceAnswer),
    /// The volume failed.
    Failed(CopySide, MediaFailure),
    /// The token is not, or no longer, good for this.
    Token(TokenFault),
    /// The offset into the token's data lies at or past its end.
    PastToken,
    /// No token can be made now.
    NoRoomForToken,
    /// Given up on the host's request: task management, a reset, COPY OPERATION ABORT, the end of its session.
    Stopped,
}

impl CopySegment {
    /// The bytes to copy between units of these sizes.
    ///
    /// # Errors
    /// [`CopyFault::WrongType`], [`CopyFault::OutOfRange`], [`CopyFault::TooLong`], [`CopyFault::Granularity`] and
    /// [`CopyFault::Inexact`].
    pub fn resolve(&self, source: Geometry, destination: Geometry) -> Result<CopyRange, CopyFault> {
        self.source.check(source, CopySide::Source)?;
        self.destination.check(destination, CopySide::Destination)?;
        let blocks =
            |count: u16, geometry: Geometry| u64::from(count) * u64::from(geometry.block_size.bytes());
        let (len, counted_in_bytes) = match self.length {
            CopyLength::SourceBlocks(count) => (blocks(count, source), false),
            CopyLength::DestinationBlocks(count) => (blocks(count, destination), false),
            CopyLength::Bytes(bytes) => (u64::from(bytes), true),
        };
        let whole = |geometry: Geometry| len.is_multiple_of(u64::from(geometry.block_size.bytes()));
        if !(whole(source) && whole(destination)) {
            return Err(if counted_in_bytes { CopyFault::Granularity } else { CopyFault::Inexact });
        }
        if len > u64::from(SEGMENT_BYTES_MAX) {
            return Err(CopyFault::TooLong);
        }
        Ok(CopyRange {
            source_offset: self.source.offset(source, len).ok_or(CopyFault::OutOfRange(CopySide::Source))?,
            destination_offset: self
                .destination
                .offset(destination, len)
                .ok_or(CopyFault::OutOfRange(CopySide::Destination))?,
            len,
        })
    }
}

impl CopyEnd {
    fn check(&self, geometry: Geometry, side: CopySide) -> Result<(), CopyFault> {
        let block_bytes = geometry.block_size.bytes();
        if !self.is_disk || (self.block_bytes != 0 && self.block_bytes != block_bytes) {
            return Err(CopyFault::WrongType(side));
        }
        if !u32::from(self.byte_offset).is_multiple_of(block_bytes) {
            return Err(CopyFault::Granularity);
        }
        Ok(())
    }

    /// Its first byte, if `len` bytes from there on are inside the unit.
    fn offset(&self, geometry: Geometry, len: u64) -> Option<u64> {
        let block_bytes = u64::from(geometry.block_size.bytes());
        let capacity = geometry.blocks.checked_mul(block_bytes)?;
        let offset = self.lba.checked_mul(block_bytes)?.checked_add(u64::from(self.byte_offset))?;
        (offset.checked_add(len)? <= capacity).then_some(offset)
    }
}

/// Who a token is made by: it goes into the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenCreator {
    /// The unit's NAA identifier.
    pub naa: [u8; 16],
    /// Its logical block size.
    pub block_size: BlockSize,
    /// The name of the target it was reached through.
    pub target_name: String,
}

/// What is to be copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyWork {
    /// EXTENDED COPY: the segments, one after the other.
    Segments(Vec<CopySegment>),
    /// POPULATE TOKEN: make a token that stands for these ranges of the own volume as they are now.
    CreateToken {
        /// The ranges, in the host's order; none overlaps another.
        ranges: Vec<ByteRange>,
        /// How long the token may go unused.
        inactivity_seconds: u32,
        /// Who makes it.
        creator: TokenCreator,
    },
    /// WRITE USING TOKEN: write what a token stands for to these ranges of the own volume.
    FromToken {
        /// The token, as the host sent it.
        token: RodToken,
        /// Bytes of its data to skip.
        offset: u64,
        /// The ranges, in the host's order; none overlaps another.
        ranges: Vec<ByteRange>,
        /// DEL_TKN: the token goes afterwards.
        delete: bool,
    },
}

/// A copy for the target to carry out.
#[derive(Clone, Debug)]
pub struct CopyCommand {
    /// What is to be done.
    pub work: CopyWork,
    /// How far it is; shared, so that RECEIVE COPY STATUS sees it, and others can stop it.
    pub progress: Arc<CopyProgress>,
}

impl PartialEq for CopyCommand {
    fn eq(&self, other: &Self) -> bool {
        self.work == other.work && Arc::ptr_eq(&self.progress, &other.progress)
    }
}

impl Eq for CopyCommand {}

/// How far a copy is. Counted by who carries it out, read by anyone.
#[derive(Debug, Default)]
pub struct CopyProgress {
    bytes: AtomicU64,
    segment_bytes: AtomicU64,
    segments: AtomicU64,
    pieces: AtomicU64,
    stopped: AtomicBool,
}

impl CopyProgress {
    /// The next segment begins.
    pub fn begin_segment(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
        self.segment_bytes.store(0, Ordering::Relaxed);
    }

    /// `bytes` more are at the destination, with all before them.
    pub fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.segment_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that are at the destination.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The same of the segment that was begun last.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Segments that were begun.
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Accesses that were made.
    pub fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Asks for the copy to end before its next piece.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// How a copy ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CopyReport {
    /// Why it ended early; the segment is the last one that was begun.
    pub fault: Option<CopyFault>,
    /// What POPULATE TOKEN made.
    pub token: Option<RodToken>,
}

impl CopyReport {
    /// It ended early.
    pub fn failed(fault: CopyFault) -> Self {
        Self { fault: Some(fault), token: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Geometry = Geometry { block_size: BlockSize::B512, blocks: 1 << 20 };
    const LARGE: Geometry = Geometry { block_size: BlockSize::B4096, blocks: 1 << 17 };

    fn end(lba: u64) -> CopyEnd {
        CopyEnd {
            unit: UnitReference::Own,
            lba,
            byte_offset: 0,
            block_bytes: 0,
            is_disk: true,
            described_at: Some(16),
        }
    }

    fn segment(source: u64, destination: u64, length: CopyLength) -> CopySegment {
        CopySegment { source: end(source), destination: end(destination), length }
    }

    /// SPC-4 6.4.6.5: DC says whose blocks are counted; each LBA is in its own unit's blocks.
    #[test]
    fn blocks_are_counted_as_dc_says() {
        let by_source = segment(8, 2, CopyLength::SourceBlocks(16));
        let range = CopyRange { source_offset: 4096, destination_offset: 8192, len: 8192 };
        assert_eq!(by_source.resolve(SMALL, LARGE), Ok(range));
        let by_destination = segment(8, 2, CopyLength::DestinationBlocks(2));
        assert_eq!(by_destination.resolve(SMALL, LARGE), Ok(range));
        let odd = segment(0, 0, CopyLength::SourceBlocks(7));
        assert_eq!(odd.resolve(SMALL, LARGE), Err(CopyFault::Inexact));
        assert!(odd.resolve(SMALL, SMALL).is_ok());
    }

    #[test]
    fn both_ends_have_to_fit() {
        let past = |source, destination, count| {
            segment(source, destination, CopyLength::SourceBlocks(count)).resolve(SMALL, SMALL)
        };
        let end = SMALL.blocks;
        assert!(past(end - 4, 0, 4).is_ok() && past(end, 0, 0).is_ok());
        assert_eq!(past(end - 4, 0, 5), Err(CopyFault::OutOfRange(CopySide::Source)));
        assert_eq!(past(0, end - 4, 5), Err(CopyFault::OutOfRange(CopySide::Destination)));
        assert_eq!(past(u64::MAX, 0, 1), Err(CopyFault::OutOfRange(CopySide::Source)));
    }

    /// SPC-4 6.22: DATA SEGMENT GRANULARITY and MAXIMUM SEGMENT LENGTH.
    #[test]
    fn bytes_are_whole_blocks_and_not_too_many() {
        let bytes = |count| segment(0, 0, CopyLength::Bytes(count)).resolve(SMALL, SMALL);
        assert_eq!(bytes(513), Err(CopyFault::Granularity));
        assert_eq!(bytes(SEGMENT_BYTES_MAX).map(|range| range.len), Ok(256 << 20));
        assert_eq!(bytes(SEGMENT_BYTES_MAX + 512), Err(CopyFault::TooLong));
        let mut odd = segment(0, 0, CopyLength::Bytes(512));
        odd.source.byte_offset = 511;
        assert_eq!(odd.resolve(SMALL, SMALL), Err(CopyFault::Granularity));
        odd.source.byte_offset = 1024;
        assert_eq!(odd.resolve(SMALL, SMALL).map(|range| range.source_offset), Ok(1024));
    }

    #[test]
    fn a_unit_has_to_be_what_the_host_takes_it_for() {
        let mut wrong = segment(0, 0, CopyLength::SourceBlocks(8));
        wrong.destination.block_bytes = 4096;
        assert_eq!(wrong.resolve(SMALL, SMALL), Err(CopyFault::WrongType(CopySide::Destination)));
        assert!(wrong.resolve(SMALL, LARGE).is_ok());
        wrong.source.is_disk = false;
        assert_eq!(wrong.resolve(SMALL, LARGE), Err(CopyFault::WrongType(CopySide::Source)));
    }

    #[test]
    fn progress_counts_segments_apart() {
        let progress = CopyProgress::default();
        progress.begin_segment();
        progress.advance(512);
        progress.begin_segment();
        progress.advance(1024);
        assert_eq!((progress.bytes(), progress.segment_bytes()), (1536, 1024));
        assert_eq!((progress.segments(), progress.pieces()), (2, 2));
        progress.stop();
        assert!(progress.is_stopped());
    }
}
