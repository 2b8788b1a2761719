//! A session with a target: the sockets beneath an `iscsi` initiator session, one as a rule.
//!
//! A user of a link repeats three steps: submit, [`Link::flush`]; [`Link::wait`];
//! [`Link::receive`] and [`Link::poll`] until there is no more. Everything submitted between two
//! waits leaves in one `writev`, and one wake-up takes in every answer that has come.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use iscsi::chap::NONCE_BYTES;
use iscsi::initiator::{CloseReason, Command, Config, Event, Session, TaskId};
use iscsi::parameters::{DigestOffer, Parameters};
use iscsi::pdu::{LoginStatus, TaskManagementFunction};
use iscsi::{Cid, Isid, Lun};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::buffers::RecyclingPool;
use crate::error::ClientError;
use crate::url::TargetUrl;

/// The iSCSI name used unless another is given.
pub(crate) const DEFAULT_INITIATOR_NAME: &str = "iqn.2026-01.io.palisade:initiator";

/// Bytes taken from the protocol machine for one round of writing.
const TRANSMIT_BYTES_MAX: usize = 1 << 20;
/// Pieces handed to one `writev`.
const SLICES_MAX: usize = 128;
/// Portals that a login may be sent to, one after another, before it fails.
const REDIRECTS_MAX: usize = 8;
/// Reads of the socket before completions are looked at.
const READS_MAX: usize = 32;
/// How often a waiting link looks at its timers.
const TICK: Duration = Duration::from_millis(50);

/// Which digests to insist on at login (RFC 7143 §13.1). A target that does not do what is asked
/// refuses the login, so that a measurement never runs without them by accident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC32C over every header.
    pub header: bool,
    /// CRC32C over every data segment.
    pub data: bool,
}

/// How to reach a target and log in to it.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The initiator's iSCSI name.
    pub initiator_name: String,
    /// The session's ISID (RFC 7143 §11.12.5). A login with the same name and ISID replaces an
    /// older session of that name, whose commands the target then drops. `None` draws one.
    pub isid: Option<[u8; 6]>,
    /// Digests to insist on.
    pub digests: Digests,
    /// TCP connections of the session (RFC 7143 §4.4.3), 1 to [`iscsi::initiator::CONNECTIONS_MAX`]. A target that
    /// takes fewer is an error.
    pub connections: u16,
    /// How long connecting, and then logging in, may take.
    pub login_timeout: Duration,
    /// A target that says nothing, not even to a NOP, for this long is lost.
    pub silence_limit: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            initiator_name: DEFAULT_INITIATOR_NAME.to_owned(),
            isid: None,
            digests: Digests::default(),
            connections: 1,
            login_timeout: Duration::from_secs(15),
            silence_limit: Duration::from_secs(15),
        }
    }
}

impl LinkOptions {
    fn config(&self, target: Option<&str>) -> Config {
        let name = self.initiator_name.clone();
        let mut config = match target {
            Some(target) => Config::normal(name, target),
            None => Config::discovery(name),
        };
        config.isid = Isid(self.isid.unwrap_or_else(draw_isid));
        config.login_timeout = self.login_timeout;
        config.nop_interval = Some(self.silence_limit / 3);
        config.nop_timeout = self.silence_limit - self.silence_limit / 3;
        let offer = |wanted| if wanted { DigestOffer::Crc32c } else { DigestOffer::None };
        config.offer.max_connections = self.connections;
        config.offer.header_digest = offer(self.digests.header);
        config.offer.data_digest = offer(self.digests.data);
        config
    }
}

/// A random ISID: type 10b, 24 random bits and a random qualifier (RFC 7143 §11.12.5).
fn draw_isid() -> [u8; 6] {
    let [_, a, b, c, d, e, ..] = uuid::Uuid::new_v4().into_bytes();
    [0x80, a, b, c, d, e]
}

/// Random bytes for one login. Of each sixteen drawn six bits are not random.
fn draw_nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    for part in nonce.chunks_mut(16) {
        part.iter_mut().zip(uuid::Uuid::new_v4().into_bytes()).for_each(|(byte, random)| *byte = random);
    }
    nonce
}

/// What a login led to.
enum Opened {
    Link(Box<Link>),
    /// To another portal.
    Moved(String),
}

