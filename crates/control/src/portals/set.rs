//! The portals as remembered, and where a login at one of them belongs.

use crate::access::{Scope, scope};
use crate::{Name, VolumeId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Target portal group tag (RFC 7143 §4.4.1), from 1; the same number names the target port group (SPC-4 5.15.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortalGroupTag(pub u16);

impl fmt::Display for PortalGroupTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What hosts are told of the paths through a group (SPC-4 5.15.2.4), best first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// As good as any.
    #[default]
    Optimized,
    /// Usable; others are better.
    NonOptimized,
    /// No I/O until a host asks for the path.
    Standby,
    /// No I/O.
    Unavailable,
}

/// What becomes of logins at a portal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortalMode {
    /// They are served.
    #[default]
    Serving,
    /// They are sent elsewhere for now: to that portal while it serves, else to any that does.
    Drained {
        /// Where to, rather.
        to: Option<SocketAddr>,
    },
    /// They are sent there for good.
    Moved {
        /// Where to, rather.
        to: SocketAddr,
    },
}

/// A portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalRecord {
    /// Where it listens; an unspecified address stands for all of the machine's.
    pub address: SocketAddr,
    /// What becomes of logins.
    #[serde(default)]
    pub mode: PortalMode,
}

impl PortalRecord {
    /// Whether a connection that came to `local` came through it.
    #[must_use]
    pub fn takes(&self, local: SocketAddr) -> bool {
        let (own, ip) = (self.address.ip().to_canonical(), local.ip().to_canonical());
        let here = own == ip || (own.is_unspecified() && own.is_ipv4() == ip.is_ipv4());
        here && self.address.port() == local.port()
    }

    /// The address under which a host reaches it whose connection came from `source` to `local`; none if it cannot.
    fn seen_from(&self, source: IpAddr, local: IpAddr) -> Option<SocketAddr> {
        crate::reachable_portals(&[self.address], source, local).pop()
    }
}

/// A group of portals: one path for hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalGroupRecord {
    /// Its tag.
    pub tag: PortalGroupTag,
    /// The network it is on, for people: `A`, `B`.
    #[serde(default)]
    pub fabric: Option<Name>,
    /// What hosts are told of it.
    #[serde(default)]
    pub state: PathState,
    /// Hosts should rather use it.
    #[serde(default)]
    pub preferred: bool,
    /// Volumes whose hosts are told something else.
    #[serde(default)]
    pub volumes: Vec<(VolumeId, PathState)>,
    /// Its portals.
    pub portals: Vec<PortalRecord>,
}

impl PortalGroupRecord {
    /// A group without portals.
    pub(crate) fn new(tag: PortalGroupTag) -> Self {
        Self {
            tag,
            fabric: None,
            state: PathState::Optimized,
            preferred: false,
            volumes: Vec::new(),
            portals: Vec::new(),
        }
    }

    /// What the administrator wants hosts of a volume to be told.
    #[must_use]
    pub fn state_for(&self, volume: VolumeId) -> PathState {
        let own = self.volumes.iter().find(|(id, _)| *id == volume);
        own.map_or(self.state, |(_, state)| *state)
    }

    /// Whether any of its portals serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.portals.iter().any(|portal| portal.mode == PortalMode::Serving)
    }
}

/// Where a login belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Where it is.
    Here,
    /// At another portal, which serves.
    Elsewhere {
        /// Which one.
        address: SocketAddr,
        /// For good.
        permanent: bool,
    },
    /// Nowhere at the moment.
    Nowhere,
}

/// All portals of the group, by tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSet {
    /// The groups, lowest tag first; each has a portal at least.
    pub groups: Vec<PortalGroupRecord>,
}

impl PortalSet {
    /// Serving portals at `addresses`, all in group 1.
    #[must_use]
    pub fn of(addresses: &[SocketAddr]) -> Self {
        let mut set = Self::default();
        let group = set.group_mut(PortalGroupTag(1));
        let serving = |address: &SocketAddr| PortalRecord { address: *address, mode: PortalMode::Serving };
        group.portals = addresses.iter().map(serving).collect();
        set
    }

    /// All portals, each with its group.
    pub fn portals(&self) -> impl Iterator<Item = (&PortalGroupRecord, &PortalRecord)> {
        self.groups.iter().flat_map(|group| group.portals.iter().map(move |portal| (group, portal)))
    }

    /// The portal of that address.
    #[must_use]
    pub fn portal(&self, address: SocketAddr) -> Option<(&PortalGroupRecord, &PortalRecord)> {
        self.portals().find(|(_, portal)| portal.address == address)
    }

