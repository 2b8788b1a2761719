//! Logout: of the session, of this connection, of another one (RFC 7143 §11.14, §11.15).

use super::TaskId;
use super::connection::Connection;
use super::event::{CloseReason, Event, LogoutRequested};
use super::link::{Closes, LinkId, Logout};
use super::output::Numbering;
use super::task::Stage;
use crate::pdu::{self, Bhs, Header, LogoutReason, LogoutResponse, RejectReason, flags};
use crate::{Cid, InitiatorTaskTag, PayloadPool};

impl<P: PayloadPool> Connection<P> {
    /// Logout Request (RFC 7143 §11.14).
    pub(super) fn logout_request(&mut self, bhs: &Bhs) {
        let request = pdu::LogoutRequest::of(bhs);
        let itt = InitiatorTaskTag(request.itt.get());
        let reason = LogoutReason(request.flags & flags::CODE_MASK);
        let closes = match reason {
            LogoutReason::CloseSession => Closes::Session,
            LogoutReason::CloseConnection => match self.link_with(Cid(request.cid.get())) {
                // The last connection takes the session with it.
                Some(link) if self.is_only(link) => Closes::Session,
                Some(link) => Closes::Connection(link),
                None => return self.answer_logout(itt, LogoutResponse::CidNotFound),
            },
            // Recovery would be ErrorRecoveryLevel 2 (RFC 7143 §11.15.1).
            LogoutReason::RemoveForRecovery => {
                return self.answer_logout(itt, LogoutResponse::RecoveryNotSupported);
            }
            _ => return self.reject(bhs, RejectReason::InvalidPduField),
        };
        if self.link.logout.is_some() || self.session.closing {
            return self.reject(bhs, RejectReason::ProtocolError);
        }
        self.link.logout = Some(Logout { itt, closes });
        let aborted = match closes {
            Closes::Session => self.leave_all(),
            Closes::Connection(link) => self.leave(link),
        };
        self.tell(Event::LogoutRequested(LogoutRequested { reason, aborted }));
    }

    /// The connection of this CID that is in its full feature phase.
    fn link_with(&self, cid: Cid) -> Option<LinkId> {
        let mut links = core::iter::once(&self.link).chain(&self.others);
        links.find(|link| link.cid == cid && link.is_full_feature()).map(|link| link.id)
    }

    fn is_only(&self, id: LinkId) -> bool {
        core::iter::once(&self.link).chain(&self.others).all(|link| link.id == id || !link.is_open())
    }

    /// The session takes no commands any more; returns the delivered tasks that it leaves behind.
    fn leave_all(&mut self) -> Vec<TaskId> {
        self.session.closing = true;
        let delivered = self.session.tasks.iter().filter(|task| task.stage == Stage::Delivered);
        let aborted = delivered.map(|task| task.id).collect();
        self.clear_session();
        aborted
    }

    /// The same for one connection.
    fn leave(&mut self, link: LinkId) -> Vec<TaskId> {
        self.at(link, |session| {
            session.link.leaving = true;
            session.link.output.clear_reads();
        });
        self.end_tasks_of(link)
    }

    /// Completes the logout asked for on the connection attended to; what it closes closes. Ignored when none is
    /// waiting.
    pub fn logout_accept(&mut self) {
        let Some(Logout { itt, closes }) = self.link.logout.take() else { return };
        self.answer_logout(itt, LogoutResponse::Closed);
        match closes {
            Closes::Session => self.close_all(CloseReason::LoggedOut),
            Closes::Connection(link) => self.at(link, |session| session.close_with(CloseReason::LoggedOut)),
        }
    }

    fn answer_logout(&mut self, itt: InitiatorTaskTag, response: LogoutResponse) {
        let header = pdu::LogoutReply {
            response: response.0,
            itt: itt.0.into(),
            time2wait: self.link.parameters.default_time2wait_s.into(),
            time2retain: self.link.parameters.default_time2retain_s.into(),
            ..pdu::LogoutReply::blank()
        };
        self.link.output.push(*header.bytes(), Default::default(), Numbering::Status);
    }
}
