//! Reservations: persistent ones of SPC-4 5.13, and those of SPC-2.
//!
//! [`Reservations`] is what is registered and reserved, by names. A PERSISTENT RESERVE OUT is read by `service_out`,
//! judged by `decide`, and takes effect here as a whole: at once, or when [`LogicalUnit::persisted`] says that it
//! has been written down. `conflict` is the check that every command passes.

mod conflict;
mod decide;
mod kind;
mod registrant;
mod service_in;
mod service_out;
mod spc2;
mod state;

use std::collections::BTreeSet;

use super::nexus::Nexuses;
use super::{LogicalUnit, NexusId, Step, TargetNumber, UnitAttention};
use crate::completion::Completion;
use crate::sense::{AdditionalSense, Sense, SenseKey};
use decide::{Change, Refusal, Request};

pub use kind::{ReservationKey, ReservationType};
pub use registrant::Registrant;
pub(crate) use state::Standing;
pub use state::{REGISTRATIONS_MAX, Registration, Reservation, Reservations};

/// Reservations of a unit, and what is known about keeping them.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    state: Reservations,
    /// PRGENERATION; starts at 0 with the unit.
    generation: u32,
    /// The state is kept through a loss of power (PTPL_A).
    aptpl: bool,
    /// It can be (PTPL_C).
    keeps: bool,
    /// Relative identifiers of the target ports that are known.
    ports: BTreeSet<u16>,
    /// A change is being made durable.
    changing: bool,
    /// Who has the unit by RESERVE of SPC-2.
    spc2_owner: Option<NexusId>,
}

/// A change of reservations that waits to be made durable.
#[derive(Debug)]
#[must_use = "the host waits for the answer, and nobody else can change reservations meanwhile"]
pub struct PendingReservation {
    change: Change,
}

/// Why reservations could not be made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotKept {
    /// There is no room for them.
    NoRoom,
    /// Writing them failed.
    Failed,
}

/// A unit's reservations as people see them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservationView {
    /// PRGENERATION.
    pub generation: u32,
    /// They are kept through a loss of power.
    pub kept: bool,
    /// Registrations and reservation.
    pub state: Reservations,
    /// The nexuses that are there now, registered or not.
    pub present: BTreeSet<Registrant>,
    /// Who has the unit by RESERVE of SPC-2.
    pub spc2_owner: Option<Registrant>,
}

impl LogicalUnit {
    /// From now on reservations can be kept through a loss of power (APTPL): changes come as [`Step::Persist`].
    /// `kept` is what was kept before.
    pub fn keep_reservations(&mut self, kept: Option<Reservations>) {
        self.reserving.keeps = true;
        self.reserving.aptpl = kept.is_some();
        self.reserving.state = kept.unwrap_or_default().checked();
        self.refresh();
    }

    /// What is registered and reserved now.
    pub fn reservations(&self) -> ReservationView {
        let owner = self.reserving.spc2_owner.and_then(|owner| self.nexuses.get(owner));
        ReservationView {
            generation: self.reserving.generation,
            kept: self.reserving.aptpl,
            state: self.reserving.state.clone(),
            present: self.nexuses.iter().map(|nexus| nexus.registrant.clone()).collect(),
            spc2_owner: owner.map(|nexus| nexus.registrant.clone()),
        }
    }

    /// An administrator ends every reservation and registration. All who had one are told RESERVATIONS PREEMPTED.
    /// The step's completion is for nobody but the caller; BUSY says that a change is under way.
    pub fn clear_reservations(&mut self) -> Step {
        if self.reserving.changing {
            return Step::Done(Completion::busy());
        }
        if let Some(owner) = self.reserving.spc2_owner.take() {
            self.raise(owner, UnitAttention::ReservationsPreempted);
        }
        if self.reserving.state.is_empty() {
            return Step::Done(Completion::good());
        }
        let change = decide::clear(&self.reserving.state, None);
        self.begin(change)
    }

    /// Ends a change that was to be made durable. If it could not be, all stays as it was, and the host is told.
    pub fn persisted(&mut self, pending: PendingReservation, kept: Result<(), NotKept>) -> Step {
        self.reserving.changing = false;
        let sense = match kept {
            Ok(()) => return self.take_effect(pending.change),
            Err(NotKept::NoRoom) => Sense::illegal(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES),
            Err(NotKept::Failed) => {
                Sense::new(SenseKey::HardwareError, AdditionalSense::INTERNAL_TARGET_FAILURE)
            }
        };
        Step::Done(Completion::check(sense, self.sense_format()))
    }

