//! How far a volume is, for all who have it open.

use crate::catalog::{SanitizePhase, SanitizeRecord};
use crate::sync::Event;
use block::{BlockError, ErrorKind, Result, Sanitization};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const IDLE: u32 = 0;
/// With the progress, in 65536ths, in the lower half.
const RUNNING: u32 = 1 << 16;
const FAILED: u32 = 2 << 16;
/// Failed, and reads and writes may be allowed without another.
const FAILED_WITH_EXIT: u32 = 3 << 16;

/// How far the sanitizing of a volume is. Changed under the engine's lock, read without any.
#[derive(Default)]
pub(crate) struct Status {
    code: AtomicU32,
    error: Mutex<Option<BlockError>>,
    changed: Event,
}

impl Status {
    /// As the catalog says.
    pub(crate) fn set_up(&self, record: Option<&SanitizeRecord>) {
        let code = match record {
            None => IDLE,
            Some(SanitizeRecord { phase: SanitizePhase::Failed, unrestricted_exit: true, .. }) => {
                FAILED_WITH_EXIT
            }
            Some(SanitizeRecord { phase: SanitizePhase::Failed, .. }) => FAILED,
            Some(_) => RUNNING,
        };
        self.code.store(code, Ordering::Release);
    }

    /// How far it is now.
    pub(crate) fn get(&self) -> Sanitization {
        let code = self.code.load(Ordering::Acquire);
        match code & !0xffff {
            IDLE => Sanitization::Idle,
            RUNNING => Sanitization::Running { progress: u16::try_from(code & 0xffff).unwrap_or(u16::MAX) },
            failed => Sanitization::Failed { unrestricted_exit: failed == FAILED_WITH_EXIT },
        }
    }

    /// It begins.
    pub(crate) fn begin(&self) {
        *self.error.lock() = None;
        self.code.store(RUNNING, Ordering::Release);
    }

    /// `done` of `all` is done of the part of it that lies between `from` and `to`, in 65536ths. Never goes back.
    pub(crate) fn advance(&self, (from, to): (u32, u32), done: u64, all: u64) {
        let part = u64::from(to - from) * done.min(all) / all.max(1);
        let progress = (from + u32::try_from(part).unwrap_or(0)).min(0xffff);
        let running = |code: u32| (code & !0xffff == RUNNING).then_some(code.max(RUNNING | progress));
        let _ = self.code.fetch_update(Ordering::AcqRel, Ordering::Acquire, running);
    }

    /// It is over; with the error and whether the volume may be used without another, if it failed.
    pub(crate) fn end(&self, failed: Option<(BlockError, bool)>) {
        let code = match failed {
            None => IDLE,
            Some((_, true)) => FAILED_WITH_EXIT,
            Some((_, false)) => FAILED,
        };
        *self.error.lock() = failed.map(|(error, _)| error);
        self.code.store(code, Ordering::Release);
    }

    /// Who waits looks again: after a change, without any lock of the engine held.
    pub(crate) fn wake(&self) {
        self.changed.happen();
    }

    /// Why there are no reads and writes of `volume`, if there are none.
    pub(crate) fn refusal(&self, volume: &str) -> Option<BlockError> {
        match self.get() {
            Sanitization::Idle => None,
            Sanitization::Running { .. } => {
                Some(BlockError::new(ErrorKind::Busy, volume, "is being sanitized"))
            }
            Sanitization::Failed { .. } => {
                let message = "could not be sanitized: it must be, before it is used again";
                Some(BlockError::new(ErrorKind::Device, volume, message))
            }
        }
    }

    /// Waits until it is over, or `closed`.
    pub(crate) async fn over(&self, volume: &str, closed: impl Fn() -> bool) -> Result<()> {
        loop {
            let times = self.changed.times();
            match self.get() {
                Sanitization::Idle => return Ok(()),
                Sanitization::Failed { .. } => {
                    let unknown = || BlockError::new(ErrorKind::Device, volume, "could not be sanitized");
                    return Err(self.error.lock().clone().unwrap_or_else(unknown));
                }
                Sanitization::Running { .. } if closed() => {
                    return Err(BlockError::new(ErrorKind::Closed, volume, "was deleted or is closed"));
                }
                Sanitization::Running { .. } => self.changed.after(times).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(progress: u16) -> Sanitization {
        Sanitization::Running { progress }
    }

    #[test]
    fn progress_goes_forward_only_and_stays_below_all() {
        let status = Status::default();
        status.advance((0, 1 << 16), 1, 2);
        assert_eq!(status.get(), Sanitization::Idle, "what does not run does not advance");
        status.begin();
        for (done, all, progress) in [(0, 8, 0), (2, 8, 1 << 14), (1, 8, 1 << 14), (9, 8, 0xffff)] {
            status.advance((0, 1 << 16), done, all);
            assert_eq!(status.get(), running(progress), "{done} of {all}");
        }
    }

    #[test]
    fn a_part_of_it_has_its_part_of_the_progress() {
        let status = Status::default();
        status.begin();
        status.advance((0, 1 << 15), 5, 5);
        assert_eq!(status.get(), running(1 << 15));
        status.advance((1 << 15, 1 << 16), 1, 2);
        assert_eq!(status.get(), running(3 << 14));
        status.advance((1 << 15, 1 << 16), 0, 0);
        assert_eq!(status.get(), running(3 << 14), "nothing of nothing");
    }

    #[test]
    fn the_error_and_the_way_out_are_those_of_the_last_one() {
        let status = Status::default();
        assert!(status.refusal("v").is_none());
        status.begin();
        assert_eq!(status.refusal("v").map(|error| error.kind), Some(ErrorKind::Busy));
        let error = BlockError::new(ErrorKind::NoSpace, "pool", "is full");
        status.end(Some((error, true)));
        assert_eq!(status.get(), Sanitization::Failed { unrestricted_exit: true });
        assert_eq!(status.refusal("v").map(|error| error.kind), Some(ErrorKind::Device));
        status.begin();
        status.end(None);
        assert_eq!((status.get(), status.error.lock().is_none()), (Sanitization::Idle, true));
    }
}
