//! Disks that are lost at work.

use super::State;

/// How a disk is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Every operation fails.
    Errors,
    /// No operation ends; those that block fail.
    Hangs,
}

impl super::SimDisk {
    /// True if the disk has failed for good in this life.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.medium.state.lock().death().is_some()
    }
}

impl State {
    /// How the disk has failed, if it has.
    pub(super) fn death(&self) -> Option<Failure> {
        self.dying.filter(|(left, _)| *left == 0).map(|(_, failure)| failure)
    }

    /// An operation begins: how the disk has failed by then, if it has.
    pub(super) fn age(&mut self) -> Option<Failure> {
        let death = self.death();
        if let Some((left, _)) = &mut self.dying {
            *left = left.saturating_sub(1);
        }
        death
    }
}
