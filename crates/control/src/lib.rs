//! The group's model: pools, volumes, hosts, and who may see what.
//!
//! *Invariant:* this crate decides and remembers; it opens no disk and no socket. Pools come through
//! [`PoolEngine`], targets through [`Frontend`], time and threads through [`block::Runtime`]. So it runs the same
//! over the real engine and over the simulated one in [`simulated`].

mod access;
mod accounting;
mod chap;
mod engine;
mod error;
mod file;
mod frontend;
mod group;
mod growth;
mod hosts;
mod identity;
mod isns;
mod keys;
mod names;
mod network;
mod pools;
mod portals;
mod pressure;
mod records;
mod reservations;
mod schedules;
mod sealed;
mod secret_key;
pub mod simulated;
mod snapshots;
mod space;
mod space_rules;
mod state;
mod targets;
mod utc;
mod volumes;

pub use access::{Access, LoginAttempt, Refusal, reachable_portals};
pub use accounting::{Holding, PoolSpace};
pub use chap::{Account, Credential, DiscoveryDemand, NewChap, NewMutual, Secret};
pub use engine::{
    Detachment, Difference, DiskFacts, Engine, FactChange, NamedFact, PoolEngine, PoolUsage, VolumeSpec,
};
pub use error::{Error, ErrorKind, Result};
pub use file::GroupFile;
pub use frontend::{ConnectionFacts, CopyFacts, Frontend, LoginFailures, SessionFacts, SessionId};
pub use group::{Group, GroupConfig};
pub use growth::Forecast;
pub use hosts::{HostUpdate, NewHost};
pub use identity::{HostId, Naa, PoolId, ScheduleId, SnapshotSetId, VolumeId};
pub use isns::{IsnsRecord, IsnsServerFacts, IsnsState, NewIsns};
pub use keys::{KeyChange, KeySlot, KeySource, PoolKeys, PoolSecret, VolumeEncryption};
pub use names::{IQN_PREFIX, Initiator, InitiatorName, Name};
pub use network::Network;
pub use pools::NewPool;
pub use portals::{
    Destination, DrainRequest, GroupPath, NewPortal, PathState, PathUpdate, PortalChoice, PortalCondition,
    PortalGroupRecord, PortalGroupTag, PortalMode, PortalRecord, PortalSet, PortalView,
};
pub use records::{
    Cache, ChapRecord, Grant, GroupRecord, HostRecord, MutualRecord, PoolRecord, VolumeRecord,
};
pub use reservations::{
    HeldRecord, KeptReservations, RegistrantRecord, RegistrationFacts, RegistrationRecord, ReservationFacts,
    ReservationKeeper, ReservationRecord,
};
pub use schedules::{Every, Keep, NewSchedule, ScheduleFailure, ScheduleRecord, ScheduleView};
pub use sealed::Sealed;
pub use snapshots::{
    NewSnapshot, Origin, OriginSnapshot, OriginView, Protection, Rollback, SnapshotRecord, SnapshotView,
    VolumeDifference,
};
pub use space::{PoolUpdate, SpaceWarning};
pub use space_rules::{Dropped, OnShort, PoolRules, PoolRulesUpdate, VolumeRules, VolumeRulesUpdate};
pub use state::{PoolView, State, VolumeView};
pub use targets::{
    MappingView, TargetAccess, TargetLun, TargetMapping, TargetRecord, TargetView, UnitAccess,
};
pub use volumes::{NewVolume, Snapshots, VolumeUpdate};

/// How a request that may find its work already done has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object is new.
    Created,
    /// The object was changed.
    Changed,
    /// The object was already as asked for.
    Unchanged,
    /// The object is gone.
    Deleted,
}

/// Whether an operation goes on although the object is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Refuse what is in use.
    No,
    /// End the use, then go on.
    Yes,
}
