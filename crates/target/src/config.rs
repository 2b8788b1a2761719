//! What a server is told when it starts. Every limit has a name here.

use iscsi::PortalGroupTag;
use iscsi::parameters::Offer;
use std::net::SocketAddr;
use std::time::Duration;

/// An address to listen on, or one that hosts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portal {
    /// Address and port; an unspecified address listens on all of the machine's.
    pub address: SocketAddr,
    /// Its portal group (RFC 7143 §4.4.1).
    pub group: PortalGroupTag,
}

/// What outsiders can make the server hold at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all. One more takes the place of the oldest that has not logged in, or is turned away.
    pub connections_max: usize,
    /// Connections that have not logged in. One more takes the place of the oldest of them.
    pub half_open_max: usize,
    /// Normal sessions in all. Discovery sessions count as half open.
    pub sessions_max: usize,
    /// Normal sessions of one initiator name.
    pub sessions_per_initiator_max: usize,
    /// Bytes of commands under way of one session; more commands wait. One command may always go.
    pub session_bytes_max: usize,
    /// Bytes of commands under way in all. Command windows shrink at three quarters; beyond it commands end with
    /// TASK SET FULL, except that each session may always have one under way.
    pub bytes_max: usize,
    /// Most Data-Out bytes of one command; it ends with an error if it takes more.
    pub data_out_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            half_open_max: 256,
            sessions_max: 2048,
            sessions_per_initiator_max: 64,
            session_bytes_max: 64 << 20,
            bytes_max: 1 << 30,
            data_out_bytes_max: 16 << 20,
        }
    }
}

/// MaxConnections offered unless told otherwise (RFC 7143 §13.2).
const CONNECTIONS_PER_SESSION_MAX: u16 = 16;

/// What a server is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen from the start; none of them may fail. Others come and go while the server runs.
    pub portals: Vec<Portal>,
    /// Reactor threads; 0 for one a core.
    pub reactors: usize,
    /// Limits and times of one connection: command window, login time-out, keepalive, what may be negotiated.
    pub connection: iscsi::target::Config,
    /// What outsiders can make the server hold.
    pub limits: Limits,
    /// The kernel's send and receive buffer of a connection, in bytes each; none leaves it to the kernel.
    pub socket_buffer_bytes: Option<usize>,
    /// How long a discovery session may last.
    pub discovery_time_max: Duration,
    /// How long the last bytes of a closing connection may take to be sent.
    pub close_timeout: Duration,
    /// How long the other side may take to close a connection that this side has closed, before it is cut.
    pub linger: Duration,
}

impl Config {
    /// Listens on `addresses`, all in portal group 1, with the default limits.
    #[must_use]
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let portal = |address: &SocketAddr| Portal { address: *address, group: PortalGroupTag(1) };
        Self {
            portals: addresses.iter().map(portal).collect(),
            reactors: 0,
            connection: iscsi::target::Config {
                offer: Offer { max_connections: CONNECTIONS_PER_SESSION_MAX, ..Offer::default() },
                ..Default::default()
            },
            limits: Limits::default(),
            socket_buffer_bytes: None,
            discovery_time_max: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(1),
        }
    }
}
