//! Who may see what: decided from the state alone, at each login and discovery.

use crate::{Grant, HostId, HostRecord, Initiator, State, VolumeId, VolumeRecord};
use std::net::{IpAddr, SocketAddr};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct LoginAttempt<'a> {
    /// Initiator name, as sent.
    pub initiator: &'a str,
    /// Address the connection comes from.
    pub source: IpAddr,
}

/// What an initiator may do with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The volume behind the target.
    pub volume: VolumeId,
    /// The host the initiator is of.
    pub host: HostId,
    /// It may only read.
    pub read_only: bool,
}

/// Why a login is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such target, or none for this initiator: it cannot tell which.
    NotFound,
    /// The target is the initiator's, but cannot be served now; it should try again.
    Offline,
}

/// How well a host entry fits: one that names the initiator counts before one for any.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    Any,
    Named,
}

pub(crate) fn fit(host: &HostRecord, attempt: LoginAttempt<'_>) -> Option<Fit> {
    let from_there =
        host.addresses.is_empty() || host.addresses.iter().any(|net| net.contains(attempt.source));
    let fits = host.initiators.iter().filter(|initiator| initiator.is(attempt.initiator));
    let best = fits.map(|initiator| if *initiator == Initiator::Any { Fit::Any } else { Fit::Named }).max();
    best.filter(|_| from_there)
}

impl State {
    /// The hosts that an initiator is, those that name it first.
    pub(crate) fn hosts_of(&self, attempt: LoginAttempt<'_>) -> Vec<&HostRecord> {
        let mut found: Vec<_> =
            self.hosts.values().filter_map(|host| Some((fit(host, attempt)?, host))).collect();
        found.sort_by(|(one, _), (other, _)| other.cmp(one));
        found.into_iter().map(|(_, host)| host).collect()
    }

    /// The grant that holds for an initiator on a volume: of a host that names it, else of one for any initiator;
    /// of several equal ones, one that lets it write.
    fn grant_for(&self, record: &VolumeRecord, attempt: LoginAttempt<'_>) -> Option<Grant> {
        let grants = record.effective_grants().filter_map(|grant| {
            let fit = fit(self.hosts.get(&grant.host)?, attempt)?;
            Some(((fit, !grant.read_only), grant))
        });
        grants.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, grant)| grant)
    }

    /// Decides a login to a target.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn authorize(&self, attempt: LoginAttempt<'_>, target: &str) -> Result<Access, Refusal> {
        let mut entries = self.volumes.values();
        let entry = entries.find(|entry| entry.record.iqn.as_str().eq_ignore_ascii_case(target));
        let entry = entry.filter(|entry| !entry.leaving).ok_or(Refusal::NotFound)?;
        let grant = self.grant_for(&entry.record, attempt).ok_or(Refusal::NotFound)?;
        match entry.offline {
            Some(_) => Err(Refusal::Offline),
            None => Ok(Access { volume: entry.record.id, host: grant.host, read_only: grant.read_only }),
        }
    }

    /// The host that an initiator is on a volume, whether or not the volume can be served now.
    #[must_use]
    pub fn host_on(&self, attempt: LoginAttempt<'_>, volume: VolumeId) -> Option<Grant> {
        self.grant_for(self.volume(volume)?, attempt)
    }

    /// The volume behind a target.
    #[must_use]
    pub fn volume_of_target(&self, target: &str) -> Option<VolumeId> {
        let mut records = self.volume_records();
        records.find(|record| record.iqn.as_str().eq_ignore_ascii_case(target)).map(|record| record.id)
    }

    /// The volumes whose targets discovery shows to an initiator, served or not: a target that vanished from
    /// discovery while its pool is offline would be dropped from hosts' configuration.
    pub fn visible_to(&self, attempt: LoginAttempt<'_>) -> impl Iterator<Item = &VolumeRecord> {
        let present = self.volumes.values().filter(|entry| !entry.leaving).map(|entry| &entry.record);
        present.filter(move |record| self.grant_for(record, attempt).is_some())
    }
}

/// Where an address can be reached from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Machine,
    Link,
    Network,
}

pub(crate) fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        ip if ip.is_loopback() => Scope::Machine,
        IpAddr::V4(v4) if v4.is_link_local() => Scope::Link,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Scope::Link,
        _ => Scope::Network,
    }
}

