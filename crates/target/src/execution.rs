//! The commands of one session: which wait, which are on the medium, and what may start.

use crate::media::{self, MediaFuture};
use crate::memory::{Budget, Pressure};
use crate::reservations::changes_reservations;
use crate::sanitize::{self, Waiting};
use crate::session::Session;
use crate::unit::{LogicalUnitHandle, Operation, Started};
use block::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use iscsi::pdu::{ScsiStatus, TaskAttribute};
use iscsi::target::{Command, Response, TaskId};
use scsi::{Cdb, Completion, CopyProgress, DataOut, MediaCommand, MediaOutcome, Step};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// An answer to a command; none if it was aborted and nothing is to be said.
pub(crate) type Answer = (TaskId, Option<Response>);

/// The commands of one session.
pub(crate) struct Execution {
    /// Commands that have not started.
    waiting: VecDeque<Command>,
    running: FuturesUnordered<Running>,
    /// Those of them whose commands have been answered.
    in_background: usize,
    /// An ORDERED command is on the medium: nothing else starts (SAM-5 §8.6.3).
    ordered_running: bool,
    budget: Budget,
    /// Commands wait until the predecessor of this session is over, and what a lost connection began.
    held: bool,
}

/// A command on the medium.
struct Running {
    command: Option<OnMedium>,
    future: Work,
}

/// What a command waits for.
enum Work {
    Media(MediaFuture, Option<Operation>),
    /// Reservations change; the answer comes with it.
    Reservations(BoxFuture<'static, Option<Completion>>),
}

/// What came of it.
enum Outcome {
    Media(MediaOutcome, Operation),
    Answer(Option<Completion>),
}

impl Work {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match self {
            Self::Media(future, operation) => {
                let outcome = ready!(Pin::new(future).poll(context));
                let Some(operation) = operation.take() else { return Poll::Ready(Outcome::Answer(None)) };
                Poll::Ready(Outcome::Media(outcome, operation))
            }
            Self::Reservations(future) => future.as_mut().poll(context).map(Outcome::Answer),
        }
    }
}

struct OnMedium {
    task: TaskId,
    unit: Arc<LogicalUnitHandle>,
    bytes: usize,
    ordered: bool,
    /// By which it is asked to end early, if it can.
    stop: Option<Stop>,
    /// The host has been answered.
    in_background: bool,
}

/// What is long can be asked to end early.
enum Stop {
    Copy(Arc<CopyProgress>),
    Wait(Arc<Waiting>),
}

impl Stop {
    fn of(work: &MediaCommand) -> Option<Self> {
        match work {
            MediaCommand::Copy(copy) => Some(Self::Copy(Arc::clone(&copy.progress))),
            MediaCommand::Sanitize { .. } | MediaCommand::LeaveFailedSanitize => {
                Some(Self::Wait(Arc::default()))
            }
            _ => None,
        }
    }

    fn stop(&self) {
        match self {
            Self::Copy(copy) => copy.stop(),
            Self::Wait(waiting) => waiting.stop(),
        }
    }
}

impl Future for Running {
    type Output = Option<(OnMedium, Outcome)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.future.poll(context));
        Poll::Ready(self.command.take().map(|command| (command, outcome)))
    }
}

