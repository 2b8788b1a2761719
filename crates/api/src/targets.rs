//! Targets of several volumes.

use crate::client::segment;
use crate::{Change, Client, ClientError, Grant};
use hyper::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A volume in a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetVolume {
    /// Its LUN: 0 to 255.
    pub lun: u16,
    /// Name of the volume.
    pub volume: String,
    /// Hosts that see it: those that the volume is granted to.
    pub grants: Vec<Grant>,
}

/// A target of several volumes that a volume is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeTarget {
    /// Name of the target.
    pub target: String,
    /// The volume's LUN in it.
    pub lun: u16,
}

/// A target of several volumes. The target of its own that each volume has is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Name.
    pub name: String,
    /// iSCSI name; for life.
    pub iqn: String,
    /// What is in it, by LUN.
    pub volumes: Vec<TargetVolume>,
    /// Number of its sessions.
    pub sessions: u32,
    /// When it was created.
    pub created_unix_ms: u64,
}

/// A target to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTarget {
    /// Name: 1 to 63 letters, digits, `-`, `_` and `.`.
    pub name: String,
}

/// A volume to be mapped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapRequest {
    /// LUN, 0 to 255; the lowest free one if none is said.
    #[serde(default)]
    pub lun: Option<u64>,
}

impl Client {
    /// All targets of several volumes.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn targets(&self) -> Result<Vec<Target>, ClientError> {
        self.get("/targets").await
    }

    /// One target, by name or iSCSI name.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn target(&self, target: &str) -> Result<Target, ClientError> {
        self.get(&format!("/targets/{}", segment(target))).await
    }

    /// Makes a target without volumes.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn create_target(&self, request: &CreateTarget) -> Result<Change<Target>, ClientError> {
        self.send(Method::POST, "/targets", Some(request)).await
    }

    /// Deletes a target; its volumes stay. With `force` its sessions end.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` while it has sessions.
    pub async fn delete_target(&self, target: &str, force: bool) -> Result<Change<Target>, ClientError> {
        self.send(Method::DELETE, &format!("/targets/{}?force={force}", segment(target)), None::<&()>).await
    }

    /// Puts a volume into a target.
    ///
    /// # Errors
    /// See [`Client::status`]; `exists` if the LUN is taken.
    pub async fn map_volume(
        &self,
        target: &str,
        volume: &str,
        request: &MapRequest,
    ) -> Result<Change<Target>, ClientError> {
        self.send(Method::PUT, &mapping(target, volume), Some(request)).await
    }

    /// Takes a volume out of a target.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn unmap_volume(&self, target: &str, volume: &str) -> Result<Change<Target>, ClientError> {
        self.send(Method::DELETE, &mapping(target, volume), None::<&()>).await
    }
}

fn mapping(target: &str, volume: &str) -> String {
    format!("/targets/{}/volumes/{}", segment(target), segment(volume))
}
