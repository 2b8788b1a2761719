//! Reservations between the unit that has them, the pool that keeps them, and the administrator who looks at them.

use block::BoxFuture;
use control::{
    Error, ErrorKind, HeldRecord, KeptReservations, RegistrantRecord, RegistrationFacts, RegistrationRecord,
    ReservationFacts, ReservationKeeper, ReservationRecord,
};
use scsi::{
    NotKept, Registrant, Registration, Reservation, ReservationKey, ReservationType, ReservationView,
    Reservations,
};
use std::sync::Arc;
use target::{LogicalUnitHandle, ReservationStore};

/// Keeps a unit's reservations in its volume's pool.
struct PoolStore(ReservationKeeper);

impl ReservationStore for PoolStore {
    fn keep(&self, reservations: Option<Reservations>) -> BoxFuture<'_, Result<(), NotKept>> {
        Box::pin(async move {
            let record = reservations.as_ref().map(record);
            self.0.keep(record.as_ref()).await.map_err(|error| {
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
pub(crate) fn keeping(unit: LogicalUnitHandle, kept: KeptReservations) -> control::Result<LogicalUnitHandle> {
    let reservations = kept.record.map(reservations).transpose()?;
    Ok(unit.keeping_reservations(reservations, Arc::new(PoolStore(kept.keeper))))
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

fn record(reservations: &Reservations) -> ReservationRecord {
    let registrations = reservations.registrations.iter().map(|(registrant, registration)| {
        let registrant = registrant_record(registrant);
        RegistrationRecord { registrant, key: registration.key.0, all_ports: registration.all_ports }
    });
    let held = reservations.reservation.as_ref().map(|held| HeldRecord {
        kind: held.kind.code(),
        holder: held.holder.as_ref().map(registrant_record),
    });
    ReservationRecord::new(registrations.collect(), held)
}

fn reservations(record: ReservationRecord) -> control::Result<Reservations> {
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
    Ok(Reservations {
        registrations: record.registrations.into_iter().map(registration).collect(),
        reservation: record.reservation.map(held).transpose()?,
    })
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

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for kind in ReservationType::ALL {
            let state = held(kind);
            assert_eq!(reservations(record(&state)).unwrap(), state);
        }
        assert_eq!(reservations(record(&Reservations::default())).unwrap(), Reservations::default());
        let unknown = ReservationRecord::new(Vec::new(), Some(HeldRecord { kind: 2, holder: None }));
        assert_eq!(reservations(unknown).unwrap_err().kind, ErrorKind::Format);
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
