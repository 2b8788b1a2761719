//! Portals and paths: what the model says of them, done to the server and told to hosts.

use crate::targets::Targets;
use control::{
    Error, ErrorKind, GroupPath, PathState, PortalGroupRecord, PortalGroupTag, PortalMode, PortalRecord,
    PortalSet, Result, VolumeId,
};
use scsi::{AccessState, PortGroup, PortGroupId};
use std::collections::HashSet;
use std::io::ErrorKind as Io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use target::{Portal, PortalGroupTag as Tag, Server, SessionId, SessionInfo, StartError};

/// How long hosts have, once they are told that other paths are better, to turn to those before they are asked to log
/// out: a path that is changed when nothing is on it costs nothing.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// How often is looked whether sessions have left.
const LOOK: Duration = Duration::from_millis(50);

/// What a session that was asked to leave may take beyond its time until it is gone.
const CUT_TIME: Duration = Duration::from_secs(5);

impl Targets {
    pub(crate) fn open(&self, address: SocketAddr, tag: PortalGroupTag) -> Result<SocketAddr> {
        let object = format!("portal {address}");
        let Some(server) = self.server() else {
            return Err(Error::new(ErrorKind::Internal, object, "the daemon is stopping"));
        };
        let opened = server.add_portal(Portal { address, group: Tag(tag.0) });
        opened.map(|portal| portal.address).map_err(|error| {
            let kind = match &error {
                StartError::Listen { source, .. } if source.kind() == Io::PermissionDenied => {
                    ErrorKind::Denied
                }
                StartError::Listen { .. } => ErrorKind::AddressInUse,
                StartError::Reactor(_) => ErrorKind::Internal,
            };
            Error::new(kind, object, error.to_string())
        })
    }

    pub(crate) fn open_addresses(&self) -> Vec<SocketAddr> {
        self.server().map(|server| server.addresses()).unwrap_or_default()
    }

    /// Tells the hosts of every volume how its paths are now.
    pub(crate) fn tell_paths(&self) {
        for (volume, unit) in self.all_units() {
            unit.set_port_groups(self.port_groups(volume));
        }
    }

    /// The target port groups of a volume: one a portal group, with the same number.
    pub(crate) fn port_groups(&self, volume: VolumeId) -> Vec<PortGroup> {
        let (open, sessions) = (self.open_addresses(), self.normal_sessions());
        let set = self.portal_set();
        let group = |group: &PortalGroupRecord| {
            let is_here = |info: &&SessionInfo| group.portals.iter().any(|portal| portal.takes(info.portal));
            let sessions = sessions.iter().filter(is_here).count();
            let path = group.path(volume, sessions, |address| open.contains(&address));
            let (state, pinned) = access_state(path);
            PortGroup { id: PortGroupId(group.tag.0), state, preferred: group.preferred, pinned }
        };
        set.groups.iter().map(group).collect()
    }

    fn normal_sessions(&self) -> Vec<SessionInfo> {
        let mut sessions = self.server().map(|server| server.sessions()).unwrap_or_default();
        sessions.retain(|info| info.target.is_some());
        sessions
    }

    /// Has the sessions of `portals` leave, in the background.
    pub(crate) fn empty(self: &Arc<Self>, portals: Vec<SocketAddr>, within: Duration) {
        let this = self.clone();
        tokio::spawn(async move {
            let leaving = Leaving { targets: &this, portals: &portals };
            let left = leaving.until_gone(within).await;
            this.tell_paths();
            match left {
                0 => tracing::info!(?portals, "no session is left"),
                left => tracing::warn!(?portals, left, "sessions are slow to leave"),
            }
        });
    }
}

/// Portals that sessions are leaving.
struct Leaving<'a> {
    targets: &'a Targets,
    portals: &'a [SocketAddr],
}

impl Leaving<'_> {
    /// The sessions that have to go. Those of a portal that serves again may stay.
    fn sessions(&self) -> Vec<SessionInfo> {
        let set = self.targets.portal_set();
        let serves = |address: SocketAddr| {
            set.portal(address).is_some_and(|(_, portal)| portal.mode == PortalMode::Serving)
        };
        let leaves = |info: &SessionInfo| {
            let mut portals = self.portals.iter().filter(|address| !serves(**address));
            portals.any(|address| {
                PortalRecord { address: *address, mode: PortalMode::Serving }.takes(info.portal)
            })
        };
        self.targets.normal_sessions().into_iter().filter(leaves).collect()
    }

    /// Asks the sessions to leave, and whoever comes late. How many are left after `within`, when they were cut.
    async fn until_gone(&self, within: Duration) -> usize {
        let Some(server) = self.targets.server() else { return 0 };
        if self.sessions().is_empty() {
            return 0;
        }
        let settle = SETTLE_TIME.min(within / 4);
        tokio::time::sleep(settle).await;
        let leave = self.ask_to_leave(&server, within.saturating_sub(settle));
        let _ = tokio::time::timeout(within.saturating_sub(settle) + CUT_TIME, leave).await;
        let left = self.sessions();
        left.iter().for_each(|info| {
            server.close_session(info.id);
        });
        left.len()
    }

    async fn ask_to_leave(&self, server: &Server, within: Duration) {
        let mut asked: HashSet<SessionId> = HashSet::new();
        loop {
            let sessions = self.sessions();
            if sessions.is_empty() {
                return;
            }
            for info in sessions.iter().filter(|info| asked.insert(info.id)) {
                server.request_logout(info.id, within);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What hosts are told of a path, and whether that is not for them to change.
fn access_state(path: GroupPath) -> (AccessState, bool) {
    let state = |state| match state {
        PathState::Optimized => AccessState::ActiveOptimized,
        PathState::NonOptimized => AccessState::ActiveNonOptimized,
        PathState::Standby => AccessState::Standby,
        PathState::Unavailable => AccessState::Unavailable,
    };
    match path {
        GroupPath::As(path) => (state(path), false),
        GroupPath::Draining(path) => (state(path), true),
        GroupPath::Drained => (AccessState::Unavailable, true),
        GroupPath::Closed => (AccessState::Offline, true),
    }
}

/// The portals that a host sees whose connection came from `peer` to `local`.
pub(crate) fn seen_portals(
    set: &PortalSet,
    open: &[SocketAddr],
    peer: SocketAddr,
    local: SocketAddr,
) -> Vec<Portal> {
    let seen = set.visible(peer.ip(), local.ip(), |address| open.contains(&address)).into_iter();
    seen.map(|(address, tag)| Portal { address, group: Tag(tag.0) }).collect()
}
