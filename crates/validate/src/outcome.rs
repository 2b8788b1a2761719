//! How a check ends.

use serde::Serialize;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The array does what the standard, or the host, wants.
    Passed,
    /// It works, but a host will complain or be slow.
    Warning,
    /// The array does not.
    Failed,
    /// The array says that it has not got the feature.
    NotSupported,
    /// The check did not run; the reason is in the report.
    Skipped,
}

impl Verdict {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Warning, Self::Failed, Self::NotSupported, Self::Skipped];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::NotSupported => "not supported",
            Self::Skipped => "skipped",
        }
    }
}

/// Why a check ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The array is wrong.
    Failed(String),
    /// The array has not got the feature.
    NotSupported(String),
    /// The check cannot run here.
    Skipped(String),
}

/// The result of a check, or of a step of one.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// Ends a check as failed.
pub(crate) fn failed<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::Failed(message.into()))
}

/// Ends a check as one about a feature that is not there.
pub(crate) fn not_supported<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::NotSupported(message.into()))
}

/// Ends a check that cannot run.
pub(crate) fn skipped<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skipped(message.into()))
}

impl core::fmt::Display for Stop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (Self::Failed(text) | Self::NotSupported(text) | Self::Skipped(text)) = self;
        f.write_str(text)
    }
}
