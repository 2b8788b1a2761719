//! From the volume's answer to the host's.

use super::dispatch::Task;
use super::third_party_copy::PendingCopy;
use super::{LogicalUnit, Step, block_status, sanitize};
use crate::command::Operation;
use crate::completion::{Completion, total_len};
use crate::media::{MediaCommand, MediaFailure, MediaFailureKind, MediaOutcome};
use crate::sense::{AdditionalSense, Sense, SenseKey};

/// A command that waits for the volume.
#[derive(Debug)]
#[must_use = "every command has to be finished"]
pub struct Pending {
    operation: Operation,
    /// First byte of the command's range.
    offset: u64,
    /// Bytes of the range.
    len: u64,
    /// Of GET LBA STATUS and LOG SENSE.
    allocation_len: u32,
    /// Of the third-party copy commands.
    copy: Option<Box<PendingCopy>>,
}

impl Pending {
    pub(super) fn of_copy(operation: Operation, copy: PendingCopy) -> Self {
        Self { operation, offset: 0, len: 0, allocation_len: 0, copy: Some(Box::new(copy)) }
    }
}

impl LogicalUnit {
    /// Hands `command` to the volume on behalf of `task`, whose range is `offset` and `len`.
    pub(super) fn media(&self, task: &Task<'_>, command: MediaCommand, offset: u64, len: u64) -> Step {
        let operation = task.command.operation;
        let allocation_len = match operation {
            Operation::GetLbaStatus | Operation::LogSense => task.length(),
            _ => 0,
        };
        Step::Media(command, Pending { operation, offset, len, allocation_len, copy: None })
    }

    /// Ends a command with the volume's answer.
    ///
    /// An answer that does not fit the command (a read that returns too little, data for a write) is a
    /// defect of the caller, reported to the host as INTERNAL TARGET FAILURE.
    pub fn finish(&mut self, mut pending: Pending, outcome: MediaOutcome) -> Completion {
        if let Some(copy) = pending.copy.take() {
            return self.finish_copy(*copy, outcome);
        }
        let end = match (pending.operation, outcome) {
            (operation, MediaOutcome::Failed(failure)) if sanitize::is(operation) => {
                Err(self.sanitize_failure(operation, failure))
            }
            (operation, MediaOutcome::SanitizeFailed) if sanitize::is(operation) => Err(sanitize::FAILED),
            (_, MediaOutcome::Failed(MediaFailure { kind: MediaFailureKind::Busy, .. })) => {
                return Completion::busy();
            }
            (_, MediaOutcome::Failed(failure)) => Err(self.failure(pending.operation, failure)),
            (Operation::Read, MediaOutcome::Data(data)) if total_len(&data) == pending.len => {
                Ok(Completion::data(data))
            }
            (Operation::GetLbaStatus, MediaOutcome::Status(extents)) => {
                let shift = self.config.block_size.shift();
                let Pending { offset, len, allocation_len, .. } = pending;
                Ok(block_status::report(&extents, offset, len, shift, allocation_len))
            }
            (Operation::LogSense, MediaOutcome::Resources(resources)) => {
                Ok(self.provisioning_log(resources, pending.offset, pending.allocation_len))
            }
            (
                Operation::Verify | Operation::WriteAndVerify | Operation::CompareAndWrite,
                MediaOutcome::Miscompare { offset },
            ) => Err(Sense::new(SenseKey::Miscompare, AdditionalSense::MISCOMPARE_DURING_VERIFY)
                .with_information(offset)),
            (Operation::Read | Operation::GetLbaStatus | Operation::LogSense, MediaOutcome::Done) => {
                Err(INTERNAL)
            }
            (_, MediaOutcome::Done) => Ok(Completion::good()),
            _ => Err(INTERNAL),
        };
        end.unwrap_or_else(|sense| Completion::check(sense, self.sense_format()))
    }

    /// The one table from failure to sense, INFORMATION being the block's address.
    pub(super) fn failure(&self, operation: Operation, failure: MediaFailure) -> Sense {
        let (key, additional) = match failure.kind {
            MediaFailureKind::MediumError => (SenseKey::MediumError, medium_error(operation)),
            MediaFailureKind::SpaceExhausted => {
                (SenseKey::DataProtect, AdditionalSense::SPACE_ALLOCATION_FAILED)
            }
            MediaFailureKind::SpaceAllocationInProgress => {
                (SenseKey::NotReady, AdditionalSense::SPACE_ALLOCATION_IN_PROGRESS)
            }
            MediaFailureKind::NotReady => (SenseKey::NotReady, AdditionalSense::NOT_READY),
            MediaFailureKind::Locked => (SenseKey::NotReady, AdditionalSense::MANUAL_INTERVENTION_REQUIRED),
            MediaFailureKind::WriteProtected => (SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED),
            MediaFailureKind::OutOfRange => (SenseKey::IllegalRequest, AdditionalSense::LBA_OUT_OF_RANGE),
            MediaFailureKind::Aborted | MediaFailureKind::Busy => {
                (SenseKey::AbortedCommand, AdditionalSense::NONE)
            }
            MediaFailureKind::Internal => return INTERNAL,
        };
        let sense = Sense::new(key, additional);
        match failure.offset {
            Some(offset) if failure.kind == MediaFailureKind::MediumError => {
                sense.with_information(self.to_blocks(offset))
            }
            _ => sense,
        }
    }
}

const INTERNAL: Sense = Sense::new(SenseKey::HardwareError, AdditionalSense::INTERNAL_TARGET_FAILURE);

/// Commands that write find out that they cannot, the others that they cannot read.
fn medium_error(operation: Operation) -> AdditionalSense {
    match operation {
        Operation::Write
        | Operation::WriteSame
        | Operation::Unmap
        | Operation::SynchronizeCache
        | Operation::SanitizeOverwrite
        | Operation::SanitizeBlockErase
        | Operation::SanitizeCryptoErase
        | Operation::SanitizeExitFailureMode => AdditionalSense::WRITE_ERROR,
        _ => AdditionalSense::UNRECOVERED_READ_ERROR,
    }
}
