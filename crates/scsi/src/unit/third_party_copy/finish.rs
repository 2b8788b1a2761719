//! From what became of a copy to what the host hears and what is kept for it.

use std::sync::Arc;

use super::lists::{Ending, Outcome};
use crate::command::Operation;
use crate::completion::{Completion, Status};
use crate::copy::{CopyFault, CopyProgress, CopyReport, CopySegment, CopySide, CopyWork};
use crate::media::MediaOutcome;
use crate::sense::{AdditionalSense, ListPlace, SegmentPointer, Sense, SenseKey};
use crate::unit::dispatch::Task;
use crate::unit::{BlockSize, LogicalUnit};

/// A copy that was handed out.
#[derive(Debug)]
pub(in crate::unit) struct PendingCopy {
    operation: Operation,
    /// What was asked for in bytes, of commands that work with tokens.
    requested: u64,
    segments: Vec<CopySegment>,
    block_size: BlockSize,
    listed: bool,
    progress: Arc<CopyProgress>,
}

impl PendingCopy {
    pub(super) fn new(
        task: &Task<'_>,
        list: Option<u32>,
        work: &CopyWork,
        block_size: BlockSize,
        progress: Arc<CopyProgress>,
    ) -> Self {
        let (segments, requested) = match work {
            CopyWork::Segments(segments) => (segments.clone(), 0),
            CopyWork::CreateToken { ranges, .. } | CopyWork::FromToken { ranges, .. } => {
                (Vec::new(), ranges.iter().map(|range| range.len).fold(0, u64::saturating_add))
            }
        };
        let operation = task.command.operation;
        Self { operation, requested, segments, block_size, listed: list.is_some(), progress }
    }

    fn has_segments(&self) -> bool {
        matches!(self.operation, Operation::ExtendedCopyLid1 | Operation::ExtendedCopyLid4)
    }
}

impl LogicalUnit {
    pub(in crate::unit) fn finish_copy(&mut self, copy: PendingCopy, outcome: MediaOutcome) -> Completion {
        let report = match outcome {
            MediaOutcome::Copied(report) => report,
            MediaOutcome::Failed(failure) => {
                CopyReport::failed(CopyFault::Failed(CopySide::Destination, failure))
            }
            _ => CopyReport::failed(CopyFault::Failed(
                CopySide::Destination,
                crate::MediaFailureKind::Internal.into(),
            )),
        };
        let completion = match report.fault {
            None => self.copied(&copy),
            Some(CopyFault::Stopped) => Completion::bare(Status::TaskAborted),
            Some(fault) => Completion::check(self.copy_sense(&copy, fault), self.sense_format()),
        };
        if copy.listed {
            self.keep(&copy, &completion, report);
        }
        completion
    }

    fn keep(&mut self, copy: &PendingCopy, completion: &Completion, report: CopyReport) {
        let partial = copy.operation == Operation::WriteUsingToken && report.fault.is_none();
        let ending = match completion.status {
            Status::Good => Ending::Complete,
            Status::TaskAborted => Ending::Terminated,
            _ if partial => Ending::PartialToken,
            _ => Ending::WithErrors,
        };
        let (status, sense) = (completion.status, completion.sense.clone());
        self.copies.end(&copy.progress, Outcome { ending, status, sense, token: report.token });
    }

    /// No fault. A token that stood for less than was asked for is a residual (SBC-4 4.28.2).
    fn copied(&self, copy: &PendingCopy) -> Completion {
        let copied = copy.progress.bytes();
        if copy.operation != Operation::WriteUsingToken || copied >= copy.requested {
            return Completion::good();
        }
        let key = if copied == 0 { SenseKey::IllegalRequest } else { SenseKey::CopyAborted };
        let sense = Sense::new(key, AdditionalSense::COPY_TARGET_DATA_UNDERRUN)
            .with_information(copied >> copy.block_size.shift());
        Completion::check(sense, self.sense_format())
    }

