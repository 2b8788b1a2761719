//! RESERVE and RELEASE of SPC-2 (5.5.1, 7.21 to 7.24), and how they get on with persistent reservations.

use super::state::Standing;
use crate::completion::{Completion, Status};
use crate::sense::{AdditionalSense, Sense, SenseKey};
use crate::unit::dispatch::Task;
use crate::unit::{LogicalUnit, NexusId};

/// What becomes of RESERVE or RELEASE where somebody uses persistent reservations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interplay {
    /// Nobody does: as in SPC-2.
    None,
    /// GOOD, and nothing happens.
    Ignored,
    /// RESERVATION CONFLICT.
    Conflict,
}

impl LogicalUnit {
    /// The whole unit for this nexus, until it releases it, is lost, or the unit is reset. Whether another nexus has it
    /// has been checked before.
    /// Who may only read has no say in who may write.
    pub(in crate::unit) fn reserve_unit(&mut self, task: &Task<'_>) -> Result<Completion, Sense> {
        if task.read_only {
            return Err(Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED));
        }
        let interplay = self.interplay(task.nexus);
        if interplay == Interplay::None {
            self.reserving.spc2_owner = Some(task.nexus);
        }
        Ok(answer(interplay))
    }

    /// Of no effect if another nexus has the unit.
    pub(in crate::unit) fn release_unit(&mut self, task: &Task<'_>) -> Completion {
        let interplay = self.interplay(task.nexus);
        if interplay == Interplay::None {
            self.release_unit_of(task.nexus);
        }
        answer(interplay)
    }

    /// The nexus is lost, or lets go of the unit.
    pub(in crate::unit) fn release_unit_of(&mut self, nexus: NexusId) {
        if self.reserving.spc2_owner == Some(nexus) {
            self.reserving.spc2_owner = None;
        }
    }

    /// SPC-2 5.5.1: once somebody is registered, RESERVE and RELEASE conflict, whoever sends them. SPC-4 5.13.3 (CRH)
    /// excepts those who may do everything anyhow: they get GOOD, and nothing happens.
    fn interplay(&self, nexus: NexusId) -> Interplay {
        let state = &self.reserving.state;
        if state.is_empty() && !self.reserving.changing {
            return Interplay::None;
        }
        let standing = self.nexuses.get(nexus).map_or(Standing::Other, |nexus| nexus.standing);
        let shared = state.kind().is_some_and(|kind| kind.admits_registrants());
        match standing {
            Standing::Holder => Interplay::Ignored,
            Standing::Registrant if shared => Interplay::Ignored,
            _ => Interplay::Conflict,
        }
    }
}

fn answer(interplay: Interplay) -> Completion {
    match interplay {
        Interplay::None | Interplay::Ignored => Completion::good(),
        Interplay::Conflict => Completion::bare(Status::ReservationConflict),
    }
}
