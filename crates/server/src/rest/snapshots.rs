//! The routes of snapshots and clones.

use super::{Answer, Body, Context, Forced, to_the_end};
use crate::convert;
use api::{
    Change, CloneVolume, CreateSnapshots, DiffRequest, Rollback, Snapshot, SnapshotsMade, UpdateSnapshot,
    Volume,
};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use control::{NewSnapshot, SnapshotView};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/snapshots", get(list).post(create))
        .route("/v1/volumes/{volume}/snapshots", get(list_of))
        .route("/v1/volumes/{volume}/snapshots/{snapshot}", get(show).patch(update).delete(delete))
        .route("/v1/volumes/{volume}/snapshots/{snapshot}/rollback", post(roll_back))
        .route("/v1/diff", post(difference))
        .route("/v1/volumes/{volume}/detach", post(detach).delete(cancel_detach))
        .route("/v1/volumes/{volume}/clone", post(clone))
}

fn shown(view: SnapshotView) -> Snapshot {
    let record = view.record;
    let together = view.together.into_iter().map(|(volume, snapshot)| format!("{volume}@{snapshot}"));
    Snapshot {
        id: record.id.to_string(),
        name: record.name.to_string(),
        volume: view.volume,
        pool: view.pool,
        size_bytes: record.size_bytes,
        written_bytes: view.written_bytes,
        space: view.holding.map(convert::volume_space),
        clones: view.clones,
        together: together.collect(),
        schedule: view.schedule,
        kept: record.kept,
        created_unix_ms: record.created_unix_ms,
    }
}

async fn list(State(context): State<Context>) -> Answer<Vec<Snapshot>> {
    context.group.count_space().await;
    Ok(Json(context.group.snapshots(None)?.into_iter().map(shown).collect()))
}

async fn list_of(State(context): State<Context>, Path(volume): Path<String>) -> Answer<Vec<Snapshot>> {
    context.group.count_space().await;
    Ok(Json(context.group.snapshots(Some(&volume))?.into_iter().map(shown).collect()))
}

async fn show(
    State(context): State<Context>,
    Path((volume, snapshot)): Path<(String, String)>,
) -> Answer<Snapshot> {
    context.group.count_space().await;
    Ok(Json(shown(context.group.snapshot(&volume, &snapshot)?)))
}

async fn create(
    State(context): State<Context>,
    Body(request): Body<CreateSnapshots>,
) -> Answer<SnapshotsMade> {
    let CreateSnapshots { volumes, name } = request;
    let new = NewSnapshot { volumes, name, schedule: None };
    let (outcome, views) = to_the_end(async move { context.group.create_snapshots(new).await }).await?;
    let Change { outcome, item: () } = convert::change(outcome, ());
    Ok(Json(SnapshotsMade { outcome, snapshots: views.into_iter().map(shown).collect() }))
}

async fn update(
    State(context): State<Context>,
    Path((volume, snapshot)): Path<(String, String)>,
    Body(request): Body<UpdateSnapshot>,
) -> Answer<Change<Snapshot>> {
    let work = async move { context.group.keep_snapshot(&volume, &snapshot, request.kept).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(view))))
}

async fn delete(
    State(context): State<Context>,
    Path((volume, snapshot)): Path<(String, String)>,
) -> Answer<Change<Snapshot>> {
    let work = async move { context.group.delete_snapshot(&volume, &snapshot).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(view))))
}

async fn roll_back(
    State(context): State<Context>,
    Path((volume, snapshot)): Path<(String, String)>,
    Forced(force): Forced,
) -> Answer<Change<Rollback>> {
    let group = context.group.clone();
    let work = async move { group.roll_back(&volume, &snapshot, force).await };
    let (outcome, done) = to_the_end(work).await?;
    let item = Rollback { volume: convert::volume(&context.group, done.volume), safety: shown(done.safety) };
    Ok(Json(convert::change(outcome, item)))
}

async fn difference(
    State(context): State<Context>,
    Body(request): Body<DiffRequest>,
) -> Answer<api::Difference> {
    let DiffRequest { from, to, offset, ranges_max } = request;
    let ranges_max = ranges_max.and_then(|number| usize::try_from(number).ok());
    let found = context.group.difference(&from, &to, offset, ranges_max).await?;
    let ranges = found.part.ranges.iter();
    let ranges = ranges.map(|range| api::ByteRange { offset: range.offset, length: range.len });
    Ok(Json(api::Difference {
        from: found.from.0,
        from_size_bytes: found.from.1,
        to: found.to.0,
        to_size_bytes: found.to.1,
        ranges: ranges.collect(),
        next_offset: found.part.next,
    }))
}

async fn detach(State(context): State<Context>, Path(volume): Path<String>) -> Answer<Change<Volume>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.detach_volume(&volume).await }).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn cancel_detach(State(context): State<Context>, Path(volume): Path<String>) -> Answer<Change<Volume>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.cancel_detach(&volume).await }).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn clone(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Body(request): Body<CloneVolume>,
) -> Answer<Change<Volume>> {
    let group = context.group.clone();
    let CloneVolume { name, snapshot, read_only } = request;
    let work = async move { group.clone_volume(&volume, snapshot.as_deref(), &name, read_only).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}