impl Execution {
    pub(crate) fn new(budget: Budget, held: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            in_background: 0,
            ordered_running: false,
            budget,
            held,
        }
    }

    /// Whether commands wait for what others have left on the medium.
    pub(crate) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    pub(crate) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// True if nothing is on the medium.
    pub(crate) fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// Commands that have not started.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Which of `tasks` are on the medium.
    pub(crate) fn running_of(&self, tasks: &[TaskId]) -> Vec<TaskId> {
        let running = self.running.iter().filter_map(|running| running.command.as_ref());
        let answered_later = running.filter(|command| !command.in_background);
        answered_later.map(|command| command.task).filter(|task| tasks.contains(task)).collect()
    }

    /// Asks those of `tasks` that are long to end soon.
    pub(crate) fn stop_long(&self, tasks: &[TaskId]) {
        let running = self.running.iter().filter_map(|running| running.command.as_ref());
        let stopped = running.filter(|command| !command.in_background && tasks.contains(&command.task));
        stopped.filter_map(|command| command.stop.as_ref()).for_each(Stop::stop);
    }

    /// The same for all, also those in the background: nobody is there any more who could ask for them.
    pub(crate) fn stop_all(&self) {
        let running = self.running.iter().filter_map(|running| running.command.as_ref());
        running.filter_map(|command| command.stop.as_ref()).for_each(Stop::stop);
    }

    /// Drops those of `tasks` that have not started.
    pub(crate) fn forget_waiting(&mut self, tasks: &[TaskId]) {
        self.waiting.retain(|command| !tasks.contains(&command.task));
    }

    /// Drops all that have not started.
    pub(crate) fn forget_all_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Takes a new command. Its answer, if there is one already, goes to `answers`.
    pub(crate) fn submit(
        &mut self,
        session: &Session,
        mut command: Command,
        context: &mut Context<'_>,
        answers: &mut Vec<Answer>,
    ) {
        command.stamp = session.stamp_at_delivery(command.lun, command.stamp);
        if !command.data_out.is_empty() {
            session.data_came();
        }
        if sanitize::goes_first(&Cdb::new(command.cdb.bytes())) {
            command.attribute = TaskAttribute::HeadOfQueue;
        }
        let full = self.budget.pressure() == Pressure::Full;
        if command.starved || (full && !(self.budget.is_idle() && self.waiting.is_empty())) {
            // The host's queue is longer than this machine's memory: it lowers its depth and sends again.
            answers.push((command.task, Some(Response::status(ScsiStatus::TaskSetFull))));
            return;
        }
        if self.waiting.is_empty() && self.may_start(&command) {
            self.start(session, command, context, answers);
            return;
        }
        if command.attribute == TaskAttribute::HeadOfQueue {
            self.waiting.push_front(command);
        } else {
            self.waiting.push_back(command);
        }
        self.start_waiting(session, context, answers);
    }

    /// Starts what has waited and may start now.
    pub(crate) fn start_waiting(
        &mut self,
        session: &Session,
        context: &mut Context<'_>,
        answers: &mut Vec<Answer>,
    ) {
        while let Some(command) = self.waiting.pop_front() {
            if session.unit(command.lun).is_some_and(|unit| unit.has_ended(session.nexus, command.stamp)) {
                answers.push((command.task, None));
            } else if self.may_start(&command) {
                self.start(session, command, context, answers);
            } else {
                self.waiting.push_front(command);
                return;
            }
        }
    }

    fn may_start(&self, command: &Command) -> bool {
        let in_order = match command.attribute {
            TaskAttribute::HeadOfQueue => true,
            TaskAttribute::Ordered => self.running.len() == self.in_background,
            _ => !self.ordered_running,
        };
        let bytes = usize::try_from(command.expected_data_in).unwrap_or(usize::MAX);
        !self.held && in_order && self.budget.allows(bytes)
    }

    fn start(
        &mut self,
        session: &Session,
        command: Command,
        context: &mut Context<'_>,
        answers: &mut Vec<Answer>,
    ) {
        let task = command.task;
        session.entry.counters.command();
        let cdb = Cdb::new(command.cdb.bytes());
        let Some(unit) = session.unit(command.lun) else {
            let completion = absent(&cdb, session);
            return answers.push((task, Some(response(session, completion))));
        };
        let data_out = DataOut { chunks: command.data_out, expected_len: command.expected_data_out };
        session.entry.counters.written(data_out.chunks.iter().map(|chunk| chunk.len() as u64).sum());
        let ordered = command.attribute == TaskAttribute::Ordered;
        if changes_reservations(&cdb) {
            let change = Arc::clone(unit).persistent_reserve(session.nexus, command.stamp, cdb, data_out);
            let on_medium = OnMedium {
                task,
                unit: Arc::clone(unit),
                bytes: 0,
                ordered,
                stop: None,
                in_background: false,
            };
            return self.run(session, on_medium, Work::Reservations(Box::pin(change)), context, answers);
        }
        match unit.execute(session.nexus, command.stamp, &cdb, data_out) {
            Started::Aborted => answers.push((task, None)),
            Started::Done(completion) => answers.push((task, Some(response(session, completion)))),
            Started::ReportLuns(report) => {
                let completion = report.complete(&session.report_luns());
                answers.push((task, Some(response(session, completion))));
            }
            Started::Media(work, operation) => {
                let (command, future) = on_medium(session, unit, (task, ordered), work, operation);
                self.run(session, command, future, context, answers);
            }
            Started::Background(completion, work, operation) => {
                answers.push((task, Some(response(session, completion))));
                let (mut command, future) = on_medium(session, unit, (task, false), work, operation);
                command.in_background = true;
                self.in_background += 1;
                self.budget.start(command.bytes);
                self.running.push(Running { command: Some(command), future });
                // Nothing polled it yet.
                context.waker().wake_by_ref();
            }
            Started::Persist(_) | Started::Aborting(..) => {
                unreachable!("only PERSISTENT RESERVE OUT changes reservations")
            }
        }
    }

    /// Polls the operation at once: what the volume has in memory is answered in this wake-up, without a task.
    fn run(
        &mut self,
        session: &Session,
        command: OnMedium,
        mut future: Work,
        context: &mut Context<'_>,
        answers: &mut Vec<Answer>,
    ) {
        self.budget.start(command.bytes);
        self.ordered_running |= command.ordered;
        match future.poll(context) {
            Poll::Ready(outcome) => answers.extend(self.ended(Some(session), command, outcome)),
            Poll::Pending => self.running.push(Running { command: Some(command), future }),
        }
    }

    /// Collects what has ended on the medium. Ready when something has, or nothing is on it; of a session that is
    /// over (`None`) nothing is answered.
    pub(crate) fn poll_ended(
        &mut self,
        session: Option<&Session>,
        context: &mut Context<'_>,
        answers: &mut Vec<Answer>,
    ) -> Poll<()> {
        let mut any = false;
        loop {
            match Pin::new(&mut self.running).poll_next(context) {
                Poll::Ready(Some(Some((command, outcome)))) => {
                    any = true;
                    answers.extend(self.ended(session, command, outcome));
                }
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return if any { Poll::Ready(()) } else { Poll::Pending },
            }
        }
    }

    /// Lets what is on the medium end, without answers.
    pub(crate) fn poll_quiet(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stop_all();
        while !self.is_quiet() {
            ready!(self.poll_ended(None, context, &mut Vec::new()));
        }
        Poll::Ready(())
    }

    /// None for what was answered when it began.
    fn ended(&mut self, session: Option<&Session>, command: OnMedium, outcome: Outcome) -> Option<Answer> {
        self.ordered_running &= !command.ordered;
        let completion = match outcome {
            Outcome::Media(outcome, operation) => command.unit.finish(operation, outcome),
            Outcome::Answer(completion) => completion,
        };
        if command.in_background {
            self.in_background = self.in_background.saturating_sub(1);
            self.budget.finish(command.bytes, 0);
            return None;
        }
        let (Some(session), Some(completion)) = (session, completion) else {
            self.budget.finish(command.bytes, 0);
            return Some((command.task, None));
        };
        let answered = usize::try_from(completion.data_in_len()).unwrap_or(usize::MAX);
        self.budget.finish(command.bytes, answered);
        Some((command.task, Some(response(session, completion))))
    }
}

