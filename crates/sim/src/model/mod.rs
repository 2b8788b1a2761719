//! What a linearizable disk with snapshots may return.
//!
//! For every sector the model keeps the *candidates*: writes whose content a read may find. A write is one from
//! the moment it starts; when it is acknowledged, every write that had ended before it began is *killed*. A read
//! that finds one candidate kills those that must have come before it. After a crash, candidates still alive may
//! be found, and, on volumes with `cache=buffered` after the machine crashed, also those killed by a write that
//! no flush has secured. What is found after a crash is all that may be found from then on.

mod cell;
mod checks;
mod layers;
mod sanitize;
mod volume;
mod world;

pub use cell::{Candidate, Time};
pub use sanitize::Sanitizing;
pub use volume::{Presence, VolumeModel};
pub use world::{Model, WriteState, name};

use crate::content::WriteId;

/// Identity of a volume or a snapshot.
pub type VolumeId = [u8; 16];

/// A claim of the engine that the model does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The write that stands for the zeros of sectors never written.
pub const NOTHING: WriteId = WriteId(0);

#[cfg(test)]
mod tests;
