//! The portals that are open now. They come and go while the server runs.

use crate::config::Portal;
use parking_lot::Mutex;
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A portal that accepts connections.
pub(crate) struct Open {
    /// As bound: with the port that the system chose.
    pub(crate) portal: Portal,
    /// Ends the task.
    pub(crate) stop: watch::Sender<bool>,
    /// Accepts; the socket is closed when it has ended.
    pub(crate) accept: JoinHandle<()>,
}

/// All open portals, in the order in which they were opened.
#[derive(Default)]
pub(crate) struct Portals(Mutex<Vec<Open>>);

impl Portals {
    pub(crate) fn add(&self, open: Open) {
        self.0.lock().push(open);
    }

    /// Takes a portal off the list and has it accept no more. None if it is not open.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<JoinHandle<()>> {
        let mut all = self.0.lock();
        let index = all.iter().position(|open| open.portal.address == address)?;
        let Open { stop, accept, .. } = all.remove(index);
        stop.send_replace(true);
        Some(accept)
    }

    pub(crate) fn list(&self) -> Vec<Portal> {
        self.0.lock().iter().map(|open| open.portal).collect()
    }

    /// Where discovery that came to `place` is told to connect: there, and to the other portals that whoever reached
    /// this one can reach.
    pub(crate) fn seen_from(&self, place: Portal) -> Vec<Portal> {
        let reachable = |portal: &Portal| {
            let ip = portal.address.ip();
            portal.address != place.address
                && !ip.is_unspecified()
                && ip.is_loopback() == place.address.ip().is_loopback()
        };
        std::iter::once(place).chain(self.list().into_iter().filter(reachable)).collect()
    }
}
