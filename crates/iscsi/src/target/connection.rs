//! The public face of a target connection.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    AsyncMessage, CommandSizer, Config, Event, LoginAccept, Response, TargetRecord, TaskId, TaskManagementId,
};
use crate::PayloadPool;
use crate::parameters::Parameters;
use crate::pdu::{LoginStatus, TaskManagementResponse};

/// One TCP connection of an initiator, as a state machine.
pub struct Connection<P: PayloadPool> {
    pool: P,
    config: Config,
    parameters: Parameters,
    staging: Vec<u8>,
    events: VecDeque<Event>,
    now: Duration,
}

impl<P: PayloadPool> Connection<P> {
    /// A connection just accepted at `now`.
    pub fn new(config: Config, pool: P, now: Duration) -> Self {
        let staging = vec![0; 8192];
        Self { pool, config, parameters: Parameters::default(), staging, events: VecDeque::new(), now }
    }

    /// Where the next bytes from the socket go. Empty when nothing more may be read for now: the
    /// initiator does not take what was sent to it, or the connection is closed. Transmit, then ask again.
    pub fn recv_space(&mut self) -> &mut [u8] {
        &mut self.staging
    }

    /// `count` bytes were put into [`Connection::recv_space`] at `now`.
    pub fn received(&mut self, count: usize, now: Duration, sizer: &dyn CommandSizer) {
        let _ = (count, sizer, &self.pool, &self.config);
        self.now = now;
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends what is to be sent next to `out`, in order, until about `bytes_max` bytes are
    /// appended or there is no more. Returns the bytes appended.
    pub fn poll_transmit(&mut self, out: &mut VecDeque<Bytes>, bytes_max: usize) -> usize {
        let _ = (out, bytes_max);
        0
    }

    /// True when [`Connection::poll_transmit`] would yield something.
    pub fn has_transmit(&self) -> bool {
        false
    }

    /// When [`Connection::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
    }

    /// Lets a login go on. Ignored when none is waiting.
    pub fn login_accept(&mut self, accept: LoginAccept) {
        let _ = accept;
    }

    /// Refuses a login; the connection closes. Ignored when none is waiting.
    pub fn login_reject(&mut self, status: LoginStatus) {
        let _ = status;
    }

    /// Answers SendTargets. Ignored when none is waiting.
    pub fn send_targets(&mut self, targets: &[TargetRecord]) {
        let _ = targets;
    }

    /// Answers a command. Ignored when the task is gone.
    pub fn respond(&mut self, task: TaskId, response: Response) {
        let _ = (task, response);
    }

    /// Answers a task management function. Ignored when it is gone.
    pub fn task_management_response(&mut self, id: TaskManagementId, response: TaskManagementResponse) {
        let _ = (id, response);
    }

    /// Ends a task without a response, for a function another connection asked for. False when it is gone.
    pub fn abort_task(&mut self, task: TaskId) -> bool {
        let _ = task;
        false
    }

    /// Completes a logout. Ignored when none is waiting.
    pub fn logout_accept(&mut self) {}

    /// Tells the initiator something. Ignored outside the full feature phase of a normal session.
    pub fn async_message(&mut self, message: AsyncMessage) {
        let _ = message;
    }

    /// Asks the initiator to log out within `within` (RFC 7143 §11.9.1).
    pub fn request_logout(&mut self, within: Duration) {
        self.async_message(AsyncMessage::LogoutRequest { within });
    }

    /// Sets how many commands may be under way, at most what the configuration says. A window once
    /// granted is never taken back; a smaller one comes into force as commands complete (RFC 7143 §4.2.2.1).
    pub fn set_window(&mut self, commands: u32) {
        let _ = commands;
    }

    /// Ends the connection; what is queued is forgotten. `Closed` follows as an event.
    pub fn close(&mut self) {}

    /// What was negotiated, so far.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Tasks under way, whether delivered or still waiting for their data.
    pub fn tasks(&self) -> usize {
        0
    }
}
