//! Fuzz targets: functions that take any bytes, lead them through the protocol crates, and panic when something that
//! must hold does not.
//!
//! `cargo fuzz run --fuzz-dir crates/fuzz --features libfuzzer NAME` looks for such bytes, guided by coverage; what it
//! has kept in `corpus` is replayed by this crate's tests.

mod input;
mod medium;
mod sessions;
mod units;

pub use sessions::{initiator_session, pdu, target_session};
pub use units::cdb;

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("pdu", pdu),
    ("cdb", cdb),
    ("target_session", target_session),
    ("initiator_session", initiator_session),
];
