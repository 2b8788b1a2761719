//! One connection of a session: what is a connection's own (RFC 7143 §4.4.3: digests, StatSN, lengths of segments).
//!
//! A session's links lie in [`Connection::link`](super::Connection), the one that is attended to, and
//! [`Connection::others`](super::Connection). Whatever handles a PDU works on the first; what belongs to another
//! one is found with [`link_of`].

use core::time::Duration;

use super::login::Login;
use super::output::Output;
use super::receive::{Current, Sink};
use super::text::TextExchange;
use crate::frame::FrameReader;
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Offer, Parameters};
use crate::{Cid, InitiatorTaskTag, StatSn};

/// Names a connection of a session; never used twice in the session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) u32);

impl LinkId {
    /// The session's first connection.
    pub const LEADING: Self = Self(0);
}

/// Where a connection stands.
pub(super) enum Phase {
    Login(Box<Login>),
    FullFeature,
    Closed,
}

/// A NOP-In that waits for its answer, or the next to be sent.
pub(super) struct KeepAlive {
    pub(super) last_received: Duration,
    pub(super) asked_at: Option<Duration>,
    pub(super) asked: u32,
}

/// What a logout closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closes {
    Session,
    Connection(LinkId),
}

/// A logout that waits for the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logout {
    pub(super) itt: InitiatorTaskTag,
    pub(super) closes: Closes,
}

/// See the module's description.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) cid: Cid,
    pub(super) started: Duration,
    pub(super) phase: Phase,
    pub(super) parameters: Parameters,
    pub(super) reader: FrameReader,
    pub(super) current: Current,
    pub(super) sink: Sink,
    pub(super) collected: Vec<u8>,
    /// Bytes of data in PDUs that came ahead of their turn.
    pub(super) held_bytes: usize,
    /// The last `recv_space` was the sink's own.
    pub(super) direct: bool,
    pub(super) output: Output,
    pub(super) text: TextExchange,
    pub(super) keep_alive: KeepAlive,
    /// Every StatSN before this one has arrived.
    pub(super) acknowledged: StatSn,
    /// Asked for on this connection.
    pub(super) logout: Option<Logout>,
    /// A logout closes it, asked for here or elsewhere: it takes no commands any more.
    pub(super) leaving: bool,
    /// When the initiator has to have logged out that was asked to.
    pub(super) logout_deadline: Option<Duration>,
}

impl Link {
    pub(super) fn new(offer: Offer, now: Duration) -> Self {
        Self {
            id: LinkId::LEADING,
            cid: Cid::default(),
            started: now,
            phase: Phase::Login(Box::new(Login::new(offer))),
            parameters: Parameters::default(),
            reader: FrameReader::new(DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH),
            current: Current::Ignored,
            sink: Sink::Discard,
            collected: Vec::new(),
            held_bytes: 0,
            direct: false,
            output: Output::new(),
            text: TextExchange::default(),
            keep_alive: KeepAlive { last_received: now, asked_at: None, asked: 0 },
            acknowledged: StatSn::default(),
            logout: None,
            leaving: false,
            logout_deadline: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closed)
    }

    pub(super) const fn is_full_feature(&self) -> bool {
        matches!(self.phase, Phase::FullFeature)
    }

    /// Takes nothing more in. What is queued is still sent.
    pub(super) fn shut(&mut self) {
        self.phase = Phase::Closed;
        self.sink = Sink::Discard;
        self.current = Current::Ignored;
        self.direct = false;
        self.collected = Vec::new();
        self.text = TextExchange::default();
        self.logout = None;
        self.logout_deadline = None;
        self.held_bytes = 0;
        self.output.clear_reads();
    }
}

/// The link `id`, whether it is the one attended to or another. `None` when it is gone.
pub(super) fn link_of<'a>(at: &'a mut Link, others: &'a mut [Box<Link>], id: LinkId) -> Option<&'a mut Link> {
    if at.id == id {
        return Some(at);
    }
    others.iter_mut().find(|link| link.id == id).map(Box::as_mut)
}

/// A connection in its login that is to join a session that exists: made by
/// [`Connection::into_joining`](super::Connection::into_joining).
pub struct Joining {
    pub(super) link: Box<Link>,
}

impl Joining {
    /// CID that the initiator gave the connection.
    pub fn cid(&self) -> Cid {
        self.link.cid
    }
}

/// Why a connection cannot join a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The session has as many connections as MaxConnections allows (RFC 7143 §13.2).
    #[error("the session has all the connections it may have")]
    TooManyConnections,
    /// The session is over, or about to be, or one for discovery.
    #[error("the session takes no connections")]
    SessionOver,
}
