//! The public face of an initiator connection.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::login::Login;
use super::receive::Sink;
use super::session::Numbers;
use super::task::{DataJob, Kind, ScsiTask, Tasks, tag_of};
use super::{CloseReason, Command, Config, Event, TaskId, TaskManagementDone};
use crate::frame::{FrameReader, FrameWriter, length};
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Parameters};
use crate::pdu::{
    self, Bhs, Header, IMMEDIATE, LogoutReason, TaskManagementFunction, TaskManagementResponse, U24, flags,
};
use crate::{Cid, CmdSn, Lun, PayloadPool, StatSn, TargetTransferTag};

/// Where a connection stands.
pub(super) enum Phase {
    Login(Box<Login>),
    FullFeature,
    Closed,
}

/// One TCP connection to a target, as a state machine.
pub struct Connection<P: PayloadPool> {
    pub(super) pool: P,
    pub(super) config: Config,
    pub(super) now: Duration,
    started: Duration,
    pub(super) phase: Phase,
    pub(super) parameters: Parameters,
    pub(super) reader: FrameReader,
    pub(super) current: Option<Bhs>,
    pub(super) sink: Sink,
    pub(super) collected: Vec<u8>,
    pub(super) direct: bool,
    pub(super) writer: FrameWriter,
    pub(super) control: VecDeque<(Bhs, Bytes)>,
    pub(super) jobs: VecDeque<DataJob>,
    /// Commands that wait for the window, or for the login.
    pub(super) queued: VecDeque<TaskId>,
    pub(super) tasks: Tasks<P::Buf>,
    pub(super) cmd_sn: CmdSn,
    pub(super) max_cmd_sn: CmdSn,
    /// StatSN that comes next; none before the first.
    pub(super) exp_stat_sn: Option<StatSn>,
    /// Answer to SendTargets so far.
    pub(super) targets: Vec<u8>,
    last_received: Duration,
    asked_at: Option<Duration>,
    /// The target asked for a logout: it goes out once nothing is under way, and at this time at the latest.
    pub(super) leave_by: Option<Duration>,
    /// A logout is under way.
    pub(super) logging_out: bool,
    pub(super) events: VecDeque<Event>,
}

