//! The pool as its users see it.

mod assemble;
mod check;
mod detach;
mod diff;
mod fork;
mod keys;
mod limits;
mod open;
mod space;
mod status;
mod volumes;

pub use diff::Difference;

use crate::catalog::Changes;
use crate::engine::{Engine, run_blocking};
use crate::format::DiskIndex;
use crate::format::label::{Label, read_newest};
use crate::options::{DiskLabel, Fact, Health, PoolOptions};
use crate::state::State;
use block::{BlockError, Disk, ErrorKind, Result, Runtime};
use std::sync::Arc;

/// A pool, open. Its background work ends with [`Pool::close`].
pub struct Pool {
    pub(crate) engine: Arc<Engine>,
}

/// Which pool `disk` is part of, if any. Reads through the runtime's blocking threads.
///
/// # Errors
/// `Format` if there is a label, but of another version or damaged; the disk's errors.
pub async fn label_of(disk: Arc<dyn Disk>, runtime: &dyn Runtime) -> Result<Option<DiskLabel>> {
    let label = run_blocking(runtime, move || read_newest(&*disk)).await?;
    Ok(label.filter(|label| !label.unfinished).map(|label| DiskLabel {
        pool: label.pool,
        pool_name: label.pool_name,
        disk: label.disk,
        size_bytes: label.size_bytes,
        created_unix_ms: label.created_unix_ms,
    }))
}

impl Pool {
    /// Makes a pool named `name` of `disks`, and opens it. What is on the disks is lost.
    ///
    /// # Errors
    /// `Invalid` if disks are too few or too small or an option makes no sense, `Exists` if a disk is in a pool already.
    pub async fn create(
        disks: Vec<Arc<dyn Disk>>,
        name: &str,
        options: PoolOptions,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Self>> {
        open::format(&disks, name, &options, &*runtime).await?;
        Self::open(disks, options, runtime).await
    }

    /// Opens the pool on `disks`, in any order, replaying what was written since the last checkpoint. If disks are
    /// missing and the others have all there is, the labels of the others say that these are lost before anything else
    /// is written.
    ///
    /// # Errors
    /// `NotFound` if no pool is there, `Corrupt` if acknowledged writes cannot be read back, `Device` if disks are missing
    /// that it needs, `Format` if the disks are not of one pool or went on apart, the disk's errors.
    pub async fn open(
        disks: Vec<Arc<dyn Disk>>,
        options: PoolOptions,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Arc<Self>> {
        let engine = open::open(disks, options, runtime).await?;
        engine.runtime.spawn(Box::pin(Arc::clone(&engine).background()));
        engine.tend();
        engine.resume_sanitizing();
        engine.resume_detaching();
        Ok(Arc::new(Self { engine }))
    }

    /// Finishes what is in flight, makes a checkpoint and closes; further calls answer `Closed`.
    ///
    /// # Errors
    /// The disk's. The pool is closed all the same; the next opening replays the log.
    pub async fn close(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.close().await }).await
    }

    /// Sets or removes records of the layers above, in one durable transaction.
    ///
    /// # Errors
    /// The disk's; `NoSpace` if the catalog cannot grow, unless records are only removed.
    pub async fn put_facts(&self, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let put = async move {
            if facts.iter().any(|(.., content)| content.is_some()) {
                engine.room_in_catalog(&facts).await?;
            }
            let prepare =
                |state: &mut State| Ok((Changes { facts, ..Changes::default() }, check_open(state)?));
            engine.transact(prepare, |_, ()| ()).await
        };
        self.engine.detached(put).await
    }

    /// All records of a kind, by name.
    ///
    /// # Errors
    /// `Corrupt`; the disk's.
    pub async fn facts(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let (catalog, kind) = (self.engine.catalog(), kind.to_owned());
        self.engine.blocking(move || catalog.facts(&kind)).await
    }

