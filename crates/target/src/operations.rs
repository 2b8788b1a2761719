//! What is on its way to a medium, counted by nexus and by time, so that ending tasks can wait for those it ends.

use scsi::NexusId;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// A span of time between two times that tasks were ended; counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

/// The nexus of hosts that have none at the unit, whose copies may write to it all the same: no session has this number.
pub(crate) const STRANGER: NexusId = NexusId(u64::MAX);

/// Why a task has ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The tasks of everybody were.
    All,
    /// Another nexus ended those of this one (PREEMPT AND ABORT).
    Nexus,
}

/// Counts the operations on the medium, by nexus and epoch.
pub(crate) struct Operations {
    current: u64,
    /// Operations of epochs before this one were aborted by a reset.
    aborted_before: u64,
    /// Sorted by nexus.
    lanes: Vec<Lane>,
    waiting: Vec<Waiting>,
    /// Told whenever operations are aborted.
    aborts: Arc<Notify>,
}

/// The operations of a nexus.
struct Lane {
    nexus: NexusId,
    /// Counts by epoch, oldest first, none of them 0.
    live: VecDeque<(u64, usize)>,
    aborted_before: u64,
    /// The nexus is gone; the lane goes with its last operation.
    gone: bool,
}

struct Waiting {
    /// Of these operations: older than this epoch,
    before: u64,
    /// and of these nexuses; `None`: of all.
    nexuses: Option<Vec<NexusId>>,
    done: oneshot::Sender<()>,
}

impl Lane {
    fn new(nexus: NexusId) -> Self {
        Self { nexus, live: VecDeque::new(), aborted_before: 0, gone: false }
    }

    fn has_before(&self, epoch: u64) -> bool {
        self.live.front().is_some_and(|(oldest, _)| *oldest < epoch)
    }
}

impl Operations {
    pub(crate) fn new() -> Self {
        Self { current: 0, aborted_before: 0, lanes: Vec::new(), waiting: Vec::new(), aborts: Arc::default() }
    }

    fn find(&self, nexus: NexusId) -> Result<usize, usize> {
        self.lanes.binary_search_by_key(&nexus, |lane| lane.nexus)
    }

    fn lane(&self, nexus: NexusId) -> Option<&Lane> {
        self.lanes.get(self.find(nexus).ok()?)
    }

    fn lane_mut(&mut self, nexus: NexusId) -> Option<&mut Lane> {
        let index = self.find(nexus).ok()?;
        self.lanes.get_mut(index)
    }

