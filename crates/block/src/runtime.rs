//! What the pool engine needs of its surroundings: time, tasks and a thread that may block.

use crate::BoxFuture;
use std::time::Duration;

/// A piece of background work.
pub type Task = BoxFuture<'static, ()>;

/// Clock and executor, given to the engine from outside so that a simulation can own both.
pub trait Runtime: Send + Sync + 'static {
    /// Time since an origin that stays the same while the process runs.
    fn now(&self) -> Duration;

    /// Wall-clock time in milliseconds since 1970, for what people see (creation times).
    fn unix_time_ms(&self) -> u64;

    /// Is ready after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Starts `task`; it runs to its end whatever becomes of the caller. Prefers the caller's thread.
    fn spawn(&self, task: Task);

    /// Runs `work`, which may block, where it stalls nobody else. The future is ready when it has run.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()>;

    /// 16 random bytes, for identities.
    fn random_id(&self) -> [u8; 16];
}
