//! The portals as people and hosts see them now.

use super::set::{PathState, PortalGroupRecord, PortalGroupTag, PortalMode};
use crate::{Group, Name, VolumeId};
use std::net::SocketAddr;

/// How a portal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalCondition {
    /// Open, and serves.
    Serving,
    /// It could not be opened; it is tried again every few seconds.
    Failed,
    /// Sessions are leaving it.
    Draining,
    /// No session is left.
    Drained,
    /// It only says where it has gone to.
    Moved,
}

/// A portal as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalView {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its group.
    pub tag: PortalGroupTag,
    /// The group's network.
    pub fabric: Option<Name>,
    /// How it is.
    pub condition: PortalCondition,
    /// Why it is not open.
    pub reason: Option<String>,
    /// Where hosts are sent rather.
    pub to: Option<SocketAddr>,
    /// What the administrator has hosts told of the group.
    pub state: PathState,
    /// Hosts should rather use the group.
    pub preferred: bool,
    /// Normal sessions that came through it.
    pub sessions: usize,
}

/// What the paths through a group are at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPath {
    /// As the administrator says.
    As(PathState),
    /// Sessions are leaving: still served, others are better.
    Draining(PathState),
    /// All its portals are drained.
    Drained,
    /// None of its portals is open.
    Closed,
}

impl PortalGroupRecord {
    /// What hosts of a volume are told of the group, which has that many sessions, and of whose portals `is_open`
    /// tells. While sessions leave, the path stays usable: for some hosts it may be the only one.
    pub fn path(&self, volume: VolumeId, sessions: usize, is_open: impl Fn(SocketAddr) -> bool) -> GroupPath {
        let state = self.state_for(volume);
        match (self.serves(), sessions) {
            _ if !self.portals.iter().any(|portal| is_open(portal.address)) => GroupPath::Closed,
            (true, _) => GroupPath::As(state),
            (false, 0) => GroupPath::Drained,
            (false, _) => GroupPath::Draining(state.max(PathState::NonOptimized)),
        }
    }
}

impl Group {
    /// All portals, by group.
    #[must_use]
    pub fn portals(&self) -> Vec<PortalView> {
        let (open, sessions) = (self.frontend.open_portals(), self.frontend.sessions());
        let state = self.state.read();
        let view = |(group, portal): (&PortalGroupRecord, &super::PortalRecord)| {
            let normal = sessions.iter().filter(|session| session.volume.is_some());
            let sessions = normal.filter(|session| portal.takes(session.portal)).count();
            let (condition, to) = match portal.mode {
                _ if !open.contains(&portal.address) => (PortalCondition::Failed, None),
                PortalMode::Serving => (PortalCondition::Serving, None),
                PortalMode::Drained { to } if sessions == 0 => (PortalCondition::Drained, to),
                PortalMode::Drained { to } => (PortalCondition::Draining, to),
                PortalMode::Moved { to } if sessions == 0 => (PortalCondition::Moved, Some(to)),
                PortalMode::Moved { to } => (PortalCondition::Draining, Some(to)),
            };
            PortalView {
                address: portal.address,
                tag: group.tag,
                fabric: group.fabric.clone(),
                condition,
                reason: state.portal_faults.get(&portal.address).cloned(),
                to,
                state: group.state,
                preferred: group.preferred,
                sessions,
            }
        };
        state.portals.portals().map(view).collect()
    }

    /// One portal.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn portal(&self, address: SocketAddr) -> crate::Result<PortalView> {
        let found = self.portals().into_iter().find(|portal| portal.address == address);
        found.ok_or_else(|| crate::Error::not_found("portal", &address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::PortalSet;
    use super::*;

    #[test]
    fn a_group_that_is_drained_stays_usable_until_its_sessions_have_left() {
        let address = "192.0.2.1:3260".parse().unwrap();
        let volume = VolumeId::from_bytes([1; 16]);
        let mut set = PortalSet::of(&[address]);
        let path = |set: &PortalSet, sessions| set.groups[0].path(volume, sessions, |_| true);
        assert_eq!(path(&set, 3), GroupPath::As(PathState::Optimized));
        set.set_mode(address, PortalMode::Drained { to: None });
        assert_eq!(path(&set, 3), GroupPath::Draining(PathState::NonOptimized));
        assert_eq!(path(&set, 0), GroupPath::Drained);
        set.groups[0].state = PathState::Standby;
        assert_eq!(path(&set, 3), GroupPath::Draining(PathState::Standby), "never better than wanted");
        assert_eq!(set.groups[0].path(volume, 3, |_| false), GroupPath::Closed);
    }
}