    /// A nexus comes.
    pub(crate) fn attach(&mut self, nexus: NexusId) {
        match self.find(nexus) {
            Ok(index) => {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.gone = false;
                }
            }
            Err(index) => self.lanes.insert(index, Lane::new(nexus)),
        }
    }

    /// A nexus goes. What it has on the medium still counts.
    pub(crate) fn detach(&mut self, nexus: NexusId) {
        if let Some(lane) = self.lane_mut(nexus) {
            lane.gone = true;
        }
        self.forget(nexus);
    }

    fn forget(&mut self, nexus: NexusId) {
        if let Ok(index) = self.find(nexus)
            && self.lanes.get(index).is_some_and(|lane| lane.gone && lane.live.is_empty())
        {
            self.lanes.remove(index);
        }
    }

    /// The current epoch, counted from 1.
    pub(crate) fn stamp(&self) -> u64 {
        self.current.saturating_add(1)
    }

    /// Whether, and how, a task that came at `stamp` has been ended; 0 is the mark of no time.
    pub(crate) fn ended(&self, nexus: NexusId, stamp: u64) -> Option<Ended> {
        if stamp == 0 {
            return None;
        }
        if stamp <= self.aborted_before {
            return Some(Ended::All);
        }
        self.lane(nexus).filter(|lane| stamp <= lane.aborted_before).map(|_| Ended::Nexus)
    }

    /// Whether, and how, an operation has been ended since it began.
    pub(crate) fn ended_since(&self, nexus: NexusId, epoch: Epoch) -> Option<Ended> {
        self.ended(nexus, epoch.0.saturating_add(1))
    }

    /// Tells those who wait on it whenever operations are aborted.
    pub(crate) fn aborts(&self) -> Arc<Notify> {
        Arc::clone(&self.aborts)
    }

    pub(crate) fn begin(&mut self, nexus: NexusId) -> Epoch {
        let current = self.current;
        self.attach(nexus);
        if let Some(lane) = self.lane_mut(nexus) {
            match lane.live.back_mut().filter(|(epoch, _)| *epoch == current) {
                Some((_, count)) => *count += 1,
                None => lane.live.push_back((current, 1)),
            }
        }
        Epoch(current)
    }

    /// An operation is over. Whether, and how, it was ended before.
    pub(crate) fn end(&mut self, nexus: NexusId, epoch: Epoch) -> Option<Ended> {
        let ended = self.ended_since(nexus, epoch);
        let lane = self.lane_mut(nexus);
        debug_assert!(lane.is_some(), "every end has its beginning");
        if let Some(lane) = lane {
            if let Some((_, count)) = lane.live.iter_mut().find(|(at, _)| *at == epoch.0) {
                *count = count.saturating_sub(1);
            }
            lane.live.retain(|(_, count)| *count > 0);
        }
        self.forget(nexus);
        if !self.waiting.is_empty() {
            self.settle();
        }
        ended
    }

    /// Tells those whose wait is over.
    fn settle(&mut self) {
        let lanes = &self.lanes;
        let waits = |waiting: &Waiting| {
            let concerned =
                |lane: &&Lane| waiting.nexuses.as_ref().is_none_or(|all| all.contains(&lane.nexus));
            lanes.iter().filter(concerned).any(|lane| lane.has_before(waiting.before))
        };
        let (waiting, over): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(waits);
        self.waiting = waiting;
        for waiting in over {
            let _ = waiting.done.send(());
        }
    }

    fn wait(&mut self, nexuses: Option<Vec<NexusId>>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        self.waiting.push(Waiting { before: self.current, nexuses, done });
        self.settle();
        receiver
    }

    /// Hears when what these nexuses have on the medium now has ended. Nothing is aborted.
    pub(crate) fn quiet(&mut self, nexuses: Vec<NexusId>) -> oneshot::Receiver<()> {
        self.current += 1;
        self.wait(Some(nexuses))
    }

    /// Starts a new epoch that aborts the operations of the old ones. The receiver hears when they have ended.
    pub(crate) fn abort_all(&mut self) -> oneshot::Receiver<()> {
        self.current += 1;
        self.aborted_before = self.current;
        self.aborts.notify_waiters();
        self.wait(None)
    }

    /// The same for these nexuses only. What strangers' copies write is waited for, too, as one of these may be the host
    /// that is shut out, by a registration it left here; where they go on from there, the unit looks at anew.
    pub(crate) fn abort(&mut self, mut nexuses: Vec<NexusId>) -> oneshot::Receiver<()> {
        self.current += 1;
        let current = self.current;
        for nexus in &nexuses {
            if let Some(lane) = self.lane_mut(*nexus) {
                lane.aborted_before = current;
            }
        }
        self.aborts.notify_waiters();
        nexuses.push(STRANGER);
        self.wait(Some(nexuses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NexusId = NexusId(1);
    const B: NexusId = NexusId(2);

    fn operations() -> Operations {
        let mut operations = Operations::new();
        [B, A].into_iter().for_each(|nexus| operations.attach(nexus));
        operations
    }

    #[test]
    fn a_reset_waits_for_older_operations_only() {
        let mut operations = operations();
        let (first, second) = (operations.begin(A), operations.begin(B));
        let mut quiet = operations.abort_all();
        let newer = operations.begin(A);
        assert!(first < newer);
        assert_eq!(operations.end(A, first), Some(Ended::All));
        assert!(quiet.try_recv().is_err(), "one is still out");
        let mut quiet_too = operations.abort_all();
        assert_eq!(operations.end(B, second), Some(Ended::All));
        quiet.try_recv().expect("all older ones have ended");
        assert!(quiet_too.try_recv().is_err(), "the second reset waits for what began after the first");
        assert_eq!(operations.end(A, newer), Some(Ended::All));
        quiet_too.try_recv().expect("ended");
        assert!(operations.lanes.iter().all(|lane| lane.live.is_empty()), "nothing is left behind");
    }

    #[test]
    fn a_reset_ends_what_came_before_it_and_had_not_begun() {
        let mut operations = operations();
        let before = operations.stamp();
        assert_eq!(operations.ended(A, before), None);
        operations.abort_all().try_recv().expect("quiet at once");
        assert_eq!(operations.ended(A, before), Some(Ended::All));
        assert_eq!(operations.ended(A, operations.stamp()), None);
        assert_eq!(operations.ended(A, 0), None, "no unit was there when the command came");
    }

    /// SPC-4 5.13.11.5: the victims' tasks, and nobody else's.
    #[test]
    fn ending_one_nexus_leaves_the_others_alone() {
        let mut operations = operations();
        let (of_a, of_b, before) = (operations.begin(A), operations.begin(B), operations.stamp());
        let mut quiet = operations.abort(vec![B]);
        assert_eq!((operations.ended(A, before), operations.ended(B, before)), (None, Some(Ended::Nexus)));
        assert_eq!(operations.end(A, of_a), None);
        assert!(quiet.try_recv().is_err());
        let newer = operations.begin(B);
        assert_eq!(operations.end(B, of_b), Some(Ended::Nexus));
        quiet.try_recv().expect("what began later is not waited for");
        assert_eq!(operations.end(B, newer), None);
    }

    #[test]
    fn waiting_for_quiet_aborts_nothing_and_waits_for_nobody_else() {
        let mut operations = operations();
        let (of_a, of_b, stamp) = (operations.begin(A), operations.begin(B), operations.stamp());
        let mut quiet = operations.quiet(vec![A]);
        assert_eq!(operations.ended(A, stamp), None);
        let newer = operations.begin(A);
        assert!(quiet.try_recv().is_err());
        assert_eq!(operations.end(A, of_a), None, "answered as usual");
        quiet.try_recv().expect("neither what began later nor what is another's is waited for");
        assert_eq!((operations.end(B, of_b), operations.end(A, newer)), (None, None));
    }

    #[test]
    fn a_nexus_that_is_gone_is_waited_for_and_then_forgotten() {
        let mut operations = operations();
        let last = operations.begin(B);
        operations.detach(B);
        let mut quiet = operations.abort(vec![B]);
        assert!(quiet.try_recv().is_err());
        operations.end(B, last);
        quiet.try_recv().expect("ended");
        assert_eq!(operations.lanes.len(), 1);
        operations.abort(vec![B]).try_recv().expect("nobody there");
    }

    #[test]
    fn ending_the_tasks_of_an_idle_unit_waits_for_nothing() {
        let mut operations = operations();
        operations.abort_all().try_recv().expect("quiet at once");
        let epoch = operations.begin(A);
        operations.end(A, epoch);
        operations.abort_all().try_recv().expect("quiet at once");
        operations.abort(vec![A, B]).try_recv().expect("quiet at once");
    }
}
