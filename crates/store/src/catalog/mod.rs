//! The catalog: the small transactional facts of a pool, in an embedded database on the pool's own slabs.
//!
//! All of it but the facts is read once, at opening; afterwards the engine tells it what changes. Calls block
//! their thread. A panic inside the database, which damaged pages can cause, comes back as an error.

mod legs;
mod medium;
mod peek;
mod records;
mod tables;

pub(crate) use legs::{Leg, settle};
pub(crate) use medium::{Medium, SlabSource};
pub(crate) use records::{
    Changes, DiskRecord, Image, LayerRecord, LogRange, PoolRecord, SanitizePhase, SanitizeRecord,
    SegmentRecord, SegmentState, Slab, VolumeRecord,
};

use crate::format::DiskIndex;
use crate::format::label::Label;
use block::{BlockError, ErrorKind, Result};
use peek::Peek;
use redb::{Database, ReadableDatabase};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Memory that the database may use for pages, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// A pool's catalog, open.
pub(crate) struct Catalog {
    database: Database,
    medium: Arc<Medium>,
    name: String,
}

impl Catalog {
    /// Makes an empty catalog on the slabs that the labels of `legs` name, with `changes` in it, and then writes the
    /// labels: only with these are the disks part of a pool.
    ///
    /// # Errors
    /// `NoSpace` if the slabs do not suffice and `source` has no more; the disk's errors.
    pub(crate) fn create(legs: Vec<Leg>, source: SlabSource, changes: &Changes) -> Result<Self> {
        let name = legs.first().map(|leg| leg.disk.info().name.clone()).unwrap_or_default();
        let several = legs.len() > 1;
        let catalog = Self::start(name, Arc::new(Medium::new(legs, source)))?;
        catalog.commit(changes)?;
        if several {
            // As long as only some are written, there is no pool.
            catalog.medium.update_labels(|label| label.unfinished = true)?;
        }
        catalog.medium.update_labels(|label| label.unfinished = false)?;
        match catalog.failed().first() {
            None => Ok(catalog),
            Some(_) => Err(BlockError::new(ErrorKind::Device, &catalog.name, "a label cannot be written")),
        }
    }

    /// Opens the catalog of the pool that `legs` are the disks of, from the copy on `primary`.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged; the disk's errors.
    pub(crate) fn open(legs: Vec<Leg>, primary: DiskIndex, source: SlabSource) -> Result<Self> {
        let name = legs.first().map(|leg| leg.disk.info().name.clone()).unwrap_or_default();
        let medium = Medium::open(legs, primary, source).map_err(|error| failure(&name, &error))?;
        Self::start(name, Arc::new(medium))
    }