    /// The portal that connections to `local` come through.
    #[must_use]
    pub fn portal_at(&self, local: SocketAddr) -> Option<(&PortalGroupRecord, &PortalRecord)> {
        self.portals().find(|(_, portal)| portal.takes(local))
    }

    pub(crate) fn group(&self, tag: PortalGroupTag) -> Option<&PortalGroupRecord> {
        self.groups.iter().find(|group| group.tag == tag)
    }

    /// The group with this tag; a new one if there is none.
    pub(crate) fn group_mut(&mut self, tag: PortalGroupTag) -> &mut PortalGroupRecord {
        let index = match self.groups.binary_search_by_key(&tag, |group| group.tag) {
            Ok(index) => index,
            Err(index) => {
                self.groups.insert(index, PortalGroupRecord::new(tag));
                index
            }
        };
        &mut self.groups[index]
    }

    pub(crate) fn set_mode(&mut self, address: SocketAddr, mode: PortalMode) {
        let portals = self.groups.iter_mut().flat_map(|group| &mut group.portals);
        portals.filter(|portal| portal.address == address).for_each(|portal| portal.mode = mode);
    }

    /// Takes a portal out, and its group if it was the last.
    pub(crate) fn remove(&mut self, address: SocketAddr) {
        self.groups.iter_mut().for_each(|group| group.portals.retain(|portal| portal.address != address));
        self.groups.retain(|group| !group.portals.is_empty());
    }