/// One of the session's sockets.
struct Wire {
    cid: Cid,
    socket: TcpStream,
    unsent: VecDeque<Bytes>,
    blocked: bool,
}

/// A logged-in session.
pub(crate) struct Link {
    isid: Isid,
    session: Session<RecyclingPool>,
    wires: Vec<Wire>,
    /// Which of them the next command goes to.
    turn: usize,
    origin: Instant,
    tick: Pin<Box<Sleep>>,
}

impl Wire {
    fn new(cid: Cid, socket: TcpStream) -> Self {
        Self { cid, socket, unsent: VecDeque::new(), blocked: false }
    }

    /// Writes as much as the socket takes now.
    fn flush(&mut self, session: &mut Session<RecyclingPool>) -> std::io::Result<()> {
        self.blocked = false;
        loop {
            if self.unsent.is_empty()
                && session.poll_transmit(self.cid, &mut self.unsent, TRANSMIT_BYTES_MAX) == 0
            {
                return Ok(());
            }
            match self.write_once() {
                Ok(written) => advance(&mut self.unsent, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_once(&self) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.unsent) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        self.socket.try_write_vectored(slices.get(..used).unwrap_or_default())
    }

    /// Ready when there is something to read, or room to write what is left.
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.socket.poll_read_ready(context) {
            Poll::Pending if self.blocked => self.socket.poll_write_ready(context),
            ready => ready,
        }
    }

    /// Takes in what the socket has, up to a bound.
    fn receive(&self, session: &mut Session<RecyclingPool>, origin: Instant) -> Result<(), ClientError> {
        for _ in 0..READS_MAX {
            let space = session.recv_space(self.cid);
            let room = space.len();
            match self.socket.try_read(space) {
                Ok(0) => return Err(ClientError::lost("closed by the target")),
                Ok(count) => {
                    session.received(self.cid, count, Instant::now().duration_since(origin));
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ClientError::lost(error.to_string())),
            }
        }
        Ok(())
    }
}

impl Link {
    /// Connects and logs in: to the URL's target, or for discovery if `discovery` is set. Goes where it is sent
    /// (RFC 7143 §11.13.5), a bounded number of times.
    pub(crate) async fn open(
        url: &TargetUrl,
        options: &LinkOptions,
        discovery: bool,
    ) -> Result<Self, ClientError> {
        let config = options.config((!discovery).then_some(url.iqn.as_str()));
        Self::open_with(url, options, config).await
    }

