//! The REST API: routes over a [`Group`]. `api` holds the types and the document.

mod isns;
mod keys;
mod portals;
mod reservations;
mod schedules;
mod snapshots;
mod targets;

use crate::convert;
use api::{Change, ErrorClass, Problem};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use control::{Force, Group, Outcome, Protection, Snapshots};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;

/// Largest request body, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the status tells beside the group.
#[derive(Debug, Clone)]
pub struct DaemonFacts {
    /// Data directory.
    pub data_directory: String,
    /// When the daemon started, in ms since 1970.
    pub started_unix_ms: u64,
    /// How disks are read and written.
    pub disk_io: String,
}

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) group: Arc<Group>,
    facts: Arc<DaemonFacts>,
}

/// An answer: a value, or what went wrong.
pub(crate) type Answer<T> = Result<Json<T>, Refused>;

pub(crate) struct Refused(pub(crate) Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

impl From<control::Error> for Refused {
    fn from(error: control::Error) -> Self {
        Self(convert::problem(&error))
    }
}

/// A request body of JSON, whatever its content type is said to be.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refused> {
        let path = request.uri().path().to_owned();
        let usage = |message: String| Refused(Problem::new(ErrorClass::Usage, &path, message));
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| usage(format!("the request's body cannot be read: {error}")))?;
        let value = serde_json::from_slice(&bytes);
        value
            .map(Self)
            .map_err(|error| usage(format!("the request's body is not what this path takes: {error}")))
    }
}

/// A body with secrets in it: an error does not repeat what was sent.
struct Secrets<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequest<S> for Secrets<T> {
    type Rejection = Refused;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refused> {
        let path = request.uri().path().to_owned();
        let body = Body::from_request(request, state).await;
        body.map(|Body(value)| Self(value)).map_err(|_| {
            let message = "the request's body is not what this path takes; see /v1/openapi.json";
            Refused(Problem::new(ErrorClass::Usage, path, message))
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    force: bool,
}

/// The `?force=` of a request.
pub(crate) struct Forced(pub(crate) Force);

impl<S: Send + Sync> FromRequestParts<S> for Forced {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        let options: Options = query(parts)?;
        Ok(Self(forced(options.force)))
    }
}

fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, Refused> {
    let options = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
        let message = format!("its query is not understood: {error}");
        Refused(Problem::new(ErrorClass::Usage, parts.uri.path(), message))
    })?;
    Ok(options.0)
}

fn forced(force: bool) -> Force {
    if force { Force::Yes } else { Force::No }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DeletionOptions {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    snapshots: bool,
}

/// How far the deletion of a volume goes: `?force=` and `?snapshots=`.
struct Deletion(Force, Snapshots);

impl<S: Send + Sync> FromRequestParts<S> for Deletion {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        let options: DeletionOptions = query(parts)?;
        let snapshots = if options.snapshots { Snapshots::Delete } else { Snapshots::Refuse };
        Ok(Self(forced(options.force), snapshots))
    }
}

/// All routes of the API.
pub fn router(group: Arc<Group>, facts: DaemonFacts) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/pools", get(pools).post(create_pool))
        .route("/v1/pools/{pool}", get(pool).patch(update_pool).delete(delete_pool))
        .route("/v1/pools/{pool}/extend", post(extend_pool))
        .route("/v1/volumes", get(volumes).post(create_volume))
        .route("/v1/volumes/{volume}", get(volume).patch(update_volume).delete(delete_volume))
        .route("/v1/volumes/{volume}/grants/{host}", put(grant).delete(revoke))
        .route("/v1/hosts", get(hosts).post(create_host))
        .route("/v1/hosts/{host}", get(host).patch(update_host).delete(delete_host))
        .route("/v1/hosts/{host}/chap", put(set_host_chap).delete(clear_host_chap))
        .route("/v1/discovery", get(discovery))
        .route("/v1/discovery/chap", put(set_discovery_chap).delete(clear_discovery_chap))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{session}", get(session))
        .merge(isns::routes())
        .merge(keys::routes())
        .merge(portals::routes())
        .route("/v1/openapi.json", get(document))
        .merge(reservations::routes())
        .merge(schedules::routes())
        .merge(snapshots::routes())
        .merge(targets::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Context { group, facts: Arc::new(facts) })
}

/// Runs a change to its end even if the client goes away: a change dropped halfway would be half done.
pub(crate) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = control::Result<T>> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::spawn(change).await {
        Ok(done) => done.map_err(Refused::from),
        Err(error) => {
            tracing::error!(%error, "a change ended in a panic");
            let message = "the daemon failed while doing this; look at its log, then at the object";
            Err(Refused(Problem::new(ErrorClass::Internal, "request", message)))
        }
    }
}

