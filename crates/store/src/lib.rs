//! The pool engine: log-structured segments, layers, checkpoints and recovery over a disk given from outside.
//!
//! *Invariant:* this crate knows nothing of iSCSI, SCSI, files or sockets. Disk, clock, executor and randomness
//! come in from outside ([`block::Disk`], [`block::Runtime`]), so that a simulation owns all of them.
//!
//! Start at [`Pool`]. `docs/format.md` draws every byte that is written.

#![deny(clippy::as_conversions)]

mod accounts;
mod background;
mod catalog;
mod checkpoint;
mod collect;
mod detach;
mod disks;
mod engine;
mod format;
mod keys;
mod layer;
mod layers;
mod log;
mod map;
mod number;
mod options;
mod pool;
mod recover;
mod reserve;
mod sanitize;
mod segment;
mod share;
mod space;
mod state;
mod survey;
mod sync;
mod views;
mod volume;

pub use format::keys::KeyCost;
pub use format::{Redundancy, VolumeId};
pub use keys::{KEY_FILE_BYTES_MIN, SECRET_BYTES_MAX, Secret};
pub use options::{
    CheckReport, Detachment, DiskLabel, DiskState, DiskStatus, Fact, Health, KeySlot, KeyStatus, PoolOptions,
    PoolSpace, PoolStatus, SegmentCounts, VolumeInfo, VolumeSpec,
};
pub use pool::{Difference, Pool, label_of};
pub use survey::{Holding, Survey};
pub use volume::StoreVolume;