    /// The same with a configuration of its own.
    async fn open_with(url: &TargetUrl, options: &LinkOptions, config: Config) -> Result<Self, ClientError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            match Self::try_open(&url, options, config.clone()).await? {
                Opened::Link(link) => return Ok(*link),
                Opened::Moved(address) => {
                    let moved = url.moved_to(&address);
                    url = moved.ok_or_else(|| ClientError::lost("sent to something that is no address"))?;
                }
            }
        }
        Err(ClientError::RedirectedTooOften { count: REDIRECTS_MAX, portal: url.authority() })
    }

    async fn try_open(
        url: &TargetUrl,
        options: &LinkOptions,
        mut config: Config,
    ) -> Result<Opened, ClientError> {
        config.chap = url.answers(draw_nonce());
        let socket = connect(url, options.login_timeout).await?;
        let mut link = Self {
            isid: config.isid,
            wires: vec![Wire::new(config.cid, socket)],
            session: Session::new(config, RecyclingPool::default(), Duration::ZERO),
            turn: 0,
            origin: Instant::now(),
            tick: Box::pin(tokio::time::sleep(TICK)),
        };
        if let Some(moved) = link.log_in().await? {
            return Ok(Opened::Moved(moved));
        }
        link.add_connections(url, options).await?;
        Ok(Opened::Link(Box::new(link)))
    }

    /// Makes the session's other connections, to the portal that took the first one.
    async fn add_connections(&mut self, url: &TargetUrl, options: &LinkOptions) -> Result<(), ClientError> {
        let most = self.parameters().max_connections;
        if options.connections > most {
            return Err(ClientError::lost(format!("the target takes {most} connections a session")));
        }
        for cid in (2..=options.connections).map(Cid) {
            let socket = connect(url, options.login_timeout).await?;
            self.session.authenticate_next(url.answers(draw_nonce()));
            if !self.session.connect(cid, Instant::now().duration_since(self.origin)) {
                return Err(ClientError::InvalidRequest("more connections than a session can have"));
            }
            self.wires.push(Wire::new(cid, socket));
            if self.log_in().await?.is_some() {
                return Err(ClientError::lost("one connection of the session was sent elsewhere"));
            }
        }
        Ok(())
    }

    /// Logs in, or says where the target is instead.
    async fn log_in(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            while let Some((_, event)) = self.session.poll_event() {
                match event {
                    Event::LoggedIn(_) => return Ok(None),
                    Event::Closed(CloseReason::LoginRefused {
                        status: LoginStatus::MovedTemporarily | LoginStatus::MovedPermanently,
                        address: Some(address),
                    }) => return Ok(Some(address)),
                    Event::Closed(reason) => return Err(closed(reason)),
                    _ => {}
                }
            }
            self.turn().await?;
        }
    }

    /// Logs in again after the target asked for a logout. Tasks of the new connection have names of their own.
    pub(crate) async fn open_again(
        &self,
        url: &TargetUrl,
        options: &LinkOptions,
    ) -> Result<Self, ClientError> {
        let mut config = options.config(Some(&url.iqn));
        config.isid = self.isid;
        config.tasks_before = self.session.tasks_started();
        Self::open_with(url, options, config).await
    }

    /// The connection that whatever needs no particular one goes over.
    fn first(&self) -> Cid {
        self.wires.first().map_or(Cid::default(), |wire| wire.cid)
    }

    /// Queues a command for the next flush, on the session's connections in turn.
    pub(crate) fn submit(&mut self, command: Command) -> TaskId {
        self.turn = (self.turn + 1).checked_rem(self.wires.len()).unwrap_or_default();
        let cid = self.wires.get(self.turn).map_or(Cid::default(), |wire| wire.cid);
        // A link without connections is over, and says so when it is polled.
        self.session.submit(cid, command).unwrap_or_default()
    }

    /// Queues a task management function for the next flush.
    pub(crate) fn task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) -> TaskId {
        // ABORT TASK goes over the connection that the task is allegiant to (RFC 7143 §4.2.5.1).
        let cid = referenced.and_then(|task| self.session.cid_of(task)).unwrap_or_else(|| self.first());
        self.session.task_management(cid, function, lun, referenced).unwrap_or_default()
    }

    /// Queues a SendTargets request.
    pub(crate) fn send_targets(&mut self) {
        self.session.send_targets(self.first());
    }

    /// Queues a NOP-Out with `data` to be echoed.
    pub(crate) fn nop(&mut self, data: Bytes) {
        self.session.nop(self.first(), data);
    }

    /// What was negotiated, of the first connection.
    pub(crate) fn parameters(&self) -> Parameters {
        self.session.link(self.first()).map_or_else(Parameters::default, |link| *link.parameters())
    }

    /// Flush, wait and receive in one.
    pub(crate) async fn turn(&mut self) -> Result<(), ClientError> {
        self.flush()?;
        self.wait().await?;
        self.receive()
    }

    /// Writes as much as the sockets take now.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        let written = self.wires.iter_mut().try_for_each(|wire| wire.flush(&mut self.session));
        written.map_err(|error| ClientError::lost(error.to_string()))
    }

    /// Waits until there is something to read, room to write what is left, or a timer to look
    /// at. Dropping the future loses nothing.
    pub(crate) async fn wait(&mut self) -> Result<(), ClientError> {
        let ready = core::future::poll_fn(|context| {
            for wire in &self.wires {
                if let Poll::Ready(result) = wire.poll_ready(context) {
                    return Poll::Ready(result);
                }
            }
            if self.tick.as_mut().poll(context).is_ready() {
                let now = Instant::now();
                self.tick.as_mut().reset(now + TICK);
                self.session.handle_timeout(now.duration_since(self.origin));
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        });
        ready.await.map_err(|error| ClientError::lost(error.to_string()))
    }

    /// Takes in what the sockets have, up to a bound; events follow from [`Link::poll`].
    pub(crate) fn receive(&mut self) -> Result<(), ClientError> {
        self.wires.iter().try_for_each(|wire| wire.receive(&mut self.session, self.origin))
    }

    /// The next thing that happened; an error once the session is over, or a connection of it is lost: at
    /// ErrorRecoveryLevel 0 starting anew is what a host does then (RFC 7143 §7.1.4.4).
    pub(crate) fn poll(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some((cid, event)) = self.session.poll_event() {
            match event {
                // Each connection leaves when it has nothing under way; the last one ends the session.
                Event::Closed(CloseReason::AskedToLeave) if self.wires.len() > 1 => {
                    self.wires.retain(|wire| wire.cid != cid);
                    self.session.remove(cid);
                }
                Event::Closed(reason) => return Err(closed(reason)),
                event => return Ok(Some(event)),
            }
        }
        Ok(None)
    }

    /// Logs out and waits for the answer, at most `limit`. Nothing may be in flight.
    pub(crate) async fn log_out(mut self, limit: Duration) {
        self.session.logout(self.first());
        let goodbye = async {
            loop {
                while let Some(event) = self.poll()? {
                    if matches!(event, Event::LoggedOut(_)) {
                        return Ok::<(), ClientError>(());
                    }
                }
                self.turn().await?;
            }
        };
        // The session is over either way; a target that does not answer loses nothing by it.
        let _ = tokio::time::timeout(limit, goodbye).await;
    }
}

