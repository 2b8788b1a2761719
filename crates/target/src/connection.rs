//! One session: a task that owns its sockets, the protocol and the commands. It begins with one connection, before
//! that has logged in; a connection that turns out to belong to a session that is there moves to that one's task.
//!
//! Each wake-up does all there is to do: messages, what has arrived, what has ended on the medium; then everything
//! that is to be sent goes out together. A session that is over first lets its operations on the medium end;
//! only then are the nexus and the session gone.

mod arrival;
mod proof;
mod session_log;
mod wire;

pub(crate) use arrival::Arrival;
pub(crate) use wire::Wire;

use crate::directory::Authentication;
use crate::execution::{Answer, Execution};
use crate::functions::{self, Quiet, RunningFunction};
use crate::login;
use crate::memory::{Budget, CountedPool, Pressure};
use crate::registry::{Digests, Mailbox, Message, Presence};
use crate::server::Shared;
use crate::session::{NoSession, Session};
use block::BoxFuture;
use iscsi::PortalGroupTag;
use iscsi::parameters::SessionType;
use iscsi::pdu::LoginStatus;
use iscsi::target::{CloseReason, Event, LinkId, LoginAccept, LoginRequested, SessionEstablished, TaskId};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use wire::Stage;

/// Reads of one wake-up, before others get their turn.
const READS_MAX: usize = 16;

/// Writes of one wake-up, before others get their turn: a socket whose other end reads fast takes all that there is.
const WRITES_MAX: usize = 16;

/// Command window under memory pressure.
const WINDOW_UNDER_PRESSURE: u32 = 8;

/// Where a connection is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) group: PortalGroupTag,
}

/// A session that is there, or one connection that has not logged in.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// Of the first connection.
    place: Place,
    mailbox: Mailbox,
    messages: mpsc::UnboundedReceiver<Message>,
    arrivals: (mpsc::UnboundedSender<Arrival>, mpsc::UnboundedReceiver<Arrival>),
    timer: Pin<Box<Sleep>>,
    timer_at: Duration,
    protocol: Protocol,
    /// Never empty but for a connection that has moved away.
    wires: Vec<Wire>,
    /// Connections of this task's reactor.
    load: Arc<AtomicUsize>,
    /// The login that has to prove something, and what.
    demanded: Option<(LoginRequested, Authentication)>,
    session: Option<Session>,
    predecessor: Option<BoxFuture<'static, ()>>,
    execution: Execution,
    functions: Vec<RunningFunction>,
    logouts: Vec<(LinkId, Quiet)>,
    /// What lost connections have left on the medium.
    lost: Vec<Quiet>,
    /// Connections that joined and wait for that.
    joined: Vec<(LinkId, LoginAccept)>,
    window_small: bool,
    answers: Vec<Answer>,
}

type Protocol = iscsi::target::Connection<CountedPool>;