impl<P: PayloadPool> Connection<P> {
    /// A connection just made at `now`; the login starts at once.
    pub fn new(config: Config, pool: P, now: Duration) -> Self {
        let mut connection = Self {
            pool,
            now,
            started: now,
            phase: Phase::Login(Box::new(Login::new(&config))),
            parameters: Parameters::default(),
            reader: FrameReader::new(DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH),
            current: None,
            sink: Sink::Discard,
            collected: Vec::new(),
            direct: false,
            writer: FrameWriter::new(),
            control: VecDeque::new(),
            jobs: VecDeque::new(),
            queued: VecDeque::new(),
            tasks: Tasks::new(config.tags.clone(), config.tasks_before),
            cmd_sn: config.cmd_sn,
            max_cmd_sn: config.cmd_sn,
            exp_stat_sn: None,
            targets: Vec::new(),
            last_received: now,
            asked_at: None,
            leave_by: None,
            logging_out: false,
            events: VecDeque::new(),
            config,
        };
        connection.send_login_request();
        connection
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Connection::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Login(_) => Some(self.started + self.config.login_timeout),
            Phase::FullFeature => {
                let leave_by = self.leave_by.filter(|_| !self.logging_out);
                self.keep_alive_due().into_iter().chain(leave_by).min()
            }
            Phase::Closed => None,
        }
    }

    /// When the target is to be asked whether it is there, or to have answered that.
    fn keep_alive_due(&self) -> Option<Duration> {
        match self.asked_at {
            Some(asked_at) => Some(asked_at + self.config.nop_timeout),
            None => self.config.nop_interval.map(|interval| self.last_received + interval),
        }
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match self.phase {
            Phase::Login(_) => self.close_with(CloseReason::LoginTimeout),
            Phase::FullFeature => {
                self.leave_if_time();
                self.check_keep_alive();
            }
            Phase::Closed => {}
        }
    }

    fn check_keep_alive(&mut self) {
        if self.keep_alive_due().is_none_or(|due| self.now < due) {
            return;
        }
        if self.asked_at.is_some() {
            self.close_with(CloseReason::NopTimeout);
        } else {
            self.asked_at = Some(self.now);
            self.send_ping(Kind::KeepAlive, Bytes::new());
        }
    }

    /// The target wants this connection logged out within `within` (RFC 7143 §11.9.1): nothing more is sent than
    /// what is under way. Commands that were not sent go back to the caller.
    pub(super) fn asked_to_leave(&mut self, within: Duration) {
        // Half the time, so that the logout is there in time.
        let by = self.now + within / 2;
        self.leave_by = Some(self.leave_by.map_or(by, |earlier| earlier.min(by)));
        for id in core::mem::take(&mut self.queued) {
            if let Some(Kind::Scsi(task)) = self.tasks.end(id) {
                self.events.push_back(Event::Returned { task: id, command: task.command });
            }
        }
    }

    /// Logs out if the target asked for it, and nothing is under way or there is no time left.
    pub(super) fn leave_if_time(&mut self) {
        let Some(by) = self.leave_by.filter(|_| !self.logging_out) else { return };
        if matches!(self.phase, Phase::FullFeature) && (self.tasks.commands == 0 || self.now >= by) {
            // Other connections of the session are asked for themselves.
            self.logout_connection(self.config.cid);
        }
    }

    /// Bytes came: the target is there.
    pub(super) fn heard(&mut self, now: Duration) {
        self.now = now;
        self.last_received = now;
        self.asked_at = None;
    }

    /// Queues a command; it is sent when the target's window is open and the login is through. Once the target has
    /// asked for a logout it comes back, as [`Event::Returned`].
    pub fn submit(&mut self, command: Command) -> TaskId {
        let immediate = command.immediate;
        let task = ScsiTask { command, sent: None, buffer: None, received: 0, data_sn: 0 };
        let id = self.tasks.start(Kind::Scsi(task));
        if self.leave_by.is_some() {
            if let Some(Kind::Scsi(task)) = self.tasks.end(id) {
                self.events.push_back(Event::Returned { task: id, command: task.command });
            }
            return id;
        }
        if immediate {
            self.queued.push_front(id);
        } else {
            self.queued.push_back(id);
        }
        id
    }

    /// Asks for targets: all in a discovery session, the current one in a normal session.
    pub fn send_targets(&mut self) {
        let value: &[u8] =
            if self.config.target_name.is_none() { b"SendTargets=All\0" } else { b"SendTargets=\0" };
        let id = self.tasks.start(Kind::SendTargets);
        self.targets.clear();
        self.send_text(tag_of(id).0, TargetTransferTag::NONE, Bytes::from_static(value));
    }

    /// The target wants to negotiate: it gets a Text Request without keys, as there is nothing to change
    /// (RFC 7143 §11.9.1).
    pub(super) fn renegotiate(&mut self) {
        let id = self.tasks.start(Kind::Negotiation);
        self.send_text(tag_of(id).0, TargetTransferTag::NONE, Bytes::new());
    }

    pub(super) fn send_text(&mut self, itt: u32, ttt: TargetTransferTag, data: Bytes) {
        let header = pdu::TextRequest {
            opcode: pdu::TextRequest::OPCODE.0 | IMMEDIATE,
            itt: itt.into(),
            ttt: ttt.0.into(),
            ..pdu::TextRequest::blank()
        };
        self.push(*header.bytes(), data);
    }

    /// Asks for a task management function, delivered at once. `referenced` is for ABORT TASK.
    pub fn task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) -> TaskId {
        let cmd_sn = self.cmd_sn;
        let id = self.tasks.start(Kind::TaskManagement { function, lun, referenced, cmd_sn });
        let referenced_task = referenced.and_then(|task| self.tasks.scsi(task).map(|scsi| scsi.sent));
        if let (Some(task), Some(None)) = (referenced, referenced_task) {
            // Never sent: nothing to ask the target.
            self.queued.retain(|queued| *queued != task);
            self.tasks.end(task);
            self.tasks.end(id);
            let response = TaskManagementResponse::Complete;
            let done = TaskManagementDone { id, response, ended: vec![task] };
            self.events.push_back(Event::TaskManagementDone(done));
            return id;
        }
        let header = pdu::TaskManagementRequest {
            opcode: pdu::TaskManagementRequest::OPCODE.0 | IMMEDIATE,
            flags: flags::FINAL | function.0,
            lun: lun.0,
            itt: tag_of(id).0.into(),
            referenced_tag: referenced.map_or(u32::MAX, |task| tag_of(task).0).into(),
            ref_cmd_sn: referenced_task.flatten().map_or(0, |cmd_sn| cmd_sn.0).into(),
            ..pdu::TaskManagementRequest::blank()
        };
        self.push(*header.bytes(), Bytes::new());
        id
    }

    /// Sends a NOP-Out with `data`, which comes back in `NopReply`.
    pub fn nop(&mut self, data: Bytes) {
        self.send_ping(Kind::Ping, data);
    }

    fn send_ping(&mut self, kind: Kind<P::Buf>, data: Bytes) {
        let id = self.tasks.start(kind);
        let header = pdu::NopOut {
            opcode: pdu::NopOut::OPCODE.0 | IMMEDIATE,
            itt: tag_of(id).0.into(),
            ttt: u32::MAX.into(),
            ..pdu::NopOut::blank()
        };
        self.push(*header.bytes(), data);
    }

    /// Closes the session in good order; send when no command is under way, or lose those.
    pub fn logout(&mut self) {
        self.request_logout(LogoutReason::CloseSession, self.config.cid);
    }

    /// Has one connection of the session closed: this one, or another that no longer answers.
    pub fn logout_connection(&mut self, cid: Cid) {
        self.request_logout(LogoutReason::CloseConnection, cid);
    }

    fn request_logout(&mut self, reason: LogoutReason, cid: Cid) {
        if core::mem::replace(&mut self.logging_out, true) {
            return;
        }
        let closes_this = reason == LogoutReason::CloseSession || cid == self.config.cid;
        let id = self.tasks.start(Kind::Logout { closes_this });
        let header = pdu::LogoutRequest {
            opcode: pdu::LogoutRequest::OPCODE.0 | IMMEDIATE,
            flags: flags::FINAL | reason.0,
            itt: tag_of(id).0.into(),
            cid: cid.0.into(),
            ..pdu::LogoutRequest::blank()
        };
        self.push(*header.bytes(), Bytes::new());
    }

    /// Queues a request other than a command.
    pub(super) fn push(&mut self, mut bhs: Bhs, data: Bytes) {
        let data_len = U24::new(length(data.len()).min(U24::MAX));
        if let Some(place) = bhs.get_mut(5..8) {
            place.copy_from_slice(zerocopy::IntoBytes::as_bytes(&data_len));
        }
        self.control.push_back((bhs, data));
    }

    /// Ends the connection; `Closed` follows as an event.
    pub fn close(&mut self) {
        self.close_with(CloseReason::Local);
    }

    pub(super) fn close_with(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        self.control.clear();
        self.jobs.clear();
        self.queued.clear();
        self.tasks.clear();
        self.sink = Sink::Discard;
        self.direct = false;
        self.events.push_back(Event::Closed(reason));
    }

    pub(super) fn set_numbers(&mut self, numbers: Numbers) {
        (self.cmd_sn, self.max_cmd_sn) = (numbers.cmd_sn, numbers.max_cmd_sn);
    }

    pub(super) const fn numbers(&self) -> Numbers {
        Numbers { cmd_sn: self.cmd_sn, max_cmd_sn: self.max_cmd_sn }
    }

    /// True once the connection is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// What was negotiated, so far.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Commands submitted and not completed.
    pub fn tasks(&self) -> usize {
        self.tasks.commands
    }

    /// How many requests were made: [`Config::tasks_before`] of a connection whose [`TaskId`]s are not to repeat
    /// this one's.
    pub fn tasks_started(&self) -> u64 {
        self.tasks.started
    }

    /// How many more commands can be sent at once: what the target's window takes, less what is queued.
    pub fn window(&self) -> u32 {
        let room =
            if self.max_cmd_sn.before(self.cmd_sn) { 0 } else { self.max_cmd_sn.since(self.cmd_sn) + 1 };
        room.saturating_sub(length(self.queued.len()))
    }
}
