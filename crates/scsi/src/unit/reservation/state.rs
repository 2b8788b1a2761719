//! The registrations and the reservation of a unit, as one value that changes as a whole.

use std::collections::BTreeMap;

use super::kind::{ReservationKey, ReservationType};
use super::registrant::Registrant;
use crate::unit::TargetNumber;

/// Most registrations on a unit; more are INSUFFICIENT REGISTRATION RESOURCES.
pub const REGISTRATIONS_MAX: usize = 4096;

/// A registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Its key, never 0.
    pub key: ReservationKey,
    /// It was asked for through every target port (ALL_TG_PT): ports that come later have it too.
    pub all_ports: bool,
}

/// The persistent reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Its type.
    pub kind: ReservationType,
    /// Who holds it; `None` if every registrant does, as the type says.
    pub holder: Option<Registrant>,
}

/// What is registered and reserved. This is what outlives a loss of power if hosts asked for that (APTPL).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reservations {
    /// Who is registered.
    pub registrations: BTreeMap<Registrant, Registration>,
    /// The reservation, if there is one; its holder is registered.
    pub reservation: Option<Reservation>,
}

/// What a nexus is to the reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Standing {
    /// Not registered.
    #[default]
    Other,
    /// Registered, and not a holder.
    Registrant,
    /// Holds the reservation, alone or with all registrants.
    Holder,
}

impl Reservations {
    /// What survives of `self` if somebody else made it: without registrations of key 0, and with a reservation only
    /// if its holder is registered. Whatever was stored, the unit's invariants hold.
    pub(super) fn checked(mut self) -> Self {
        self.registrations.retain(|_, registration| registration.key != ReservationKey::NONE);
        while self.registrations.len() > REGISTRATIONS_MAX {
            self.registrations.pop_last();
        }
        let held = self.reservation.take();
        self.reservation = held.filter(|held| match &held.holder {
            Some(holder) => !held.kind.is_all_registrants() && self.registrations.contains_key(holder),
            None => held.kind.is_all_registrants() && !self.registrations.is_empty(),
        });
        self
    }