async fn no_such_path(uri: axum::http::Uri) -> Refused {
    Refused(Problem::new(ErrorClass::NotFound, uri.path(), "there is no such path; see /v1/openapi.json"))
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> Refused {
    let message = format!("{method} cannot be done to this path; see /v1/openapi.json");
    Refused(Problem::new(ErrorClass::Usage, uri.path(), message))
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api::openapi_json())
}

async fn status(State(context): State<Context>) -> Json<api::Status> {
    let Context { group, facts } = context;
    let pools = group.pools();
    let (volumes, hosts, identity) = group.with_state(|state| {
        let identity = api::Group { id: state.group().id.clone(), name: state.group().name.to_string() };
        (state.volume_records().count(), state.hosts().count(), identity)
    });
    let failures = group.login_failures();
    Json(api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        group: identity,
        data_directory: facts.data_directory.clone(),
        started_unix_ms: facts.started_unix_ms,
        portals: portals::serving(&group),
        disk_io: facts.disk_io.clone(),
        pools: convert::count(pools.len()),
        volumes: convert::count(volumes),
        hosts: convert::count(hosts),
        sessions: convert::count(group.sessions().len()),
        logins_failed: failures.failed,
        logins_unheard: failures.unheard,
        size_bytes: pools.iter().map(|pool| pool.usage.size_bytes).sum(),
        used_bytes: pools.iter().map(|pool| pool.usage.used_bytes).sum(),
        warnings: crate::warnings::warnings(&group, &pools),
    })
}

async fn pools(State(context): State<Context>) -> Json<Vec<api::Pool>> {
    context.group.count_space().await;
    Json(context.group.pools().into_iter().map(convert::pool).collect())
}

async fn pool(State(context): State<Context>, Path(pool): Path<String>) -> Answer<api::Pool> {
    context.group.count_space().await;
    Ok(Json(convert::pool(context.group.pool(&pool)?)))
}

async fn create_pool(
    State(context): State<Context>,
    Secrets(mut request): Secrets<api::CreatePool>,
) -> Answer<Change<api::Pool>> {
    let secret = request.encrypt.take().map(keys::source);
    let new = convert::new_pool(request);
    let work = async move { context.group.create_pool_with(new, secret).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::pool(view))))
}

async fn update_pool(
    State(context): State<Context>,
    Path(pool): Path<String>,
    Body(request): Body<api::UpdatePool>,
) -> Answer<Change<api::Pool>> {
    let update = convert::pool_update(&request);
    let (outcome, view) = to_the_end(async move { context.group.update_pool(&pool, update).await }).await?;
    Ok(Json(convert::change(outcome, convert::pool(view))))
}

async fn extend_pool(
    State(context): State<Context>,
    Path(pool): Path<String>,
    Body(request): Body<api::ExtendPool>,
) -> Answer<Change<api::Pool>> {
    let work = async move { context.group.extend_pool(&pool, &request.disk).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::pool(view))))
}

async fn delete_pool(
    State(context): State<Context>,
    Path(pool): Path<String>,
    Forced(force): Forced,
) -> Answer<Change<api::Pool>> {
    let (outcome, view) = to_the_end(async move { context.group.delete_pool(&pool, force).await }).await?;
    Ok(Json(convert::change(outcome, convert::pool(view))))
}

async fn volumes(State(context): State<Context>) -> Json<Vec<api::Volume>> {
    context.group.count_space().await;
    let views = context.group.volumes();
    Json(views.into_iter().map(|view| convert::volume(&context.group, view)).collect())
}

async fn volume(State(context): State<Context>, Path(volume): Path<String>) -> Answer<api::Volume> {
    context.group.count_space().await;
    Ok(Json(convert::volume(&context.group, context.group.volume(&volume)?)))
}

