//! Snapshots of volumes, and clones.

use crate::client::segment;
use crate::{Change, Client, ClientError, Outcome, Volume, VolumeSpace};
use hyper::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a volume held at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Identity, a UUID.
    pub id: String,
    /// Name, among the snapshots of its volume.
    pub name: String,
    /// Name of its volume.
    pub volume: String,
    /// Name of its pool.
    pub pool: String,
    /// Size that the volume had.
    pub size_bytes: u64,
    /// What was written to the volume between the snapshot before, or the volume's start, and this one; zero while the
    /// pool is offline.
    pub written_bytes: u64,
    /// What it holds of its pool; none if that was not counted.
    #[serde(default)]
    pub space: Option<VolumeSpace>,
    /// Names of the volumes that were cloned from it.
    #[serde(default)]
    pub clones: Vec<String>,
    /// Snapshots of other volumes that were made at the same instant, as `VOLUME@SNAPSHOT`.
    #[serde(default)]
    pub together: Vec<String>,
    /// The schedule that made it.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Neither schedules nor want of space delete it.
    #[serde(default)]
    pub kept: bool,
    /// When it was made.
    pub created_unix_ms: u64,
}

/// What is to change about a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSnapshot {
    /// Whether it is kept from schedules and from want of space.
    pub kept: bool,
}

/// Snapshots to be made, all at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshots {
    /// Volumes of one pool, 1 to 64.
    pub volumes: Vec<String>,
    /// Name of the snapshots; the time in UTC, for example `20261122-210533`, if none is said.
    #[serde(default)]
    pub name: Option<String>,
}

/// Snapshots that were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotsMade {
    /// What was done.
    pub outcome: Outcome,
    /// One for each volume.
    pub snapshots: Vec<Snapshot>,
}

/// A clone to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneVolume {
    /// Name of the new volume.
    pub name: String,
    /// Snapshot of the volume; what the volume holds now if none is said.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// No host may write to it, whatever the grants say.
    #[serde(default)]
    pub read_only: bool,
}

/// What going back to a snapshot has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollback {
    /// The volume.
    pub volume: Volume,
    /// What it held before.
    pub safety: Snapshot,
}

/// Two volumes or snapshots to be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// The one: `VOLUME` or `VOLUME@SNAPSHOT`.
    pub from: String,
    /// The other, of the same pool.
    pub to: String,
    /// From which byte on.
    #[serde(default)]
    pub offset: u64,
    /// About how many ranges the answer may have.
    #[serde(default)]
    pub ranges_max: Option<u32>,
}

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// What differs between two volumes or snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// The one.
    pub from: String,
    /// Its size.
    pub from_size_bytes: u64,
    /// The other.
    pub to: String,
    /// Its size.
    pub to_size_bytes: u64,
    /// Ranges that differ, in order, of blocks of 4 KiB.
    pub ranges: Vec<ByteRange>,
    /// From where on to ask for more; none at the end.
    pub next_offset: Option<u64>,
}

/// What a clone was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeOrigin {
    /// Name of the volume: now, or when the clone was made if the volume is gone.
    pub volume: String,
    /// Name of the snapshot; none if what the volume held at that moment was cloned.
    pub snapshot: Option<String>,
    /// The volume and the snapshot are still there.
    pub exists: bool,
}

/// How far the detaching of a clone is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detachment {
    /// Bytes of the volume that were looked at.
    pub done_bytes: u64,
    /// Of so many.
    pub size_bytes: u64,
    /// Why it does not go on for now; none if it does.
    pub waits: Option<String>,
}

impl Client {
    /// All snapshots, or those of one volume: by volume, oldest first.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn snapshots(&self, volume: Option<&str>) -> Result<Vec<Snapshot>, ClientError> {
        match volume {
            Some(volume) => self.get(&format!("/volumes/{}/snapshots", segment(volume))).await,
            None => self.get("/snapshots").await,
        }
    }

    /// One snapshot of a volume, by name or identity.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn snapshot(&self, volume: &str, snapshot: &str) -> Result<Snapshot, ClientError> {
        self.get(&path(volume, snapshot)).await
    }

    /// Makes snapshots of volumes, all at one instant.
    ///
    /// # Errors
    /// See [`Client::status`]; `exists` for the name.
    pub async fn create_snapshots(&self, request: &CreateSnapshots) -> Result<SnapshotsMade, ClientError> {
        self.send(Method::POST, "/snapshots", Some(request)).await
    }

    /// Keeps a snapshot from being deleted by schedules and for want of space, or not any more.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_snapshot(
        &self,
        volume: &str,
        snapshot: &str,
        request: UpdateSnapshot,
    ) -> Result<Change<Snapshot>, ClientError> {
        self.send(Method::PATCH, &path(volume, snapshot), Some(&request)).await
    }

    /// Deletes a snapshot. Clones of it stay.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn delete_snapshot(
        &self,
        volume: &str,
        snapshot: &str,
    ) -> Result<Change<Snapshot>, ClientError> {
        self.send(Method::DELETE, &path(volume, snapshot), None::<&()>).await
    }

    /// Gives a volume the content of a snapshot of it; what it held becomes a snapshot, too. With `force` its sessions
    /// end first.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` while it has sessions.
    pub async fn roll_back(
        &self,
        volume: &str,
        snapshot: &str,
        force: bool,
    ) -> Result<Change<Rollback>, ClientError> {
        let path = format!("{}/rollback?force={force}", path(volume, snapshot));
        self.send(Method::POST, &path, None::<&()>).await
    }

    /// Does not go on with detaching a clone.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn cancel_detach(&self, volume: &str) -> Result<Change<Volume>, ClientError> {
        self.send(Method::DELETE, &format!("/volumes/{}/detach", segment(volume)), None::<&()>).await
    }

    /// Begins to make a clone independent of what it was made of.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn detach_volume(&self, volume: &str) -> Result<Change<Volume>, ClientError> {
        self.send(Method::POST, &format!("/volumes/{}/detach", segment(volume)), None::<&()>).await
    }

    /// What differs between two volumes or snapshots; a part of it, if there is much.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn difference(&self, request: &DiffRequest) -> Result<Difference, ClientError> {
        self.send(Method::POST, "/diff", Some(request)).await
    }

    /// Makes a volume with the content of another, or of a snapshot of it.
    ///
    /// # Errors
    /// See [`Client::status`]; `exists` for the name.
    pub async fn clone_volume(
        &self,
        volume: &str,
        request: &CloneVolume,
    ) -> Result<Change<Volume>, ClientError> {
        self.send(Method::POST, &format!("/volumes/{}/clone", segment(volume)), Some(request)).await
    }
}

fn path(volume: &str, snapshot: &str) -> String {
    format!("/volumes/{}/snapshots/{}", segment(volume), segment(snapshot))
}
