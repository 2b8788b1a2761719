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
    let mut groups: Vec<Vec<Session<S>>> = Vec::new();
    groups.resize_with(plan.threads.clamp(1, count.max(1)), Vec::new);
    let lanes = groups.len();
    for (index, (setup, source)) in sessions.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(index % lanes) {
            group.push(Session::new(setup, Arc::clone(&phase), source));
        }
    }
    let mut threads = Vec::new();
    for (index, group) in groups.into_iter().enumerate() {
        let (phase, started) = (Arc::clone(&phase), started.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("load-{index}");
        let body = move || runtime.block_on(drive(group, &phase, &started));
        threads.push(thread::Builder::new().name(name).spawn(body)?);
    }
    let mut watcher = Watcher { plan, phase: &phase, inbox, start, waiting: count, broken_off: false };
    let result = watcher.watch(count, progress);
    phase.give(Order::Abort);
    drop(watcher);
    for thread in threads {
        if thread.join().is_err() {
            return Err(LoadError::Start(std::io::Error::other("a load thread panicked")));
        }
    }
    result
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
    /// Sessions that are not logged in for the first time yet.
    waiting: usize,
    broken_off: bool,
}

/// Counts at the last progress report.
#[derive(Default, Clone, Copy)]
struct Mark {
    commands: u64,
    bytes: u64,
    latency_ns: u64,
}

impl Watcher<'_> {
    fn watch(
        &mut self,
        mut running: usize,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Outcome, LoadError> {
        let (mut tally, mut failure) = (Tally::new(), None);
        let (mut began, mut cpu) = (Instant::now(), processor_time());
        let mut reported = began;
        let mut mark = Mark::default();
        let mut issued = None;
        while running > 0 {
            let until_stop = self.plan.duration.filter(|_| self.waiting == 0 && issued.is_none());
            let until_stop = until_stop.map(|duration| duration.saturating_sub(began.elapsed()));
            let until_report = PROGRESS_INTERVAL.saturating_sub(reported.elapsed());
            let message = self.inbox.recv_timeout(until_stop.map_or(until_report, |t| t.min(until_report)));
            match message {
                Ok(Message::Connected) => {
                    self.waiting = self.waiting.saturating_sub(1);
                    if self.waiting == 0 {
                        (began, cpu) = (Instant::now(), processor_time());
                        (reported, mark) = (began, Mark::default());
                        self.start.send_replace(true);
                    }
                }
                Ok(Message::Finished(result)) => {
                    running -= 1;
                    match *result {
                        Ok(more) => tally.add(&more),
                        Err(error) => {
                            self.phase.give(Order::Abort);
                            // Sessions that still wait for the start would wait for ever.
                            self.start.send_replace(true);
                            failure.get_or_insert(error);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            let over = self.waiting == 0 && self.plan.duration.is_some_and(|limit| now - began >= limit);
            let faulty = self.plan.stop_at_fault && (self.plan.faults)() > 0;
            if issued.is_none() && (over || faulty || self.broken_off) {
                self.phase.give(Order::Drain);
                issued = Some(now - began);
            }
            if now - reported >= PROGRESS_INTERVAL {
                let glance = self.glance(now - began, now - reported, &mut mark);
                reported = now;
                self.broken_off |= progress(&glance).is_break();
                if self.broken_off && self.waiting > 0 {
                    self.phase.give(Order::Abort);
                    self.start.send_replace(true);
                }
            }
        }
        let seconds = issued.unwrap_or_else(|| began.elapsed()).as_secs_f64();
        let cpu = processor_time().saturating_sub(cpu);
        match failure {
            Some(error) => Err(error),
            None => Ok(Outcome { tally, seconds, cpu, broken_off: self.broken_off }),
        }
    }

    fn glance(&self, elapsed: Duration, interval: Duration, mark: &mut Mark) -> Progress {
        let live = &self.phase.live;
        let now = Mark {
            commands: live.commands.load(Relaxed),
            bytes: live.bytes.load(Relaxed),
            latency_ns: live.latency_ns.load(Relaxed),
        };
        let commands = now.commands - mark.commands;
        let latency_ns = now.latency_ns - mark.latency_ns;
        let bytes = now.bytes - mark.bytes;
        *mark = now;
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
