//! The connections of a session together: joining, attending to one, losing one, closing all.

use core::time::Duration;

use super::connection::Connection;
use super::event::{CloseReason, Event};
use super::link::{JoinError, Joining, LinkId, Phase};
use super::task::Stage;
use super::window::Unit;
use super::{AsyncMessage, Config, TaskId};
use crate::parameters::SessionType;
use crate::{Cid, PayloadPool};

impl<P: PayloadPool> Connection<P> {
    /// The connection that is attended to: whose bytes [`Connection::received`] takes, whose
    /// [`Connection::poll_transmit`] yields, and whose requests are answered.
    pub fn attended(&self) -> LinkId {
        self.link.id
    }

    /// Attends to `link`. `None` when the session has none of that name.
    pub fn on(&mut self, link: LinkId) -> Option<&mut Self> {
        self.select(link).then_some(self)
    }

    /// The session's connections, those that are closed and not yet [released](Connection::release) included.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        core::iter::once(self.link.id).chain(self.others.iter().map(|link| link.id))
    }

    /// CID of a connection.
    pub fn cid_of(&self, link: LinkId) -> Option<Cid> {
        let mut all = core::iter::once(&self.link).chain(&self.others);
        all.find(|other| other.id == link).map(|link| link.cid)
    }

    /// True when every connection of the session is over.
    pub fn is_over(&self) -> bool {
        !self.link.is_open() && self.others.iter().all(|link| !link.is_open())
    }

    /// The next thing to tell, and the connection it is about: of a command that which it came on and which its
    /// answer will take.
    pub fn poll_event_of(&mut self) -> Option<(LinkId, Event)> {
        self.events.pop_front()
    }

    /// Makes of a login that waits for the caller's decision one that can [join](Connection::join) another session.
    /// `None` when no login is waiting.
    pub fn into_joining(self) -> Option<Joining> {
        let waits = matches!(&self.link.phase, Phase::Login(login) if login.waits());
        waits.then_some(Joining { link: self.link })
    }

    /// The opposite of [`Connection::into_joining`]: the login goes on by itself, to be refused.
    pub fn alone(config: Config, pool: P, mut joining: Joining, now: Duration) -> Self {
        joining.link.id = LinkId::LEADING;
        Self { link: joining.link, ..Self::new(config, pool, now) }
    }

    /// Takes a connection into this session. It still waits: answer with [`Connection::login_accept`] or
    /// [`Connection::login_reject`] while [attending](Connection::on) to it.
    ///
    /// A connection of the same CID is logged out by it, its tasks ended (RFC 7143 §6.3.4): [`Event::Ended`] and
    /// [`Event::Closed`] follow for that. Do not accept before what they name has stopped touching the medium.
    ///
    /// # Errors
    /// The connection is given back for a refusal.
    pub fn join(&mut self, mut joining: Joining, now: Duration) -> Result<LinkId, (JoinError, Joining)> {
        self.now = now;
        let Some(parameters) = self.session.parameters.filter(|_| !self.session.closing && !self.is_over())
        else {
            return Err((JoinError::SessionOver, joining));
        };
        if self.session.session_type == SessionType::Discovery {
            return Err((JoinError::SessionOver, joining));
        }
        let cid = joining.link.cid;
        let open = core::iter::once(&self.link).chain(&self.others).filter(|link| link.is_open());
        if open.filter(|link| link.cid != cid).count() >= usize::from(parameters.max_connections) {
            return Err((JoinError::TooManyConnections, joining));
        }
        if let Phase::Login(login) = &mut joining.link.phase {
            login.join(parameters);
        }
        self.session.links_made += 1;
        let id = LinkId(self.session.links_made);
        joining.link.id = id;
        let old: Vec<LinkId> = self.links().filter(|link| self.cid_of(*link) == Some(cid)).collect();
        // The new one counts before the old one goes: the session is never without a connection.
        self.others.push(joining.link);
        for link in old {
            self.at(link, |session| session.close_with(CloseReason::Reinstated));
        }
        Ok(id)
    }

    /// Forgets a connection that is closed and has sent what it had to say. The last one stays.
    pub fn release(&mut self, link: LinkId) {
        if self.link.id == link {
            let Some(other) =
                self.others.iter().position(|link| link.is_open()).or(self.others.len().checked_sub(1))
            else {
                return;
            };
            self.link = self.others.swap_remove(other);
        } else {
            self.others.retain(|other| other.id != link || other.is_open());
        }
    }

    /// Makes `link` the one attended to; false when there is none of that name.
    pub(super) fn select(&mut self, link: LinkId) -> bool {
        if self.link.id == link {
            return true;
        }
        let Some(other) = self.others.iter_mut().find(|other| other.id == link) else { return false };
        core::mem::swap(&mut self.link, other);
        true
    }

    /// Does something for `link`, and attends to the same as before afterwards. Nothing when it is gone.
    pub(super) fn at(&mut self, link: LinkId, work: impl FnOnce(&mut Self)) {
        let back = self.link.id;
        if self.select(link) {
            work(self);
            self.select(back);
        }
    }

    /// Tells something about the connection attended to.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back((self.link.id, event));
    }

    /// Ends the connection attended to; what is queued is still sent.
    pub(super) fn close_with(&mut self, reason: CloseReason) {
        if !self.link.is_open() {
            return;
        }
        let id = self.link.id;
        self.link.shut();
        // What was told and not yet fetched is void with it.
        self.events.retain(|(link, _)| *link != id);
        if self.others.iter().any(|other| other.is_open()) {
            let ended = self.end_tasks_of(id);
            if !ended.is_empty() {
                self.tell(Event::Ended(ended));
            }
            self.tell(Event::Closed(reason));
            self.run_waiting_functions();
        } else {
            self.clear_session();
            self.tell(Event::Closed(reason));
        }
    }

    /// Ends every connection of the session.
    pub(super) fn close_all(&mut self, reason: CloseReason) {
        let links: Vec<LinkId> = self.links().collect();
        for link in links {
            self.at(link, |session| session.close_with(reason));
        }
    }

    /// Implicitly terminates the tasks of a connection (RFC 7143 §7.5): its own, those with their data still to come,
    /// and its functions. Returns those that were delivered.
    ///
    /// What came ahead of its turn was never acknowledged by ExpCmdSN: it counts as not received, and the
    /// initiator may send it again over another connection (RFC 7143 §7.2.1).
    pub(super) fn end_tasks_of(&mut self, link: LinkId) -> Vec<TaskId> {
        let session = &mut self.session;
        session.lost_up_to = Some(session.window.granted());
        let tasks = &session.tasks;
        session.window.forget(|unit| match unit {
            Unit::Command(id) => tasks.get(*id).is_none_or(|task| task.link == link),
            Unit::Pdu(other, ..) => *other == link,
            Unit::Skip => false,
        });
        session.functions.retain(|function| function.link != link);
        let of_link = session.tasks.iter().filter(|task| task.link == link);
        let tasks: Vec<(TaskId, Stage)> = of_link.map(|task| (task.id, task.stage)).collect();
        let mut delivered = Vec::new();
        for (id, stage) in tasks {
            self.leave_task_set(id);
            self.end_task(id);
            if stage == Stage::Delivered {
                delivered.push(id);
            }
        }
        self.deliver_ready();
        self.check_gap();
        delivered
    }

    /// Functions that waited for what is gone go on.
    fn run_waiting_functions(&mut self) {
        self.run_drained_functions();
        self.run_fenced_functions();
    }

    /// Notes whether commands are missing that may have been lost with a connection, and others wait for them.
    pub(super) fn check_gap(&mut self) {
        let session = &mut self.session;
        let expected = session.window.expected();
        if session.lost_up_to.is_some_and(|lost| lost.before(expected)) {
            session.lost_up_to = None;
        }
        let gap = session.lost_up_to.is_some() && session.window.holds_any();
        session.gap = match session.gap {
            Some((of, since)) if gap && of == expected => Some((of, since)),
            _ => gap.then_some((expected, self.now)),
        };
    }

    /// When a session ends whose missing commands were not sent again.
    pub(super) fn gap_deadline(&self) -> Option<Duration> {
        let (_, since) = self.session.gap?;
        let parameters = self.session.parameters.unwrap_or_default();
        let agreed = parameters.default_time2wait_s.saturating_add(parameters.default_time2retain_s);
        Some(since + self.config.command_gap_wait.max(Duration::from_secs(agreed.into())))
    }

    /// Commands lost with a connection were not sent again, over whichever connection: those behind them can never
    /// be carried out in order, and at ErrorRecoveryLevel 0 what is left is session recovery (RFC 7143 §7.1.4.4).
    pub(super) fn check_gap_deadline(&mut self) {
        if self.gap_deadline().is_none_or(|deadline| self.now < deadline) {
            return;
        }
        let links: Vec<LinkId> = self.links().collect();
        let parameters = self.session.parameters.unwrap_or_default();
        for link in links {
            self.at(link, |session| {
                session.async_message(AsyncMessage::SessionDrop {
                    time2wait: Duration::from_secs(parameters.default_time2wait_s.into()),
                    time2retain: Duration::ZERO,
                });
            });
        }
        self.close_all(CloseReason::CommandsMissing);
    }
}
