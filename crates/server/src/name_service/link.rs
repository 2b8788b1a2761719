//! One name server: the socket that the client's state machine drives.

use super::Board;
use control::{IsnsServerFacts, IsnsState, PortalSet};
use isns::{Action, Client, Config, Registration, State};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

/// Registration Period that is asked for, in seconds: what a dead daemon registered is gone after it.
const PERIOD_S: u32 = 600;

/// How long the socket may take to take a message.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// What every name server is to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// All portals.
    pub(super) portals: PortalSet,
    /// Those that are open.
    pub(super) open: Vec<SocketAddr>,
    /// Targets: name and alias.
    pub(super) targets: BTreeMap<String, String>,
}

impl Offer {
    /// What a server is told that is reached from `local`: a portal on every address is shown as that one.
    fn seen_by(&self, server: SocketAddr, local: SocketAddr) -> Registration {
        let seen = self.portals.visible(server.ip(), local.ip(), |portal| self.open.contains(&portal));
        Registration {
            portals: seen.into_iter().map(|(portal, tag)| (portal, tag.0)).collect(),
            targets: self.targets.clone(),
        }
    }
}

/// The link to one server.
pub(super) struct Link {
    server: SocketAddr,
    client: Client,
    board: Arc<Board>,
    origin: Instant,
    origin_unix_ms: u64,
    stream: Option<TcpStream>,
    /// Nothing is offered any more.
    ended: bool,
}

/// What comes while there is nothing to do.
enum Event {
    Time,
    Offer,
    Read(std::io::Result<usize>),
}

impl Link {
    pub(super) fn new(
        server: SocketAddr,
        entity: String,
        inquiry_port: Option<u16>,
        board: Arc<Board>,
        now_unix_ms: u64,
    ) -> Self {
        let config = Config { entity, period_s: PERIOD_S, inquiry_port };
        let client = Client::new(config, Duration::ZERO);
        Self {
            server,
            client,
            board,
            origin: Instant::now(),
            origin_unix_ms: now_unix_ms,
            stream: None,
            ended: false,
        }
    }

