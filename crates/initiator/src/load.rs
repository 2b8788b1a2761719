//! The load generator: many sessions, a fixed number of commands in flight each, measured.
//!
//! [`run`] blocks the calling thread, calls back once a second, and returns a [`LoadReport`].
//! A connection that breaks is made again with back-off and its commands are issued again: such
//! interruptions are counted as reconnects and show as stalls, not as errors.

mod config;
mod phase;
mod plan;
mod random;
mod report;
mod scan;
mod session;
mod source;
mod stamped;
mod tally;

#[cfg(test)]
mod proof_tests;

pub use config::{BlockSizes, ConfigError, LoadConfig, Pattern};
pub use report::{Direction, ErrorCount, LatencyReport, LoadReport, Progress, VerifyReport};

pub(crate) use random::Random;

use core::ops::ControlFlow;

use crate::error::ClientError;

/// Why a load run gave no clean report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The configuration contradicts itself or the volume.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A session could not be set up, or stayed broken for longer than `patience`.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The record of acknowledged writes cannot be used.
    #[error(transparent)]
    Ledger(#[from] crate::verify::LedgerError),
    /// Data came back other than it was acknowledged. The report lists the blocks.
    #[error("{} block(s) hold other data than was acknowledged", .0.verify.as_ref().map_or(0, |verify| verify.fault_count))]
    Verification(Box<LoadReport>),
    /// The machine refuses a thread or another resource.
    #[error("cannot start the load generator: {0}")]
    Start(#[from] std::io::Error),
}

/// Runs the load described by `config` to its end and reports on it.
///
/// `progress` is called on this thread about once a second; `ControlFlow::Break` ends the run
/// early, with a report of what was done until then.
///
/// # Errors
/// [`LoadError::Verification`] carries the whole report if `verify` found a fault. Commands that
/// fail on a working connection are no error of the run: they are counted in the report.
pub fn run(
    config: &LoadConfig,
    progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<LoadReport, LoadError> {
    let mut progress = progress;
    plan::run(config, &mut progress)
}
