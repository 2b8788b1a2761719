//! SANITIZE (SBC-4 4.11 and 5.30): nothing that was written can be read any more.

use bytes::Bytes;

use super::dispatch::Task;
use super::parameters::gather;
use super::{DataOut, LogicalUnit, Step};
use crate::command::{Command, Feature, Operation};
use crate::completion::Completion;
use crate::media::{MediaCommand, MediaFailure, MediaFailureKind, Sanitization, SanitizeMethod};
use crate::sense::{AdditionalSense, Sense, SenseKey};

/// Bytes of the parameter list before the initialization pattern.
const HEADER: u32 = 4;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
const AUSE_BIT: u8 = 5;
/// The service action's first bit in byte 1.
const SERVICE_ACTION_BIT: u8 = 4;

/// The last one could not be done.
pub(super) const FAILED: Sense = Sense::new(SenseKey::MediumError, AdditionalSense::SANITIZE_FAILED);

const fn in_progress(progress: u16) -> Sense {
    Sense::new(SenseKey::NotReady, AdditionalSense::SANITIZE_IN_PROGRESS).with_progress(progress)
}

/// Whether it is one of SANITIZE.
pub(super) fn is(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::SanitizeOverwrite
            | Operation::SanitizeBlockErase
            | Operation::SanitizeCryptoErase
            | Operation::SanitizeExitFailureMode
    )
}

impl LogicalUnit {
    /// SBC-4 4.11.2 and 4.11.3: while the volume is sanitized only what is said in the table runs, and after a failure
    /// SANITIZE, too.
    pub(super) fn check_command_with_sanitization(&self, command: &Command) -> Result<(), Sense> {
        let leaves_failure = matches!(command.feature, Feature::Sanitize | Feature::CryptoErase);
        match self.sanitization {
            Sanitization::Failed { .. } if leaves_failure => Ok(()),
            _ if command.runs_despite_sanitize => Ok(()),
            _ => self.check_sanitization(),
        }
    }

    /// What other commands hear, and REQUEST SENSE tells.
    pub(super) fn check_sanitization(&self) -> Result<(), Sense> {
        match self.sanitization {
            Sanitization::Idle => Ok(()),
            Sanitization::Running { progress } => Err(in_progress(progress)),
            Sanitization::Failed { .. } => Err(FAILED),
        }
    }

    /// SBC-4 5.30.4.
    pub(super) fn sanitize_block_erase(&self, task: &Task<'_>) -> Result<Step, Sense> {
        no_parameters(task)?;
        self.sanitize(task, SanitizeMethod::BlockErase)
    }

    /// SBC-4 5.30.5: the volume has another key, and what was encrypted with the former one is lost.
    pub(super) fn sanitize_crypto_erase(&self, task: &Task<'_>) -> Result<Step, Sense> {
        no_parameters(task)?;
        self.sanitize(task, SanitizeMethod::CryptoErase)
    }

    /// SBC-4 5.30.3. What is left is the pattern, however many passes there are: INVERT has the first one begin so that
    /// the last one does not invert it. On a log a pass does not meet the places of the one before, so that one is
    /// as good as many.
    pub(super) fn sanitize_overwrite(&self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let block_bytes = self.config.block_size.bytes();
        if !(HEADER + 1..=HEADER + block_bytes).contains(&task.length()) {
            return Err(task.bad_length());
        }
        let list = gather(self.data(task, data_out)?);
        let pattern = initialization_pattern(&list)?;
        let block: Vec<u8> = pattern.iter().copied().cycle().take(usize_of(block_bytes)).collect();
        self.sanitize(task, SanitizeMethod::Overwrite(block.into()))
    }

    fn sanitize(&self, task: &Task<'_>, method: SanitizeMethod) -> Result<Step, Sense> {
        let unrestricted_exit = task.cdb.bit(1, AUSE);
        // SBC-4 4.11.1: a failure in the restricted mode is not left by way of the unrestricted one.
        if unrestricted_exit && self.sanitization == (Sanitization::Failed { unrestricted_exit: false }) {
            return Err(Sense::invalid_cdb_bit(1, AUSE_BIT));
        }
        let wait = !task.cdb.bit(1, IMMED);
        let len = self.blocks << self.config.block_size.shift();
        Ok(self.media(task, MediaCommand::Sanitize { method, unrestricted_exit, wait }, 0, len))
    }

    /// SBC-4 5.30.6. Without a failure there is nothing to leave.
    pub(super) fn exit_failed_sanitize(&self, task: &Task<'_>) -> Result<Step, Sense> {
        no_parameters(task)?;
        match self.sanitization {
            Sanitization::Idle | Sanitization::Running { .. } => Ok(Step::Done(Completion::good())),
            Sanitization::Failed { unrestricted_exit: false } => {
                Err(Sense::invalid_cdb_bit(1, SERVICE_ACTION_BIT))
            }
            Sanitization::Failed { unrestricted_exit: true } => {
                Ok(self.media(task, MediaCommand::LeaveFailedSanitize, 0, 0))
            }
        }
    }

    /// Why one did not begin, or was not left. Another host's may have begun since the command was checked.
    pub(super) fn sanitize_failure(&self, operation: Operation, failure: MediaFailure) -> Sense {
        match failure.kind {
            MediaFailureKind::Busy => match self.sanitization {
                Sanitization::Running { progress } => in_progress(progress),
                Sanitization::Idle | Sanitization::Failed { .. } => in_progress(0),
            },
            MediaFailureKind::OutOfRange => Sense::invalid_cdb_bit(1, SERVICE_ACTION_BIT),
            _ => self.failure(operation, failure),
        }
    }
}

fn no_parameters(task: &Task<'_>) -> Result<(), Sense> {
    if task.length() == 0 { Ok(()) } else { Err(task.bad_length()) }
}

/// The list of OVERWRITE: INVERT, TEST and OVERWRITE COUNT, then the pattern, which fills the rest of it. What TEST asks
/// for is up to the vendor; here it is nothing, and only 00b says so.
fn initialization_pattern(list: &Bytes) -> Result<Bytes, Sense> {
    const TEST: u8 = 0x60;
    const TEST_BIT: u8 = 6;
    const COUNT: u8 = 0x1f;
    const COUNT_BIT: u8 = 4;
    let header: Option<[u8; 4]> = list.get(..4).and_then(|header| header.try_into().ok());
    let [first, reserved, high, low] = header.unwrap_or_default();
    let wrong = |byte, bit| Err(Sense::invalid_parameter(byte, bit));
    if first & TEST != 0 {
        return wrong(0, Some(TEST_BIT));
    }
    if first & COUNT == 0 {
        return wrong(0, Some(COUNT_BIT));
    }
    if reserved != 0 {
        return wrong(1, None);
    }
    let pattern = list.get(4..).unwrap_or_default();
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len == 0 || len != pattern.len() {
        return wrong(2, None);
    }
    Ok(list.slice_ref(pattern))
}

/// Bytes of a block fit any machine's addresses.
fn usize_of(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
