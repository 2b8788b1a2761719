//! Who may see what: decided outside, asked here.

use crate::{LogicalUnitHandle, Portal};
use iscsi::Isid;
use iscsi::chap::Account;
use std::net::SocketAddr;
use std::sync::Arc;

/// Someone asks to use a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRequest {
    /// The initiator's iSCSI name, as it says, in lower case; nothing is proven by it alone.
    pub initiator: String,
    /// The target asked for, in lower case.
    pub target: String,
    /// The session identifier the initiator chose.
    pub isid: Isid,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// The address of ours it connected to.
    pub local: SocketAddr,
    /// The session is there already, and this is about what it may do from now on.
    pub established: bool,
}

/// A logical unit that a session may use.
#[derive(Clone)]
pub struct UnitGrant {
    /// Its number in this target.
    pub lun: scsi::Lun,
    /// The unit.
    pub unit: Arc<LogicalUnitHandle>,
    /// True if this host may only read.
    pub read_only: bool,
}

/// What has to be proven before anything is given. Equal if the same proof is good for both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing.
    #[default]
    None,
    /// To know the secret of one of these accounts, by CHAP.
    Chap {
        /// The accounts.
        accounts: Vec<Account>,
        /// Who does not want to prove anything may come in without.
        optional: bool,
    },
}

/// What a session gets.
#[derive(Clone, Default)]
pub struct Access {
    /// What it has to prove first.
    pub authentication: Authentication,
    /// A name for people, told at login.
    pub target_alias: Option<String>,
    /// Which of the targets of its units the target is; 0 if it is a unit's own.
    pub number: scsi::TargetNumber,
    /// The units it may use, each number once.
    pub units: Vec<UnitGrant>,
}

/// Why a login is refused (RFC 7143 §11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefusal {
    /// There is no such target, or this host is not to know.
    NotFound,
    /// This initiator may not use this target.
    Forbidden,
    /// The target cannot serve now; try later.
    Unavailable,
    /// The host is to log in at another portal of the target's.
    Moved {
        /// For good: the host may forget this portal.
        permanent: bool,
        /// Where to. Its portal group is found out there: with a redirection none is told (RFC 7143 §13.8).
        address: SocketAddr,
    },
}

/// A target that discovery shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEntry {
    /// The target's iSCSI name.
    pub name: String,
    /// Where it is found; empty for this server's own portals.
    pub addresses: Vec<Portal>,
}

/// Who may see what. Called on reactor threads: answers come from memory, at once.
pub trait Directory: Send + Sync + 'static {
    /// What the session may use. Asked at login, and again when [`crate::Server::target_changed`] is called.
    ///
    /// # Errors
    /// Why it may not log in, or not stay.
    fn authorize(&self, login: &LoginRequest) -> Result<Access, LoginRefusal>;

    /// What an initiator has to prove before discovery shows it anything.
    ///
    /// # Errors
    /// Why it may not look.
    fn discovery(&self, initiator: &str, peer: SocketAddr) -> Result<Authentication, LoginRefusal> {
        let _ = (initiator, peer);
        Ok(Authentication::None)
    }

    /// The targets that discovery shows to `initiator`, which connected from `peer` to `local`.
    fn targets_for(&self, initiator: &str, peer: SocketAddr, local: SocketAddr) -> Vec<TargetEntry>;
}