    /// What the copy of the catalog on `primary` holds; nothing is written to any disk.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub(crate) fn peek(legs: Vec<Leg>, primary: DiskIndex) -> Result<Image> {
        let name = legs.first().map(|leg| leg.disk.info().name.clone()).unwrap_or_default();
        let medium =
            Medium::open(legs, primary, Box::new(|_| None)).map_err(|error| failure(&name, &error))?;
        let storage = Peek::new(Arc::new(medium)).map_err(|error| failure(&name, &error))?;
        let image = guarded(&name, || {
            let mut builder = redb::Builder::new();
            let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(storage)?;
            tables::read_image(&database.begin_read()?)
        })?;
        image.map_err(|what| BlockError::new(ErrorKind::Corrupt, &name, format!("catalog: {what}")))
    }

    /// Has the copies on `disks` follow the one that is open.
    ///
    /// # Errors
    /// The disk's of the copy that is open.
    pub(crate) fn mirror(&self, disks: &[DiskIndex]) -> Result<()> {
        self.medium.mirror(disks).map_err(|error| failure(&self.name, &error))
    }

    fn start(name: String, medium: Arc<Medium>) -> Result<Self> {
        let storage = Shared(Arc::clone(&medium));
        let database = guarded(&name, || {
            redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(storage)
                .map_err(redb::Error::from)
        })?;
        Ok(Self { database, medium, name })
    }

    /// The label of the first disk as it is now.
    pub(crate) fn label(&self) -> Label {
        self.medium.label()
    }

    /// The labels of all disks as they are now.
    pub(crate) fn labels(&self) -> Vec<Label> {
        self.medium.labels()
    }

    /// Changes the labels of all disks and writes them, durably.
    ///
    /// # Errors
    /// The disk's, if no disk with a copy of the catalog can be written; the labels are then as before. Of others see
    /// [`Catalog::failed`].
    pub(crate) fn update_labels(&self, change: impl Fn(&mut Label)) -> Result<()> {
        self.medium.update_labels(change)
    }

    /// Slabs that are wanting for the database to become twice as long once more, after it has taken in `bytes`.
    pub(crate) fn spare_missing(&self, bytes: u64) -> u64 {
        self.medium.spare_missing(bytes)
    }

    /// Takes these slabs.
    ///
    /// # Errors
    /// `NoSpace` if there are not so many; the disk's.
    pub(crate) fn take_spare(&self, bytes: u64) -> Result<()> {
        self.medium.take_spare(bytes).map_err(|error| failure(&self.name, &error))
    }

    /// Writes zeros to what of its slabs the catalog does not use: it may hold what was there before.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn wipe_spare(&self) -> Result<()> {
        self.medium.wipe_spare().map_err(|error| failure(&self.name, &error))
    }

    /// Reads all records.
    ///
    /// # Errors
    /// `Corrupt` if one cannot be understood; the disk's errors.
    pub(crate) fn image(&self) -> Result<Image> {
        let image = guarded(&self.name, || tables::read_image(&self.database.begin_read()?))?;
        image.map_err(|what| BlockError::new(ErrorKind::Corrupt, &self.name, format!("catalog: {what}")))
    }

    /// Applies `changes` as one transaction; durable when it returns.
    ///
    /// # Errors
    /// `NoSpace` if the catalog cannot grow; the disk's errors. After an error the transaction may or may not
    /// have happened: callers stop relying on the catalog until it is opened again.
    pub(crate) fn commit(&self, changes: &Changes) -> Result<()> {
        guarded(&self.name, || {
            let transaction = self.database.begin_write()?;
            tables::apply(&transaction, changes)?;
            Ok(transaction.commit()?)
        })
    }

    /// All facts of a kind, by name.
    ///
    /// # Errors
    /// `Corrupt`; the disk's errors.
    pub(crate) fn facts(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>> {
        guarded(&self.name, || tables::facts(&self.database.begin_read()?, kind))
    }
}

/// Runs `work` on the database and puts its errors, and its panics, into the engine's words.
fn guarded<T>(name: &str, work: impl FnOnce() -> std::result::Result<T, redb::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(redb::Error::Io(error))) => Err(failure(name, &error)),
        Ok(Err(redb::Error::PreviousIo)) => {
            let what = "catalog: the disk failed before; open the pool again";
            Err(BlockError::new(ErrorKind::Device, name, what))
        }
        Ok(Err(error)) => Err(BlockError::new(ErrorKind::Corrupt, name, format!("catalog: {error}"))),
        Err(_) => Err(BlockError::new(ErrorKind::Corrupt, name, "catalog: its pages contradict each other")),
    }
}

/// An error of the storage under the database. An error of the disk comes back as it was.
fn failure(name: &str, error: &std::io::Error) -> BlockError {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<BlockError>()) {
        return error.clone();
    }
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Device,
    };
    BlockError::new(kind, name, format!("catalog: {error}"))
}

/// The medium, shared between the database and the catalog.
#[derive(Debug)]
struct Shared(Arc<Medium>);

impl redb::StorageBackend for Shared {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

#[cfg(test)]
mod tests;
