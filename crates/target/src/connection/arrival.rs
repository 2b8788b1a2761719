//! Connections that join a session: each is accepted and logs in wherever it came, then moves, socket and protocol,
//! to the task and the reactor that have the session.

use super::wire::{Stage, Wire};
use super::{Connection, Place};
use crate::functions::Quiet;
use crate::memory::CountedPool;
use crate::outbox::Outbox;
use crate::reactor::Seat;
use crate::registry::{Presence, SessionEntry};
use crate::server::Shared;
use iscsi::pdu::LoginStatus;
use iscsi::target::{JoinError, Joining, LinkId, LoginAccept, TaskId};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Context;
use tokio::sync::mpsc;

/// A connection on its way to its session. Its login waits to be accepted.
pub(crate) struct Arrival {
    joining: Joining,
    accept: LoginAccept,
    place: Place,
    socket: TcpStream,
    outbox: Outbox,
    presence: Presence,
}

impl Connection {
    /// This login belongs to another session's task.
    pub(super) fn move_to(&mut self, entry: &SessionEntry, accept: LoginAccept) {
        let Some(wire) = self.wires.pop() else { return };
        let fresh = super::protocol(&self.shared);
        let Some(joining) = std::mem::replace(&mut self.protocol, fresh).into_joining() else { return };
        let Wire { place, socket, outbox, presence, seat, .. } = wire;
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::warn!(peer = %place.peer, %error, "a connection could not be moved to its session");
            }
        };
        let arrival = Arrival { joining, accept, place, socket, outbox, presence };
        arrival.presence.moved_to(&entry.mailbox);
        if let Err(mpsc::error::SendError(arrival)) = entry.arrivals.send(arrival) {
            turn_away(&self.shared, seat.load(), arrival, LoginStatus::SessionDoesNotExist);
        }
    }

    /// Takes in connections that join this session.
    pub(super) fn take_arrivals(&mut self, context: &mut Context<'_>) {
        while let std::task::Poll::Ready(Some(arrival)) = self.arrivals.1.poll_recv(context) {
            let Some(session) = &self.session else { continue };
            let (initiator, peer) = (&session.entry.initiator, arrival.place.peer);
            let Arrival { joining, accept, place, socket, outbox, presence } = arrival;
            let cid = joining.cid();
            let socket = match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::warn!(%peer, %error, "a connection could not be taken into its session");
                    continue;
                }
            };
            match self.protocol.join(joining, self.shared.now()) {
                Ok(link) => {
                    tracing::info!(initiator, %peer, portal = %place.local, cid = cid.0, "connection joins session");
                    let seat = Seat::take(&self.load);
                    let wire = Wire { link, outbox, ..Wire::new(place, socket, presence, seat) };
                    self.wires.push(wire);
                    self.joined.push((link, accept));
                    self.take_events(context);
                    self.list_connections();
                }
                Err((error, joining)) => {
                    tracing::info!(initiator, %peer, cid = cid.0, %error, "a connection was not taken into its session");
                    let status = match error {
                        JoinError::TooManyConnections => LoginStatus::TooManyConnections,
                        JoinError::SessionOver => LoginStatus::SessionDoesNotExist,
                    };
                    let Ok(socket) = socket.into_std() else { continue };
                    let arrival = Arrival { joining, accept, place, socket, outbox, presence };
                    turn_away(&self.shared, &self.load, arrival, status);
                }
            }
        }
    }

    /// A connection is gone, and others of the session are not: what it began is waited for by all that comes after
    /// (promise 7).
    pub(super) fn tasks_lost(&mut self, tasks: &[TaskId]) {
        if let Some(session) = &self.session {
            session.data_came();
        }
        self.lost.push(Quiet::after(&mut self.execution, tasks));
        self.execution.hold(true);
    }

    /// Lets commands and new connections go on that waited for what lost ones had on the medium.
    pub(super) fn poll_lost(&mut self, context: &mut Context<'_>) {
        if !self.lost.is_empty() {
            self.lost.retain_mut(|quiet| quiet.poll(context).is_pending());
            if self.lost.is_empty() {
                self.execution.hold(self.predecessor.is_some());
                self.start_waiting(context);
            }
        }
        if self.lost.is_empty() && !self.joined.is_empty() {
            for (link, accept) in std::mem::take(&mut self.joined) {
                if let Some(protocol) = self.protocol.on(link) {
                    protocol.login_accept(accept);
                }
            }
            self.take_events(context);
        }
    }

    /// Forgets sockets that are of no use any more. The last one stays: with it the session ends.
    pub(super) fn remove_over(&mut self, context: &mut Context<'_>) {
        while self.wires.len() > 1 {
            let Some(at) = self.wires.iter().position(|wire| wire.stage == Stage::Over) else { return };
            let wire = self.wires.swap_remove(at);
            self.log_connection_end(&wire);
            if let Some(protocol) = self.protocol.on(wire.link) {
                protocol.close();
            }
            let link: LinkId = wire.link;
            drop(wire);
            self.take_events(context);
            self.protocol.release(link);
            self.list_connections();
        }
    }

    /// Tells the registry which connections there are.
    pub(super) fn list_connections(&self) {
        let Some(session) = &self.session else { return };
        let of = |wire: &Wire| self.protocol.cid_of(wire.link).map(|cid| wire.info(cid));
        session.entry.set_connections(self.wires.iter().filter_map(of).collect());
    }
}

/// Refuses a login that cannot join its session, as a connection of its own.
pub(super) fn turn_away(
    shared: &Arc<Shared>,
    load: &Arc<AtomicUsize>,
    arrival: Arrival,
    status: LoginStatus,
) {
    let Arrival { joining, place, socket, outbox, presence, .. } = arrival;
    let (shared, seat) = (Arc::clone(shared), Seat::take(load));
    tokio::spawn(async move {
        let Ok(socket) = tokio::net::TcpStream::from_std(socket) else { return };
        let pool = CountedPool::new(shared.buffers.clone(), Arc::clone(&shared.gauge));
        let config = shared.config.connection.clone();
        let mut protocol = iscsi::target::Connection::alone(config, pool, joining, shared.now());
        protocol.login_reject(status);
        let (mailbox, messages) = mpsc::unbounded_channel();
        presence.moved_to(&mailbox);
        let wire = Wire { outbox, ..Wire::new(place, socket, presence, seat) };
        Connection { protocol, ..Connection::new(shared, wire, mailbox, messages) }.run().await;
    });
}
