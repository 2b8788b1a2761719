//! What the daemon is told when it starts.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The port of iSCSI (RFC 7143 §13.1).
pub const PORT: u16 = 3260;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What the daemon is told when it starts.
#[derive(Debug, Clone, Default)]
pub struct ServeConfig {
    /// Data directory; made if it is not there.
    pub data: PathBuf,
    /// Portals; none for the usual ones: every address, or this machine only for the demo.
    pub portals: Vec<SocketAddr>,
    /// Address for the API on TCP, besides its socket.
    pub api: Option<SocketAddr>,
    /// Make and show the demo volume.
    pub demo: bool,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl ServeConfig {
    /// The portals to listen on, and what to say about them. Without IPv6 on the machine the usual ones are IPv4 only.
    pub(crate) fn portals(&self, has_ipv6: bool) -> (Vec<SocketAddr>, Option<&'static str>) {
        if !self.portals.is_empty() {
            return (self.portals.clone(), None);
        }
        let (v4, v6) = match self.demo {
            true => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            false => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        };
        let mut portals = vec![SocketAddr::from((v4, PORT))];
        if has_ipv6 {
            portals.push(SocketAddr::from((v6, PORT)));
            return (portals, None);
        }
        (portals, Some("this machine has no IPv6: hosts are served over IPv4 only"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portals(config: &ServeConfig, has_ipv6: bool) -> (Vec<String>, bool) {
        let (portals, remark) = config.portals(has_ipv6);
        (portals.iter().map(ToString::to_string).collect(), remark.is_some())
    }

    #[test]
    fn the_demo_serves_this_machine_only() {
        let demo = ServeConfig { demo: true, ..ServeConfig::default() };
        assert_eq!(portals(&demo, true), (vec!["127.0.0.1:3260".to_owned(), "[::1]:3260".to_owned()], false));
        assert_eq!(portals(&demo, false), (vec!["127.0.0.1:3260".to_owned()], true));
        let all = ServeConfig::default();
        assert_eq!(portals(&all, true), (vec!["0.0.0.0:3260".to_owned(), "[::]:3260".to_owned()], false));
    }

    #[test]
    fn portals_that_are_named_are_taken_as_they_are() {
        let own = ServeConfig {
            portals: vec![([192, 0, 2, 1], 3261).into()],
            demo: true,
            ..ServeConfig::default()
        };
        assert_eq!(portals(&own, false), (vec!["192.0.2.1:3261".to_owned()], false));
    }
}
