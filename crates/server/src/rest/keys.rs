//! Keys of pools.

use super::{Answer, Context, Secrets, to_the_end};
use crate::convert;
use api::Change;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use control::{KeyChange, KeySource};
use zeroize::Zeroizing;

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/v1/pools/{pool}/keys", post(change))
}

async fn change(
    State(context): State<Context>,
    Path(pool): Path<String>,
    Secrets(request): Secrets<api::ChangeKeys>,
) -> Answer<Change<api::Pool>> {
    let change = key_change(request);
    let work = async move { context.group.change_pool_keys(&pool, change).await };
    let (outcome, view) = to_the_end(work).await?;
    Ok(Json(convert::change(outcome, convert::pool(view))))
}

pub(super) fn source(secret: api::KeySecret) -> KeySource {
    match secret {
        // The request's own copy is overwritten when it goes.
        api::KeySecret::Passphrase(text) => KeySource::Passphrase(Zeroizing::new(text.0.as_bytes().to_vec())),
        api::KeySecret::KeyFile(path) => KeySource::File(path),
    }
}

fn key_change(request: api::ChangeKeys) -> KeyChange<KeySource> {
    match request {
        api::ChangeKeys::Begin { secret, encrypt_new_volumes } => {
            KeyChange::Begin { secret: source(secret), encrypt_new: encrypt_new_volumes }
        }
        api::ChangeKeys::Unlock(secret) => KeyChange::Unlock(source(secret)),
        api::ChangeKeys::Lock => KeyChange::Lock,
        api::ChangeKeys::Add(secret) => KeyChange::Add(source(secret)),
        api::ChangeKeys::Replace { slot, secret } => KeyChange::Replace(slot, source(secret)),
        api::ChangeKeys::Remove { slot } => KeyChange::Remove(slot),
        api::ChangeKeys::Rekey(secrets) => KeyChange::Rekey(secrets.into_iter().map(source).collect()),
        api::ChangeKeys::EncryptNewVolumes(encrypt) => KeyChange::EncryptNew(encrypt),
    }
}
