//! The server: portals, reactors, and the view of them from outside.

use crate::authentication::{AuthenticationCounts, Guard};
use crate::config::{Config, Portal};
use crate::directory::Directory;
use crate::error::StartError;
use crate::listener;
use crate::log_limit::LogLimit;
use crate::memory::Gauge;
use crate::portals::{Open, Portals};
use crate::reactor::{Reactors, Threads};
use crate::registry::{Message, Registry, SessionId, SessionInfo};
use block::BufferPool;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a shutdown waits for hosts to log out by themselves: those that do not are no worse off than if the
/// machine were gone.
const LOGOUT_TIME_MAX: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) buffers: BufferPool,
    /// For what anyone can cause who reaches a portal.
    pub(crate) log_limit: LogLimit,
    pub(crate) guard: Guard,
    pub(crate) portals: Portals,
    origin: Instant,
}

impl Shared {
    /// Time since the server's start.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The same as the timer counts it.
    pub(crate) fn instant(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + at)
    }
}

/// Numbers of a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Connections.
    pub connections: usize,
    /// Those of them that have not logged in.
    pub half_open: usize,
    /// Connections turned away or dropped to make room, since the start.
    pub refused: usize,
    /// Connections closed by a defect (a panic), since the start.
    pub panics: usize,
    /// Logins that failed to prove what they had to.
    pub authentication: AuthenticationCounts,
    /// Bytes held by commands under way.
    pub bytes_in_flight: usize,
}

/// A running iSCSI server. Dropping it closes every connection and waits for its threads.
pub struct Server {
    shared: Arc<Shared>,
    reactors: Arc<Reactors>,
    stop_accepting: watch::Sender<bool>,
    threads: Option<Threads>,
}

impl Server {
    /// Binds the portals, if any are given yet, and starts the reactors.
    ///
    /// # Errors
    /// If a portal cannot be bound or a thread not started; nothing is left running then.
    #[allow(clippy::disallowed_methods, reason = "this crate's clock starts here")]
    pub fn start(config: Config, directory: Arc<dyn Directory>) -> Result<Self, StartError> {
        let listeners = config.portals.iter().map(|portal| listener::bind(*portal));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let reactors = if config.reactors == 0 { cores() } else { config.reactors };
        let shared = Arc::new(Shared {
            registry: Arc::new(Registry::new(config.limits.clone())),
            gauge: Arc::new(Gauge::new(config.limits.bytes_max)),
            buffers: BufferPool::default(),
            log_limit: LogLimit::default(),
            guard: Guard::default(),
            portals: Portals::default(),
            origin: Instant::now(),
            directory,
            config,
        });
        let (reactors, threads) = Reactors::start(&shared, reactors)?;
        let groups: Vec<_> = shared.config.portals.iter().map(|portal| portal.group).collect();
        let stop_accepting = watch::channel(false).0;
        let server = Self { shared, reactors, stop_accepting, threads: Some(threads) };
        for ((listener, address), group) in listeners.into_iter().zip(groups) {
            server.accept_on(listener, Portal { address, group });
        }
        Ok(server)
    }

    fn accept_on(&self, listener: std::net::TcpListener, portal: Portal) {
        let Some(first) = self.reactors.first() else { return };
        let (stop, closed) = watch::channel(false);
        let (shared, reactors) = (Arc::clone(&self.shared), Arc::clone(&self.reactors));
        let stopped = self.stop_accepting.subscribe();
        let accept = first.spawn(listener::accept(shared, reactors, portal, listener, stopped, closed));
        tracing::info!(address = %portal.address, group = portal.group.0, "portal open");
        self.shared.portals.add(Open { portal, stop, accept });
    }

    /// Opens a portal more. Returns it with the port that the system chose, if it was to choose one.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn add_portal(&self, portal: Portal) -> Result<Portal, StartError> {
        let (listener, address) = listener::bind(portal)?;
        let portal = Portal { address, group: portal.group };
        self.accept_on(listener, portal);
        Ok(portal)
    }

    /// Closes a portal: when ready, its address is free for others. Sessions that came through it stay. False if it is
    /// not open.
    pub async fn remove_portal(&self, address: SocketAddr) -> bool {
        let Some(accept) = self.shared.portals.take(address) else { return false };
        // An error means that it has ended with the reactor.
        let _ = accept.await;
        tracing::info!(%address, "portal closed");
        true
    }

    /// The portals that are open, with the ports the system chose.
    #[must_use]
    pub fn portals(&self) -> Vec<Portal> {
        self.shared.portals.list()
    }

    /// The addresses listened on, with the ports the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.portals().iter().map(|portal| portal.address).collect()
    }

    /// The sessions there are.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.registry.list()
    }

    /// Numbers for status and metrics.
    #[must_use]
    pub fn status(&self) -> Status {
        let registry = &self.shared.registry;
        let (connections, half_open) = registry.connection_counts();
        Status {
            connections,
            half_open,
            refused: registry.refused.load(Ordering::Relaxed),
            panics: registry.panics.load(Ordering::Relaxed),
            authentication: self.shared.guard.counts(),
            bytes_in_flight: self.shared.gauge.used(),
        }
    }

    /// Has every session of a target ask the directory again: it is closed if it may not stay, and its units come,
    /// go or become read-only as the directory says, with the unit attentions that tell the host.
    pub fn target_changed(&self, target: &str) {
        self.shared.registry.tell_target(target, Message::Reauthorize);
    }

    /// Closes one session; the host may log in again. False if there is none of that number.
    pub fn close_session(&self, session: SessionId) -> bool {
        self.shared.registry.tell(session, Message::Drop("closed by the administrator"))
    }

    /// Asks a session's host to log out (RFC 7143 §11.9.1), in whole seconds and at least one; a host that has not by
    /// then is dropped. A host that knows other paths goes on there; one that does not logs in again, and the
    /// directory decides where to. False if there is no such session. Returns at once: [`Server::sessions`] tells when
    /// it is gone.
    pub fn request_logout(&self, session: SessionId, within: Duration) -> bool {
        self.shared.registry.tell(session, Message::RequestLogout(within))
    }

    /// Stops accepting, answers what is under way, then closes each connection without an error to the host, which
    /// reconnects and sends again what was not answered. True if all was done `within` the time; otherwise the
    /// rest is cut off. The reactors, and with them work of the volumes' engine, run on until the server is dropped.
    ///
    /// Hosts are asked to log out first, and get up to [`LOGOUT_TIME_MAX`] of the time for it.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.stop_accepting.send_replace(true);
        let mut open = self.shared.registry.watch_open();
        let to_log_out = (within / 3).min(LOGOUT_TIME_MAX);
        if !to_log_out.is_zero() {
            self.shared.registry.close(Message::RequestLogout(LOGOUT_TIME_MAX));
            let logged_out = tokio::time::timeout(to_log_out, open.wait_for(|open| *open == 0));
            if logged_out.await.is_ok() {
                return true;
            }
        }
        self.shared.registry.close(Message::Finish);
        let within = within.saturating_sub(to_log_out);
        let all_closed = tokio::time::timeout(within, open.wait_for(|open| *open == 0));
        if all_closed.await.is_ok() {
            return true;
        }
        self.shared.registry.close(Message::Drop("shutdown took too long"));
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting.send_replace(true);
        drop(self.threads.take());
    }
}