async fn connect(url: &TargetUrl, limit: Duration) -> Result<TcpStream, ClientError> {
    let portal = url.authority();
    let attempt = tokio::time::timeout(limit, TcpStream::connect((url.host.as_str(), url.port))).await;
    let connected = attempt.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let configured = connected.and_then(|socket| socket.set_nodelay(true).map(|()| socket));
    configured.map_err(|source| ClientError::Connect { portal, source: Arc::new(source) })
}

/// Drops the first `written` bytes of `chunks`.
fn advance(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(chunk) = chunks.front_mut() {
        if written < chunk.len() {
            chunk.advance(written);
            return;
        }
        written -= chunk.len();
        chunks.pop_front();
    }
}

fn closed(reason: CloseReason) -> ClientError {
    match reason {
        CloseReason::LoginRefused { status, .. } => {
            let [class, detail] = status.0.to_be_bytes();
            ClientError::LoginRefused { class, detail, meaning: login_meaning(status) }
        }
        CloseReason::AskedToLeave => ClientError::AskedToLeave,
        reason => ClientError::lost(reason.to_string()),
    }
}

/// Status-Class and Status-Detail in the words of RFC 7143 §11.13.5.
fn login_meaning(status: LoginStatus) -> &'static str {
    match status {
        LoginStatus::MovedTemporarily => "target moved temporarily",
        LoginStatus::MovedPermanently => "target moved permanently",
        LoginStatus::InitiatorError => "initiator error",
        LoginStatus::AuthenticationFailure => "authentication failure",
        LoginStatus::AuthorizationFailure => "this initiator may not use this target",
        LoginStatus::NotFound => "target not found",
        LoginStatus::TargetRemoved => "target removed",
        LoginStatus::UnsupportedVersion => "unsupported version",
        LoginStatus::TooManyConnections => "too many connections",
        LoginStatus::MissingParameter => "missing parameter",
        LoginStatus::SessionTypeNotSupported => "session type not supported",
        LoginStatus::TargetError => "target error",
        LoginStatus::ServiceUnavailable => "service unavailable",
        LoginStatus::OutOfResources => "out of resources",
        _ => "unknown status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_continue_where_they_stopped() {
        let mut chunks: VecDeque<Bytes> = ["abc", "", "defg", "h"].map(Bytes::from).into();
        advance(&mut chunks, 2);
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), 6);
        advance(&mut chunks, 3);
        assert_eq!(chunks.front(), Some(&Bytes::from("fg")));
        advance(&mut chunks, 3);
        assert!(chunks.is_empty());
    }

    #[test]
    fn a_refused_login_keeps_its_reason() {
        let reason = CloseReason::LoginRefused { status: LoginStatus::NotFound, address: None };
        let error = closed(reason);
        assert_eq!(error.to_string(), "login refused with status 0203h: target not found");
        assert!(error.is_path_failure());
    }

    #[test]
    fn drawn_isids_are_of_the_random_type_and_differ() {
        let (a, b) = (draw_isid(), draw_isid());
        assert_eq!((a[0], b[0]), (0x80, 0x80));
        assert_ne!(a, b);
    }
}
