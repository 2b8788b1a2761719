//! Snapshots of volumes, and clones.

use crate::client::segment;
use crate::{Change, Client, ClientError, Outcome, Volume};
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
    /// Names of the volumes that were cloned from it.
    #[serde(default)]
    pub clones: Vec<String>,
    /// Snapshots of other volumes that were made at the same instant, as `VOLUME@SNAPSHOT`.
    #[serde(default)]
    pub together: Vec<String>,
    /// When it was made.
    pub created_unix_ms: u64,
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
