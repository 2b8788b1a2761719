//! How a command ends.

use bytes::Bytes;

use crate::sense::{Sense, SenseFormat};

/// SCSI status (SAM-5 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Status {
    /// Done.
    #[default]
    Good,
    /// Not done, or done with something to say: see the sense data.
    CheckCondition,
    /// PRE-FETCH: all fitted into the cache.
    ConditionMet,
    /// Cannot take the command now; try again.
    Busy,
    /// Another nexus holds a reservation.
    ReservationConflict,
    /// Too many commands are queued; try again when one has ended.
    TaskSetFull,
    /// Aborted by another nexus, with TAS set in the control mode page.
    TaskAborted,
}

impl Status {
    /// The byte a response carries.
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0x00,
            Self::CheckCondition => 0x02,
            Self::ConditionMet => 0x04,
            Self::Busy => 0x08,
            Self::ReservationConflict => 0x18,
            Self::TaskSetFull => 0x28,
            Self::TaskAborted => 0x40,
        }
    }
}

/// What goes back to the host: status, sense data with CHECK CONDITION, and Data-In.
///
/// Data-In is what the command yields, cut to its allocation length; the transport cuts it further to
/// the length the initiator expects and computes the residual.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use = "a command has to be answered"]
pub struct Completion {
    /// SCSI status.
    pub status: Status,
    /// Sense data; empty unless the status is CHECK CONDITION.
    pub sense: Bytes,
    /// Data-In, in order.
    pub data_in: Vec<Bytes>,
}

impl Completion {
    /// GOOD without data.
    pub fn good() -> Self {
        Self::default()
    }

    /// GOOD with Data-In.
    pub fn data(data_in: Vec<Bytes>) -> Self {
        Self { data_in, ..Self::default() }
    }

    /// CHECK CONDITION with sense data.
    pub fn check(sense: Sense, format: SenseFormat) -> Self {
        Self { status: Status::CheckCondition, sense: sense.encode(format), data_in: Vec::new() }
    }

    /// A status that carries neither sense nor data: BUSY, TASK SET FULL, RESERVATION CONFLICT.
    pub fn bare(status: Status) -> Self {
        Self { status, ..Self::default() }
    }

    /// BUSY: the target cannot take the command now.
    pub fn busy() -> Self {
        Self::bare(Status::Busy)
    }

    /// TASK SET FULL: the nexus has queued too many commands.
    pub fn task_set_full() -> Self {
        Self::bare(Status::TaskSetFull)
    }

    /// Bytes of Data-In.
    pub fn data_in_len(&self) -> u64 {
        total_len(&self.data_in)
    }
}

/// The bytes in a chain of buffers.
pub(crate) fn total_len(chunks: &[Bytes]) -> u64 {
    // A usize is at most 64 bits wide on every platform Rust has.
    chunks.iter().map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::{AdditionalSense, SenseKey};

    #[test]
    fn status_codes_are_those_of_sam_5() {
        let codes = [
            (Status::Good, 0x00),
            (Status::CheckCondition, 0x02),
            (Status::ConditionMet, 0x04),
            (Status::Busy, 0x08),
            (Status::ReservationConflict, 0x18),
            (Status::TaskSetFull, 0x28),
            (Status::TaskAborted, 0x40),
        ];
        for (status, code) in codes {
            assert_eq!(status.code(), code);
        }
    }

    #[test]
    fn only_check_condition_carries_sense() {
        let sense = Sense::new(SenseKey::AbortedCommand, AdditionalSense::NONE);
        assert_eq!(Completion::check(sense, SenseFormat::Fixed).sense.len(), 18);
        for bare in [Completion::good(), Completion::busy(), Completion::task_set_full()] {
            assert!(bare.sense.is_empty() && bare.data_in.is_empty());
        }
    }

    #[test]
    fn data_in_counts_all_chunks() {
        let completion = Completion::data(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")]);
        assert_eq!(completion.data_in_len(), 5);
    }
}
