//! The engine's surroundings on tokio: one thread, as a reactor of the server has.

use super::disk::now;
use block::{BoxFuture, Runtime, Task};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

static IDS: AtomicU64 = AtomicU64::new(1);

/// [`Runtime`] on the tokio runtime that runs it.
pub(crate) struct OnTokio {
    home: Handle,
    origin: Instant,
}

impl OnTokio {
    /// For the runtime of this thread.
    pub(crate) fn current() -> Self {
        Self { home: Handle::current(), origin: now() }
    }
}

impl Runtime for OnTokio {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_time_ms(&self) -> u64 {
        1_790_000_000_000
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _context = self.home.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: Task) {
        self.home.spawn(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        let running = self.home.spawn_blocking(work);
        Box::pin(async move {
            let _ = running.await;
        })
    }

    fn random_id(&self) -> [u8; 16] {
        u128::from(IDS.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}