/// Of the portals, those that a host can reach whose connection came from `source` to `local`. One that listens on
/// every address is shown as `local`, with its own port.
#[must_use]
pub fn reachable_portals(portals: &[SocketAddr], source: IpAddr, local: IpAddr) -> Vec<SocketAddr> {
    let local = local.to_canonical();
    let mut shown: Vec<SocketAddr> = Vec::new();
    for portal in portals {
        let address = portal.ip().to_canonical();
        let seen = match address.is_unspecified() {
            // A portal on [::] takes no IPv4, one on 0.0.0.0 no IPv6.
            true if address.is_ipv4() != local.is_ipv4() => continue,
            true => local,
            false => address,
        };
        let reachable = match scope(seen) {
            Scope::Machine => scope(source) == Scope::Machine,
            Scope::Link => seen == local,
            Scope::Network => true,
        };
        let seen = SocketAddr::new(seen, portal.port());
        if reachable && !shown.contains(&seen) {
            shown.push(seen);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::VolumeEntry;
    use crate::{Cache, GroupRecord, IQN_PREFIX, InitiatorName, Naa, Name, Network, PoolId};

    fn host(state: &mut State, number: u8, iqns: &[&str], addresses: &[&str]) -> HostId {
        let id = HostId::from_random([number; 16]);
        let record = HostRecord {
            id,
            name: Name::parse(&format!("host{number}")).unwrap(),
            initiators: iqns.iter().map(|iqn| Initiator::parse(iqn).unwrap()).collect(),
            addresses: addresses.iter().map(|net| Network::parse(net).unwrap()).collect(),
            chap: None,
            created_unix_ms: 0,
        };
        state.hosts.insert(id, record);
        id
    }

    fn volume(state: &mut State, number: u8, grants: &[(HostId, bool)]) -> VolumeId {
        let id = VolumeId::from_random([number; 16]);
        let record = VolumeRecord {
            rules: crate::VolumeRules::default(),
            warn_percent: None,
            read_only: false,
            template: false,
            encrypted: false,
            origin: None,
            id,
            name: Name::parse(&format!("vol{number}")).unwrap(),
            pool: PoolId::from_random([1; 16]),
            size_bytes: 1 << 30,
            block_size: 512,
            thick: false,
            cache: Cache::Durable,
            offload: true,
            iqn: InitiatorName::parse(&format!("{IQN_PREFIX}vol{number}")).unwrap(),
            naa: Naa::of(id),
            serial: Naa::of(id).serial(),
            grants: grants.iter().map(|&(host, read_only)| Grant { host, read_only }).collect(),
            created_unix_ms: 0,
        };
        state.volumes.insert(id, VolumeEntry { record, offline: None, leaving: false });
        id
    }

    fn empty() -> State {
        State::new(GroupRecord {
            version: 1,
            id: String::new(),
            name: Name::parse("g").unwrap(),
            discovery: None,
            isns: None,
        })
    }

    fn attempt(initiator: &'static str, source: &str) -> LoginAttempt<'static> {
        LoginAttempt { initiator, source: source.parse().unwrap() }
    }

    const ALICE: &str = "iqn.2001-04.com.example:alice";
    const BOB: &str = "iqn.2001-04.com.example:bob";

    fn target(number: u8) -> String {
        format!("{IQN_PREFIX}vol{number}")
    }

    #[test]
    fn a_host_sees_what_it_was_granted_and_nothing_else() {
        let mut state = empty();
        let alice = host(&mut state, 1, &[ALICE], &[]);
        host(&mut state, 2, &[BOB], &[]);
        let one = volume(&mut state, 1, &[(alice, false)]);
        volume(&mut state, 2, &[]);

        let access = Access { volume: one, host: alice, read_only: false };
        assert_eq!(state.authorize(attempt(ALICE, "192.0.2.1"), &target(1)), Ok(access));
        for (who, which) in [(BOB, 1), (ALICE, 2), (BOB, 2), (BOB, 3), ("", 1)] {
            let refusal = state.authorize(attempt(who, "192.0.2.1"), &target(which)).unwrap_err();
            assert_eq!(refusal, Refusal::NotFound, "{who} {which}: a target not granted does not exist");
        }
        let seen: Vec<_> = state.visible_to(attempt(ALICE, "192.0.2.1")).map(|record| record.id).collect();
        assert_eq!(seen, [one]);
        assert_eq!(state.visible_to(attempt(BOB, "192.0.2.1")).count(), 0);
    }

    #[test]
    fn a_host_is_let_in_from_its_addresses_only() {
        let mut state = empty();
        let alice = host(&mut state, 1, &[ALICE], &["192.0.2.0/24", "2001:db8::/32"]);
        volume(&mut state, 1, &[(alice, false)]);
        assert!(state.authorize(attempt(ALICE, "192.0.2.9"), &target(1)).is_ok());
        assert!(state.authorize(attempt(ALICE, "2001:db8::9"), &target(1)).is_ok());
        assert_eq!(state.authorize(attempt(ALICE, "198.51.100.1"), &target(1)), Err(Refusal::NotFound));
        assert_eq!(state.visible_to(attempt(ALICE, "198.51.100.1")).count(), 0);
    }

    #[test]
    fn a_grant_that_names_the_initiator_counts_before_one_for_any() {
        let mut state = empty();
        let anyone = host(&mut state, 1, &["*"], &["127.0.0.0/8"]);
        let alice = host(&mut state, 2, &[ALICE], &[]);
        volume(&mut state, 1, &[(anyone, false), (alice, true)]);
        let read_only =
            |who| state.authorize(attempt(who, "127.0.0.1"), &target(1)).map(|access| access.read_only);
        assert_eq!(read_only(ALICE), Ok(true));
        assert_eq!(read_only(BOB), Ok(false));
        assert_eq!(state.authorize(attempt(BOB, "192.0.2.1"), &target(1)), Err(Refusal::NotFound));
    }

    #[test]
    fn an_offline_volume_is_refused_for_now_and_still_discovered() {
        let mut state = empty();
        let alice = host(&mut state, 1, &[ALICE], &[]);
        let one = volume(&mut state, 1, &[(alice, false)]);
        state.volumes.get_mut(&one).unwrap().offline = Some("the pool is offline".to_owned());
        assert_eq!(state.authorize(attempt(ALICE, "::1"), &target(1)), Err(Refusal::Offline));
        assert_eq!(state.authorize(attempt(BOB, "::1"), &target(1)), Err(Refusal::NotFound));
        assert_eq!(state.visible_to(attempt(ALICE, "::1")).count(), 1);
        state.volumes.get_mut(&one).unwrap().leaving = true;
        assert_eq!(state.authorize(attempt(ALICE, "::1"), &target(1)), Err(Refusal::NotFound));
    }

    fn portals(portals: &[&str], source: &str, local: &str) -> Vec<String> {
        let portals: Vec<SocketAddr> = portals.iter().map(|portal| portal.parse().unwrap()).collect();
        let shown = reachable_portals(&portals, source.parse().unwrap(), local.parse().unwrap());
        shown.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn discovery_shows_portals_that_the_host_can_reach() {
        let demo = ["127.0.0.1:3260", "[::1]:3260"];
        assert_eq!(portals(&demo, "127.0.0.1", "127.0.0.1"), demo);
        let mixed = ["127.0.0.1:3260", "192.0.2.1:3260", "[2001:db8::1]:3260"];
        assert_eq!(portals(&mixed, "192.0.2.9", "192.0.2.1"), mixed[1..]);
        assert_eq!(portals(&["0.0.0.0:3260"], "192.0.2.9", "192.0.2.1"), ["192.0.2.1:3260"]);
        assert_eq!(portals(&["[::]:3260"], "2001:db8::9", "2001:db8::1"), ["[2001:db8::1]:3260"]);
        assert_eq!(portals(&["0.0.0.0:3260", "[::]:3260"], "192.0.2.9", "192.0.2.1"), ["192.0.2.1:3260"]);
        assert_eq!(portals(&["0.0.0.0:3260", "[::]:3260"], "::1", "::1"), ["[::1]:3260"]);
        assert_eq!(
            portals(&["[fe80::1]:3260", "192.0.2.1:3260"], "192.0.2.9", "192.0.2.1"),
            ["192.0.2.1:3260"]
        );
    }
}
