//! Proof that no acknowledged write is lost or changed.
//!
//! Every write of a verifying load carries a *stamp* in each unit of 4096 (or 512) bytes: where
//! it belongs, which generation it is, whose it is, and a checksum over all of it
//! ([`stamp`]). A file, the *ledger*, holds for each unit the newest generation acknowledged (or
//! seen by a read, which commits the volume just the same) and the newest ever sent
//! ([`ledger`]). What a read returns is judged against both ([`check`]).

pub mod check;
pub mod inspector;
pub mod ledger;
pub mod stamp;

pub use check::{Fault, FaultReport};
pub use inspector::Inspector;
pub use ledger::{Ledger, LedgerError};
pub use stamp::{Stamp, StampSize};
