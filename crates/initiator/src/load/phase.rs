//! One phase of a run: threads, a common start and stop, and progress while it lasts.

use core::ops::ControlFlow;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;

use tokio::sync::watch;
use tokio::time::Instant;

use super::LoadError;
use super::report::Progress;
use super::session::{Session, SessionSetup};
use super::source::Source;
use super::tally::{Tally, float};

/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What the sessions of a phase are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Issue commands.
    Go,
    /// Issue no new ones, finish those in flight.
    Drain,
    /// Leave everything.
    Abort,
}

/// Counters that move while a phase runs.
#[derive(Debug, Default)]
pub(crate) struct Live {
    commands: AtomicU64,
    bytes: AtomicU64,
    latency_ns: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) connected: AtomicU32,
}

impl Live {
    /// Counts a command with status GOOD.
    pub(crate) fn completed(&self, bytes: u32, latency: Duration) {
        self.commands.fetch_add(1, Relaxed);
        self.bytes.fetch_add(u64::from(bytes), Relaxed);
        self.latency_ns.fetch_add(u64::try_from(latency.as_nanos()).unwrap_or(0), Relaxed);
    }
}

enum Message {
    Connected,
    Finished(Box<Result<Tally, LoadError>>),
}

/// What the sessions of a phase share.
#[derive(Debug)]
pub(crate) struct Phase {
    order: AtomicU8,
    pub(crate) live: Live,
    messages: Sender<Message>,
}

impl Phase {
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Go,
            1 => Order::Drain,
            _ => Order::Abort,
        }
    }

    /// Orders only ever become stricter.
    fn give(&self, order: Order) {
        let level = match order {
            Order::Go => 0,
            Order::Drain => 1,
            Order::Abort => 2,
        };
        self.order.fetch_max(level, Relaxed);
    }

    /// A session is logged in for the first time.
    pub(crate) fn connected(&self) {
        self.live.connected.fetch_add(1, Relaxed);
        // The receiver outlives the sessions.
        let _ = self.messages.send(Message::Connected);
    }
}

/// What a phase is, besides its sessions.
pub(crate) struct PhasePlan<'a> {
    /// Its name in progress reports.
    pub(crate) name: &'static str,
    /// When it stops; `None` if only when the sources end.
    pub(crate) duration: Option<Duration>,
    /// Threads to use.
    pub(crate) threads: usize,
    /// How much is done, 0 to 1, for a phase without duration.
    pub(crate) done: &'a dyn Fn() -> f64,
    /// Faults found so far; the first one stops the phase.
    pub(crate) faults: &'a dyn Fn() -> u64,
    /// Whether a fault stops the phase.
    pub(crate) stop_at_fault: bool,
}

/// What came of a phase.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    pub(crate) cpu: Duration,
    /// The caller's progress function asked to end the run.
    pub(crate) broken_off: bool,
}

/// Runs `sessions` to their end on threads of their own, with progress on this one.
pub(crate) fn run<S: Source + Send + 'static>(
    plan: &PhasePlan<'_>,
    sessions: Vec<(SessionSetup, S)>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, LoadError> {
    let (messages, inbox) = mpsc::channel();
    let phase = Arc::new(Phase { order: AtomicU8::new(0), live: Live::default(), messages });
    let count = sessions.len();
    let (start, started) = watch::channel(false);
    let launched = launch(plan.threads, sessions, &phase, &started);
    let threads = launched.inspect_err(|_| phase.give(Order::Abort))?;
    let result = Watcher::new(plan, &phase, inbox, start, count).watch(progress);
    phase.give(Order::Abort);
    for thread in threads {
        if thread.join().is_err() {
            return Err(LoadError::Start(std::io::Error::other("a load thread panicked")));
        }
    }
    result
}

/// Deals the sessions to threads and starts those.
fn launch<S: Source + Send + 'static>(
    threads: usize,
    sessions: Vec<(SessionSetup, S)>,
    phase: &Arc<Phase>,
    started: &watch::Receiver<bool>,
) -> Result<Vec<thread::JoinHandle<()>>, LoadError> {
    let mut groups: Vec<Vec<Session<S>>> = Vec::new();
    groups.resize_with(threads.clamp(1, sessions.len().max(1)), Vec::new);
    let lanes = groups.len();
    for (index, (setup, source)) in sessions.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(index % lanes) {
            group.push(Session::new(setup, Arc::clone(phase), source));
        }
    }
    let start = |(index, group)| {
        let (phase, started) = (Arc::clone(phase), started.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = move || runtime.block_on(drive(group, &phase, &started));
        Ok(thread::Builder::new().name(format!("load-{index}")).spawn(body)?)
    };
    groups.into_iter().enumerate().map(start).collect()
}

/// A thread's sessions, side by side.
async fn drive<S: Source + Send + 'static>(
    group: Vec<Session<S>>,
    phase: &Phase,
    started: &watch::Receiver<bool>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for session in group {
        tasks.spawn(session.run(started.clone()));
    }
    while let Some(joined) = tasks.join_next().await {
        let result = joined.unwrap_or_else(|error| Err(LoadError::Start(std::io::Error::other(error))));
        let _ = phase.messages.send(Message::Finished(Box::new(result)));
    }
}