    /// The portals that serve and that `is_open` calls open, as a host sees them whose connection came from `source`
    /// to `local`.
    pub fn visible(
        &self,
        source: IpAddr,
        local: IpAddr,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Vec<(SocketAddr, PortalGroupTag)> {
        let serving = self.portals().filter(|(_, portal)| portal.mode == PortalMode::Serving);
        let open = serving.filter(|(_, portal)| is_open(portal.address));
        let seen = open.filter_map(|(group, portal)| Some((portal.seen_from(source, local)?, group.tag)));
        let mut shown: Vec<(SocketAddr, PortalGroupTag)> = Vec::new();
        for (address, tag) in seen {
            if shown.iter().all(|(other, _)| *other != address) {
                shown.push((address, tag));
            }
        }
        shown
    }

    /// Where a login belongs that came from `source` to `local`.
    ///
    /// Sent elsewhere it is only to portals that serve, and at those that serve nobody is sent elsewhere: it cannot go
    /// round in circles.
    pub fn destination(
        &self,
        source: IpAddr,
        local: SocketAddr,
        is_open: impl Fn(SocketAddr) -> bool,
    ) -> Destination {
        let Some((group, portal)) = self.portal_at(local) else { return Destination::Here };
        let (wanted, permanent) = match portal.mode {
            PortalMode::Serving => return Destination::Here,
            PortalMode::Drained { to } => (to, false),
            PortalMode::Moved { to } => (Some(to), true),
        };
        let wanted =
            wanted.and_then(|to| self.portal(to)).and_then(|(_, to)| to.seen_from(source, local.ip()));
        let seen = self.visible(source, local.ip(), is_open).into_iter();
        let elsewhere = seen.filter(|(address, _)| !portal.takes(*address));
        // The one that was named, the host's own group, its own network: as little as possible changes for it.
        let distance = |(address, tag): &(SocketAddr, PortalGroupTag)| {
            let far = scope(address.ip()) != scope(local.ip()) || scope(address.ip()) == Scope::Link;
            (Some(*address) != wanted, *tag != group.tag, far, address.is_ipv4() != local.is_ipv4(), *tag)
        };
        match elsewhere.min_by_key(distance) {
            Some((address, _)) => Destination::Elsewhere { address, permanent },
            None => Destination::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1:3260";
    const A2: &str = "192.0.2.2:3260";
    const B: &str = "198.51.100.1:3260";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Two portals in group 1, one in group 2.
    fn fabrics() -> PortalSet {
        let mut set = PortalSet::of(&[at(A), at(A2)]);
        let portal = PortalRecord { address: at(B), mode: PortalMode::Serving };
        set.group_mut(PortalGroupTag(2)).portals.push(portal);
        set
    }

    fn destination(set: &PortalSet, local: &str) -> Destination {
        set.destination(at("192.0.2.9:1").ip(), at(local), |_| true)
    }

    fn to(address: &str, permanent: bool) -> Destination {
        Destination::Elsewhere { address: at(address), permanent }
    }

    #[test]
    fn a_drained_portal_sends_hosts_to_its_own_group_first_and_to_the_named_one_before() {
        let mut set = fabrics();
        assert_eq!(destination(&set, A), Destination::Here);
        set.set_mode(at(A), PortalMode::Drained { to: None });
        assert_eq!(destination(&set, A), to(A2, false));
        set.set_mode(at(A), PortalMode::Drained { to: Some(at(B)) });
        assert_eq!(destination(&set, A), to(B, false));
        set.set_mode(at(A), PortalMode::Moved { to: at(B) });
        assert_eq!(destination(&set, A), to(B, true));
        assert_eq!(destination(&set, B), Destination::Here);
    }

    /// Whatever is drained to whatever: a login is sent on once at most.
    #[test]
    fn no_redirection_leads_to_another_one() {
        let all = [A, A2, B];
        let modes = |index: usize| {
            let targets = [None, Some(at(A)), Some(at(A2)), Some(at(B))];
            match index {
                0 => PortalMode::Serving,
                1..=4 => PortalMode::Drained { to: targets[index - 1] },
                _ => PortalMode::Moved { to: at(all[index - 5]) },
            }
        };
        let mut nowhere = 0;
        for number in 0..8 * 8 * 8 {
            let mut set = fabrics();
            for (place, address) in all.iter().enumerate() {
                set.set_mode(at(address), modes(number / 8_usize.pow(place.try_into().unwrap()) % 8));
            }
            for local in all {
                match destination(&set, local) {
                    Destination::Here => {}
                    Destination::Elsewhere { address, .. } => {
                        assert_eq!(destination(&set, &address.to_string()), Destination::Here, "{set:?}");
                    }
                    Destination::Nowhere => {
                        assert!(!set.groups.iter().any(PortalGroupRecord::serves), "{set:?}");
                        nowhere += 1;
                    }
                }
            }
        }
        assert_eq!(nowhere, 7 * 7 * 7 * 3, "only when none serves");
    }

    #[test]
    fn hosts_are_not_sent_to_portals_that_are_not_open_or_out_of_reach() {
        let mut set = fabrics();
        set.set_mode(at(A), PortalMode::Drained { to: Some(at(A2)) });
        let open = |address| address != at(A2);
        assert_eq!(set.destination(at("192.0.2.9:1").ip(), at(A), open), to(B, false));
        let mut local = PortalSet::of(&[at("127.0.0.1:3260"), at(A)]);
        local.set_mode(at(A), PortalMode::Drained { to: None });
        assert_eq!(destination(&local, A), Destination::Nowhere, "127.0.0.1 is another machine there");
    }

    #[test]
    fn discovery_shows_serving_portals_with_their_tags() {
        let mut set = fabrics();
        set.set_mode(at(A), PortalMode::Drained { to: None });
        let shown = set.visible(at("192.0.2.9:1").ip(), at(A).ip(), |_| true);
        assert_eq!(shown, [(at(A2), PortalGroupTag(1)), (at(B), PortalGroupTag(2))]);
        assert!(set.visible(at("192.0.2.9:1").ip(), at(A).ip(), |_| false).is_empty());
    }

    #[test]
    fn a_portal_on_every_address_takes_what_comes_to_its_port_and_family() {
        let set = PortalSet::of(&[at("0.0.0.0:3260"), at("[::]:3260")]);
        let portal = |local: &str| set.portal_at(at(local)).map(|(_, portal)| portal.address.to_string());
        assert_eq!(portal("192.0.2.1:3260").as_deref(), Some("0.0.0.0:3260"));
        assert_eq!(portal("[2001:db8::1]:3260").as_deref(), Some("[::]:3260"));
        assert_eq!(portal("192.0.2.1:3261"), None);
    }

    #[test]
    fn records_read_back_and_those_of_before_have_defaults() {
        let mut set = fabrics();
        set.group_mut(PortalGroupTag(2)).volumes = vec![(VolumeId::from_bytes([7; 16]), PathState::Standby)];
        set.set_mode(at(A), PortalMode::Moved { to: at(B) });
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<PortalSet>(&text).unwrap(), set);
        let short = r#"{"groups":[{"tag":1,"portals":[{"address":"192.0.2.1:3260"}]}]}"#;
        assert_eq!(serde_json::from_str::<PortalSet>(short).unwrap(), PortalSet::of(&[at(A)]));
        assert_eq!(set.groups[1].state_for(VolumeId::from_bytes([7; 16])), PathState::Standby);
        assert_eq!(set.groups[1].state_for(VolumeId::from_bytes([8; 16])), PathState::Optimized);
    }
}
