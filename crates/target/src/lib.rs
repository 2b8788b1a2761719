//! Sockets, reactors and sessions: joins iSCSI, SCSI and volumes.
//!
//! *Invariant:* this crate decides nothing about who may see what (a [`Directory`] given from outside does), keeps
//! nothing on disk, and copies no payload between a socket and a volume.
//!
//! The way of a command: [`Server`] accepts a connection and gives it to a reactor thread, where one task owns it
//! for life. The task reads the socket into `iscsi`'s state machine, hands each command to the `scsi` logical
//! unit behind a [`LogicalUnitHandle`], carries out what that asks of its `block::Volume`, and sends all answers
//! of one wake-up with one system call. When the connection ends, what it still has on the medium is finished
//! before its nexus is gone, and before a successor's first command runs.

mod atomic;
mod authentication;
mod config;
mod connection;
mod copies;
mod copy;
mod directory;
mod error;
mod execution;
mod functions;
mod listener;
mod log_limit;
mod login;
mod login_limit;
mod media;
mod memory;
mod operations;
mod outbox;
mod portals;
mod reactor;
mod registry;
mod reservations;
mod sanitize;
mod server;
mod session;
mod unit;

pub use authentication::AuthenticationCounts;
pub use config::{Config, Limits, Portal};
pub use copies::{Copies, CopyDirectory, Requester};
pub use directory::{Access, Authentication, Directory, LoginRefusal, LoginRequest, TargetEntry, UnitGrant};
pub use error::StartError;
pub use iscsi::PortalGroupTag;
pub use iscsi::chap::{Account, Credential, Secret};
pub use log_limit::LogLimit;
pub use registry::{ConnectionInfo, Digests, SessionId, SessionInfo};
pub use reservations::ReservationStore;
pub use server::{Server, Status};
pub use unit::{CopyCounts, LogicalUnitHandle, SpaceWatcher, UnitUse};
