//! What the log says of a session: its begin and its end.

use super::{Connection, Wire};

impl Connection {
    /// Says who began a session, where and with which target.
    pub(super) fn log_start(&self) {
        let Some(session) = &self.session else { return };
        let entry = &session.entry;
        let target = entry.port.as_ref().map(|port| port.target.as_str());
        let (initiator, isid, tsih) = (&entry.initiator, entry.isid, entry.tsih.0);
        let (peer, portal) = (self.place.peer, self.place.local);
        tracing::info!(initiator, target, %isid, tsih, %peer, %portal, "session began");
    }

    /// Says who is gone and why; a connection without a login is worth a line for debugging only.
    pub(super) fn log_end(&self) {
        let Some(wire) = self.wires.first() else { return };
        let (peer, why) = (wire.place.peer, &wire.why);
        match &self.session {
            Some(session) => {
                let initiator = &session.entry.initiator;
                let target = session.entry.port.as_ref().map(|port| port.target.as_str());
                tracing::info!(initiator, target, %peer, why, "session ended");
            }
            None => tracing::debug!(%peer, why, "connection ended before a login"),
        }
    }

    /// The same of one connection, when the session goes on with others.
    pub(super) fn log_connection_end(&self, wire: &Wire) {
        let Some(session) = &self.session else { return };
        let (initiator, peer, why) = (&session.entry.initiator, wire.place.peer, &wire.why);
        let left = self.wires.len();
        tracing::info!(initiator, %peer, why, left, "connection of a session ended");
    }
}
