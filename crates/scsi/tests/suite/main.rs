//! The logical unit as a host sees it: every command, against a medium in memory.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests may panic")]

mod absent;
mod alua;
mod attention;
mod compare_and_write;
mod extended_copy;
mod failure;
mod harness;
mod hosts;
mod inquiry;
mod mode;
mod or_write;
mod provisioning;
mod report_opcodes;
mod reservation;
mod reserved;
mod robustness;
mod rod_tokens;
mod sanitize;
mod state;
mod thresholds;
mod transfer;
mod verify;
mod write_atomic;