async fn create_volume(
    State(context): State<Context>,
    Body(request): Body<api::CreateVolume>,
) -> Answer<Change<api::Volume>> {
    let (group, new) = (context.group.clone(), convert::new_volume(request));
    let (outcome, view) = to_the_end(async move { group.create_volume(new).await }).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn update_volume(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Body(request): Body<api::UpdateVolume>,
) -> Answer<Change<api::Volume>> {
    let group = context.group.clone();
    let protection = Protection { template: request.template, read_only: request.read_only };
    let update = convert::volume_update(request);
    let work = async move {
        let view = group.volume(&volume)?;
        let id = view.record.id.to_string();
        let protected = match protection {
            Protection { template: None, read_only: None } => (Outcome::Unchanged, view),
            protection => group.set_protection(&id, protection).await?,
        };
        match group.update_volume(&id, update).await? {
            (Outcome::Unchanged, _) => Ok(protected),
            changed => Ok(changed),
        }
    };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn delete_volume(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Deletion(force, snapshots): Deletion,
) -> Answer<Change<api::Volume>> {
    let group = context.group.clone();
    let work = async move { group.delete_volume_with(&volume, force, snapshots).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn grant(
    State(context): State<Context>,
    Path((volume, host)): Path<(String, String)>,
    Body(request): Body<api::GrantRequest>,
) -> Answer<Change<api::Volume>> {
    let group = context.group.clone();
    let work = async move { group.grant(&volume, &host, request.read_only).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn revoke(
    State(context): State<Context>,
    Path((volume, host)): Path<(String, String)>,
) -> Answer<Change<api::Volume>> {
    let group = context.group.clone();
    let (outcome, view) = to_the_end(async move { group.revoke(&volume, &host).await }).await?;
    Ok(Json(convert::change(outcome, convert::volume(&context.group, view))))
}

async fn hosts(State(context): State<Context>) -> Json<Vec<api::Host>> {
    let mut records: Vec<_> = context.group.with_state(|state| state.hosts().cloned().collect());
    records.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    Json(records.iter().map(|record| convert::host(&context.group, record)).collect())
}

async fn host(State(context): State<Context>, Path(host): Path<String>) -> Answer<api::Host> {
    let record = context.group.with_state(|state| state.find_host(&host).cloned())?;
    Ok(Json(convert::host(&context.group, &record)))
}

async fn create_host(
    State(context): State<Context>,
    Body(request): Body<api::CreateHost>,
) -> Answer<Change<api::Host>> {
    let (group, new) = (context.group.clone(), convert::new_host(request));
    let (outcome, record) = to_the_end(async move { group.create_host(new).await }).await?;
    Ok(Json(convert::change(outcome, convert::host(&context.group, &record))))
}

async fn update_host(
    State(context): State<Context>,
    Path(host): Path<String>,
    Body(request): Body<api::UpdateHost>,
) -> Answer<Change<api::Host>> {
    let (group, update) = (context.group.clone(), convert::host_update(request));
    let (outcome, record) = to_the_end(async move { group.update_host(&host, update).await }).await?;
    Ok(Json(convert::change(outcome, convert::host(&context.group, &record))))
}

async fn set_host_chap(
    State(context): State<Context>,
    Path(host): Path<String>,
    Secrets(request): Secrets<api::SetChap>,
) -> Answer<Change<api::Host>> {
    let (group, new) = (context.group.clone(), convert::new_chap(&request)?);
    let (outcome, record) = to_the_end(async move { group.set_host_chap(&host, new).await }).await?;
    Ok(Json(convert::change(outcome, convert::host(&context.group, &record))))
}

async fn clear_host_chap(
    State(context): State<Context>,
    Path(host): Path<String>,
) -> Answer<Change<api::Host>> {
    let group = context.group.clone();
    let (outcome, record) = to_the_end(async move { group.clear_host_chap(&host).await }).await?;
    Ok(Json(convert::change(outcome, convert::host(&context.group, &record))))
}

async fn discovery(State(context): State<Context>) -> Json<api::Discovery> {
    Json(api::Discovery {
        chap: context.group.with_state(|state| state.group().discovery.as_ref().map(convert::chap)),
    })
}

async fn set_discovery_chap(
    State(context): State<Context>,
    Secrets(request): Secrets<api::SetChap>,
) -> Answer<Change<api::Discovery>> {
    let new = convert::new_chap(&request)?;
    change_discovery(context, Some(new)).await
}

async fn clear_discovery_chap(State(context): State<Context>) -> Answer<Change<api::Discovery>> {
    change_discovery(context, None).await
}

async fn change_discovery(context: Context, new: Option<control::NewChap>) -> Answer<Change<api::Discovery>> {
    let (outcome, chap) = to_the_end(async move { context.group.set_discovery_chap(new).await }).await?;
    Ok(Json(convert::change(outcome, api::Discovery { chap: chap.as_ref().map(convert::chap) })))
}

async fn delete_host(
    State(context): State<Context>,
    Path(host): Path<String>,
    Forced(force): Forced,
) -> Answer<Change<api::Host>> {
    let group = context.group.clone();
    let (outcome, record) = to_the_end(async move { group.delete_host(&host, force).await }).await?;
    Ok(Json(convert::change(outcome, convert::host(&context.group, &record))))
}

async fn sessions(State(context): State<Context>) -> Json<Vec<api::Session>> {
    Json(convert::sessions(&context.group))
}

async fn session(State(context): State<Context>, Path(session): Path<String>) -> Answer<api::Session> {
    let found = convert::sessions(&context.group).into_iter().find(|one| one.id.to_string() == session);
    let ended = || {
        let message = "there is no such session; it may have ended";
        control::Error::new(control::ErrorKind::NotFound, format!("session {session}"), message)
    };
    Ok(Json(found.ok_or_else(ended)?))
}