fn on_medium(
    session: &Session,
    unit: &Arc<LogicalUnitHandle>,
    (task, ordered): (TaskId, bool),
    work: MediaCommand,
    mut operation: Operation,
) -> (OnMedium, Work) {
    let bytes = media::memory_of(&work);
    let stop = Stop::of(&work);
    let future = match &stop {
        Some(Stop::Wait(waiting)) => {
            sanitize::run(Arc::clone(unit), operation.waiter(Arc::clone(waiting)), work)
        }
        _ => unit.run(session.nexus, || session.requester(), work),
    };
    let unit = Arc::clone(unit);
    let command = OnMedium { task, unit, bytes, ordered, stop, in_background: false };
    (command, Work::Media(future, Some(operation)))
}

/// The answer for a number without a unit.
fn absent(cdb: &Cdb, session: &Session) -> Completion {
    match scsi::absent::execute(cdb) {
        Step::Done(completion) => completion,
        Step::ReportLuns(report) => report.complete(&session.luns()),
        Step::Media(..) | Step::Background(..) | Step::Persist(..) | Step::Abort(..) => {
            unreachable!("a unit that is not there has neither medium nor reservations")
        }
    }
}

fn response(session: &Session, completion: Completion) -> Response {
    session.entry.counters.read(completion.data_in_len());
    Response {
        status: ScsiStatus(completion.status.code()),
        sense: completion.sense,
        data_in: completion.data_in,
    }
}
