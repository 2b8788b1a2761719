//! A deterministic executor: one thread, virtual time, and a seed that says which ready task runs next.

use crate::rng::{Rng, mix};
use block::{BoxFuture, Runtime, Task};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// What the clock says when a simulation starts, in milliseconds since 1970.
const UNIX_TIME_START_MS: u64 = 1_700_000_000_000;

/// Each step takes this much virtual time, so that a loop without a sleep meets its deadlines too.
const STEP_NS: u64 = 500;

/// A task that asks for the time so often in one step runs without end.
const LOOKS_AT_CLOCK_MAX: u32 = 100_000;

/// What happens at a moment of virtual time.
enum Timer {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

struct Slot {
    task: Option<Task>,
    waker: Arc<TaskWaker>,
}

struct State {
    rng: Rng,
    now_ns: u64,
    slots: BTreeMap<u64, Slot>,
    ready: Vec<u64>,
    timers: BTreeMap<(u64, u64), Timer>,
    serial: u64,
    trace: u64,
    halted: bool,
    /// Looks at the clock in this step.
    looks: u32,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The main future was ready.
    Done(T),
    /// The caller's condition to stop held.
    Stopped,
    /// Nothing is ready and nothing ever will be: a lost wake-up or a deadlock.
    Hung,
    /// More steps were taken than allowed: tasks wake each other without end.
    Endless,
}

/// Clock and executor of a simulation. Clones share one.
#[derive(Clone)]
pub struct Executor {
    state: Arc<Mutex<State>>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    executor: Executor,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.executor.state.lock().ready.push(self.id);
        }
    }
}

impl Executor {
    /// An executor whose choices follow from `rng`.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        let state = State {
            rng,
            now_ns: 0,
            slots: BTreeMap::new(),
            ready: Vec::new(),
            timers: BTreeMap::new(),
            serial: 0,
            trace: 0,
            halted: false,
            looks: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Runs all tasks until `main` is ready, `stop` says so, nothing can go on, or `steps_max` steps are taken.
    pub fn run<T: Send + 'static>(
        &self,
        main: impl Future<Output = T> + Send + 'static,
        stop: impl Fn() -> bool,
        steps_max: u64,
    ) -> Outcome<T> {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        self.spawn(Box::pin(async move {
            let value = main.await;
            *slot.lock() = Some(value);
        }));
        for _ in 0..steps_max {
            if let Some(value) = result.lock().take() {
                return Outcome::Done(value);
            }
            if stop() {
                return Outcome::Stopped;
            }
            if !self.step() {
                return Outcome::Hung;
            }
        }
        Outcome::Endless
    }

    /// Runs one task, or lets time pass until a timer; false if there is neither.
    fn step(&self) -> bool {
        let mut state = self.state.lock();
        state.now_ns += STEP_NS;
        state.looks = 0;
        let due = state.timers.first_key_value().is_some_and(|(&(at, _), _)| at <= state.now_ns);
        if due || state.ready.is_empty() {
            let Some(((at, _), timer)) = state.timers.pop_first() else { return false };
            state.now_ns = state.now_ns.max(at);
            drop(state);
            match timer {
                Timer::Wake(waker) => waker.wake(),
                Timer::Call(call) => call(),
            }
            return true;
        }
        let count = state.ready.len();
        let chosen = state.rng.index(count);
        let id = state.ready.swap_remove(chosen);
        state.note(id);
        let Some(slot) = state.slots.get_mut(&id) else { return true };
        let waker = Arc::clone(&slot.waker);
        let task = slot.task.take();
        drop(state);
        waker.queued.store(false, Ordering::Relaxed);
        if let Some(task) = task {
            self.poll(id, task, waker);
        }
        true
    }

    fn poll(&self, id: u64, mut task: Task, waker: Arc<TaskWaker>) {
        let waker = Waker::from(waker);
        let ready = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state.lock();
        let finished = if ready || state.halted {
            state.slots.remove(&id);
            Some(task)
        } else {
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.task = Some(task);
            }
            None
        };
        drop(state);
        drop(finished);
    }

    /// Ends every task where it stands, as the end of a process does; the clock goes on. What destructors of
    /// the tasks start is dropped too.
    pub fn kill_all(&self) {
        self.state.lock().halted = true;
        loop {
            let mut state = self.state.lock();
            let slots = std::mem::take(&mut state.slots);
            let timers = std::mem::take(&mut state.timers);
            state.ready.clear();
            drop(state);
            if slots.is_empty() && timers.is_empty() {
                break;
            }
        }
        self.state.lock().halted = false;
    }

    /// Runs `call` after `delay`.
    pub(crate) fn call_after(&self, delay: Duration, call: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        let at = state.now_ns + delay.as_nanos() as u64;
        state.add_timer(at, Timer::Call(call));
    }

    /// Adds `value` to the trace, whose hash two runs of one seed have in common.
    pub fn note(&self, value: u64) {
        self.state.lock().note(value);
    }

    /// The hash of all that happened so far.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.state.lock().slots.len()
    }
}

impl State {
    fn note(&mut self, value: u64) {
        self.trace = mix(self.trace.rotate_left(5) ^ value);
    }