    /// Takes the space that disk `index` has gained; `new_size_bytes` is the size it has now.
    ///
    /// # Errors
    /// `NotFound` if the pool has no such disk; `Invalid` if it is smaller than before; the disk's.
    pub async fn grow_disk(&self, index: u16, new_size_bytes: u64) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.grow(DiskIndex(index), new_size_bytes).await }).await
    }

    /// Writes changed map nodes and moves the start of replay forward. Happens by itself, too.
    ///
    /// # Errors
    /// The disk's.
    pub async fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint().await
    }

    /// Runs deletion, merging and collection until they find nothing to do. For tests and administrators.
    ///
    /// # Errors
    /// The disk's.
    pub async fn settle(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.settle().await }).await
    }
}

/// An error unless the pool takes changes.
pub(crate) fn check_open(state: &State) -> Result<()> {
    state.refusal("pool").map_or(Ok(()), Err)
}

impl Engine {
    async fn close(self: &Arc<Self>) -> Result<()> {
        let closed: Vec<_> = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closing, true) {
                return Err(self.error(ErrorKind::Closed, "is closed"));
            }
            state.volumes.values().map(|volume| Arc::clone(&volume.shared)).collect()
        };
        for shared in closed {
            shared.close();
            shared.sanitizing.wake();
        }
        self.work_wanted.happen();
        self.room_made.happen();
        loop {
            let times = self.progress.times();
            let free = self.slabs.lock().free();
            let stalled = {
                let state = self.state();
                let read_only = matches!(state.health, Health::ReadOnly(_));
                if state.background.ended && (state.host.is_quiet() || read_only) {
                    break;
                }
                state.background.ended && state.is_stalled(free)
            };
            if stalled {
                // Nobody makes room any more for what still waits.
                self.fail_all_queued(&self.error(ErrorKind::Closed, "is being closed"));
            } else {
                self.top_up();
                self.progress.after(times).await;
            }
        }
        self.checkpoint_now().await?;
        let unused = self.state().release_reserved();
        // The segments given up leave the catalog with this one, and no log is left.
        self.checkpoint_now().await?;
        tracing::debug!(unused, "reserved segments given back");
        let prepare = |state: &mut State| {
            let pool = crate::catalog::PoolRecord { clean: true, ..state.pool_record };
            Ok((Changes { pool: Some(pool), ..Changes::default() }, pool))
        };
        self.transact(prepare, |state, pool| state.pool_record = pool).await
    }

    async fn grow(&self, disk: DiskIndex, new_size_bytes: u64) -> Result<()> {
        // Two at once could make each other's label smaller.
        let _gate = self.grow_gate.lock().await;
        let catalog = self.catalog();
        let before = catalog.labels().into_iter().find(|label| label.disk_index == disk);
        let Some(before) = before.filter(|_| self.disks.current(disk).is_some()) else {
            return Err(self.error(ErrorKind::NotFound, "has no such disk"));
        };
        let size_bytes = new_size_bytes - new_size_bytes % 4096;
        if size_bytes < before.size_bytes {
            return Err(self.error(ErrorKind::Invalid, "a disk of a pool cannot shrink"));
        }
        let slabs = Label::slabs_for(size_bytes, before.slab_shift);
        // Labels of the new size first: a crash in between leaves the former number of slabs or the new one.
        self.blocking(move || {
            catalog.update_labels(|label| {
                if label.disk_index == disk {
                    label.size_bytes = size_bytes;
                    label.slabs = slabs;
                }
            })?;
            let fail =
                || BlockError::new(ErrorKind::Device, "pool", "the label of the disk cannot be written");
            if catalog.failed().contains(&disk) { Err(fail()) } else { Ok(()) }
        })
        .await?;
        let record = crate::catalog::DiskRecord { identity: before.disk, size_bytes, slabs };
        let prepare = move |_: &mut State| {
            Ok((Changes { disks: vec![(disk, Some(record))], ..Changes::default() }, ()))
        };
        self.transact(prepare, |_, ()| ()).await?;
        self.slabs.lock().grow(disk, slabs);
        self.refresh_budget();
        self.room_made.happen();
        self.work_wanted.happen();
        Ok(())
    }
}
