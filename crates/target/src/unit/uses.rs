//! Who uses a unit, and when what is under way has ended: for changes that an administrator waits for.

use super::LogicalUnitHandle;
use crate::registry::SessionId;
use scsi::{NexusId, TargetNumber};
use std::future::Future;

/// A session that uses a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitUse {
    /// Which one.
    pub session: SessionId,
    /// It may only read: commands that write and come from now on end with WRITE PROTECTED.
    pub read_only: bool,
}

impl LogicalUnitHandle {
    /// The sessions that use the unit, by number. What a session that is gone has left on the medium is not seen here,
    /// but by [`LogicalUnitHandle::quiet`].
    #[must_use]
    pub fn uses(&self) -> Vec<UnitUse> {
        let used = |unit: &scsi::LogicalUnit, nexus: NexusId| {
            let read_only = unit.nexus_read_only(nexus)?;
            Some(UnitUse { session: SessionId(nexus.0), read_only })
        };
        self.with_unit(|unit| unit.nexuses().filter_map(|nexus| used(unit, nexus)).collect())
    }

    /// Ready when the commands of these sessions that are on the medium now have ended, answered as usual. New ones
    /// are not held up.
    pub fn quiet(&self, sessions: &[SessionId]) -> impl Future<Output = ()> + Send + use<> {
        let nexuses = sessions.iter().map(|session| NexusId(session.0)).collect();
        let quiet = self.inner.lock().operations.quiet(nexuses);
        async move {
            // An error means that the unit is gone.
            let _ = quiet.await;
        }
    }

    /// Takes the targets that have the unit besides its own. See [`scsi::LogicalUnit::set_other_targets`].
    pub fn set_other_targets(&self, others: Vec<TargetNumber>) {
        self.inner.lock().unit.set_other_targets(others);
    }

    /// Targets of other numbers than these are gone: nobody has any more what was registered through them. See
    /// [`scsi::Reservations::retire_targets`].
    pub async fn retire_targets(&self, existing: &[TargetNumber]) {
        // A change that is being made durable knows nothing of this, and would undo it.
        let _turn = self.reservation_turn.lock().await;
        self.inner.lock().unit.retire_targets(existing);
    }

    /// The nexus has been told the list of units by another unit.
    pub(crate) fn luns_reported(&self, nexus: NexusId) {
        self.inner.lock().unit.luns_reported(nexus);
    }
}