/// The calling thread's side of a phase.
struct Watcher<'a> {
    plan: &'a PhasePlan<'a>,
    phase: &'a Phase,
    inbox: Receiver<Message>,
    start: watch::Sender<bool>,
    /// Sessions that are not finished.
    running: usize,
    /// Sessions that are not logged in for the first time yet.
    waiting: usize,
    tally: Tally,
    failure: Option<LoadError>,
    broken_off: bool,
    /// When all sessions were ready, and the processor time used until then.
    began: Instant,
    cpu: Duration,
    /// How long commands were issued, once that is over.
    issued: Option<Duration>,
    /// The last progress report.
    reported: Instant,
    mark: Mark,
}

/// Counts at the last progress report.
#[derive(Default, Clone, Copy)]
struct Mark {
    commands: u64,
    bytes: u64,
    latency_ns: u64,
}

impl<'a> Watcher<'a> {
    fn new(
        plan: &'a PhasePlan<'a>,
        phase: &'a Phase,
        inbox: Receiver<Message>,
        start: watch::Sender<bool>,
        sessions: usize,
    ) -> Self {
        let now = Instant::now();
        Self {
            plan,
            phase,
            inbox,
            start,
            running: sessions,
            waiting: sessions,
            tally: Tally::new(),
            failure: None,
            broken_off: false,
            began: now,
            cpu: processor_time(),
            issued: None,
            reported: now,
            mark: Mark::default(),
        }
    }

    fn watch(mut self, progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<Outcome, LoadError> {
        while self.running > 0 {
            match self.inbox.recv_timeout(self.next_look()) {
                Ok(Message::Connected) => self.connected(),
                Ok(Message::Finished(result)) => self.finished(*result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.stop_if_due();
            self.report_if_due(progress);
        }
        let seconds = self.issued.unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        let cpu = processor_time().saturating_sub(self.cpu);
        match self.failure {
            Some(error) => Err(error),
            None => Ok(Outcome { tally: self.tally, seconds, cpu, broken_off: self.broken_off }),
        }
    }

    /// How long until there is something to do if no message comes.
    fn next_look(&self) -> Duration {
        let report = PROGRESS_INTERVAL.saturating_sub(self.reported.elapsed());
        match self.plan.duration {
            Some(duration) if self.waiting == 0 && self.issued.is_none() => {
                report.min(duration.saturating_sub(self.began.elapsed()))
            }
            _ => report,
        }
    }

    /// Time begins when the last session is logged in.
    fn connected(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            (self.began, self.cpu) = (Instant::now(), processor_time());
            self.reported = self.began;
            self.start.send_replace(true);
        }
    }

    fn finished(&mut self, result: Result<Tally, LoadError>) {
        self.running -= 1;
        match result {
            Ok(more) => self.tally.add(&more),
            Err(error) => {
                self.failure.get_or_insert(error);
                self.abort();
            }
        }
    }

    fn abort(&self) {
        self.phase.give(Order::Abort);
        // Sessions that still wait for the start would wait for ever.
        self.start.send_replace(true);
    }

    fn stop_if_due(&mut self) {
        let elapsed = self.began.elapsed();
        let over = self.waiting == 0 && self.plan.duration.is_some_and(|limit| elapsed >= limit);
        let faulty = self.plan.stop_at_fault && (self.plan.faults)() > 0;
        if self.issued.is_none() && (over || faulty || self.broken_off) {
            self.phase.give(Order::Drain);
            self.issued = Some(elapsed);
        }
    }

    fn report_if_due(&mut self, progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>) {
        let now = Instant::now();
        let interval = now - self.reported;
        if interval < PROGRESS_INTERVAL {
            return;
        }
        let glance = self.glance(now - self.began, interval);
        self.reported = now;
        self.broken_off |= progress(&glance).is_break();
        if self.broken_off && self.waiting > 0 {
            self.abort();
        }
    }

    fn glance(&mut self, elapsed: Duration, interval: Duration) -> Progress {
        let live = &self.phase.live;
        let now = Mark {
            commands: live.commands.load(Relaxed),
            bytes: live.bytes.load(Relaxed),
            latency_ns: live.latency_ns.load(Relaxed),
        };
        let mark = core::mem::replace(&mut self.mark, now);
        let commands = now.commands - mark.commands;
        let latency_ns = now.latency_ns - mark.latency_ns;
        let bytes = now.bytes - mark.bytes;
        Progress {
            phase: self.plan.name,
            elapsed_seconds: elapsed.as_secs_f64(),
            done: match self.plan.duration {
                Some(duration) => (elapsed.as_secs_f64() / duration.as_secs_f64().max(1e-9)).min(1.0),
                None => (self.plan.done)(),
            },
            iops: float(commands) / interval.as_secs_f64(),
            bytes_per_second: float(bytes) / interval.as_secs_f64(),
            mean_latency_us: if commands == 0 { 0.0 } else { float(latency_ns) / float(commands) / 1e3 },
            errors: live.errors.load(Relaxed),
            reconnects: live.reconnects.load(Relaxed),
            connected: live.connected.load(Relaxed),
            faults: (self.plan.faults)(),
        }
    }
}

/// Processor time this process has used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
