//! Making volumes independent of what they were cloned from.

use super::Pool;
use crate::format::VolumeId;
use crate::options::{Detachment, Fact};
use block::Result;
use std::sync::Arc;

impl Pool {
    /// Begins to make volume `id` independent of all that is not of its `family`, such as its own snapshots and what was
    /// cloned from it, and puts `facts`, in one transaction. It goes on in the background, also after the pool was closed
    /// and opened again; [`Pool::detachment`] says how far it is. Then nothing of what the volume or its family holds
    /// depends on others, or keeps space that others hold. Data is not copied, unless it lies under a thick volume. False
    /// if there is nothing to do.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a snapshot; `NoSpace` if what it may take does not fit; `Busy` if the volume is being
    /// sanitized, `Device` if that failed.
    pub async fn detach_volume(&self, id: VolumeId, family: Vec<VolumeId>, facts: Vec<Fact>) -> Result<bool> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.begin_detach(id, family, facts).await }).await
    }

    /// Ends that without success, and puts `facts`. What was done of it stays and does no harm.
    ///
    /// # Errors
    /// `NotFound`; as [`Pool::detach_volume`].
    pub async fn cancel_detach(&self, id: VolumeId, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.cancel_detach(id, facts).await }).await
    }

    /// How far the detaching of a volume is; none if it is not being detached.
    #[must_use]
    pub fn detachment(&self, id: VolumeId) -> Option<Detachment> {
        self.engine.state().detachment(id)
    }
}
