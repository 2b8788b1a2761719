//! A bound on guessing: how many logins may fail before no more are heard for a while.
//!
//! Failures are counted for an address, for an initiator name from an address, and for an initiator name. What an
//! attacker can bring about from elsewhere must not keep a host out, so a name on which many fail costs only those
//! addresses their further tries that have failed on it themselves: one that has not is always heard. Behind address
//! translation hosts share an address; its limit is the highest of the three.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How long failures count, from the first of a row.
const PERIOD: Duration = Duration::from_secs(60);

/// Failures of one address in a period.
const FAILURES_OF_ADDRESS_MAX: u32 = 30;

/// Failures with one initiator name from one address in a period.
const FAILURES_OF_HOST_MAX: u32 = 5;

/// Failures with one initiator name in a period, after which an address that has failed with it is not heard again.
const FAILURES_OF_NAME_MAX: u32 = 20;

/// Entries of each table. One more takes the place of one that counts no longer, else of the oldest.
const ENTRIES_MAX: usize = 4096;

/// Failures of the last period.
#[derive(Debug, Default)]
pub(crate) struct LoginLimit {
    addresses: Table<IpAddr>,
    hosts: Table<(IpAddr, String)>,
    names: Table<String>,
}

/// One host has a whole IPv6 network of 64 bits to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl LoginLimit {
    /// True if a login may try.
    pub(crate) fn admits(&self, peer: IpAddr, initiator: &str, now: Duration) -> bool {
        let (peer, name) = (network(peer), initiator.to_ascii_lowercase());
        let of_address = self.addresses.count(&peer, now);
        let of_name = self.names.count(&name, now);
        let of_host = self.hosts.count(&(peer, name), now);
        let name_is_attacked = of_name >= FAILURES_OF_NAME_MAX && of_host > 0;
        of_address < FAILURES_OF_ADDRESS_MAX && of_host < FAILURES_OF_HOST_MAX && !name_is_attacked
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, peer: IpAddr, initiator: &str, now: Duration) {
        let (peer, name) = (network(peer), initiator.to_ascii_lowercase());
        self.addresses.add(peer, now);
        self.names.add(name.clone(), now);
        self.hosts.add((peer, name), now);
    }

    /// Forgets what a host got wrong before it was right. What else came from its address still counts.
    pub(crate) fn succeeded(&mut self, peer: IpAddr, initiator: &str) {
        let host = (network(peer), initiator.to_ascii_lowercase());
        if let Some(failures) = self.hosts.entries.remove(&host) {
            self.addresses.take_back(&host.0, failures.count);
            self.names.take_back(&host.1, failures.count);
        }
    }
}

#[derive(Debug)]
struct Table<K> {
    entries: HashMap<K, Failures>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    began: Duration,
    count: u32,
}

impl Failures {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) >= PERIOD
    }
}

impl<K: Eq + Hash + Clone> Table<K> {
    fn count(&self, key: &K, now: Duration) -> u32 {
        self.entries.get(key).filter(|failures| !failures.is_over(now)).map_or(0, |failures| failures.count)
    }

    fn add(&mut self, key: K, now: Duration) {
        if !self.entries.contains_key(&key) && self.entries.len() >= ENTRIES_MAX {
            self.make_room(now);
        }
        let failures = self.entries.entry(key).or_insert(Failures { began: now, count: 0 });
        if failures.is_over(now) {
            *failures = Failures { began: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
    }

    fn take_back(&mut self, key: &K, count: u32) {
        if let Some(failures) = self.entries.get_mut(key) {
            failures.count = failures.count.saturating_sub(count);
        }
    }

    fn make_room(&mut self, now: Duration) {
        self.entries.retain(|_, failures| !failures.is_over(now));
        if self.entries.len() >= ENTRIES_MAX
            && let Some((oldest, _)) = self.entries.iter().min_by_key(|(_, failures)| failures.began)
        {
            let oldest = oldest.clone();
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "iqn.2001-04.com.example:host";
    const START: Duration = Duration::from_secs(1000);

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn fail(limit: &mut LoginLimit, peer: IpAddr, name: &str, times: u32) {
        (0..times).for_each(|_| limit.failed(peer, name, START));
    }

    #[test]
    fn a_host_that_fails_again_and_again_is_not_heard_for_a_while() {
        let mut limit = LoginLimit::default();
        fail(&mut limit, address(1), HOST, FAILURES_OF_HOST_MAX - 1);
        assert!(limit.admits(address(1), HOST, START));
        limit.failed(address(1), &HOST.to_uppercase(), START);
        assert!(!limit.admits(address(1), HOST, START), "whatever the name's case");
        assert!(limit.admits(address(1), "iqn.2001-04.com.example:other", START), "another host there");
        let almost = START + PERIOD - Duration::from_millis(1);
        assert!(!limit.admits(address(1), HOST, almost));
        assert!(limit.admits(address(1), HOST, START + PERIOD));
    }

    #[test]
    fn a_right_login_wipes_the_wrong_ones_before_it() {
        let mut limit = LoginLimit::default();
        for _ in 0..100 {
            fail(&mut limit, address(1), HOST, 1);
            assert!(limit.admits(address(1), HOST, START));
            limit.succeeded(address(1), HOST);
        }
    }

    /// Who knows a host's name could have locked it out from anywhere.
    #[test]
    fn failures_from_elsewhere_never_keep_a_host_out() {
        let mut limit = LoginLimit::default();
        for attacker in 2..2000 {
            fail(&mut limit, address(attacker), HOST, 1);
        }
        assert!(limit.admits(address(1), HOST, START), "it has not failed");
        assert!(!limit.admits(address(2), HOST, START), "one try each is all they have");
        assert!(limit.admits(address(2), "iqn.2001-04.com.example:other", START));
    }

    #[test]
    fn an_address_has_a_limit_over_all_names() {
        let mut limit = LoginLimit::default();
        for name in 0..FAILURES_OF_ADDRESS_MAX {
            assert!(limit.admits(address(1), "iqn.2001-04.com.example:new", START));
            fail(&mut limit, address(1), &format!("iqn.2001-04.com.example:{name}"), 1);
        }
        assert!(!limit.admits(address(1), "iqn.2001-04.com.example:new", START));
        assert!(limit.admits(address(2), "iqn.2001-04.com.example:new", START));
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let mut limit = LoginLimit::default();
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        fail(&mut limit, v6("2001:db8::1"), HOST, FAILURES_OF_HOST_MAX);
        assert!(!limit.admits(v6("2001:db8::ffff:2"), HOST, START));
        assert!(limit.admits(v6("2001:db8:0:1::1"), HOST, START));
        fail(&mut limit, v6("::ffff:10.0.0.9"), HOST, FAILURES_OF_HOST_MAX);
        assert!(!limit.admits(v6("10.0.0.9"), HOST, START));
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut limit = LoginLimit::default();
        let many = u32::try_from(ENTRIES_MAX).unwrap() + 100;
        for number in 0..many {
            let at = START + Duration::from_micros(number.into());
            limit.failed(address(number), &format!("iqn.2001-04.com.example:{number}"), at);
        }
        let sizes = [limit.addresses.entries.len(), limit.hosts.entries.len(), limit.names.entries.len()];
        assert_eq!(sizes, [ENTRIES_MAX; 3]);
        assert_eq!(limit.addresses.count(&address(0), START), 0, "the oldest went");
        assert_eq!(limit.addresses.count(&address(many - 1), START), 1);
    }
}
