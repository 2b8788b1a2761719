//! The routes of volumes' reservations.

use super::{Answer, Context, to_the_end};
use crate::convert;
use api::{Change, Registration, Reservations};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use control::{RegistrationFacts, ReservationFacts};

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/v1/volumes/{volume}/reservations", get(reservations).delete(clear))
}

fn registration(facts: RegistrationFacts) -> Registration {
    Registration {
        key: format!("{:#018x}", facts.key),
        initiator: facts.initiator,
        initiator_port: facts.initiator_port,
        target_port: facts.target_port,
        holder: facts.holder,
        connected: facts.connected,
    }
}

fn shown(volume: String, facts: ReservationFacts) -> Reservations {
    Reservations {
        volume,
        kind: facts.kind,
        persistent: facts.kept,
        generation: facts.generation,
        registrations: facts.registrations.into_iter().map(registration).collect(),
        reserved_by: facts.reserved_by,
    }
}

async fn reservations(State(context): State<Context>, Path(volume): Path<String>) -> Answer<Reservations> {
    let name = context.group.volume(&volume)?.record.name.to_string();
    Ok(Json(shown(name, context.group.reservations(&volume)?)))
}

async fn clear(State(context): State<Context>, Path(volume): Path<String>) -> Answer<Change<Reservations>> {
    let name = context.group.volume(&volume)?.record.name.to_string();
    let work = async move { context.group.clear_reservations(&volume).await };
    let (outcome, before) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(name, before))))
}
