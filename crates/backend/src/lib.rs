//! Real bytes: disks through io_uring with a thread-pool fallback, and disks in memory.
//!
//! *Invariant:* this is the only crate with `unsafe` code, and the only one that knows what a file is. It keeps
//! no format of its own: whatever a disk holds is its caller's.
//!
//! How a request travels: [`open_disk`] gives a [`block::Disk`]. A request made on a reactor thread (a thread
//! that drives a tokio `current_thread` runtime) goes into that thread's own ring; the requests of one wake-up
//! are submitted together, and the ring's file descriptor wakes the reactor. Elsewhere, and where the kernel
//! refuses io_uring, a few threads of the disk's own carry it out. [`IoMode`] says which. Discards and flushes
//! always go to threads; flushes take turns, so that no failure of one is missed by another.

mod errors;
mod file_disk;
mod flush;
mod open;
mod request;
mod ring;
mod runtime;
mod slot;
mod spec;
mod sys;
mod threads;

pub use file_disk::{Engine, IoMode};
pub use open::{OpenDisk, OpenOptions, open_disk};
pub use ring::{attach_ring, uring_support};
pub use runtime::TokioRuntime;
pub use spec::DiskSpec;
