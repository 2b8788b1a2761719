//! What the pool engine asks of a disk.

use crate::{BoxFuture, Result};
use bytes::Bytes;

/// What kind of thing a disk's bytes are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A block device.
    Device,
    /// A file in a file system.
    File,
    /// Memory: lost when the process ends.
    Memory,
}

/// What is known of a disk when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskInfo {
    /// Path or name, as the administrator gave it.
    pub name: String,
    /// Size in bytes, a multiple of 4096.
    pub size_bytes: u64,
    /// Offsets and lengths of reads and writes are multiples of this: 512 or 4096 bytes. A write of one such
    /// unit happens whole or not at all; larger writes may tear between units.
    pub alignment_bytes: u32,
    /// What the bytes are on.
    pub media: Media,
    /// True for spinning disks.
    pub rotational: bool,
}

/// What must hold when a write's future is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// The kernel has the data: it survives the end of this process, not of the machine. A later
    /// [`Disk::flush`] makes it durable.
    Cached,
    /// This write's data is on stable storage. Says nothing of other writes.
    Durable,
}

/// One disk of a pool. Reads that overlap a write in progress may see either content, unit by unit; after the
/// write's future is ready they see the new one. The futures may be dropped; the operation then still runs to
/// its end.
pub trait Disk: Send + Sync + 'static {
    /// What is known of the disk.
    fn info(&self) -> &DiskInfo;

    /// Reads `len` bytes at `offset`, into page-aligned memory.
    ///
    /// # Errors
    /// `Invalid` for unaligned or out-of-range requests, `Device` if the device fails.
    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>>;

    /// Writes the chunks of `data`, one after the other, at `offset`. Chunks should be page-aligned memory of
    /// whole alignment units (others are copied first).
    ///
    /// # Errors
    /// As [`Disk::read`], and `Device` for a [`Persist::Durable`] write once a flush has failed ([`Disk::flush`]);
    /// after an error the range may hold old or new data, unit by unit.
    fn write(&self, offset: u64, data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>>;

    /// Makes all writes whose futures were ready before the call durable.
    ///
    /// A failure is final: systems report lost data once, and later succeed without it. After one, every flush
    /// (this and [`Disk::flush_blocking`], also those running at the time) and every [`Persist::Durable`] write
    /// fails until the disk is opened anew. Reads and [`Persist::Cached`] writes go on. A failed read or write
    /// does not have this effect, whatever its error.
    ///
    /// # Errors
    /// `Device`: what was written since the last successful flush may be lost; the disk must be reopened.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// Tells the disk that the range's content is not needed. Later reads of it may return anything.
    /// A hint: disks that cannot do it do nothing.
    ///
    /// # Errors
    /// `Invalid` for unaligned or out-of-range requests.
    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>>;

    /// [`Disk::read`] for callers that own their thread (the catalog): blocks it.
    ///
    /// # Errors
    /// As [`Disk::read`].
    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// [`Disk::write`] with [`Persist::Cached`] for callers that own their thread (the catalog): blocks it.
    ///
    /// # Errors
    /// As [`Disk::write`].
    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// [`Disk::flush`] for callers that own their thread (the catalog): blocks it.
    ///
    /// # Errors
    /// As [`Disk::flush`].
    fn flush_blocking(&self) -> Result<()>;
}