    /// The one table from a fault to what the host is told (SPC-4 5.17.7.4; SBC-4 5.12 and 5.59).
    fn copy_sense(&self, copy: &PendingCopy, fault: CopyFault) -> Sense {
        let additional = match fault {
            CopyFault::Token(fault) => return fault.sense(),
            CopyFault::PastToken => return Sense::invalid_parameter(8, None),
            CopyFault::NoRoomForToken => {
                return Sense::illegal(AdditionalSense::NO_ROOM_FOR_ROD_TOKEN);
            }
            // What a command with a token does to its own volume fails as its writes and reads do.
            CopyFault::Failed(side, failure) if !copy.has_segments() && is_own(copy, side) => {
                return self.failure(own_access(side), failure);
            }
            CopyFault::Refused(side, answer) if !copy.has_segments() && is_own(copy, side) => {
                return answer.sense.unwrap_or(ABORTED);
            }
            CopyFault::Unreachable(_) => AdditionalSense::COPY_TARGET_NOT_REACHABLE,
            CopyFault::WrongType(_) => AdditionalSense::INCORRECT_COPY_TARGET_TYPE,
            // Found by the copy manager in the segment itself: the pointer says where.
            CopyFault::OutOfRange(_) | CopyFault::TooLong | CopyFault::Stopped => AdditionalSense::NONE,
            CopyFault::Granularity => AdditionalSense::COPY_SEGMENT_GRANULARITY_VIOLATION,
            CopyFault::Inexact => AdditionalSense::UNEXPECTED_INEXACT_SEGMENT,
            CopyFault::Refused(..) | CopyFault::Failed(..) => AdditionalSense::THIRD_PARTY_DEVICE_FAILURE,
        };
        let sense = Sense::new(SenseKey::CopyAborted, additional);
        if copy.has_segments() { self.at_segment(sense, copy, fault) } else { sense }
    }

    /// Names the segment that was being processed, where in the list the cause is, and what is left to write of it
    /// if anything was written, in blocks of the destination. (Those of other units are counted in this one's: the
    /// size is known only where the copy ran, and hosts copy between like units.)
    fn at_segment(&self, sense: Sense, copy: &PendingCopy, fault: CopyFault) -> Sense {
        let segment = u16::try_from(copy.progress.segments().saturating_sub(1)).unwrap_or(u16::MAX);
        let Some(described) = copy.segments.get(usize::from(segment)) else { return sense };
        let place = place(described, fault);
        let sense = sense.with_segment(SegmentPointer { segment, place });
        let shift = copy.block_size.shift();
        let all = match described.length {
            crate::CopyLength::Bytes(bytes) => u64::from(bytes) >> shift,
            crate::CopyLength::SourceBlocks(blocks) | crate::CopyLength::DestinationBlocks(blocks) => {
                u64::from(blocks)
            }
        };
        match copy.progress.segment_bytes() >> shift {
            0 => sense,
            written => sense.with_information(all.saturating_sub(written)),
        }
    }
}

const ABORTED: Sense = Sense::new(SenseKey::AbortedCommand, AdditionalSense::NONE);

/// Whether that side of a copy with a token is the volume of the unit that took the command.
fn is_own(copy: &PendingCopy, side: CopySide) -> bool {
    match copy.operation {
        Operation::PopulateToken => true,
        _ => side == CopySide::Destination,
    }
}

fn own_access(side: CopySide) -> Operation {
    match side {
        CopySide::Source => Operation::Read,
        CopySide::Destination => Operation::Write,
    }
}

fn place(segment: &CopySegment, fault: CopyFault) -> Option<ListPlace> {
    const SOURCE_LBA: u16 = 12;
    const DESTINATION_LBA: u16 = 20;
    const LENGTH: u16 = 8;
    let of_side = |side| if side == CopySide::Source { &segment.source } else { &segment.destination };
    match fault {
        CopyFault::Unreachable(side)
        | CopyFault::WrongType(side)
        | CopyFault::Refused(side, _)
        | CopyFault::Failed(side, _) => of_side(side).described_at.map(ListPlace::List),
        CopyFault::OutOfRange(CopySide::Source) => Some(ListPlace::Segment(SOURCE_LBA)),
        CopyFault::OutOfRange(CopySide::Destination) => Some(ListPlace::Segment(DESTINATION_LBA)),
        CopyFault::TooLong | CopyFault::Granularity | CopyFault::Inexact => Some(ListPlace::Segment(LENGTH)),
        _ => None,
    }
}
