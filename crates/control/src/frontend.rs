//! What the model asks of the iSCSI side.

use crate::{
    HostId, InitiatorName, IsnsServerFacts, KeptReservations, PortalGroupTag, PortalSet, ReservationFacts,
    Result, SpaceWarning, VolumeId, VolumeRecord,
};
use block::{BoxFuture, Sanitization, Volume};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Number of a session, unique while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its number.
    pub id: SessionId,
    /// Initiator name, in lower case.
    pub initiator: String,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Local address it came to.
    pub portal: SocketAddr,
    /// Its connections now, in the order they came.
    pub connections: Vec<ConnectionFacts>,
    /// Volume whose own target it uses; none for discovery and for a target of several volumes.
    pub volume: Option<VolumeId>,
    /// Target of several volumes that it uses.
    pub target: Option<InitiatorName>,
    /// Volumes that it sees in that.
    pub units: Vec<VolumeId>,
    /// Host it was let in as.
    pub host: Option<HostId>,
    /// It may only read.
    pub read_only: bool,
    /// When it logged in, in ms since 1970.
    pub since_unix_ms: u64,
    /// Commands done.
    pub commands: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The initiator's number of it.
    pub cid: u16,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Local address it came to.
    pub portal: SocketAddr,
    /// Whether headers, and whether data, carry a CRC32C; none while its login goes on.
    pub digests: Option<(bool, bool)>,
}

/// What copies a volume has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyFacts {
    /// Copies that hosts had done by way of this volume.
    pub copies: u64,
    /// Tokens made for parts of it.
    pub tokens: u64,
    /// Copies and tokens that failed.
    pub failed: u64,
    /// Bytes copied.
    pub bytes: u64,
}

/// Logins that failed to prove what CHAP demands, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoginFailures {
    /// Refused for a wrong or missing proof.
    pub failed: u64,
    /// Refused unheard, after too many failures.
    pub unheard: u64,
}

/// The iSCSI targets.
pub trait Frontend: Send + Sync + 'static {
    /// Makes a volume ready for logins, with the reservations that were kept in force.
    ///
    /// # Errors
    /// `Internal` if the volume's record makes no logical unit; `Format` if its reservations are not understood.
    fn publish(
        &self,
        record: &VolumeRecord,
        volume: Arc<dyn Volume>,
        reservations: KeptReservations,
    ) -> Result<()>;

    /// Ends the sessions of a volume that is going; when ready, no command of theirs is running any more.
    fn withdraw(&self, record: &VolumeRecord) -> BoxFuture<'_, ()>;

    /// Tells hosts that a volume has grown.
    fn grown(&self, id: VolumeId, size_bytes: u64);

    /// What hosts have reserved and registered on a volume; none if it is not served.
    fn reservations(&self, id: VolumeId) -> Option<ReservationFacts>;

    /// Ends every reservation and registration of a volume, durably, and tells the hosts that had one. What there was;
    /// none if the volume is not served.
    ///
    /// # Errors
    /// `Internal` if that cannot be made durable; all stays as it was then.
    fn clear_reservations(&self, id: VolumeId) -> BoxFuture<'_, Result<Option<ReservationFacts>>>;

    /// When hosts of a volume are to be warned that space runs short. Told again when the space may be other than it
    /// was, though the wish is the same.
    fn space_warning(&self, id: VolumeId, warning: SpaceWarning);

    /// Tells hosts that copies may be offloaded to a volume, or may not any more.
    fn offload_changed(&self, record: &VolumeRecord);

    /// What copies a volume has seen since it was first served; none if it is not.
    fn copy_facts(&self, id: VolumeId) -> CopyFacts;

    /// How far a volume is with being sanitized, if it is served.
    fn sanitization(&self, id: VolumeId) -> Sanitization;

    /// All sessions.
    fn sessions(&self) -> Vec<SessionFacts>;

    /// Logins that failed to prove who they are.
    fn login_failures(&self) -> LoginFailures {
        LoginFailures::default()
    }

    /// Who may use a volume has changed: sessions that may not stay are told to end, others may read only from now
    /// on, or write. Told is at once; when ready, no command of a session that had to go is running any more, or
    /// waiting for that took too long.
    fn access_changed(&self, record: &VolumeRecord) -> BoxFuture<'_, ()>;

    /// Opens a portal. Returns its address with the port that the system chose, if it was to choose one.
    ///
    /// # Errors
    /// `AddressInUse` or `Denied` if it cannot be bound.
    fn open_portal(&self, address: SocketAddr, tag: PortalGroupTag) -> Result<SocketAddr>;

    /// Closes a portal; when ready, its address is free. Sessions stay.
    fn close_portal(&self, address: SocketAddr) -> BoxFuture<'_, ()>;

    /// The portals that are open.
    fn open_portals(&self) -> Vec<SocketAddr>;

    /// The portals are these from now on: hosts are told of the paths, and logins decided by them.
    fn portals_changed(&self, portals: PortalSet);

    /// Has the sessions of portals leave: asks them, and cuts those that are there after `within`. Returns at once. It
    /// ends early for a portal that serves again.
    fn empty_portals(&self, portals: Vec<SocketAddr>, within: Duration);

    /// Other name servers are to be told of targets: what [`crate::GroupRecord`] says. Returns at once.
    fn isns_changed(&self) {}

    /// How things stand with the name servers; those of which nothing is known yet may be missing.
    fn isns_servers(&self) -> Vec<IsnsServerFacts> {
        Vec::new()
    }

    /// What is in these targets of several volumes has changed, or they are no more: their sessions see what is theirs
    /// now, or end. Told is at once; when ready, no command to what they see no more is running, or waiting for that
    /// took too long.
    fn targets_changed(&self, targets: Vec<InitiatorName>) -> BoxFuture<'_, ()>;
}
