//! The public face of a target connection.

use core::time::Duration;
use std::collections::VecDeque;

use super::link::{Link, LinkId, Phase};
use super::output::Numbering;
use super::session::Session;
use super::{AsyncMessage, CloseReason, Config, Event, TaskId};
use crate::frame::size;
use crate::parameters::{Parameters, SessionType};
use crate::pdu::{self, AsyncEvent, Header};
use crate::{InitiatorTaskTag, Lun, PayloadPool, TargetTransferTag, Tsih};

/// The connections of one session as a state machine: one of them to begin with, and more that join it
/// ([`Connection::join`]). Whoever never lets one join need not know that there can be more.
///
/// Bytes, answers to logins and to SendTargets belong to the connection that is [attended](Connection::attended)
/// to; tasks and functions know theirs.
pub struct Connection<P: PayloadPool> {
    pub(super) pool: P,
    pub(super) config: Config,
    pub(super) now: Duration,
    /// Attended to.
    pub(super) link: Box<Link>,
    #[allow(clippy::vec_box, reason = "attending to another one swaps two pointers")]
    pub(super) others: Vec<Box<Link>>,
    pub(super) session: Session<P::Buf>,
    pub(super) events: VecDeque<(LinkId, Event)>,
}

impl<P: PayloadPool> Connection<P> {
    /// A connection just accepted at `now`.
    pub fn new(config: Config, pool: P, now: Duration) -> Self {
        let config = config.within_range();
        Self {
            now,
            link: Box::new(Link::new(config.offer.clone(), now)),
            others: Vec::new(),
            session: Session::new(config.command_window),
            events: VecDeque::new(),
            pool,
            config,
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().map(|(_, event)| event)
    }

    /// When [`Connection::handle_timeout`] is to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        let links = core::iter::once(&self.link).chain(&self.others).filter_map(|link| self.link_due(link));
        links.chain(self.drain_deadline()).chain(self.gap_deadline()).min()
    }

    /// When something is to be done about a connection.
    fn link_due(&self, link: &Link) -> Option<Duration> {
        match &link.phase {
            Phase::Login(_) => Some(link.started + self.config.login_timeout),
            Phase::FullFeature => {
                let keep_alive = match link.keep_alive.asked_at {
                    Some(asked_at) => Some(asked_at + self.config.nop_timeout),
                    None => self.config.nop_interval.map(|interval| link.keep_alive.last_received + interval),
                };
                keep_alive.into_iter().chain(link.logout_deadline).min()
            }
            Phase::Closed => None,
        }
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        self.check_drain_deadline();
        self.check_gap_deadline();
        let links: Vec<LinkId> = self.links().collect();
        for link in links {
            self.at(link, Self::check_link);
        }
    }

    /// Does what the times of the connection attended to ask for.
    fn check_link(&mut self) {
        match self.link.phase {
            Phase::Login(_) if self.now >= self.link.started + self.config.login_timeout => {
                self.close_with(CloseReason::LoginTimeout);
            }
            Phase::FullFeature => {
                self.check_keep_alive();
                self.check_logout_deadline();
            }
            _ => {}
        }
    }

    fn check_keep_alive(&mut self) {
        let keep_alive = &mut self.link.keep_alive;
        if let Some(asked_at) = keep_alive.asked_at {
            if self.now >= asked_at + self.config.nop_timeout {
                self.close_with(CloseReason::NopTimeout);
            }
            return;
        }
        let Some(interval) = self.config.nop_interval else { return };
        if self.now >= keep_alive.last_received + interval {
            self.ask_if_there();
        }
    }

    /// Asks the initiator for a sign of life on the connection attended to.
    pub(super) fn ask_if_there(&mut self) {
        let keep_alive = &mut self.link.keep_alive;
        keep_alive.asked_at.get_or_insert(self.now);
        // FFFFFFFFh would ask for no answer.
        keep_alive.asked = keep_alive.asked.wrapping_add(1) & 0x7fff_ffff;
        let asked = TargetTransferTag(keep_alive.asked);
        self.send_nop_in(InitiatorTaskTag::NONE, asked);
    }

    /// Queues a NOP-In of the target's own: a question, or news of the window when `ttt` is none.
    pub(super) fn send_nop_in(&mut self, itt: InitiatorTaskTag, ttt: TargetTransferTag) {
        let nop = pdu::NopIn { itt: itt.0.into(), ttt: ttt.0.into(), ..pdu::NopIn::blank() };
        self.link.output.push(*nop.bytes(), Default::default(), Numbering::Next);
    }

    /// Tells the initiator something. Ignored outside the full feature phase of a normal session.
    pub fn async_message(&mut self, message: AsyncMessage) {
        if !matches!(self.link.phase, Phase::FullFeature)
            || self.session.session_type == SessionType::Discovery
        {
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
                    parameter1: self.link.cid.0.into(),
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
        self.link.output.push(*header.bytes(), data, Numbering::Status);
    }

    /// Asks the initiator to log out, on each of the session's connections, within `within`, in whole seconds and at
    /// least one. When it has not by then, it is told that the connection is dropped, and the connection closes (RFC 7143 §11.9.1). A later call can
    /// only shorten the time. Ignored outside the full feature phase of a normal session.
    pub fn request_logout(&mut self, within: Duration, now: Duration) {
        self.now = now.max(self.now);
        let links: Vec<LinkId> = self.links().collect();
        for link in links {
            self.at(link, |session| session.request_logout_here(within));
        }
    }

    fn request_logout_here(&mut self, within: Duration) {
        if !self.takes_commands() {
            return;
        }
        let within = seconds(within).max(1);
        let until = self.now + Duration::from_secs(within.into());
        if self.link.logout_deadline.is_some_and(|earlier| earlier <= until) {
            return;
        }
        self.link.logout_deadline = Some(until);
        let header = pdu::AsyncMessage {
            event: AsyncEvent::LogoutRequest.0,
            itt: u32::MAX.into(),
            parameter3: within.into(),
            ..pdu::AsyncMessage::blank()
        };
        self.link.output.push(*header.bytes(), Default::default(), Numbering::Status);
    }

    /// An initiator that was asked to log out and did not is dropped.
    fn check_logout_deadline(&mut self) {
        if self.link.logout_deadline.is_none_or(|until| self.now < until) {
            return;
        }
        let Parameters { default_time2wait_s, default_time2retain_s, .. } = self.link.parameters;
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
        self.link.output.clear();
        self.close_with(CloseReason::Local);
    }

    /// Forgets the session's tasks and all that is held or read for them.
    pub(super) fn clear_session(&mut self) {
        self.session.clear();
        for link in core::iter::once(&mut self.link).chain(&mut self.others) {
            link.held_bytes = 0;
            link.output.clear_reads();
        }
    }

    /// True once the connection is over.
    pub fn is_closed(&self) -> bool {
        !self.link.is_open()
    }

    /// What was negotiated, so far.
    pub fn parameters(&self) -> &Parameters {
        &self.link.parameters
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
    /// session still holds of what `respond` was given.
    pub fn unsent_data(&self) -> usize {
        let links = core::iter::once(&self.link).chain(&self.others);
        links.flat_map(|link| &link.output.reads).map(|job| size(job.chunks.len())).sum()
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