    /// Nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.registrations.is_empty()
    }

    /// The key of a nexus, if it is registered.
    pub(super) fn key_of(&self, registrant: &Registrant) -> Option<ReservationKey> {
        self.registrations.get(registrant).map(|registration| registration.key)
    }

    /// What `registrant` is.
    pub(crate) fn standing(&self, registrant: &Registrant) -> Standing {
        if !self.registrations.contains_key(registrant) {
            return Standing::Other;
        }
        let holds = |held: &Reservation| held.holder.as_ref().is_none_or(|holder| holder == registrant);
        if self.reservation.as_ref().is_some_and(holds) { Standing::Holder } else { Standing::Registrant }
    }

    /// The type of the reservation.
    pub(super) fn kind(&self) -> Option<ReservationType> {
        self.reservation.as_ref().map(|held| held.kind)
    }

    /// The nexuses registered under `key`.
    pub(super) fn with_key(&self, key: ReservationKey) -> Vec<Registrant> {
        let same = self.registrations.iter().filter(|(_, registration)| registration.key == key);
        same.map(|(registrant, _)| registrant.clone()).collect()
    }

    /// Registers a nexus, or changes its registration.
    pub(super) fn register(&mut self, who: Registrant, registration: Registration) {
        if !registration.all_ports {
            self.is_single(&who.initiator_port);
        }
        self.registrations.insert(who, registration);
    }

    /// Takes a registration away; says nothing of the reservation.
    pub(super) fn unregister(&mut self, who: &Registrant) {
        self.registrations.remove(who);
        self.is_single(&who.initiator_port);
    }

    /// The initiator port has something else at one target port than at the others: from now on it does not have what
    /// it has at every port.
    fn is_single(&mut self, initiator_port: &str) {
        let at = |target_port| Registrant { initiator_port: initiator_port.to_owned(), target_port };
        let own = self.registrations.range_mut(at(0)..=at(u16::MAX));
        own.for_each(|(_, registration)| registration.all_ports = false);
    }

    /// Targets that `exists` denies are gone with their ports. What was registered through them stays, as hosts may be
    /// fenced off by it, but at a port that nobody comes through: who comes through a later target of the same number
    /// is not registered. Hosts preempt it as any other. Where the initiator port has the same through other targets
    /// as it asked for all ports, nothing needs to stay.
    pub fn retire_targets(&mut self, exists: impl Fn(TargetNumber) -> bool) {
        let exists = |number: TargetNumber| number == TargetNumber::default() || exists(number);
        let number = |at: &Registrant| TargetNumber::of_port(at.target_port);
        let gone: Vec<_> = self.registrations.keys().filter(|at| !exists(number(at))).cloned().collect();
        for at in gone {
            let Some(registration) = self.registrations.remove(&at) else { continue };
            let former = Registrant { target_port: number(&at).former_port(), ..at.clone() };
            let single = Registration { all_ports: false, ..registration };
            let holder = self.reservation.as_mut().and_then(|held| held.holder.as_mut());
            if let Some(holder) = holder.filter(|holder| **holder == at) {
                *holder = former.clone();
                self.registrations.insert(former, single);
            } else if !registration.all_ports {
                self.registrations.entry(former).or_insert(single);
            }
        }
    }

    /// Registers every initiator port that asked for all ports at `port` too, as far as there is room.
    pub(super) fn cover_port(&mut self, port: u16) {
        let missing: Vec<_> = self
            .registrations
            .iter()
            .filter(|(_, registration)| registration.all_ports)
            .map(|(at, registration)| (Registrant { target_port: port, ..at.clone() }, *registration))
            .filter(|(at, _)| !self.registrations.contains_key(at))
            .collect();
        for (registrant, registration) in missing {
            if self.registrations.len() < REGISTRATIONS_MAX {
                self.registrations.entry(registrant).or_insert(registration);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, target_port: u16) -> Registrant {
        Registrant { initiator_port: format!("iqn.2026-01.test:{host},i,0x000000000001"), target_port }
    }

    fn state(kind: ReservationType, holder: Option<Registrant>) -> Reservations {
        let registration = |key| Registration { key: ReservationKey(key), all_ports: key == 2 };
        let registrations = [(at("a", 1), registration(1)), (at("b", 1), registration(2))];
        Reservations {
            registrations: registrations.into_iter().collect(),
            reservation: Some(Reservation { kind, holder }),
        }
    }

    /// SPC-4 5.13.10: one registrant holds it, or all of them.
    #[test]
    fn who_holds_depends_on_the_type() {
        for kind in ReservationType::ALL {
            let all = kind.is_all_registrants();
            let state = state(kind, (!all).then(|| at("a", 1)));
            assert_eq!(state.standing(&at("a", 1)), Standing::Holder);
            assert_eq!(
                state.standing(&at("b", 1)),
                if all { Standing::Holder } else { Standing::Registrant }
            );
            assert_eq!(
                state.standing(&at("a", 2)),
                Standing::Other,
                "the same initiator through another port"
            );
        }
    }

    #[test]
    fn what_was_stored_wrongly_is_put_right() {
        let write_exclusive = ReservationType::WriteExclusive;
        let sound = state(write_exclusive, Some(at("a", 1)));
        assert_eq!(sound.clone().checked(), sound);
        let all = state(ReservationType::WriteExclusiveAllRegistrants, None);
        assert_eq!(all.clone().checked(), all);
        let held_by_a_stranger = state(write_exclusive, Some(at("c", 1)));
        let held_by_nobody = state(write_exclusive, None);
        let held_by_one_of_all = state(ReservationType::ExclusiveAccessAllRegistrants, Some(at("a", 1)));
        for wrong in [held_by_a_stranger, held_by_nobody, held_by_one_of_all] {
            let checked = wrong.checked();
            assert!(checked.reservation.is_none() && checked.registrations.len() == 2);
        }
        let mut without_key = sound;
        without_key.registrations.get_mut(&at("a", 1)).unwrap().key = ReservationKey::NONE;
        let checked = without_key.checked();
        assert!(checked.reservation.is_none() && checked.registrations.len() == 1);
        let mut many = Reservations::default();
        for port in 0..5000 {
            many.registrations
                .insert(at("a", port), Registration { key: ReservationKey(1), all_ports: false });
        }
        assert_eq!(many.checked().registrations.len(), REGISTRATIONS_MAX);
    }

    #[test]
    fn a_port_that_comes_later_is_covered_for_those_who_asked_for_all() {
        let mut state = state(ReservationType::WriteExclusive, Some(at("a", 1)));
        state.cover_port(7);
        assert_eq!(state.key_of(&at("b", 7)), Some(ReservationKey(2)));
        assert_eq!(state.key_of(&at("a", 7)), None);
        state.cover_port(7);
        assert_eq!(state.registrations.len(), 3);
        // What is taken away at one port does not come back through the others.
        state.unregister(&at("b", 7));
        state.cover_port(7);
        state.cover_port(8);
        assert_eq!(state.registrations.len(), 2);
    }

    /// SPC-4 5.13.7: a registration is that of one target port. Nobody inherits it with the number of a target.
    #[test]
    fn what_came_through_a_target_that_is_gone_stays_and_is_nobodys() {
        let mut before = state(ReservationType::WriteExclusiveRegistrantsOnly, Some(at("a", 0x103)));
        let registration = |key| Registration { key: ReservationKey(key), all_ports: false };
        before.register(at("a", 0x101), registration(3));
        before.register(at("a", 0x103), registration(4));
        before.register(at("c", 0x201), registration(5));
        before.cover_port(0x101);
        let mut after = before.clone();
        after.retire_targets(|_| true);
        assert_eq!(after, before);
        after.retire_targets(|number| number == TargetNumber(2));
        let holder = after.reservation.as_ref().and_then(|held| held.holder.as_ref());
        assert_eq!(holder, Some(&at("a", 0x100)), "the reservation still fences");
        let keys: Vec<_> =
            after.registrations.iter().map(|(at, one)| (at.target_port, one.key.0, one.all_ports)).collect();
        let expected = [(1, 1, false), (0x100, 4, false), (1, 2, true), (0x201, 5, false)];
        assert_eq!(keys, expected, "the holder's key counts; what is for all ports is elsewhere");
        for port in [0x101, 0x103] {
            assert_eq!(after.standing(&at("a", port)), Standing::Other);
        }
        assert_eq!(after.clone().checked(), after);
        let again = after.clone();
        after.retire_targets(|number| number == TargetNumber(2));
        assert_eq!(after, again);
    }
}
