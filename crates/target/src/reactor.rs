//! Reactors: threads that each own their connections and, with the disks' backend, an I/O ring.

use crate::connection::{Connection, Place, Wire};
use crate::error::StartError;
use crate::server::Shared;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};

/// One reactor as others see it.
struct Reactor {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's share of a reactor's load, until it is gone.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    pub(crate) fn take(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }

    /// What it has a share of.
    pub(crate) fn load(&self) -> &Arc<AtomicUsize> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All reactors of a server.
pub(crate) struct Reactors {
    shared: Arc<Shared>,
    all: Vec<Reactor>,
}

/// The threads behind [`Reactors`].
pub(crate) struct Threads {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Reactors {
    /// Starts `count` threads.
    pub(crate) fn start(shared: &Arc<Shared>, count: usize) -> Result<(Arc<Self>, Threads), StartError> {
        let (stop, stopped) = watch::channel(false);
        let (mut all, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Reactor)?;
            all.push(Reactor { handle: runtime.handle().clone(), connections: Arc::default() });
            let mut stopped = stopped.clone();
            let serve = move || {
                // An error means that the server is gone: stop as well.
                let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            };
            let thread = std::thread::Builder::new().name(format!("reactor-{number}"));
            threads.push(thread.spawn(serve).map_err(StartError::Reactor)?);
        }
        Ok((Arc::new(Self { shared: Arc::clone(shared), all }), Threads { stop, threads }))
    }

    /// The reactor that carries the listeners.
    pub(crate) fn first(&self) -> Option<&Handle> {
        self.all.first().map(|reactor| &reactor.handle)
    }

    /// Gives a connection to the reactor that has the fewest.
    pub(crate) fn give(&self, place: Place, socket: TcpStream) {
        let (mailbox, messages) = mpsc::unbounded_channel();
        let Some(presence) = self.shared.registry.connected(mailbox.clone()) else {
            tracing::debug!(peer = %place.peer, "turned away: all connections are taken, or the server closes");
            return;
        };
        let fewest = self.all.iter().min_by_key(|reactor| reactor.connections.load(Ordering::Relaxed));
        let Some(reactor) = fewest else { return };
        let seat = Seat::take(&reactor.connections);
        let shared = Arc::clone(&self.shared);
        reactor.handle.spawn(async move {
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => {
                    let wire = Wire::new(place, socket, presence, seat);
                    Connection::new(shared, wire, mailbox, messages).run().await;
                }
                Err(error) => {
                    tracing::warn!(peer = %place.peer, %error, "a connection could not be taken over");
                }
            }
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
