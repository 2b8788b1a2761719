//! One connection: a task that owns the socket, the protocol and the session's commands.
//!
//! Each wake-up does all there is to do: messages, what has arrived, what has ended on the medium; then everything
//! that is to be sent goes out together. A connection that is over first lets its operations on the medium end;
//! only then are the nexus and the session gone.

mod proof;
mod session_log;

use crate::directory::Authentication;
use crate::execution::{Answer, Execution};
use crate::functions::{self, Quiet, RunningFunction};
use crate::login;
use crate::memory::{Budget, CountedPool, Pressure};
use crate::outbox::Outbox;
use crate::registry::{Mailbox, Message, Presence};
use crate::server::Shared;
use crate::session::{NoSession, Session};
use block::BoxFuture;
use iscsi::PortalGroupTag;
use iscsi::parameters::SessionType;
use iscsi::target::{Event, LoginRequested, TaskId};
use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Sleep;

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

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
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

pub(crate) struct Connection {
    shared: Arc<Shared>,
    presence: Presence,
    place: Place,
    mailbox: Mailbox,
    messages: mpsc::UnboundedReceiver<Message>,
    stage: Stage,
    why: String,
    timer: Pin<Box<Sleep>>,
    timer_at: Duration,
    close_at: Option<Duration>,
    wire: Wire,
    /// The login that has to prove something, and what.
    demanded: Option<(LoginRequested, Authentication)>,
    session: Option<Session>,
    predecessor: Option<BoxFuture<'static, ()>>,
    execution: Execution,
    functions: Vec<RunningFunction>,
    logout: Option<Quiet>,
    window_small: bool,
    answers: Vec<Answer>,
}

