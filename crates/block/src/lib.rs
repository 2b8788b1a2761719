//! What a volume and a disk are: traits, aligned buffers, errors and the disk in memory.
//!
//! *Invariant:* this crate knows nothing of iSCSI, SCSI, files or sockets. It says what the layers above may
//! ask of a [`Volume`], what the pool engine may ask of a [`Disk`], and which words both use for failure.

#![deny(clippy::as_conversions)]

mod buffer;
mod disk;
mod error;
mod memory;
mod runtime;
mod size;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod volume;

pub use buffer::{BufferPool, PAGE_SIZE, PageBuf};
pub use disk::{Disk, DiskInfo, Media, Persist};
pub use error::{BlockError, ErrorKind, Result};
pub use memory::MemoryDisk;
pub use runtime::{Runtime, Task};
pub use size::{format_size, parse_size};
pub use volume::{
    ByteRange, Comparison, Durability, Extent, Provisioning, Resources, Sanitization, SanitizeMethod, Volume,
};

use std::future::Future;
use std::pin::Pin;

/// A future that any thread may drive: the result of each asynchronous operation of a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
