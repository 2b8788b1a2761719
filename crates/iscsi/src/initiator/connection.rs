//! The public face of an initiator connection.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::{Command, Config, Event, TaskId};
use crate::parameters::Parameters;
use crate::pdu::TaskManagementFunction;
use crate::{Lun, PayloadPool};

/// One TCP connection to a target, as a state machine.
pub struct Connection<P: PayloadPool> {
    pool: P,
    config: Config,
    parameters: Parameters,
    staging: Vec<u8>,
    events: VecDeque<Event>,
    now: Duration,
}

impl<P: PayloadPool> Connection<P> {
    /// A connection just made at `now`; the login starts at once.
    pub fn new(config: Config, pool: P, now: Duration) -> Self {
        let staging = vec![0; 8192];
        Self { pool, config, parameters: Parameters::default(), staging, events: VecDeque::new(), now }
    }

    /// Where the next bytes from the socket go. Empty only when the connection is closed.
    pub fn recv_space(&mut self) -> &mut [u8] {
        &mut self.staging
    }

    /// `count` bytes were put into [`Connection::recv_space`] at `now`.
    pub fn received(&mut self, count: usize, now: Duration) {
        let _ = (count, &self.pool, &self.config);
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

    /// When [`Connection::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
    }

    /// Queues a command; it is sent when the target's window is open and the login is through.
    pub fn submit(&mut self, command: Command) -> TaskId {
        let _ = command;
        TaskId(0)
    }

    /// Asks for targets: all in a discovery session, the current one in a normal session.
    pub fn send_targets(&mut self) {}

    /// Asks for a task management function, delivered at once. `referenced` is for ABORT TASK.
    pub fn task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) -> TaskId {
        let _ = (function, lun, referenced);
        TaskId(0)
    }

    /// Sends a NOP-Out with `data`, which comes back in `NopReply`.
    pub fn nop(&mut self, data: Bytes) {
        let _ = data;
    }

    /// Closes the session in good order; send when no command is under way, or lose those.
    pub fn logout(&mut self) {}

    /// Ends the connection; `Closed` follows as an event.
    pub fn close(&mut self) {}

    /// What was negotiated, so far.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Commands submitted and not completed.
    pub fn tasks(&self) -> usize {
        0
    }

    /// How many more commands the target's window takes now.
    pub fn window(&self) -> u32 {
        0
    }
}