    /// Tells the server what is offered, until that is none and the server knows nothing any more.
    pub(super) async fn run(mut self, mut offered: watch::Receiver<Option<Arc<Offer>>>) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let action = self.client.poll(self.now());
            self.report();
            match action {
                Action::Connect => self.connect(&mut offered).await,
                Action::Send(bytes) => self.send(&bytes).await,
                Action::Close => self.stream = None,
                Action::Wait(until) => match self.wait(until, &mut offered, &mut buffer).await {
                    Event::Time => {}
                    Event::Offer => self.take_offer(&mut offered),
                    Event::Read(read) => self.take_bytes(read, &buffer),
                },
                Action::Done => return,
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn wait(
        &mut self,
        until: Duration,
        offered: &mut watch::Receiver<Option<Arc<Offer>>>,
        buffer: &mut [u8],
    ) -> Event {
        let (origin, ended) = (self.origin, self.ended);
        let stream = &mut self.stream;
        let read = async {
            match stream {
                Some(stream) => stream.read(buffer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(origin + until) => Event::Time,
            _ = offered.changed(), if !ended => Event::Offer,
            read = read => Event::Read(read),
        }
    }

    async fn connect(&mut self, offered: &mut watch::Receiver<Option<Arc<Offer>>>) {
        let ends = async {
            // An error is the end, too.
            let _ = offered.wait_for(Option::is_none).await;
        };
        let connected = tokio::select! {
            connected = TcpStream::connect(self.server) => connected,
            () = tokio::time::sleep(SEND_TIME_MAX) => Err(ErrorKind::TimedOut.into()),
            () = ends => {
                // At the end a server that was never told anything is not waited for.
                let connect = async {
                    match self.client.progress().targets {
                        0 => Err(ErrorKind::Interrupted.into()),
                        _ => TcpStream::connect(self.server).await,
                    }
                };
                let connected = tokio::time::timeout(SEND_TIME_MAX, connect).await;
                connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            }
        };
        match connected {
            Ok(stream) => {
                self.stream = Some(stream);
                self.take_offer(offered);
                self.client.connected(self.now());
            }
            Err(error) => {
                self.take_offer(offered);
                self.client.lost(self.now(), &error.to_string());
            }
        }
    }

    /// What the server is to know depends on where it is reached from.
    fn take_offer(&mut self, offered: &mut watch::Receiver<Option<Arc<Offer>>>) {
        let offer = offered.borrow_and_update().clone();
        // Nobody offers anything any more: as if it was said so.
        let offer = offer.filter(|_| offered.has_changed().is_ok());
        let Some(offer) = offer else {
            self.ended = true;
            return self.client.end(self.now());
        };
        if let Some(Ok(local)) = self.stream.as_ref().map(TcpStream::local_addr) {
            self.client.set_goal(offer.seen_by(self.server, local));
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let sent = tokio::time::timeout(SEND_TIME_MAX, stream.write_all(bytes)).await;
        if let Err(error) = sent.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            self.lose(&error);
        }
    }

    fn take_bytes(&mut self, read: std::io::Result<usize>, buffer: &[u8]) {
        match read {
            Ok(0) => self.lose(&Error::new(ErrorKind::UnexpectedEof, "it closed the connection")),
            Ok(length) => self.client.receive(self.now(), buffer.get(..length).unwrap_or_default()),
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &Error) {
        self.stream = None;
        self.client.lost(self.now(), &error.to_string());
    }

    /// Says how things stand, to whoever asks and in the log.
    fn report(&self) {
        let progress = self.client.progress();
        let since_ms = u64::try_from(progress.since.as_millis()).unwrap_or(u64::MAX);
        let facts = IsnsServerFacts {
            address: self.server,
            state: match progress.state {
                State::Connecting => IsnsState::Connecting,
                State::Registered => IsnsState::Registered,
                State::Unreachable => IsnsState::Unreachable,
                State::Refused => IsnsState::Refused,
            },
            since_unix_ms: self.origin_unix_ms.saturating_add(since_ms),
            targets: progress.targets,
            error: progress.error.clone(),
        };
        let state = facts.state;
        let before = self.board.facts.lock().insert(self.server, facts);
        let changed = before.map_or(IsnsState::Connecting, |before| before.state) != state;
        let Some(left_out) = changed.then(|| self.board.log_limit.admit()).flatten() else { return };
        let (server, targets) = (self.server, progress.targets);
        match &progress.error {
            None => tracing::info!(%server, targets, left_out, "registered with the iSNS server"),
            Some(error) => {
                tracing::warn!(%server, error, left_out, "the iSNS server is not told of targets; it is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_on_every_address_is_registered_as_the_one_the_server_is_reached_from() {
        let open = ["0.0.0.0:3260", "[::]:3260", "192.0.2.1:3261", "127.0.0.1:3262"];
        let open = open.map(|portal| portal.parse().unwrap());
        let mut offer = Offer {
            portals: PortalSet::of(&open),
            open: open.to_vec(),
            targets: BTreeMap::from([("iqn.2024-01.lab:a".to_owned(), "a".to_owned())]),
        };
        let seen = |offer: &Offer, server: &str, local: &str| {
            let seen = offer.seen_by(server.parse().unwrap(), local.parse().unwrap());
            assert_eq!(seen.targets, offer.targets);
            assert!(seen.portals.values().all(|tag| *tag == 1));
            seen.portals.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(seen(&offer, "192.0.2.9:3205", "192.0.2.1:4"), ["192.0.2.1:3260", "192.0.2.1:3261"]);
        assert_eq!(
            seen(&offer, "[2001:db8::9]:3205", "[2001:db8::1]:4"),
            ["192.0.2.1:3261", "[2001:db8::1]:3260"]
        );
        let local = ["127.0.0.1:3260", "127.0.0.1:3262", "192.0.2.1:3261"];
        assert_eq!(seen(&offer, "127.0.0.1:3205", "127.0.0.1:4"), local);
        // A portal that is closed is not registered.
        offer.open.truncate(1);
        assert_eq!(seen(&offer, "192.0.2.9:3205", "192.0.2.1:4"), ["192.0.2.1:3260"]);
    }
}
