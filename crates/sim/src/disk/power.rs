//! What all disks of a machine have in common: the power that goes at some step, whichever disk takes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The power of a machine. Steps are counted over all its disks.
#[derive(Default)]
pub(super) struct Power {
    steps: AtomicU64,
    /// The step at which it goes; 0 for none.
    crash_at: AtomicU64,
    crashed: AtomicBool,
}

impl Power {
    /// Counts a step; true if the crash comes here, or has come.
    pub(super) fn step(&self) -> bool {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let at = self.crash_at.load(Ordering::Relaxed);
        if at > 0 && steps >= at {
            self.crash();
        }
        self.crashed()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn crash_after(&self, steps: u64) {
        self.crash_at.store((self.steps() + steps).max(1), Ordering::Relaxed);
    }

    pub(super) fn crash(&self) {
        self.crashed.store(true, Ordering::Relaxed);
    }

    pub(super) fn crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    /// The machine is switched on again.
    pub(super) fn restore(&self) {
        self.crash_at.store(0, Ordering::Relaxed);
        self.crashed.store(false, Ordering::Relaxed);
    }
}
