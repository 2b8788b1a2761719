//! Reservations between the unit that has them, the pool that keeps them, and the administrator who looks at them.

use block::BoxFuture;
use control::{
    Error, ErrorKind, HeldRecord, KeptReservations, RegistrantRecord, RegistrationFacts, RegistrationRecord,
    ReservationFacts, ReservationKeeper, ReservationRecord,
};
use parking_lot::RwLock;
use scsi::{
    NotKept, Registrant, Registration, Reservation, ReservationKey, ReservationType, ReservationView,
    Reservations, TargetNumber,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use target::{LogicalUnitHandle, ReservationStore};

/// The iSCSI names of the group's targets of several volumes, by number.
pub(crate) type TargetNames = RwLock<BTreeMap<u8, String>>;

/// Keeps a unit's reservations in its volume's pool, with the names of targets.
struct PoolStore {
    keeper: ReservationKeeper,
    targets: Arc<TargetNames>,
}

impl ReservationStore for PoolStore {
    fn keep(&self, reservations: Option<Reservations>) -> BoxFuture<'_, Result<(), NotKept>> {
        Box::pin(async move {
            let record = reservations.as_ref().map(|reservations| record(reservations, &self.targets.read()));
            self.keeper.keep(record.as_ref()).await.map_err(|error| {
                tracing::error!(%error, "reservations were not kept");
                if error.kind == ErrorKind::NoSpace { NotKept::NoRoom } else { NotKept::Failed }
            })
        })
    }
}

/// `unit` with what was kept of its reservations, from now on kept there.
///
/// # Errors
/// `Format` if the record names a type that there is not.
pub(crate) fn keeping(
    unit: LogicalUnitHandle,
    kept: KeptReservations,
    targets: Arc<TargetNames>,
) -> control::Result<LogicalUnitHandle> {
    let reservations = kept.record.map(|record| reservations(record, &kept.targets)).transpose()?;
    let store = PoolStore { keeper: kept.keeper, targets };
    Ok(unit.keeping_reservations(reservations, Arc::new(store)))
}

fn registrant_record(registrant: &Registrant) -> RegistrantRecord {
    RegistrantRecord {
        initiator_port: registrant.initiator_port.clone(),
        target_port: registrant.target_port,
    }
}

fn registrant(record: RegistrantRecord) -> Registrant {
    Registrant { initiator_port: record.initiator_port, target_port: record.target_port }
}

fn record(reservations: &Reservations, targets: &BTreeMap<u8, String>) -> ReservationRecord {
    let registrations = reservations.registrations.iter().map(|(registrant, registration)| {
        let registrant = registrant_record(registrant);
        RegistrationRecord { registrant, key: registration.key.0, all_ports: registration.all_ports }
    });
    let held = reservations.reservation.as_ref().map(|held| HeldRecord {
        kind: held.kind.code(),
        holder: held.holder.as_ref().map(registrant_record),
    });
    let number = |at: &Registrant| TargetNumber::of_port(at.target_port).0;
    let numbers: BTreeSet<u8> = reservations.registrations.keys().map(number).collect();
    let named = |number: &u8| Some((*number, targets.get(number)?.clone()));
    let mut record = ReservationRecord::new(registrations.collect(), held);
    record.targets = numbers.iter().filter_map(named).collect();
    record
}

/// What is in force of a record, where these are the targets now. What came through a target whose number now is
/// nobody's or another's is nobody's.
fn reservations(record: ReservationRecord, targets: &BTreeMap<u8, String>) -> control::Result<Reservations> {
    let names = record.targets;
    let registration = |record: RegistrationRecord| {
        let registration = Registration { key: ReservationKey(record.key), all_ports: record.all_ports };
        (registrant(record.registrant), registration)
    };
    let held = |held: HeldRecord| -> control::Result<Reservation> {
        let kind = ReservationType::from_code(held.kind).ok_or_else(|| {
            let message = format!("its reservation is of type {:x}h, which is unknown", held.kind);
            Error::new(ErrorKind::Format, "reservation", message)
        })?;
        Ok(Reservation { kind, holder: held.holder.map(registrant) })
    };
    let mut reservations = Reservations {
        registrations: record.registrations.into_iter().map(registration).collect(),
        reservation: record.reservation.map(held).transpose()?,
    };
    reservations.retire_targets(|number| {
        names.get(&number.0).is_none_or(|name| targets.get(&number.0) == Some(name))
    });
    Ok(reservations)
}

