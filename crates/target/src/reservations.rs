//! Changes of persistent reservations: one after the other on each unit, durable before they are answered.

use crate::operations::Epoch;
use crate::unit::{LogicalUnitHandle, Started};
use block::BoxFuture;
use scsi::{
    Cdb, Completion, DataOut, NexusId, NotKept, PendingReservation, ReservationView, Reservations, Status,
};
use std::sync::Arc;

/// Where a unit's reservations outlive the process.
pub trait ReservationStore: Send + Sync + 'static {
    /// Keeps these in place of those kept before; `None`: forgets those. When the future is ready they are durable, or
    /// those kept before still are.
    ///
    /// # Errors
    /// Why not; the host is told, and nothing changes.
    fn keep(&self, reservations: Option<Reservations>) -> BoxFuture<'_, Result<(), NotKept>>;
}

/// PERSISTENT RESERVE OUT.
const OPCODE: u8 = 0x5f;

/// Whether a command may have to wait for what others change.
pub(crate) fn changes_reservations(cdb: &Cdb) -> bool {
    cdb.opcode() == OPCODE
}

/// A change that waits to be made durable.
pub(crate) struct Persisting {
    pub(crate) kept: Option<Reservations>,
    pub(crate) pending: PendingReservation,
    /// The nexus and time of the command; none for an administrator's.
    pub(crate) operation: Option<(NexusId, Epoch)>,
}

impl LogicalUnitHandle {
    /// Carries a PERSISTENT RESERVE OUT out. `None` if a reset or another nexus has ended it: nothing is answered then,
    /// though what was under way took effect.
    pub(crate) async fn persistent_reserve(
        self: Arc<Self>,
        nexus: NexusId,
        stamp: u64,
        cdb: Cdb,
        data_out: DataOut,
    ) -> Option<Completion> {
        let turn = self.reservation_turn.lock().await;
        let started = self.execute(nexus, stamp, &cdb, data_out);
        let began = self.stamp();
        let done = self.make_durable(started).await;
        // Whom this one ends may wait for its turn.
        drop(turn);
        let completion = self.until_answer(done).await?;
        if self.has_ended(nexus, began) { None } else { Some(completion) }
    }

    async fn make_durable(&self, started: Started) -> Started {
        let Started::Persist(Persisting { kept, pending, operation }) = started else { return started };
        let result = match &self.reservation_store {
            Some(store) => store.keep(kept).await,
            None => Err(NotKept::Failed),
        };
        if let Err(reason) = result {
            tracing::error!(?reason, "reservations could not be made durable; they stay as they were");
        }
        self.persisted(pending, result, operation)
    }

    async fn until_answer(&self, started: Started) -> Option<Completion> {
        match started {
            Started::Done(completion) => Some(completion),
            Started::Aborting(quiet, completion) => {
                // An error means that the unit is gone.
                let _ = quiet.await;
                Some(completion)
            }
            Started::Aborted => None,
            Started::ReportLuns(_) | Started::Media(..) | Started::Background(..) | Started::Persist(_) => {
                tracing::error!("a change of reservations led to something else");
                Some(Completion::busy())
            }
        }
    }

    /// What is registered and reserved now.
    #[must_use]
    pub fn reservations(&self) -> ReservationView {
        self.with_unit(|unit| unit.reservations())
    }

    /// Ends every reservation and registration. All who had one are told RESERVATIONS PREEMPTED. Returns what there
    /// was.
    ///
    /// # Errors
    /// If that cannot be made durable; then all stays as it was.
    pub async fn clear_reservations(&self) -> Result<ReservationView, NotKept> {
        let _turn = self.reservation_turn.lock().await;
        let before = self.reservations();
        let started = self.begin_clear_reservations();
        match self.make_durable(started).await {
            Started::Done(completion) if completion.status == Status::Good => Ok(before),
            _ => Err(NotKept::Failed),
        }
    }
}
