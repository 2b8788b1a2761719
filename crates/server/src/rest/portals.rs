//! The routes of portals and portal groups.

use super::{Answer, Body, Context, Forced, Refused, to_the_end};
use crate::convert;
use api::{Change, ErrorClass, PortalChange, Problem};
use axum::extract::{Path, State};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use control::{
    DrainRequest, Force, Group, NewPortal, PathState, PathUpdate, PortalChoice, PortalCondition,
    PortalGroupTag, PortalView,
};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/portals", get(portals).post(add_portal))
        .route("/v1/portals/{portal}", get(portal).delete(remove_portal))
        .route("/v1/portals/{portal}/move", post(move_portal))
        .route("/v1/portals/drain", post(drain))
        .route("/v1/portals/resume", post(resume))
        .route("/v1/portal-groups/{group}", patch(update_group))
}

/// The addresses on which hosts are served.
pub(super) fn serving(group: &Group) -> Vec<String> {
    let portals = group.portals().into_iter();
    let serving = portals.filter(|portal| portal.condition == PortalCondition::Serving);
    serving.map(|portal| portal.address.to_string()).collect()
}

fn address(text: &str) -> Result<SocketAddr, Refused> {
    text.parse().map_err(|_| {
        let message = "write ADDR:PORT, for example 192.0.2.1:3260 or [2001:db8::1]:3260";
        Refused(Problem::new(ErrorClass::Invalid, format!("portal {text}"), message))
    })
}

fn choice(portal: Option<&str>, group: Option<u16>) -> Result<PortalChoice, Refused> {
    match (portal, group) {
        (Some(portal), None) => Ok(PortalChoice::Portal(address(portal)?)),
        (None, Some(tag)) => Ok(PortalChoice::Group(PortalGroupTag(tag))),
        _ => {
            let message = "name a portal or a group, one of the two";
            Err(Refused(Problem::new(ErrorClass::Invalid, "portals", message)))
        }
    }
}

fn shown(view: PortalView) -> api::Portal {
    api::Portal {
        address: view.address.to_string(),
        group: view.tag.0,
        fabric: view.fabric.map(|fabric| fabric.to_string()),
        state: match view.condition {
            PortalCondition::Serving => api::PortalState::Serving,
            PortalCondition::Failed => api::PortalState::Failed,
            PortalCondition::Draining => api::PortalState::Draining,
            PortalCondition::Drained => api::PortalState::Drained,
            PortalCondition::Moved => api::PortalState::Moved,
        },
        reason: view.reason,
        to: view.to.map(|to| to.to_string()),
        path: match view.state {
            PathState::Optimized => api::PathState::Optimized,
            PathState::NonOptimized => api::PathState::NonOptimized,
            PathState::Standby => api::PathState::Standby,
            PathState::Unavailable => api::PathState::Unavailable,
        },
        preferred: view.preferred,
        sessions: convert::count(view.sessions),
    }
}

fn path_state(state: api::PathState) -> PathState {
    match state {
        api::PathState::Optimized => PathState::Optimized,
        api::PathState::NonOptimized => PathState::NonOptimized,
        api::PathState::Standby => PathState::Standby,
        api::PathState::Unavailable => PathState::Unavailable,
    }
}

fn several((outcome, views): (control::Outcome, Vec<PortalView>)) -> Json<PortalChange> {
    let portals = views.into_iter().map(shown).collect();
    Json(PortalChange { outcome: convert::change(outcome, ()).outcome, portals })
}

fn one((outcome, view): (control::Outcome, PortalView)) -> Json<Change<api::Portal>> {
    Json(convert::change(outcome, shown(view)))
}

async fn portals(State(context): State<Context>) -> Json<Vec<api::Portal>> {
    Json(context.group.portals().into_iter().map(shown).collect())
}

async fn portal(State(context): State<Context>, Path(portal): Path<String>) -> Answer<api::Portal> {
    Ok(Json(shown(context.group.portal(address(&portal)?)?)))
}

async fn add_portal(
    State(context): State<Context>,
    Body(request): Body<api::AddPortal>,
) -> Answer<Change<api::Portal>> {
    let address = address(&request.address)?;
    let new = NewPortal { address, tag: request.group.map(PortalGroupTag), fabric: request.fabric };
    Ok(one(to_the_end(async move { context.group.add_portal(new).await }).await?))
}

async fn remove_portal(
    State(context): State<Context>,
    Path(portal): Path<String>,
    Forced(force): Forced,
) -> Answer<Change<api::Portal>> {
    let portal = address(&portal)?;
    Ok(one(to_the_end(async move { context.group.remove_portal(portal, None, force).await }).await?))
}

async fn move_portal(
    State(context): State<Context>,
    Path(portal): Path<String>,
    Body(request): Body<api::MovePortal>,
) -> Answer<Change<api::Portal>> {
    let (portal, to) = (address(&portal)?, address(&request.to)?);
    let work = async move { context.group.remove_portal(portal, Some(to), Force::No).await };
    Ok(one(to_the_end(work).await?))
}

async fn drain(
    State(context): State<Context>,
    Body(request): Body<api::DrainPortals>,
) -> Answer<PortalChange> {
    let request = DrainRequest {
        which: choice(request.portal.as_deref(), request.group)?,
        to: request.to.as_deref().map(address).transpose()?,
        within: request.within_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        force: if request.force { Force::Yes } else { Force::No },
    };
    Ok(several(to_the_end(async move { context.group.drain_portals(request).await }).await?))
}

async fn resume(
    State(context): State<Context>,
    Body(request): Body<api::ResumePortals>,
) -> Answer<PortalChange> {
    let which = choice(request.portal.as_deref(), request.group)?;
    Ok(several(to_the_end(async move { context.group.resume_portals(which).await }).await?))
}

async fn update_group(
    State(context): State<Context>,
    Path(tag): Path<String>,
    Body(request): Body<api::UpdatePortalGroup>,
) -> Answer<PortalChange> {
    let number = tag.parse().map_err(|_| {
        let message = "a portal group is named by its tag, a number from 1 to 65535";
        Refused(Problem::new(ErrorClass::Invalid, format!("portal group {tag}"), message))
    })?;
    let update = PathUpdate {
        state: request.path.map(path_state),
        preferred: request.preferred,
        fabric: request.fabric,
        volume: request.volume,
    };
    let work = async move { context.group.set_path(PortalGroupTag(number), update).await };
    Ok(several(to_the_end(work).await?))
}