/// What an administrator sees.
pub(crate) fn facts(view: &ReservationView) -> ReservationFacts {
    let held = view.state.reservation.as_ref();
    let holds = |registrant: &Registrant| {
        held.is_some_and(|held| held.holder.as_ref().is_none_or(|holder| holder == registrant))
    };
    let registrations = view.state.registrations.iter().map(|(registrant, registration)| RegistrationFacts {
        initiator: registrant.initiator().to_owned(),
        initiator_port: registrant.initiator_port.clone(),
        target_port: registrant.target_port,
        key: registration.key.0,
        holder: holds(registrant),
        connected: view.present.contains(registrant),
    });
    ReservationFacts {
        generation: view.generation,
        kept: view.kept,
        registrations: registrations.collect(),
        kind: held.map(|held| held.kind.name().to_owned()),
        reserved_by: view.spc2_owner.as_ref().map(|owner| owner.initiator_port.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Registrant {
        Registrant { initiator_port: format!("iqn.2026-01.test:{host},i,0x000000000001"), target_port: 3 }
    }

    fn held(kind: ReservationType) -> Reservations {
        let registration = |key, all_ports| Registration { key: ReservationKey(key), all_ports };
        let registrations = [(at("a"), registration(1, false)), (at("b"), registration(u64::MAX, true))];
        let holder = (!kind.is_all_registrants()).then(|| at("b"));
        Reservations {
            registrations: registrations.into_iter().collect(),
            reservation: Some(Reservation { kind, holder }),
        }
    }

    fn farm() -> BTreeMap<u8, String> {
        BTreeMap::from([(2, "iqn.2026-01.test:farm".to_owned())])
    }

    fn there_and_back(
        state: &Reservations,
        then: &BTreeMap<u8, String>,
        now: &BTreeMap<u8, String>,
    ) -> Reservations {
        reservations(record(state, then), now).unwrap()
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for kind in ReservationType::ALL {
            let state = held(kind);
            assert_eq!(there_and_back(&state, &farm(), &farm()), state);
        }
        assert_eq!(there_and_back(&Reservations::default(), &farm(), &farm()), Reservations::default());
        let unknown = ReservationRecord::new(Vec::new(), Some(HeldRecord { kind: 2, holder: None }));
        assert_eq!(reservations(unknown, &BTreeMap::new()).unwrap_err().kind, ErrorKind::Format);
    }

    /// The pool was offline while the target was deleted and another made, or it came from another machine.
    #[test]
    fn what_came_through_a_target_that_is_another_now_is_nobodys() {
        let mut state = held(ReservationType::WriteExclusiveRegistrantsOnly);
        let through_farm = Registrant { target_port: 0x201, ..at("b") };
        state
            .registrations
            .insert(through_farm.clone(), Registration { key: ReservationKey(9), all_ports: false });
        state.reservation = Some(Reservation {
            kind: ReservationType::WriteExclusiveRegistrantsOnly,
            holder: Some(through_farm.clone()),
        });
        assert_eq!(record(&state, &farm()).targets, farm());
        assert_eq!(record(&held(ReservationType::WriteExclusive), &farm()).targets, BTreeMap::new());
        assert_eq!(there_and_back(&state, &farm(), &farm()), state);
        let another = BTreeMap::from([(2, "iqn.2026-01.test:another".to_owned())]);
        for now in [another, BTreeMap::new()] {
            let after = there_and_back(&state, &farm(), &now);
            assert!(!after.registrations.contains_key(&through_farm));
            let holder = after.reservation.unwrap().holder.unwrap();
            assert_eq!(
                after.registrations[&holder].key,
                ReservationKey(9),
                "it still fences, by nobody's port"
            );
            assert!(after.registrations.contains_key(&at("a")), "the volume's own target is what it was");
        }
    }

    #[test]
    fn an_administrator_sees_who_holds_and_who_is_there() {
        let view = |kind| ReservationView {
            generation: 7,
            kept: true,
            state: held(kind),
            present: [at("a")].into(),
            spc2_owner: None,
        };
        let seen = facts(&view(ReservationType::ExclusiveAccess));
        let who: Vec<_> = seen
            .registrations
            .iter()
            .map(|one| (one.initiator.as_str(), one.holder, one.connected))
            .collect();
        assert_eq!(who, [("iqn.2026-01.test:a", false, true), ("iqn.2026-01.test:b", true, false)]);
        assert_eq!((seen.kind.as_deref(), seen.generation), (Some("Exclusive Access"), 7));
        let all = facts(&view(ReservationType::WriteExclusiveAllRegistrants));
        assert!(all.registrations.iter().all(|one| one.holder));
    }
}
