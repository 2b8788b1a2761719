//! The pool as its users see it.

use crate::format::VolumeId;
use crate::options::{CheckReport, DiskLabel, Fact, PoolOptions, PoolStatus, VolumeInfo, VolumeSpec};
use crate::volume::StoreVolume;
use block::{BlockError, Disk, ErrorKind, Result, Runtime};
use std::sync::Arc;

/// A pool, open.
pub struct Pool {}

fn missing<T>() -> Result<T> {
    Err(BlockError::new(ErrorKind::Closed, "pool", "is not open"))
}

/// Which pool `disk` is part of, if any. Reads through the runtime's blocking threads.
///
/// # Errors
/// `Format` if there is a label, but of another version or damaged; the disk's errors.
pub async fn label_of(_disk: Arc<dyn Disk>, _runtime: &dyn Runtime) -> Result<Option<DiskLabel>> {
    missing()
}

impl Pool {
    /// Makes a pool named `name` of `disks` (one, for now), and opens it. What is on the disks is lost.
    ///
    /// # Errors
    /// `Invalid` if a disk is too small or an option makes no sense, `Exists` if a disk is in a pool already.
    pub async fn create(
        _disks: Vec<Arc<dyn Disk>>,
        _name: &str,
        _options: PoolOptions,
        _runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Self>> {
        missing()
    }

    /// Opens the pool on `disks`, replaying what was written since the last checkpoint.
    ///
    /// # Errors
    /// `NotFound` if no pool is there, `Corrupt` if acknowledged writes cannot be read back, the disk's errors.
    pub async fn open(
        _disks: Vec<Arc<dyn Disk>>,
        _options: PoolOptions,
        _runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Self>> {
        missing()
    }

    /// Finishes what is in flight, makes a checkpoint and closes; further calls answer `Closed`.
    ///
    /// # Errors
    /// The disk's. The pool is closed all the same; the next opening replays the log.
    pub async fn close(&self) -> Result<()> {
        missing()
    }

    /// Makes an empty volume, and puts `facts`, in one transaction.
    ///
    /// # Errors
    /// `Exists`; `Invalid` size; `NoSpace` for a thick one that does not fit.
    pub async fn create_volume(&self, _spec: VolumeSpec, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// The volume or snapshot `id`, for I/O. All handles of one volume work together.
    ///
    /// # Errors
    /// `NotFound`, `Closed`.
    pub fn open_volume(&self, _id: VolumeId) -> Result<Arc<StoreVolume>> {
        missing()
    }

    /// All volumes and snapshots, by identity.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        Vec::new()
    }

    /// Grows a volume to `size_bytes`; a size it has already is fine.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a smaller size; `NoSpace` for a thick one that does not fit.
    pub async fn resize_volume(&self, _id: VolumeId, _size_bytes: u64, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// Deletes a volume or snapshot; its space comes back in the background. Open handles answer `Closed`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_volume(&self, _id: VolumeId, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// Makes `snapshot`, a frozen copy of volume `id` as of some moment during the call.
    ///
    /// # Errors
    /// `NotFound`; `Exists`; `NoSpace` for a thick volume whose reservation does not fit a second time.
    pub async fn snapshot_volume(&self, _id: VolumeId, _snapshot: VolumeId, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// Makes `clone`, a thin volume with the content of the volume or snapshot `source`.
    ///
    /// # Errors
    /// `NotFound`; `Exists`; as [`Pool::snapshot_volume`].
    pub async fn clone_volume(&self, _source: VolumeId, _clone: VolumeId, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// Deletes a snapshot: [`Pool::delete_volume`] by another name.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is no snapshot.
    pub async fn delete_snapshot(&self, _id: VolumeId, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// Sets or removes records of the layers above, in one durable transaction.
    ///
    /// # Errors
    /// The disk's; `NoSpace` if the catalog cannot grow.
    pub async fn put_facts(&self, _facts: Vec<Fact>) -> Result<()> {
        missing()
    }

    /// All records of a kind, by name.
    ///
    /// # Errors
    /// `Corrupt`; the disk's.
    pub async fn facts(&self, _kind: &str) -> Result<Vec<(String, Vec<u8>)>> {
        missing()
    }

    /// Takes the space that the disk has gained since it was last looked at; `new_size_bytes` is what it has now.
    ///
    /// # Errors
    /// `Invalid` if it is smaller than before; the disk's.
    pub async fn grow_disk(&self, _new_size_bytes: u64) -> Result<()> {
        missing()
    }

    /// Writes changed map nodes and moves the start of replay forward. Happens by itself, too.
    ///
    /// # Errors
    /// The disk's.
    pub async fn checkpoint(&self) -> Result<()> {
        missing()
    }

    /// Runs deletion, merging and collection until they find nothing to do. For tests and administrators.
    ///
    /// # Errors
    /// The disk's.
    pub async fn settle(&self) -> Result<()> {
        missing()
    }

    /// Sizes, segments, health.
    #[must_use]
    pub fn status(&self) -> Option<PoolStatus> {
        None
    }

    /// Counts what the maps point to and compares it with the accounts. Best done while nothing writes.
    ///
    /// # Errors
    /// The disk's.
    pub async fn check(&self) -> Result<CheckReport> {
        missing()
    }
}
