//! The public face of a target connection.

use core::time::Duration;
use std::collections::VecDeque;

use super::login::Login;
use super::output::{Numbering, Output};
use super::receive::{Current, Sink};
use super::session::Session;
use super::text::TextExchange;
use super::{AsyncMessage, CloseReason, Config, Event, TaskId};
use crate::frame::{FrameReader, size};
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Parameters, SessionType};
use crate::pdu::{self, AsyncEvent, Header};
use crate::{InitiatorTaskTag, Lun, PayloadPool, TargetTransferTag, Tsih};

/// Where a connection stands.
pub(super) enum Phase {
    Login(Box<Login>),
    FullFeature,
    Closed,
}

/// A NOP-In that waits for its answer, or the next to be sent.
pub(super) struct KeepAlive {
    pub(super) last_received: Duration,
    pub(super) asked_at: Option<Duration>,
    pub(super) asked: u32,
}

/// One TCP connection of an initiator, as a state machine.
pub struct Connection<P: PayloadPool> {
    pub(super) pool: P,
    pub(super) config: Config,
    pub(super) now: Duration,
    pub(super) started: Duration,
    pub(super) phase: Phase,
    pub(super) parameters: Parameters,
    pub(super) session: Session<P::Buf>,
    pub(super) reader: FrameReader,
    pub(super) current: Current,
    pub(super) sink: Sink,
    pub(super) collected: Vec<u8>,
    /// Bytes of data in PDUs that came ahead of their turn.
    pub(super) held_bytes: usize,
    /// The last `recv_space` was the sink's own.
    pub(super) direct: bool,
    pub(super) output: Output,
    pub(super) text: TextExchange,
    pub(super) keep_alive: KeepAlive,
    pub(super) logout: Option<InitiatorTaskTag>,
    /// When the initiator has to have logged out that was asked to.
    pub(super) logout_deadline: Option<Duration>,
    pub(super) events: VecDeque<Event>,
}

impl<P: PayloadPool> Connection<P> {
    /// A connection just accepted at `now`.
    pub fn new(config: Config, pool: P, now: Duration) -> Self {
        let config = config.within_range();
        Self {
            now,
            started: now,
            phase: Phase::Login(Box::new(Login::new(config.offer.clone()))),
            parameters: Parameters::default(),
            session: Session::new(config.command_window),
            reader: FrameReader::new(DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH),
            current: Current::Ignored,
            sink: Sink::Discard,
            collected: Vec::new(),
            held_bytes: 0,
            direct: false,
            output: Output::new(),
            text: TextExchange::default(),
            keep_alive: KeepAlive { last_received: now, asked_at: None, asked: 0 },
            logout: None,
            logout_deadline: None,
            events: VecDeque::new(),
            pool,
            config,
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Connection::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Login(_) => Some(self.started + self.config.login_timeout),
            Phase::FullFeature => {
                let keep_alive = match self.keep_alive.asked_at {
                    Some(asked_at) => Some(asked_at + self.config.nop_timeout),
                    None => self.config.nop_interval.map(|interval| self.keep_alive.last_received + interval),
                };
                [keep_alive, self.drain_deadline(), self.logout_deadline].into_iter().flatten().min()
            }
            Phase::Closed => None,
        }
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        match self.phase {
            Phase::Login(_) if now >= self.started + self.config.login_timeout => {
                self.close_with(CloseReason::LoginTimeout);
            }
            Phase::FullFeature => {
                self.check_drain_deadline();
                self.check_keep_alive();
                self.check_logout_deadline();
            }
            _ => {}
        }
    }

    fn check_keep_alive(&mut self) {
        let keep_alive = &mut self.keep_alive;
        if let Some(asked_at) = keep_alive.asked_at {
            if self.now >= asked_at + self.config.nop_timeout {
                self.close_with(CloseReason::NopTimeout);
            }
            return;
        }
        let Some(interval) = self.config.nop_interval else { return };
        if self.now >= keep_alive.last_received + interval {
            keep_alive.asked_at = Some(self.now);
            // FFFFFFFFh would ask for no answer.
            keep_alive.asked = keep_alive.asked.wrapping_add(1) & 0x7fff_ffff;
            let asked = TargetTransferTag(keep_alive.asked);
            self.send_nop_in(InitiatorTaskTag::NONE, asked);
        }
    }

    /// Queues a NOP-In of the target's own: a question, or news of the window when `ttt` is none.
    pub(super) fn send_nop_in(&mut self, itt: InitiatorTaskTag, ttt: TargetTransferTag) {
        let nop = pdu::NopIn { itt: itt.0.into(), ttt: ttt.0.into(), ..pdu::NopIn::blank() };
        self.output.push(*nop.bytes(), Default::default(), Numbering::Next);
    }