    /// The target has this port, by its relative identifier, whether anybody has come through it or not. A port once
    /// known stays known. Or a nexus came, whose standing is to be found.
    pub(super) fn reservations_meet(&mut self, port: u16) {
        if self.reserving.ports.insert(port) {
            self.reserving.state.cover_port(port);
        }
        self.refresh();
    }

    /// Targets of other numbers than these, and their ports, are gone: see [`Reservations::retire_targets`]. Not while a
    /// change is made durable. What is kept does not change by itself: who hands it back later has to look again.
    pub fn retire_targets(&mut self, existing: &[TargetNumber]) {
        let exists = |number: TargetNumber| number == TargetNumber::default() || existing.contains(&number);
        self.reserving.ports.retain(|port| exists(TargetNumber::of_port(*port)));
        self.reserving.state.retire_targets(exists);
        self.refresh();
    }

    /// LOGICAL UNIT RESET and its like end what SPC-2 reserved, and nothing persistent (SPC-4 5.13.1).
    pub(super) fn reservations_reset(&mut self) {
        self.reserving.spc2_owner = None;
    }

    fn decide(&mut self, nexus: NexusId, request: &Request) -> Result<Step, Refusal> {
        let Some(me) = self.nexuses.get(nexus).map(|nexus| nexus.registrant.clone()) else {
            return Err(Sense::new(SenseKey::AbortedCommand, AdditionalSense::NONE).into());
        };
        let Reserving { state, ports, .. } = &self.reserving;
        let change = decide::decide(state, &me, request, ports)?;
        Ok(self.begin(change))
    }

    /// Has a change written down first, if what is kept changes with it.
    fn begin(&mut self, change: Change) -> Step {
        let aptpl = change.aptpl.unwrap_or(self.reserving.aptpl);
        let before = self.reserving.aptpl.then_some(&self.reserving.state);
        let after = aptpl.then_some(&change.state);
        if before == after {
            return self.take_effect(change);
        }
        self.reserving.changing = true;
        Step::Persist(after.cloned(), PendingReservation { change })
    }

    fn take_effect(&mut self, change: Change) -> Step {
        let Change { state, aptpl, counts, attentions, aborted } = change;
        let reserving = &mut self.reserving;
        reserving.state = state;
        reserving.aptpl = aptpl.unwrap_or(reserving.aptpl);
        reserving.generation = reserving.generation.wrapping_add(u32::from(counts));
        for port in &reserving.ports {
            // One may have come while the change was made durable.
            reserving.state.cover_port(*port);
        }
        self.refresh();
        for (registrant, attention) in &attentions {
            self.nexuses.raise_for(registrant, *attention);
        }
        if aborted.is_empty() {
            return Step::Done(Completion::good());
        }
        // Who has no nexus here may be copying to the unit all the same.
        let nexuses = aborted.iter().flat_map(|who| self.nexuses.of_registrant(who)).collect();
        Step::Abort(nexuses, Completion::good())
    }

    /// Notes at each nexus what it is, so that no command has to compare names.
    fn refresh(&mut self) {
        let state = &self.reserving.state;
        self.nexuses.each(|nexus| nexus.standing = state.standing(&nexus.registrant));
    }
}

impl Nexuses {
    /// Raises `attention` for every nexus of that name.
    fn raise_for(&mut self, registrant: &Registrant, attention: UnitAttention) {
        self.each(|nexus| {
            if nexus.registrant == *registrant {
                nexus.attentions.raise(attention);
            }
        });
    }

    /// Nexuses of that name: one, or for a moment two while a session takes another's place.
    fn of_registrant(&self, registrant: &Registrant) -> Vec<NexusId> {
        self.iter().filter(|nexus| nexus.registrant == *registrant).map(|nexus| nexus.id).collect()
    }

    /// The initiator ports that an initiator has come from.
    fn ports_of(&self, initiator: &str) -> BTreeSet<String> {
        let own = self.iter().filter(|nexus| nexus.registrant.initiator() == initiator);
        own.map(|nexus| nexus.registrant.initiator_port.clone()).collect()
    }
}
