//! How reservations of a volume are shown.

use crate::output::{properties, table};
use api::{Change, Outcome, Registration, Reservations};

pub(super) fn show(reservations: &Reservations) -> String {
    let Reservations { volume, kind, persistent, registrations, reserved_by, .. } = reservations;
    if let Some(owner) = reserved_by {
        return format!("Volume {volume} is reserved (SPC-2 RESERVE) by {owner} until its session ends.");
    }
    if registrations.is_empty() {
        return format!("No host has reserved or registered anything on volume {volume}.");
    }
    let survives = if *persistent { "yes (APTPL)" } else { "no" };
    let pairs = [
        ("Reservation", kind.clone().unwrap_or_else(|| "none, only registrations".to_owned())),
        ("Survives a restart", survives.to_owned()),
        ("Generation", reservations.generation.to_string()),
    ];
    let row = |registration: &Registration| {
        let mark = |set: bool, mark: &str| if set { mark } else { "-" }.to_owned();
        vec![
            registration.key.clone(),
            registration.initiator_port.clone(),
            registration.target_port.to_string(),
            mark(registration.holder, "holder"),
            mark(registration.connected, "yes"),
        ]
    };
    let rows: Vec<_> = registrations.iter().map(row).collect();
    let list = table(&["KEY", "INITIATOR PORT", "TARGET PORT", "HOLDS", "CONNECTED"], &rows);
    format!("{}\n\n{list}", properties(&pairs))
}

pub(super) fn cleared(change: &Change<Reservations>) -> String {
    let Reservations { volume, registrations, .. } = &change.item;
    match change.outcome {
        Outcome::Unchanged => format!("There was nothing to clear on volume {volume}."),
        _ => format!(
            "Volume {volume}: reservations cleared, {} registrations with them. Hosts are told (2Ah/03h); cluster nodes \
             have to register again.",
            registrations.len()
        ),
    }
}
