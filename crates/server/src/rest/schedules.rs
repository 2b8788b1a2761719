//! The routes of schedules.

use super::{Answer, Body, Context, to_the_end};
use crate::convert;
use api::{Change, CreateSchedule, KeepSnapshots, Schedule, UpdateSchedule};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use control::{Keep, NewSchedule, ScheduleView};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/schedules", get(list).post(create))
        .route("/v1/schedules/{schedule}", get(show).patch(update).delete(delete))
}

fn shown(view: ScheduleView) -> Schedule {
    let record = view.record;
    let Keep { last, hourly, daily, weekly, monthly } = record.keep;
    Schedule {
        id: record.id.to_string(),
        name: record.name.to_string(),
        volumes: view.volumes,
        every: record.every.to_string(),
        keep: KeepSnapshots { last, hourly, daily, weekly, monthly },
        name_pattern: record.pattern,
        enabled: record.enabled,
        snapshots: convert::count(view.snapshots),
        next_unix_ms: record.next_unix_ms,
        last_unix_ms: record.last_unix_ms,
        failure: record.failure.map(|failure| failure.message),
        created_unix_ms: record.created_unix_ms,
    }
}

async fn list(State(context): State<Context>) -> Json<Vec<Schedule>> {
    Json(context.group.schedules().into_iter().map(shown).collect())
}

async fn show(State(context): State<Context>, Path(schedule): Path<String>) -> Answer<Schedule> {
    Ok(Json(shown(context.group.schedule(&schedule)?)))
}

async fn create(
    State(context): State<Context>,
    Body(request): Body<CreateSchedule>,
) -> Answer<Change<Schedule>> {
    let CreateSchedule { name, volumes, every, keep, name_pattern: pattern } = request;
    let KeepSnapshots { last, hourly, daily, weekly, monthly } = keep;
    let keep = Keep { last, hourly, daily, weekly, monthly };
    let new = NewSchedule { name, volumes, every, keep, pattern };
    let (outcome, view) = to_the_end(async move { context.group.create_schedule(new).await }).await?;
    Ok(Json(convert::change(outcome, shown(view))))
}

async fn update(
    State(context): State<Context>,
    Path(schedule): Path<String>,
    Body(UpdateSchedule { enabled }): Body<UpdateSchedule>,
) -> Answer<Change<Schedule>> {
    let work = async move { context.group.enable_schedule(&schedule, enabled).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(view))))
}

async fn delete(State(context): State<Context>, Path(schedule): Path<String>) -> Answer<Change<Schedule>> {
    let work = async move { context.group.delete_schedule(&schedule).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, shown(view))))
}
