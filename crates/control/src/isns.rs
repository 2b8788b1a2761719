//! The name servers (iSNS, RFC 4171) that are told of the group's targets: which, and how things stand with them.

use crate::file::FileChange;
use crate::{Error, Group, GroupRecord, Outcome, Result, State, VolumeRecord};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Port of an iSNS server that is given without one.
const PORT: u16 = 3205;

/// Most name servers: one, and some more in case it fails.
const SERVERS_MAX: usize = 4;

/// Which servers are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsnsRecord {
    /// Where they are, one at least.
    pub servers: Vec<SocketAddr>,
    /// UDP port on which the servers' inquiries (ESI) are answered; none for no inquiries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inquiry_port: Option<u16>,
}

/// Which servers are to be told.
#[derive(Debug, Clone)]
pub struct NewIsns {
    /// `ADDRESS` or `ADDRESS:PORT` each.
    pub servers: Vec<String>,
    /// See [`IsnsRecord::inquiry_port`].
    pub inquiry_port: Option<u16>,
}

/// How things stand with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsnsState {
    /// No answer yet.
    Connecting,
    /// It knows every target that is served.
    Registered,
    /// It cannot be reached, or does not answer.
    Unreachable,
    /// It refuses the registration.
    Refused,
}

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsnsServerFacts {
    /// Where it is.
    pub address: SocketAddr,
    /// How things stand.
    pub state: IsnsState,
    /// Since when, in ms since 1970.
    pub since_unix_ms: u64,
    /// Targets that it knows of.
    pub targets: usize,
    /// What went wrong last; none while registered.
    pub error: Option<String>,
}

impl NewIsns {
    fn parse(&self) -> Result<IsnsRecord> {
        let mut servers = Vec::new();
        for text in &self.servers {
            let server = parse_server(text)?;
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let fail = |message: String| Err(Error::invalid("isns", message));
        if servers.is_empty() || servers.len() > SERVERS_MAX {
            return fail(format!("give 1 to {SERVERS_MAX} servers; `palisade isns off` ends it"));
        }
        if self.inquiry_port == Some(0) {
            return fail("the port for inquiries is a number from 1 to 65535".to_owned());
        }
        Ok(IsnsRecord { servers, inquiry_port: self.inquiry_port })
    }
}

fn parse_server(text: &str) -> Result<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = text.parse().or(bare.map(|ip| SocketAddr::new(ip, PORT))).ok();
    let usable = |address: &SocketAddr| {
        let ip = address.ip();
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
    };
    address.filter(usable).ok_or_else(|| {
        let message =
            "write ADDRESS or ADDRESS:PORT of a server, for example 192.0.2.9 or [2001:db8::9]:3205";
        Error::invalid(format!("iSNS server {text:?}"), message)
    })
}

impl GroupRecord {
    /// The Entity Identifier (RFC 4171 §6.2.1) that everything is registered under.
    #[must_use]
    pub fn isns_entity(&self) -> String {
        format!("palisade-{}", self.id)
    }
}

impl State {
    /// The volumes whose targets can be logged in to.
    pub fn served_volumes(&self) -> impl Iterator<Item = &VolumeRecord> {
        let served = self.volumes.values().filter(|entry| !entry.leaving && entry.offline.is_none());
        served.map(|entry| &entry.record)
    }
}

impl Group {
    /// Tells these servers of all targets from now on, and those that were told before no more; none for no server.
    ///
    /// # Errors
    /// `Invalid`.
    pub async fn set_isns(&self, new: Option<NewIsns>) -> Result<(Outcome, Option<IsnsRecord>)> {
        let isns = new.map(|new| new.parse()).transpose()?;
        let _change = self.changes.lock().await;
        let mut record = self.state.read().group().clone();
        if record.isns == isns {
            return Ok((Outcome::Unchanged, isns));
        }
        record.isns.clone_from(&isns);
        self.persist(vec![FileChange::PutGroup(record.clone())]).await?;
        self.state.write().group = record;
        self.frontend.isns_changed();
        tracing::info!(servers = ?isns.as_ref().map(|isns| &isns.servers), "iSNS servers set");
        Ok((Outcome::Changed, isns))
    }

    /// How things stand with the servers that are told, in the order in which they were given.
    #[must_use]
    pub fn isns_servers(&self) -> Vec<IsnsServerFacts> {
        let record = self.state.read().group().isns.clone();
        let known = self.frontend.isns_servers();
        let now = self.runtime.unix_time_ms();
        let facts = |address: SocketAddr| {
            let found = known.iter().find(|facts| facts.address == address).cloned();
            let error = None;
            found.unwrap_or(IsnsServerFacts {
                address,
                state: IsnsState::Connecting,
                since_unix_ms: now,
                targets: 0,
                error,
            })
        };
        record.map(|record| record.servers.into_iter().map(facts).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(servers: &[&str]) -> Result<Vec<SocketAddr>> {
        let servers = servers.iter().map(ToString::to_string).collect();
        NewIsns { servers, inquiry_port: None }.parse().map(|record| record.servers)
    }

    #[test]
    fn servers_may_leave_the_usual_port_out() {
        for (text, address) in [
            ("192.0.2.9", "192.0.2.9:3205"),
            ("192.0.2.9:1", "192.0.2.9:1"),
            ("2001:db8::9", "[2001:db8::9]:3205"),
            ("[2001:db8::9]", "[2001:db8::9]:3205"),
            ("[2001:db8::9]:7", "[2001:db8::9]:7"),
        ] {
            assert_eq!(parse(&[text]).unwrap(), [address.parse().unwrap()]);
        }
        assert_eq!(parse(&["192.0.2.9", "192.0.2.9:3205"]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in
            ["", "isns.example.com", "0.0.0.0", "[::]:3205", "192.0.2.9:0", "224.0.0.1", "192.0.2.9:65536"]
        {
            assert!(parse(&[text]).unwrap_err().message.contains("ADDRESS"), "{text}");
        }
        assert!(parse(&[]).is_err());
        assert!(parse(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]).is_err());
        assert!(NewIsns { servers: vec!["192.0.2.1".to_owned()], inquiry_port: Some(0) }.parse().is_err());
    }
}
