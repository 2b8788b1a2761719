//! The candidates of one sector.

use crate::content::WriteId;

/// A moment of the model's own clock, which counts starts and ends of operations.
pub type Time = u64;

/// A write whose content a read of the sector may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The write.
    pub write: WriteId,
    /// It can take effect no later than this, whatever the write's own end: a clone was taken then.
    pub limit: Time,
    /// The write that certainly came after this one, and since when that is certain.
    pub killed: Option<(WriteId, Time)>,
}

impl Candidate {
    pub(super) fn new(write: WriteId) -> Self {
        Self { write, limit: Time::MAX, killed: None }
    }

    /// True if a read that began at `start` may find it.
    pub(super) fn visible_since(&self, start: Time) -> bool {
        self.killed.is_none_or(|(_, at)| at >= start)
    }
}