/// The protocol of a fresh connection.
fn protocol(shared: &Shared) -> Protocol {
    let pool = CountedPool::new(shared.buffers.clone(), Arc::clone(&shared.gauge));
    Protocol::new(shared.config.connection.clone(), pool, shared.now())
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        wire: Wire,
        mailbox: Mailbox,
        messages: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let budget = Budget::new(Arc::clone(&shared.gauge), shared.config.limits.session_bytes_max);
        Self {
            place: wire.place,
            mailbox,
            messages,
            arrivals: mpsc::unbounded_channel(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: Duration::ZERO,
            protocol: protocol(&shared),
            load: Arc::clone(wire.seat.load()),
            wires: vec![wire],
            demanded: None,
            session: None,
            predecessor: None,
            execution: Execution::new(budget, false),
            functions: Vec::new(),
            logouts: Vec::new(),
            lost: Vec::new(),
            joined: Vec::new(),
            window_small: false,
            answers: Vec::new(),
            shared,
        }
    }

    /// Serves the session to its end, and what it leaves on the medium to its end.
    pub(crate) async fn run(mut self) {
        poll_fn(|context| {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(context)));
            turn.unwrap_or_else(|_| {
                self.shared.registry.panics.fetch_add(1, Ordering::Relaxed);
                self.end("a defect in this server (a panic, see the log)");
                Poll::Ready(())
            })
        })
        .await;
        self.log_end();
        self.arrivals.1.close();
        while let Ok(late) = self.arrivals.1.try_recv() {
            arrival::turn_away(&self.shared, &self.load, late, LoginStatus::SessionDoesNotExist);
        }
        let Self { wires, protocol, session, mut execution, .. } = self;
        let disconnect = |Wire { presence, .. }: Wire| {
            presence.disconnected();
            presence
        };
        let presences: Vec<Presence> = wires.into_iter().map(disconnect).collect();
        drop(protocol);
        session.iter().for_each(Session::disconnected);
        execution.forget_all_waiting();
        // One that still waited for its predecessor has started nothing: its own successor waits for both.
        poll_fn(|context| execution.poll_quiet(context)).await;
        drop((session, presences));
    }

    /// All there is to do now. Ready when no socket is of use any more.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.take_messages(context);
        self.take_arrivals(context);
        self.poll_predecessor(context);
        let mut more = false;
        for at in 0..self.wires.len() {
            more |= self.read(at, context);
        }
        self.collect(context);
        self.poll_functions(context);
        self.poll_lost(context);
        self.adapt_window();
        for at in 0..self.wires.len() {
            more |= self.write(at, context);
        }
        // Sent answers make room in the budget for commands that wait.
        more |= self.start_waiting(context);
        for at in 0..self.wires.len() {
            more |= self.check_finished(at);
        }
        self.remove_over(context);
        if self.wires.iter().all(|wire| wire.stage == Stage::Over) {
            return Poll::Ready(());
        }
        if self.poll_timer(context) || more {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn take_messages(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(message)) = self.messages.poll_recv(context) {
            match message {
                Message::Drop(why) => self.end(why),
                Message::Finish => self.finish(),
                Message::Reauthorize => self.reauthorize(),
                Message::RequestLogout(within) => {
                    self.protocol.request_logout(within, self.shared.now());
                }
            }
        }
    }

    /// Nothing more is read or sent, on any connection.
    fn end(&mut self, why: &str) {
        self.wires.iter_mut().for_each(|wire| wire.end(why));
    }

    /// Takes nothing more in, and answers what is on the medium. What has not started is the host's to send again.
    fn finish(&mut self) {
        for wire in self.wires.iter_mut().filter(|wire| wire.stage == Stage::Open) {
            wire.stage = Stage::Finishing;
            "shutdown".clone_into(&mut wire.why);
            self.execution.forget_all_waiting();
        }
    }

    fn reauthorize(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.entry.port.is_none() {
            return;
        }
        match login::authorize_again(&self.shared, session) {
            Some(access) => session.reauthorized(access),
            None => self.end("access was taken away"),
        }
    }

    fn poll_predecessor(&mut self, context: &mut Context<'_>) {
        let Some(over) = &mut self.predecessor else { return };
        if over.as_mut().poll(context).is_ready() {
            self.predecessor = None;
            self.execution.hold(!self.lost.is_empty());
            self.start_waiting(context);
        }
    }

    /// Takes in what has arrived. True if there may be more.
    fn read(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        for _ in 0..READS_MAX {
            let Some(wire) = self.wires.get_mut(at) else { return false };
            match wire.stage {
                Stage::Open => {}
                Stage::Lingering => return wire.discard(context),
                _ => return false,
            }
            let Some(protocol) = self.protocol.on(wire.link) else { return false };
            let space = protocol.recv_space();
            if space.is_empty() {
                return false;
            }
            let mut buffer = ReadBuf::new(space);
            match Pin::new(&mut wire.socket).poll_read(context, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => wire.end(&error.to_string()),
                Poll::Ready(Ok(())) => match buffer.filled().len() {
                    0 => wire.end("the initiator closed the connection"),
                    count => self.received(count, context),
                },
            }
        }
        true
    }

    /// On the connection that the protocol attends to.
    fn received(&mut self, count: usize, context: &mut Context<'_>) {
        let now = self.shared.now();
        match &self.session {
            Some(session) => self.protocol.received(count, now, session),
            None => self.protocol.received(count, now, &NoSession),
        }
        self.take_events(context);
    }

    fn take_events(&mut self, context: &mut Context<'_>) {
        while let Some((link, event)) = self.protocol.poll_event_of() {
            self.handle(link, event, context);
        }
        self.send_answers();
    }

    fn wire(&mut self, link: LinkId) -> Option<&mut Wire> {
        self.wires.iter_mut().find(|wire| wire.link == link)
    }

    fn handle(&mut self, link: LinkId, event: Event, context: &mut Context<'_>) {
        match (event, &self.session) {
            (Event::Command(command), Some(session)) => {
                self.execution.submit(session, command, context, &mut self.answers);
            }
            (Event::TaskManagement(request), Some(session)) => {
                // It may have ended a command that had memory beyond the limit.
                session.data_came();
                let function = functions::start(session, &mut self.execution, &request);
                self.functions.push(function);
            }
            (Event::LogoutRequested(request), _) => {
                self.logouts.push((link, Quiet::after(&mut self.execution, &request.aborted)));
            }
            (Event::SendTargets(which), Some(session)) => {
                let targets = login::targets(&self.shared, &self.place, session, &which);
                if let Some(protocol) = self.protocol.on(link) {
                    protocol.send_targets(&targets);
                }
            }
            (Event::SessionEstablished(established), Some(_)) => self.established(link, &established),
            (Event::Ended(tasks), _) => self.tasks_lost(&tasks),
            (Event::LoginRequested(request), _) => self.login_requested(&request),
            (Event::LoginProven(proven), _) => self.login_proven(&proven),
            (Event::AuthenticationFailed(why), _) => self.login_failed(why),
            (Event::Closed(reason), _) => {
                if let Some(wire) = self.wire(link) {
                    wire.explain(&reason.to_string());
                    // Who made another connection in its place does not listen on this one any more.
                    let silent = matches!(reason, CloseReason::Reinstated);
                    wire.stage =
                        if silent || wire.stage == Stage::Over { Stage::Over } else { Stage::Closing };
                }
            }
            (event, None) => tracing::error!(?event, "an event of a session before there was one"),
        }
    }

    fn established(&mut self, link: LinkId, established: &SessionEstablished) {
        let Some(session) = &self.session else { return };
        let by = self.shared.now() + self.shared.config.discovery_time_max;
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.link == link) else { return };
        match established.session_type {
            SessionType::Normal => wire.presence.logged_in(),
            // Who only looks around still makes room when others wait to log in, and does not stay.
            SessionType::Discovery => wire.close_by(by),
        }
        let parameters = established.parameters;
        wire.digests = Some(Digests { header: parameters.header_digest, data: parameters.data_digest });
        if link == LinkId::LEADING {
            *session.entry.parameters.lock() = Some(parameters);
            self.log_start();
        }
        self.list_connections();
    }

    /// Takes what has ended on the medium, and starts what waited for it.
    fn collect(&mut self, context: &mut Context<'_>) {
        while !self.execution.is_quiet() {
            let Some(session) = &self.session else { return };
            let ended = self.execution.poll_ended(Some(session), context, &mut self.answers);
            self.send_answers();
            if ended.is_pending() || !self.start_waiting(context) {
                return;
            }
        }
    }

    /// True if something was started.
    fn start_waiting(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.execution.waiting_count();
        if before == 0 || self.wires.iter().all(|wire| wire.stage != Stage::Open) {
            return false;
        }
        if let Some(session) = &self.session {
            self.execution.start_waiting(session, context, &mut self.answers);
        }
        self.send_answers();
        self.execution.waiting_count() != before
    }

    fn send_answers(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        for (task, response) in answers.drain(..) {
            self.ended(task);
            match response {
                Some(response) => self.protocol.respond(task, response),
                // A reset through another session ended it: no answer, a unit attention tells (SAM-5 §5.6).
                None => drop(self.protocol.abort_task(task)),
            }
        }
        self.answers = answers;
    }

    fn ended(&mut self, task: TaskId) {
        self.functions.iter_mut().for_each(|function| function.quiet.ended(task));
        self.logouts.iter_mut().for_each(|(_, quiet)| quiet.ended(task));
        self.lost.iter_mut().for_each(|quiet| quiet.ended(task));
    }

    fn poll_functions(&mut self, context: &mut Context<'_>) {
        let protocol = &mut self.protocol;
        let mut ends_sessions = false;
        self.functions.retain_mut(|function| {
            if function.quiet.poll(context).is_pending() {
                return true;
            }
            protocol.task_management_response(function.id, function.outcome);
            ends_sessions |= function.ends_sessions;
            false
        });
        while let Some(at) = self.logouts.iter_mut().position(|(_, quiet)| quiet.poll(context).is_ready()) {
            let (link, _) = self.logouts.swap_remove(at);
            if let Some(protocol) = self.protocol.on(link) {
                protocol.logout_accept();
            }
            self.take_events(context);
        }
        let port = self.session.as_ref().and_then(|session| session.entry.port.as_ref());
        if let Some(port) = port.filter(|_| ends_sessions) {
            self.shared.registry.tell_target(&port.target, Message::Finish);
        }
    }

    fn adapt_window(&mut self) {
        let small = self.execution.budget().pressure() >= Pressure::High;
        if small != self.window_small {
            self.window_small = small;
            let full = self.shared.config.connection.command_window;
            self.protocol.set_window(if small { WINDOW_UNDER_PRESSURE.min(full) } else { full });
        }
    }

    /// Sends what there is, up to a bound. True if there is more to do.
    fn write(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        let mut read_again = false;
        let several = self.wires.len() > 1;
        for round in 0.. {
            let Some(wire) = self.wires.get_mut(at) else { break };
            if matches!(wire.stage, Stage::Lingering | Stage::Over) {
                break;
            }
            if round == WRITES_MAX {
                read_again = true;
                break;
            }
            let Some(protocol) = self.protocol.on(wire.link) else { break };
            let was_full = wire.stage == Stage::Open && protocol.recv_space().is_empty();
            let gathered = wire.outbox.fill(|chunks, room| protocol.poll_transmit(chunks, room));
            let all = !protocol.has_transmit() && (!several || protocol.unsent_data() == 0);
            self.execution.budget().sent(gathered, all);
            read_again |= was_full && !protocol.recv_space().is_empty();
            if wire.outbox.is_empty() {
                break;
            }
            match wire.outbox.poll_write(Pin::new(&mut wire.socket), context) {
                // An answer may be long and the way narrow: as long as it gets on, the end waits.
                Poll::Ready(Ok(_)) if wire.stage == Stage::Finishing => wire.close_at = None,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => wire.end(&error.to_string()),
                Poll::Pending => break,
            }
        }
        read_again
    }

    /// Lets a connection that takes nothing more in, and has said all it has to, linger. True if it begins to.
    fn check_finished(&mut self, at: usize) -> bool {
        let quiet = self.execution.is_quiet();
        let (config, now) = (&self.shared.config, self.shared.now());
        let Some(wire) = self.wires.get_mut(at) else { return false };
        let Some(protocol) = self.protocol.on(wire.link) else { return false };
        let sent = wire.outbox.is_empty() && !protocol.has_transmit();
        let done = match wire.stage {
            Stage::Open | Stage::Lingering | Stage::Over => false,
            Stage::Finishing => sent && quiet,
            Stage::Closing => sent,
        };
        if done {
            wire.linger(now + config.linger);
        } else if wire.stage == Stage::Closing || (wire.stage == Stage::Finishing && quiet) {
            wire.close_by(now + config.close_timeout);
        }
        done
    }

    /// Sees to the protocol's times. True if something happened.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let open = self.wires.iter().any(|wire| wire.stage == Stage::Open);
        let protocol_at = self.protocol.poll_timeout().filter(|_| open);
        let close_at = self.wires.iter().filter_map(|wire| wire.close_at);
        let Some(next) = protocol_at.into_iter().chain(close_at).min() else { return false };
        // Deadlines mostly move on. The timer is left where it was, and looks again when it fires.
        if next < self.timer_at || self.timer.is_elapsed() {
            self.timer_at = next;
            self.timer.as_mut().reset(self.shared.instant(next));
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        let now = self.shared.now();
        for wire in self.wires.iter_mut().filter(|wire| wire.close_at.is_some_and(|at| at <= now)) {
            let discovery = wire.stage == Stage::Open;
            wire.end(if discovery { "discovery took too long" } else { "the rest took too long" });
        }
        if protocol_at.is_some_and(|at| at <= now) {
            self.protocol.handle_timeout(now);
            self.take_events(context);
        }
        true
    }
}
