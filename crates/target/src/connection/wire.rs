//! One socket of a session, and how far it is.

use super::Place;
use crate::outbox::Outbox;
use crate::reactor::Seat;
use crate::registry::{ConnectionInfo, Digests, Presence};
use iscsi::Cid;
use iscsi::target::LinkId;
use socket2::SockRef;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Takes nothing more in; ends when what is under way is answered and sent.
    Finishing,
    /// The protocol has ended; ends when what it has to say is sent.
    Closing,
    /// All is sent. Cutting the connection now could cost the other side what it has not received yet: it closes
    /// first.
    Lingering,
    /// The socket is of no use any more.
    Over,
}

/// See the module's description.
pub(crate) struct Wire {
    pub(super) link: LinkId,
    pub(super) place: Place,
    pub(super) socket: TcpStream,
    pub(super) outbox: Outbox,
    pub(super) presence: Presence,
    pub(super) seat: Seat,
    pub(super) stage: Stage,
    /// None before it is logged in.
    pub(super) digests: Option<Digests>,
    pub(super) why: String,
    pub(super) close_at: Option<Duration>,
}

impl Wire {
    pub(crate) fn new(place: Place, socket: TcpStream, presence: Presence, seat: Seat) -> Self {
        Self {
            link: LinkId::LEADING,
            place,
            socket,
            outbox: Outbox::default(),
            presence,
            seat,
            stage: Stage::Open,
            digests: None,
            why: String::new(),
            close_at: None,
        }
    }

    /// Nothing more is read or sent.
    pub(super) fn end(&mut self, why: &str) {
        self.explain(why);
        self.stage = Stage::Over;
    }

    /// The first reason counts.
    pub(super) fn explain(&mut self, why: &str) {
        if self.why.is_empty() {
            why.clone_into(&mut self.why);
        }
    }

    /// Reads what nobody wants any more, until the other side closes. True if there may be more.
    pub(super) fn discard(&mut self, context: &mut Context<'_>) -> bool {
        let mut nowhere = [0; 4096];
        let mut buffer = ReadBuf::new(&mut nowhere);
        match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => return true,
            Poll::Ready(_) => self.stage = Stage::Over,
        }
        false
    }

    /// The connection ends at `at`, if nothing ends it before.
    pub(super) fn close_by(&mut self, at: Duration) {
        self.close_at = Some(self.close_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// All is sent: waits until `until` for the other side to close.
    pub(super) fn linger(&mut self, until: Duration) {
        self.stage = Stage::Lingering;
        self.close_at = Some(until);
        // An error means that the other side has closed already.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    pub(super) fn info(&self, cid: Cid) -> ConnectionInfo {
        ConnectionInfo { cid, peer: self.place.peer, portal: self.place.local, digests: self.digests }
    }
}
