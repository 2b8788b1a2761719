//! A disk leaves while the pool is open: what others have goes on, and the labels of the others say so first.

use crate::engine::Engine;
use crate::format::DiskIndex;
use crate::options::Health;
use crate::segment::{Phase, Segments};
use block::{BlockError, ErrorKind, Result};

impl Engine {
    /// Disk `index` has failed: it takes no part from now on, and the labels of the others say so when this returns.
    /// Must run to its end: call it from tasks.
    ///
    /// # Errors
    /// `why`, if the pool cannot do without it: nothing has changed then. That of another disk if the labels cannot be
    /// written: the pool takes no more writes.
    pub(crate) async fn lose(&self, index: DiskIndex, why: &BlockError) -> Result<()> {
        let _gate = self.members_gate.lock().await;
        if self.disks.current(index).is_none() {
            return self.refuse_if_read_only();
        }
        if !self.can_lose(index) {
            return Err(why.clone());
        }
        let mut failing = Some(index);
        while let Some(index) = failing {
            self.drop_disk(index, why).await?;
            // Labels that could not be written say what is not true any more: those disks leave, too. Only when all
            // that are left tell of each loss may anything be acknowledged without the disks.
            failing = self.failing();
            if failing.is_none() {
                self.settle_losses().await?;
                failing = self.failing();
            }
            if failing.is_some_and(|index| !self.can_lose(index)) {
                self.state().make_read_only(&format!("the labels of a disk cannot be written: {why}"));
                return Err(why.clone());
            }
        }
        self.disks.record_losses();
        self.refresh_budget();
        self.room_made.happen();
        self.work_wanted.happen();
        Ok(())
    }

    /// A disk that could not be written and has not left.
    fn failing(&self) -> Option<DiskIndex> {
        self.catalog().failed().into_iter().find(|index| self.disks.current(*index).is_some())
    }

    async fn drop_disk(&self, index: DiskIndex, why: &BlockError) -> Result<()> {
        tracing::error!(disk = index.0, %why, "a disk has failed and leaves the pool");
        self.disks.drop_disk(index);
        self.slabs.lock().set_open(index, false);
        let catalog = self.catalog();
        let told = self.blocking(move || catalog.take_out(index)).await;
        self.read_only_unless(told)
    }

    async fn settle_losses(&self) -> Result<()> {
        let catalog = self.catalog();
        let told = self.blocking(move || catalog.settle_losses()).await;
        self.read_only_unless(told)
    }

    fn read_only_unless(&self, told: Result<()>) -> Result<()> {
        told.inspect_err(|error| {
            self.state().make_read_only(&format!("the loss of a disk cannot be written down: {error}"));
        })
    }

    /// Waits until the labels tell of every disk that has been dropped.
    pub(crate) async fn wait_for_losses(&self) -> Result<()> {
        if self.disks.losses_are_recorded() {
            return Ok(());
        }
        drop(self.members_gate.lock().await);
        self.refuse_if_read_only()
    }

    fn refuse_if_read_only(&self) -> Result<()> {
        let read_only = matches!(self.state().health, Health::ReadOnly(_));
        if read_only { Err(self.error(ErrorKind::ReadOnly, "takes no writes")) } else { Ok(()) }
    }

    /// True if nothing is lost with the disk.
    fn can_lose(&self, index: DiskIndex) -> bool {
        let elsewhere = |disk: DiskIndex| disk != index && self.disks.current(disk).is_some();
        let read_only = matches!(self.state().health, Health::ReadOnly(_));
        !read_only && self.catalog().has_copy_without(index) && self.state().segments.all_have(elsewhere)
    }

    /// Disks on which the catalog could not be written leave, if the pool can do without them.
    pub(crate) async fn lose_failed(&self) {
        let failed = self.catalog().failed().into_iter().filter(|index| self.disks.current(*index).is_some());
        let failed: Vec<_> = failed.collect();
        for index in failed {
            let why = self.error(ErrorKind::Device, "the catalog or the label could not be written");
            if let Err(error) = self.lose(index, &why).await {
                tracing::error!(%error, disk = index.0, "a disk that fails cannot be done without");
            }
        }
    }
}

impl Segments {
    /// True if each segment has a copy on a disk that `there` accepts.
    pub(crate) fn all_have(&self, there: impl Fn(DiskIndex) -> bool) -> bool {
        let has = |copies: &super::Copies| copies.slabs().iter().any(|slab| there(slab.disk));
        self.iter().filter(|(_, segment)| segment.phase != Phase::Evacuated).all(|(_, s)| has(&s.copies))
    }
}
