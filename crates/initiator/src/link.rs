//! One TCP connection to a target: the socket beneath an `iscsi` initiator connection.
//!
//! A user of a link repeats three steps: submit, [`Link::flush`]; [`Link::wait`];
//! [`Link::receive`] and [`Link::poll`] until there is no more. Everything submitted between two
//! waits leaves in one `writev`, and one wake-up takes in every answer that has come.

use core::future::Future;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use iscsi::initiator::{CloseReason, Command, Config, Connection, Event, TaskId};
use iscsi::parameters::{DigestOffer, Parameters};
use iscsi::pdu::{LoginStatus, TaskManagementFunction};
use iscsi::{Isid, Lun};
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

/// What a login led to.
enum Opened {
    Link(Box<Link>),
    /// To another portal.
    Moved(String),
}

/// A logged-in connection.
pub(crate) struct Link {
    isid: Isid,
    socket: TcpStream,
    connection: Connection<RecyclingPool>,
    origin: Instant,
    unsent: VecDeque<Bytes>,
    blocked: bool,
    tick: Pin<Box<Sleep>>,
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

    async fn try_open(url: &TargetUrl, options: &LinkOptions, config: Config) -> Result<Opened, ClientError> {
        let socket = connect(url, options.login_timeout).await?;
        let origin = Instant::now();
        let mut link = Self {
            socket,
            isid: config.isid,
            connection: Connection::new(config, RecyclingPool::default(), Duration::ZERO),
            origin,
            unsent: VecDeque::new(),
            blocked: false,
            tick: Box::pin(tokio::time::sleep(TICK)),
        };
        let moved = link.log_in().await?;
        Ok(moved.map_or_else(|| Opened::Link(Box::new(link)), Opened::Moved))
    }

    /// Logs in, or says where the target is instead.
    async fn log_in(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            while let Some(event) = self.connection.poll_event() {
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
        config.tasks_before = self.connection.tasks_started();
        Self::open_with(url, options, config).await
    }

    /// Queues a command for the next flush.
    pub(crate) fn submit(&mut self, command: Command) -> TaskId {
        self.connection.submit(command)
    }

    /// Queues a task management function for the next flush.
    pub(crate) fn task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) -> TaskId {
        self.connection.task_management(function, lun, referenced)
    }

    /// Queues a SendTargets request.
    pub(crate) fn send_targets(&mut self) {
        self.connection.send_targets();
    }

    /// Queues a NOP-Out with `data` to be echoed.
    pub(crate) fn nop(&mut self, data: Bytes) {
        self.connection.nop(data);
    }

    /// What was negotiated.
    pub(crate) fn parameters(&self) -> Parameters {
        *self.connection.parameters()
    }

    /// Flush, wait and receive in one.
    pub(crate) async fn turn(&mut self) -> Result<(), ClientError> {
        self.flush()?;
        self.wait().await?;
        self.receive()
    }

    /// Writes as much as the socket takes now.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        self.blocked = false;
        loop {
            if self.unsent.is_empty()
                && self.connection.poll_transmit(&mut self.unsent, TRANSMIT_BYTES_MAX) == 0
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
                Err(error) => return Err(ClientError::lost(error.to_string())),
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

    /// Waits until there is something to read, room to write what is left, or a timer to look
    /// at. Dropping the future loses nothing.
    pub(crate) async fn wait(&mut self) -> Result<(), ClientError> {
        let ready = core::future::poll_fn(|context| {
            if let Poll::Ready(result) = self.socket.poll_read_ready(context) {
                return Poll::Ready(result);
            }
            if self.blocked
                && let Poll::Ready(result) = self.socket.poll_write_ready(context)
            {
                return Poll::Ready(result);
            }
            if self.tick.as_mut().poll(context).is_ready() {
                let now = Instant::now();
                self.tick.as_mut().reset(now + TICK);
                self.connection.handle_timeout(now.duration_since(self.origin));
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        });
        ready.await.map_err(|error| ClientError::lost(error.to_string()))
    }

    /// Takes in what the socket has, up to a bound; events follow from [`Link::poll`].
    pub(crate) fn receive(&mut self) -> Result<(), ClientError> {
        for _ in 0..READS_MAX {
            let space = self.connection.recv_space();
            let room = space.len();
            match self.socket.try_read(space) {
                Ok(0) => return Err(ClientError::lost("closed by the target")),
                Ok(count) => {
                    self.connection.received(count, Instant::now().duration_since(self.origin));
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

    /// The next thing that happened; an error once the connection is over.
    pub(crate) fn poll(&mut self) -> Result<Option<Event>, ClientError> {
        match self.connection.poll_event() {
            Some(Event::Closed(reason)) => Err(closed(reason)),
            event => Ok(event),
        }
    }

    /// Logs out and waits for the answer, at most `limit`. Nothing may be in flight.
    pub(crate) async fn log_out(mut self, limit: Duration) {
        self.connection.logout();
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
