//! What the log says of a session: its begin and its end.

use super::Connection;

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
        let (peer, why) = (self.place.peer, &self.why);
        match &self.session {
            Some(session) => {
                let initiator = &session.entry.initiator;
                let target = session.entry.port.as_ref().map(|port| port.target.as_str());
                tracing::info!(initiator, target, %peer, why, "session ended");
            }
            None => tracing::debug!(%peer, why, "connection ended before a login"),
        }
    }
}
