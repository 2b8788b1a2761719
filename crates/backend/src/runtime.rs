//! The engine's surroundings in a real process: tokio, the system's clock and its randomness.

use block::{BoxFuture, Runtime, Task};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;

/// [`Runtime`] on tokio. Work started on a reactor stays on that reactor; work started elsewhere goes to the
/// runtime given at the start.
///
/// A panic in the engine's work ends the process: the log makes a restart cheap, and carrying on with half a
/// step done could cost data.
pub struct TokioRuntime {
    home: Handle,
    origin: Instant,
}

impl TokioRuntime {
    /// A runtime whose home is `home`. It must outlive the engine, and have its timer enabled.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is where the engine's clock comes from")]
    pub fn new(home: Handle) -> Self {
        Self { home, origin: Instant::now() }
    }

    /// The runtime this thread drives or is driven by, or else the home.
    fn here(&self) -> Handle {
        Handle::try_current().unwrap_or_else(|_| self.home.clone())
    }
}

/// Ends the process if it is dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the engine broke one of its own rules; stopping, so that a restart recovers from disk"
            );
            std::process::abort();
        }
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is where the engine's clock comes from")]
    fn unix_time_ms(&self) -> u64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let here = self.here();
        let _context = here.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, task: Task) {
        self.here().spawn(async move {
            let _guard = AbortOnPanic;
            task.await;
        });
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        let running = self.home.spawn_blocking(move || {
            let _guard = AbortOnPanic;
            work();
        });
        Box::pin(async move {
            // An error means that the process is ending and the work was never started.
            let _ = running.await;
        })
    }

    fn random_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let mut filled = 0;
        while filled < id.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::rand::getrandom(&mut id[filled..], flags) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gives no random numbers: {error}"),
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn work_stays_on_the_reactor_that_started_it() {
        let home =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = Arc::new(TokioRuntime::new(home.handle().clone()));
        let here = std::thread::current().id();
        let ran_on = |engine: &TokioRuntime| {
            let (sender, receiver) = std::sync::mpsc::channel();
            engine.spawn(Box::pin(async move { sender.send(std::thread::current().id()).unwrap() }));
            receiver
        };
        assert_ne!(ran_on(&engine).recv().unwrap(), here, "no reactor here: the home runs it");
        runtime().block_on(async {
            let receiver = ran_on(&engine);
            tokio::task::yield_now().await;
            assert_eq!(receiver.try_recv().unwrap(), here);
        });
    }

    #[test]
    fn clocks_sleep_and_blocking_work_do_what_they_say() {
        let home = runtime();
        let engine = TokioRuntime::new(home.handle().clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        home.block_on(async {
            let before = engine.now();
            engine.sleep(Duration::from_millis(5)).await;
            assert!(engine.now() >= before + Duration::from_millis(5));
            engine.run_blocking(Box::new(move || sender.send(7).unwrap())).await;
            assert_eq!(receiver.try_recv().unwrap(), 7, "the future is ready when the work has run");
        });
        assert!(engine.unix_time_ms() > 1_700_000_000_000);
        assert_ne!(engine.random_id(), engine.random_id());
    }
}
