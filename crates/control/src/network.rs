//! Networks in CIDR notation, to say where a host's sessions come from.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A network: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// The address as a number, its width in bits; an IPv4 address mapped into IPv6 counts as IPv4, as a socket that
/// takes both shows them so.
fn number(address: IpAddr) -> (u128, u8) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

impl Network {
    /// Reads a network.
    ///
    /// # Errors
    /// `Invalid` if it is none, or if address bits are set beyond the prefix (a typing error more often than not).
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |message: String| Error::invalid(format!("address {text:?}"), message);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            fail("write an address or network, for example 192.0.2.7 or 192.0.2.0/24".to_owned())
        })?;
        let address = address.to_canonical();
        let (value, width) = number(address);
        let prefix_bits = match prefix {
            None => width,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or_else(|| fail(format!("the part after / is a number from 0 to {width}")))?,
        };
        let network = Self { address, prefix_bits };
        if value & !network.mask() != 0 {
            return Err(fail(format!(
                "the address has bits set beyond its first {prefix_bits}; write the network's own address"
            )));
        }
        Ok(network)
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_width) = number(self.address);
        let (other, width) = number(address);
        own_width == width && other & self.mask() == own
    }

    /// Ones where the prefix is, and above the address's width zeros.
    fn mask(&self) -> u128 {
        let (_, width) = number(self.address);
        let all = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
        all ^ all.checked_shr(u32::from(self.prefix_bits)).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl TryFrom<String> for Network {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
        assert!(!contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("::/0", "::1"));
        assert!(contains("::1", "::1"));
    }

    /// A socket bound to `[::]` shows IPv4 peers as `::ffff:a.b.c.d`; the grant must hold for them too.
    #[test]
    fn ipv4_is_the_same_through_an_ipv6_socket_and_neither_contains_the_other() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(contains("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!contains("::/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "host", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2/24", "::1/0", "::/129"]
        {
            assert!(Network::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn it_prints_as_it_is_read() {
        for text in ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Network::parse("::1").unwrap().to_string(), "::1/128");
    }
}
