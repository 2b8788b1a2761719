//! The routes of targets of several volumes.

use super::{Answer, Body, Context, Forced, to_the_end};
use crate::convert;
use api::{Change, CreateTarget, Grant, MapRequest, Target, TargetVolume};
use axum::extract::{Path, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use control::{Group, MappingView, TargetLun, TargetView};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/targets", get(list).post(create))
        .route("/v1/targets/{target}", get(show).delete(delete))
        .route("/v1/targets/{target}/volumes/{volume}", put(map).delete(unmap))
}

fn mapped(view: MappingView) -> TargetVolume {
    let grants = view.hosts.into_iter().map(|(host, read_only)| Grant { host, read_only }).collect();
    TargetVolume { lun: view.lun.number(), volume: view.volume, grants }
}

fn shown(group: &Group, view: TargetView) -> Target {
    Target {
        name: view.record.name.to_string(),
        iqn: view.record.iqn.to_string(),
        sessions: convert::count(group.sessions_of_target(&view.record).len()),
        volumes: view.mappings.into_iter().map(mapped).collect(),
        created_unix_ms: view.record.created_unix_ms,
    }
}

async fn list(State(context): State<Context>) -> Json<Vec<Target>> {
    let views = context.group.targets().into_iter();
    Json(views.map(|view| shown(&context.group, view)).collect())
}

async fn show(State(context): State<Context>, Path(target): Path<String>) -> Answer<Target> {
    Ok(Json(shown(&context.group, context.group.target(&target)?)))
}

async fn create(State(context): State<Context>, Body(request): Body<CreateTarget>) -> Answer<Change<Target>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.create_target(&request.name).await }).await?;
    Ok(Json(convert::change(outcome, shown(&context.group, view))))
}

async fn delete(
    State(context): State<Context>,
    Path(target): Path<String>,
    Forced(force): Forced,
) -> Answer<Change<Target>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.delete_target(&target, force).await }).await?;
    Ok(Json(convert::change(outcome, shown(&context.group, view))))
}

async fn map(
    State(context): State<Context>,
    Path((target, volume)): Path<(String, String)>,
    Body(request): Body<MapRequest>,
) -> Answer<Change<Target>> {
    let group = context.group.clone();
    let lun = request.lun.map(TargetLun::try_from).transpose()?;
    let work = async move { group.map_volume(&target, &volume, lun).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(&context.group, view))))
}

async fn unmap(
    State(context): State<Context>,
    Path((target, volume)): Path<(String, String)>,
) -> Answer<Change<Target>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.unmap_volume(&target, &volume).await }).await?;
    Ok(Json(convert::change(outcome, shown(&context.group, view))))
}
