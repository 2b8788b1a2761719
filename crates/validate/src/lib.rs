//! Checks any iSCSI array from the initiator's side, as clusters, hypervisors and certification suites do.
//!
//! [`run`] logs several nexuses in to one logical unit, over every path given, and runs the checks of
//! [`CHECKS`]: the storage part of Windows Failover Cluster Validation, the primitives that ESXi offloads, the
//! thin provisioning and ODX checks of HLK, several paths. Each check reports the commands it sent, what came
//! back, and the clause it judges by.
//!
//! Without permission it only reads. What it reserves it releases, also when a check fails or the run is
//! interrupted.
//!
//! *Invariant:* an array is seen through its socket only, and nothing here shares code with our target but the
//! names of commands. Where both disagree about a standard, a run shows it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod bytes_at;
mod check;
mod checks;
mod cleanup;
mod decode;
mod exchange;
mod fabric;
mod html;
mod names;
mod nexus;
mod outcome;
mod report;
mod request;
mod reservation;
mod run;
mod same_unit;
mod scene;
mod table;
mod text;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod lies;

pub use check::{Check, Group, Need};
pub use exchange::Exchange;
pub use fabric::{Discovered, Fabric, Local, NexusSpec, Peer, Sockets};
pub use initiator::Answer;
pub use outcome::Verdict;
pub use report::{CheckReport, Counts, Report, UnitFacts};
pub use request::Request;
pub use run::{NEXUSES_MAX, Options, RunError, run};
pub use scene::ScratchRange;
pub use table::CHECKS;
