//! Memory that outsiders make us hold: counted, and bounded in all.

use block::{BufferPool, PageBuf};
use iscsi::PayloadPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How full the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    Low,
    /// Above three quarters: command windows shrink.
    High,
    /// Above the limit: new commands are turned away.
    Full,
}

/// Bytes held by commands under way, in all.
#[derive(Debug)]
pub(crate) struct Gauge {
    used: AtomicUsize,
    max: usize,
}

impl Gauge {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more are within the limit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.max
    }

    pub(crate) fn pressure(&self) -> Pressure {
        match self.used() {
            used if used > self.max => Pressure::Full,
            used if used > self.max / 4 * 3 => Pressure::High,
            _ => Pressure::Low,
        }
    }
}

/// Page-aligned payload buffers that count as long as they live, in whosever hands.
#[derive(Clone)]
pub(crate) struct CountedPool {
    buffers: BufferPool,
    gauge: Arc<Gauge>,
}

impl CountedPool {
    pub(crate) fn new(buffers: BufferPool, gauge: Arc<Gauge>) -> Self {
        Self { buffers, gauge }
    }
}

impl PayloadPool for CountedPool {
    type Buf = CountedBuf;

    fn take(&self, len: usize) -> CountedBuf {
        self.gauge.add(len);
        CountedBuf { buffer: self.buffers.take(len), gauge: Arc::clone(&self.gauge) }
    }
}

/// A buffer of [`CountedPool`].
pub(crate) struct CountedBuf {
    buffer: PageBuf,
    gauge: Arc<Gauge>,
}

impl AsRef<[u8]> for CountedBuf {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl AsMut<[u8]> for CountedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for CountedBuf {
    fn drop(&mut self) {
        self.gauge.subtract(self.buffer.len());
    }
}

/// One session's bytes: what its commands under way hold, and what was answered and not yet sent.
#[derive(Debug)]
pub(crate) struct Budget {
    gauge: Arc<Gauge>,
    max: usize,
    running: usize,
    unsent: usize,
}

impl Budget {
    pub(crate) fn new(gauge: Arc<Gauge>, max: usize) -> Self {
        Self { gauge, max, running: 0, unsent: 0 }
    }

    /// Whether `bytes` more may start. A session with nothing under way may always start one command.
    pub(crate) fn allows(&self, bytes: usize) -> bool {
        let used = self.running + self.unsent;
        used == 0 || used.saturating_add(bytes) <= self.max
    }

    /// A command that holds `bytes` starts.
    pub(crate) fn start(&mut self, bytes: usize) {
        self.running += bytes;
        self.gauge.add(bytes);
    }

    /// It has ended, and `answer` of its bytes wait to be sent.
    pub(crate) fn finish(&mut self, bytes: usize, answer: usize) {
        self.running -= bytes;
        self.unsent += answer;
        self.gauge.add(answer);
        self.gauge.subtract(bytes);
    }

    /// About `bytes` were handed to the socket; `all` if nothing is left.
    pub(crate) fn sent(&mut self, bytes: usize, all: bool) {
        let gone = if all { self.unsent } else { bytes.min(self.unsent) };
        self.unsent -= gone;
        self.gauge.subtract(gone);
    }

    /// True if nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running == 0 && self.unsent == 0
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.gauge.pressure()
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.gauge.subtract(self.running + self.unsent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_count_until_the_last_reference_is_gone() {
        let gauge = Arc::new(Gauge::new(100));
        let pool = CountedPool::new(BufferPool::default(), Arc::clone(&gauge));
        let bytes = bytes::Bytes::from_owner(pool.take(80));
        assert_eq!((gauge.used(), gauge.pressure()), (80, Pressure::High));
        let part = bytes.slice(..1);
        drop(bytes);
        let more = pool.take(40);
        assert_eq!(gauge.pressure(), Pressure::Full);
        drop((part, more));
        assert_eq!((gauge.used(), gauge.pressure()), (0, Pressure::Low));
    }

    #[test]
    fn a_session_keeps_within_its_budget_and_never_starves() {
        let gauge = Arc::new(Gauge::new(1000));
        let mut budget = Budget::new(Arc::clone(&gauge), 100);
        assert!(budget.allows(5000), "one command always goes");
        budget.start(90);
        assert!(budget.allows(10) && !budget.allows(11));
        budget.finish(90, 90);
        assert!(!budget.allows(11), "unsent answers count");
        budget.sent(50, false);
        assert!(budget.allows(60) && !budget.is_idle());
        budget.sent(0, true);
        assert!(budget.is_idle());
        budget.start(7);
        drop(budget);
        assert_eq!(gauge.used(), 0);
    }
}
