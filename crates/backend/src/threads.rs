//! A disk's own threads, for requests that no ring takes.

use crate::request::Request;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Most threads of one disk. Each disk has its own, so a stuck disk holds up its own requests only.
const THREADS_MAX: usize = 16;

/// A thread with nothing to do for this long ends: an idle service costs nothing.
const IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    threads: usize,
    idle: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

/// Threads of one disk, started as needed.
#[derive(Default)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

impl Threads {
    /// Has `request` carried out by one of the threads.
    pub(crate) fn submit(&self, request: Request) {
        let mut state = self.shared.state.lock();
        state.waiting.push_back(request);
        if state.waiting.len() <= state.idle || state.threads >= THREADS_MAX {
            self.shared.more.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        self.start_thread();
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("disk-io".to_owned());
        if thread.spawn(move || shared.serve()).is_ok() {
            return;
        }
        // The machine gives no more threads. Others of this disk will get to the request; without any, this
        // thread has to.
        let mut state = self.shared.state.lock();
        state.threads -= 1;
        let orphan = if state.threads == 0 { state.waiting.pop_front() } else { None };
        drop(state);
        if let Some(request) = orphan {
            request.run();
        }
    }
}

impl Shared {
    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(request) = state.waiting.pop_front() {
                drop(state);
                request.run();
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            let timed_out = self.more.wait_for(&mut state, IDLE_MAX).timed_out();
            state.idle -= 1;
            if timed_out && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