/// What is gone as soon as the connection is.
struct Wire {
    socket: TcpStream,
    protocol: iscsi::target::Connection<CountedPool>,
    outbox: Outbox,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        presence: Presence,
        place: Place,
        socket: TcpStream,
        mailbox: Mailbox,
        messages: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let pool = CountedPool::new(shared.buffers.clone(), Arc::clone(&shared.gauge));
        let protocol = iscsi::target::Connection::new(shared.config.connection.clone(), pool, shared.now());
        let budget = Budget::new(Arc::clone(&shared.gauge), shared.config.limits.session_bytes_max);
        Self {
            presence,
            place,
            mailbox,
            messages,
            stage: Stage::Open,
            why: String::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: Duration::ZERO,
            close_at: None,
            wire: Wire { socket, protocol, outbox: Outbox::default() },
            demanded: None,
            session: None,
            predecessor: None,
            execution: Execution::new(budget, false),
            functions: Vec::new(),
            logout: None,
            window_small: false,
            answers: Vec::new(),
            shared,
        }
    }

    /// Serves the connection to its end, and what it leaves on the medium to its end.
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
        let Self { wire, session, mut execution, presence, .. } = self;
        drop(wire);
        presence.disconnected();
        session.iter().for_each(Session::disconnected);
        execution.forget_all_waiting();
        // One that still waited for its predecessor has started nothing: its own successor waits for both.
        poll_fn(|context| execution.poll_quiet(context)).await;
        drop((session, presence));
    }

    /// All there is to do now. Ready when the socket is of no use any more.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.take_messages(context);
        self.poll_predecessor(context);
        let mut more = self.read(context);
        self.collect(context);
        self.poll_functions(context);
        self.adapt_window();
        more |= self.write(context);
        more |= self.check_finished();
        if self.stage == Stage::Over {
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
                    self.wire.protocol.request_logout(within, self.shared.now());
                }
            }
        }
    }

    /// Nothing more is read or sent.
    fn end(&mut self, why: &str) {
        if self.why.is_empty() {
            self.why = why.to_owned();
        }
        self.stage = Stage::Over;
    }

    /// Takes nothing more in, and answers what is on the medium. What has not started is the host's to send again.
    fn finish(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Finishing;
            self.why = "shutdown".to_owned();
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
            self.execution.release();
            self.start_waiting(context);
        }
    }

    /// Takes in what has arrived. True if there may be more.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        if self.stage == Stage::Lingering {
            return self.discard(context);
        }
        for _ in 0..READS_MAX {
            if self.stage != Stage::Open {
                return false;
            }
            let Wire { socket, protocol, .. } = &mut self.wire;
            let space = protocol.recv_space();
            if space.is_empty() {
                return false;
            }
            let mut buffer = ReadBuf::new(space);
            match Pin::new(socket).poll_read(context, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => self.end(&error.to_string()),
                Poll::Ready(Ok(())) => match buffer.filled().len() {
                    0 => self.end("the initiator closed the connection"),
                    count => self.received(count, context),
                },
            }
        }
        true
    }

    /// Reads what nobody wants any more, until the other side closes.
    fn discard(&mut self, context: &mut Context<'_>) -> bool {
        let mut nowhere = [0; 4096];
        let mut buffer = ReadBuf::new(&mut nowhere);
        match Pin::new(&mut self.wire.socket).poll_read(context, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => return true,
            Poll::Ready(_) => self.stage = Stage::Over,
        }
        false
    }

    fn received(&mut self, count: usize, context: &mut Context<'_>) {
        let now = self.shared.now();
        let protocol = &mut self.wire.protocol;
        match &self.session {
            Some(session) => protocol.received(count, now, session),
            None => protocol.received(count, now, &NoSession),
        }
        self.take_events(context);
    }

    fn take_events(&mut self, context: &mut Context<'_>) {
        while let Some(event) = self.wire.protocol.poll_event() {
            self.handle(event, context);
        }
        self.send_answers();
    }

    fn handle(&mut self, event: Event, context: &mut Context<'_>) {
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
                self.logout = Some(Quiet::after(&mut self.execution, &request.aborted));
            }
            (Event::SendTargets(which), Some(session)) => {
                let targets = login::targets(&self.shared, &self.place, session, &which);
                self.wire.protocol.send_targets(&targets);
            }
            (Event::SessionEstablished(established), Some(session)) => {
                *session.entry.parameters.lock() = Some(established.parameters);
                match established.session_type {
                    SessionType::Normal => self.presence.logged_in(),
                    // Who only looks around still makes room when others wait to log in, and does not stay.
                    SessionType::Discovery => self.close_within(self.shared.config.discovery_time_max),
                }
                self.log_start();
            }
            (Event::LoginRequested(request), _) => self.login_requested(&request),
            (Event::LoginProven(proven), _) => self.login_proven(&proven),
            (Event::AuthenticationFailed(why), _) => self.login_failed(why),
            (Event::Closed(reason), _) => {
                self.stage = Stage::Closing;
                self.why = reason.to_string();
            }
            (event, None) => tracing::error!(?event, "an event of a session before there was one"),
        }
    }

    /// Decides on a login that has proven what was demanded of it, if anything was.
    fn login(&mut self, request: &LoginRequested) {
        let proven = self.demanded.take().map(|(_, demanded)| demanded).unwrap_or_default();
        match login::decide(&self.shared, &self.place, &self.mailbox, request, &proven) {
            Ok((mut session, accept)) => {
                self.predecessor = session.take_predecessors();
                let limits = &self.shared.config.limits;
                let budget = Budget::new(Arc::clone(&self.shared.gauge), limits.session_bytes_max);
                self.execution = Execution::new(budget, self.predecessor.is_some());
                self.session = Some(session);
                // Rights taken away after they were asked for, but before the session was there to be told.
                self.reauthorize();
                self.wire.protocol.login_accept(accept);
            }
            Err(refusal) => self.refuse(request, refusal),
        }
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
        if before == 0 || self.stage != Stage::Open {
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
                Some(response) => self.wire.protocol.respond(task, response),
                // A reset through another session ended it: no answer, a unit attention tells (SAM-5 §5.6).
                None => drop(self.wire.protocol.abort_task(task)),
            }
        }
        self.answers = answers;
    }

    fn ended(&mut self, task: TaskId) {
        self.functions.iter_mut().for_each(|function| function.quiet.ended(task));
        if let Some(logout) = &mut self.logout {
            logout.ended(task);
        }
    }

    fn poll_functions(&mut self, context: &mut Context<'_>) {
        let protocol = &mut self.wire.protocol;
        let mut ends_sessions = false;
        self.functions.retain_mut(|function| {
            if function.quiet.poll(context).is_pending() {
                return true;
            }
            protocol.task_management_response(function.id, function.outcome);
            ends_sessions |= function.ends_sessions;
            false
        });
        if self.logout.as_mut().is_some_and(|quiet| quiet.poll(context).is_ready()) {
            self.logout = None;
            protocol.logout_accept();
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
            self.wire.protocol.set_window(if small { WINDOW_UNDER_PRESSURE.min(full) } else { full });
        }
    }

    /// Sends what there is, up to a bound. True if there is more to do.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let mut read_again = false;
        for round in 0.. {
            if matches!(self.stage, Stage::Lingering | Stage::Over) {
                break;
            }
            if round == WRITES_MAX {
                read_again = true;
                break;
            }
            let Wire { socket, protocol, outbox } = &mut self.wire;
            let was_full = self.stage == Stage::Open && protocol.recv_space().is_empty();
            let gathered = outbox.fill(|chunks, room| protocol.poll_transmit(chunks, room));
            self.execution.budget().sent(gathered, !protocol.has_transmit());
            read_again |= was_full && !protocol.recv_space().is_empty();
            if outbox.is_empty() {
                break;
            }
            match outbox.poll_write(Pin::new(socket), context) {
                // An answer may be long and the way narrow: as long as it gets on, the end waits.
                Poll::Ready(Ok(_)) if self.stage == Stage::Finishing => self.close_at = None,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.end(&error.to_string()),
                Poll::Pending => break,
            }
        }
        // Sent answers make room in the budget for commands that wait.
        read_again | self.start_waiting(context)
    }

    /// Lets a connection that takes nothing more in, and has said all it has to, linger. True if it begins to.
    fn check_finished(&mut self) -> bool {
        let sent = self.wire.outbox.is_empty() && !self.wire.protocol.has_transmit();
        let done = match self.stage {
            Stage::Open | Stage::Lingering | Stage::Over => false,
            Stage::Finishing => sent && self.execution.is_quiet(),
            Stage::Closing => sent,
        };
        let config = &self.shared.config;
        if done {
            self.stage = Stage::Lingering;
            self.close_at = Some(self.shared.now() + config.linger);
            // An error means that the other side has closed already.
            let _ = SockRef::from(&self.wire.socket).shutdown(Shutdown::Write);
        } else if self.stage == Stage::Closing
            || (self.stage == Stage::Finishing && self.execution.is_quiet())
        {
            self.close_within(config.close_timeout);
        }
        done
    }

    /// The connection ends after this time, if nothing ends it before.
    fn close_within(&mut self, time: Duration) {
        let at = self.shared.now() + time;
        self.close_at = Some(self.close_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Sees to the protocol's times. True if something happened.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let protocol_at = self.wire.protocol.poll_timeout().filter(|_| self.stage == Stage::Open);
        let Some(next) = protocol_at.into_iter().chain(self.close_at).min() else { return false };
        // Deadlines mostly move on. The timer is left where it was, and looks again when it fires.
        if next < self.timer_at || self.timer.is_elapsed() {
            self.timer_at = next;
            self.timer.as_mut().reset(self.shared.instant(next));
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        let now = self.shared.now();
        if self.close_at.is_some_and(|at| at <= now) {
            self.end(if self.stage == Stage::Open {
                "discovery took too long"
            } else {
                "the rest took too long"
            });
        } else if protocol_at.is_some_and(|at| at <= now) {
            self.wire.protocol.handle_timeout(now);
            self.take_events(context);
        }
        true
    }
}