    /// Tells the initiator something. Ignored outside the full feature phase of a normal session.
    pub fn async_message(&mut self, message: AsyncMessage) {
        if !matches!(self.phase, Phase::FullFeature) || self.session.session_type == SessionType::Discovery {
            return;
        }
        let blank = pdu::AsyncMessage { itt: u32::MAX.into(), ..pdu::AsyncMessage::blank() };
        let (header, data) = match message {
            AsyncMessage::ScsiEvent { lun, sense } => {
                let event = AsyncEvent::ScsiEvent.0;
                (pdu::AsyncMessage { event, lun: lun.0, ..blank }, super::output::sense_segment(&sense))
            }
            AsyncMessage::NegotiationRequest { within } => {
                let event = AsyncEvent::NegotiationRequest.0;
                (pdu::AsyncMessage { event, parameter3: seconds(within).into(), ..blank }, Default::default())
            }
            AsyncMessage::ConnectionDrop { time2wait, time2retain } => {
                let header = pdu::AsyncMessage {
                    event: AsyncEvent::ConnectionDrop.0,
                    // This side knows the connection by being it; a session has only this one.
                    parameter1: self.cid().0.into(),
                    parameter2: seconds(time2wait).into(),
                    parameter3: seconds(time2retain).into(),
                    ..blank
                };
                (header, Default::default())
            }
            AsyncMessage::SessionDrop { time2wait, time2retain } => {
                let header = pdu::AsyncMessage {
                    event: AsyncEvent::SessionDrop.0,
                    parameter2: seconds(time2wait).into(),
                    parameter3: seconds(time2retain).into(),
                    ..blank
                };
                (header, Default::default())
            }
        };
        self.output.push(*header.bytes(), data, Numbering::Status);
    }

    /// Asks the initiator to log out within `within`, in whole seconds and at least one. When it has not by then,
    /// it is told that the connection is dropped, and the connection closes (RFC 7143 §11.9.1). A later call can
    /// only shorten the time. Ignored outside the full feature phase of a normal session.
    pub fn request_logout(&mut self, within: Duration, now: Duration) {
        self.now = now.max(self.now);
        if !self.takes_commands() {
            return;
        }
        let within = seconds(within).max(1);
        let until = self.now + Duration::from_secs(within.into());
        if self.logout_deadline.is_some_and(|earlier| earlier <= until) {
            return;
        }
        self.logout_deadline = Some(until);
        let header = pdu::AsyncMessage {
            event: AsyncEvent::LogoutRequest.0,
            itt: u32::MAX.into(),
            parameter3: within.into(),
            ..pdu::AsyncMessage::blank()
        };
        self.output.push(*header.bytes(), Default::default(), Numbering::Status);
    }

    /// An initiator that was asked to log out and did not is dropped.
    fn check_logout_deadline(&mut self) {
        if self.logout_deadline.is_none_or(|until| self.now < until) {
            return;
        }
        let Parameters { default_time2wait_s, default_time2retain_s, .. } = self.parameters;
        self.async_message(AsyncMessage::ConnectionDrop {
            time2wait: Duration::from_secs(default_time2wait_s.into()),
            time2retain: Duration::from_secs(default_time2retain_s.into()),
        });
        self.close_with(CloseReason::LogoutOverdue);
    }

    /// Sets how many commands may be under way, at least 1 and at most what the configuration says.
    /// A window once granted is never taken back; a smaller one comes into force as commands complete
    /// (RFC 7143 §4.2.2.1).
    pub fn set_window(&mut self, commands: u32) {
        self.session.window.set_limit(commands);
    }

    /// Ends the connection; what is queued is forgotten. `Closed` follows as an event.
    pub fn close(&mut self) {
        self.output.clear();
        self.close_with(CloseReason::Local);
    }

    /// Ends the connection; what is queued is still sent.
    pub(super) fn close_with(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        self.clear_session();
        self.sink = Sink::Discard;
        self.current = Current::Ignored;
        self.direct = false;
        self.collected = Vec::new();
        self.text = TextExchange::default();
        // What was told and not yet fetched is void with it.
        self.events.clear();
        self.events.push_back(Event::Closed(reason));
    }

    /// Forgets the session's tasks and all that is held or read for them.
    pub(super) fn clear_session(&mut self) {
        self.session.clear();
        self.held_bytes = 0;
        self.output.clear_reads();
    }

    /// True once the connection is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// What was negotiated, so far.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The session's handle; [`Tsih::NEW`] before the full feature phase.
    pub fn tsih(&self) -> Tsih {
        self.session.tsih
    }

    /// Tasks under way, whether delivered or still waiting for their data.
    pub fn tasks(&self) -> usize {
        self.session.tasks.len()
    }

    /// Bytes of read data in answers that [`Connection::poll_transmit`] has not yielded yet: what the
    /// connection still holds of what `respond` was given.
    pub fn unsent_data(&self) -> usize {
        self.output.reads.iter().map(|job| size(job.chunks.len())).sum()
    }

    /// Logical unit of a task under way.
    pub fn task_lun(&self, task: TaskId) -> Option<Lun> {
        self.session.tasks.get(task).map(|task| task.lun)
    }
}

/// Whole seconds for a 16-bit field.
fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}