    fn add_timer(&mut self, at_ns: u64, timer: Timer) {
        self.serial += 1;
        let key = (at_ns, self.serial);
        if !self.halted {
            self.timers.insert(key, timer);
        }
    }
}

/// The future of [`Runtime::sleep`].
struct Sleep {
    executor: Executor,
    until_ns: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.executor.state.lock();
        if state.now_ns >= self.until_ns {
            return Poll::Ready(());
        }
        let until = self.until_ns;
        state.add_timer(until, Timer::Wake(cx.waker().clone()));
        Poll::Pending
    }
}

/// Tells one waiter that something has happened.
#[derive(Default)]
pub(crate) struct Event {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Event {
    /// It has happened.
    pub(crate) fn set(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once it has happened.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Runtime for Executor {
    fn now(&self) -> Duration {
        let mut state = self.state.lock();
        state.looks += 1;
        assert!(state.looks <= LOOKS_AT_CLOCK_MAX, "a task runs without end, and without letting others run");
        Duration::from_nanos(state.now_ns)
    }

    fn unix_time_ms(&self) -> u64 {
        UNIX_TIME_START_MS + self.state.lock().now_ns / 1_000_000
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until_ns = self.state.lock().now_ns.saturating_add(duration.as_nanos() as u64);
        Box::pin(Sleep { executor: self.clone(), until_ns })
    }

    fn spawn(&self, task: Task) {
        let mut state = self.state.lock();
        if state.halted {
            drop(state);
            drop(task);
            return;
        }
        state.serial += 1;
        let id = state.serial;
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(true), executor: self.clone() });
        state.slots.insert(id, Slot { task: Some(task), waker });
        state.ready.push(id);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        let event = Arc::new(Event::default());
        let done = Arc::clone(&event);
        self.spawn(Box::pin(async move {
            work();
            done.set();
        }));
        Box::pin(std::future::poll_fn(move |cx| event.poll(cx)))
    }

    fn random_id(&self) -> [u8; 16] {
        let mut state = self.state.lock();
        let (high, low) = (state.rng.draw(), state.rng.draw());
        ((u128::from(high) << 64) | u128::from(low)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> bool {
        false
    }

    /// Two tasks that count in turns, and what they wrote.
    fn interleaving(seed: u64) -> (Vec<u32>, u64) {
        let executor = Executor::new(Rng::new(seed));
        let log = Arc::new(Mutex::new(Vec::new()));
        for task in 0..3 {
            let (log, runtime) = (Arc::clone(&log), executor.clone());
            executor.spawn(Box::pin(async move {
                for _ in 0..10 {
                    log.lock().push(task);
                    runtime.sleep(Duration::from_micros(1)).await;
                }
            }));
        }
        let sleep = executor.sleep(Duration::from_secs(1));
        assert_eq!(executor.run(sleep, never, 10_000), Outcome::Done(()));
        let log = log.lock().clone();
        (log, executor.trace())
    }

    #[test]
    fn a_seed_replays_exactly_and_another_differs() {
        assert_eq!(interleaving(1), interleaving(1));
        assert_ne!(interleaving(1).0, interleaving(2).0);
    }

    #[test]
    fn time_jumps_to_the_next_timer() {
        let executor = Executor::new(Rng::new(3));
        let sleep = executor.sleep(Duration::from_secs(3600));
        assert_eq!(executor.run(sleep, never, 10), Outcome::Done(()));
        assert!(executor.now() >= Duration::from_secs(3600));
    }

    #[test]
    fn blocking_work_runs_although_nobody_waits_for_it() {
        let executor = Executor::new(Rng::new(3));
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        drop(executor.run_blocking(Box::new(move || flag.store(true, Ordering::Relaxed))));
        assert_eq!(executor.run(std::future::pending::<()>(), never, 10), Outcome::Hung);
        assert!(ran.load(Ordering::Relaxed));
    }

    #[test]
    fn a_wait_for_nothing_is_reported_as_hung_and_a_storm_as_endless() {
        let executor = Executor::new(Rng::new(3));
        assert_eq!(executor.run(std::future::pending::<()>(), never, 10), Outcome::Hung);
        let storm = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(executor.run(storm, never, 100), Outcome::Endless);
    }

    #[test]
    #[should_panic(expected = "a task runs without end")]
    fn a_task_that_never_lets_go_is_stopped() {
        let executor = Executor::new(Rng::new(3));
        let clock = executor.clone();
        let busy = async move { while clock.now() < Duration::from_secs(1) {} };
        executor.run(busy, never, 10);
    }

    #[test]
    fn killing_drops_tasks_and_what_their_destructors_start() {
        struct Starter(Executor);
        impl Drop for Starter {
            fn drop(&mut self) {
                self.0.spawn(Box::pin(std::future::pending()));
            }
        }
        let executor = Executor::new(Rng::new(3));
        let starter = Starter(executor.clone());
        executor.spawn(Box::pin(async move {
            let _starter = starter;
            std::future::pending::<()>().await;
        }));
        executor.kill_all();
        assert_eq!(executor.tasks(), 0);
    }
}
