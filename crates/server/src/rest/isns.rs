//! The routes of name servers.

use super::{Answer, Body, Context, to_the_end};
use crate::convert;
use api::{Change, Isns, IsnsServer};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use control::{Group, IsnsServerFacts, IsnsState, NewIsns};

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/v1/isns", get(isns).put(set).delete(clear))
}

fn server(facts: IsnsServerFacts) -> IsnsServer {
    IsnsServer {
        address: facts.address.to_string(),
        state: match facts.state {
            IsnsState::Connecting => api::IsnsState::Connecting,
            IsnsState::Registered => api::IsnsState::Registered,
            IsnsState::Unreachable => api::IsnsState::Unreachable,
            IsnsState::Refused => api::IsnsState::Refused,
        },
        since_unix_ms: facts.since_unix_ms,
        targets: convert::count(facts.targets),
        error: facts.error,
    }
}

fn shown(group: &Group) -> Isns {
    let (entity, record) =
        group.with_state(|state| (state.group().isns_entity(), state.group().isns.clone()));
    Isns {
        entity,
        esi_port: record.and_then(|record| record.inquiry_port),
        servers: group.isns_servers().into_iter().map(server).collect(),
    }
}

async fn isns(State(context): State<Context>) -> Json<Isns> {
    Json(shown(&context.group))
}

async fn set(State(context): State<Context>, Body(request): Body<api::SetIsns>) -> Answer<Change<Isns>> {
    let new = NewIsns { servers: request.servers, inquiry_port: request.esi_port };
    change(context, Some(new)).await
}

async fn clear(State(context): State<Context>) -> Answer<Change<Isns>> {
    change(context, None).await
}

async fn change(context: Context, new: Option<NewIsns>) -> Answer<Change<Isns>> {
    let group = context.group.clone();
    let (outcome, _) = to_the_end(async move { group.set_isns(new).await }).await?;
    Ok(Json(convert::change(outcome, shown(&context.group))))
}
