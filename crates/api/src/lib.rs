//! What the administrator's side of Palisade looks like from outside: REST types, error classes, the OpenAPI
//! document and a typed client.
//!
//! *Invariant:* this crate knows nothing of pools, disks or SCSI. The daemon and every client, the `palisade`
//! program first of all, share these types and nothing else.

mod chap;
mod client;
mod document;
mod error;
mod isns;
mod keys;
mod portals;
mod reservations;
mod schedules;
mod sessions;
mod snapshots;
mod space;
mod targets;
mod types;

pub use chap::{Chap, Discovery, Secret, SetChap, SetMutual};
pub use client::{Client, ClientError, Endpoint};
pub use document::openapi_json;
pub use error::{ErrorClass, ErrorFacts, Problem};
pub use isns::{Isns, IsnsServer, IsnsState, SetIsns};
pub use keys::{ChangeKeys, KeySecret, KeySlot, KeySlotKind, KeyState, PoolEncryption, VolumeEncryption};
pub use portals::{
    AddPortal, DrainPortals, MovePortal, PathState, Portal, PortalChange, PortalState, ResumePortals,
    UpdatePortalGroup,
};
pub use reservations::{Registration, Reservations};
pub use schedules::{CreateSchedule, KeepSnapshots, Schedule, UpdateSchedule};
pub use sessions::{Connection, ConnectionState};
pub use snapshots::{
    ByteRange, CloneVolume, CreateSnapshots, Detachment, DiffRequest, Difference, Rollback, Snapshot,
    SnapshotsMade, UpdateSnapshot, VolumeOrigin,
};
pub use space::{
    Dropped, Forecast, Growth, OnShort, PoolRules, PoolSpace, UpdatePoolRules, UpdateVolumeRules,
    VolumeRules, VolumeSpace,
};
pub use targets::{CreateTarget, MapRequest, Target, TargetVolume, VolumeTarget};
pub use types::{
    CacheMode, Change, CopyCounts, CreateHost, CreatePool, CreateVolume, ExtendPool, Grant, GrantRequest,
    Group, Host, HostGrant, Outcome, Pool, PoolDisk, PoolState, Provisioning, Sanitization, Session, Status,
    UpdateHost, UpdatePool, UpdateVolume, Volume, VolumeState,
};

/// First part of every path of this version of the API.
pub const PREFIX: &str = "/v1";

/// File name of the administrator's socket, inside the data directory.
pub const SOCKET_NAME: &str = "palisade.sock";
