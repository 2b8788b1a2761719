//! A logical unit that is served: the SCSI state, the volume behind it, and what is on its way between them.

use crate::media;
use block::Volume;
use parking_lot::Mutex;
use scsi::{
    Availability, Cdb, Completion, ConfigError, DataOut, LogicalUnit, LogicalUnitConfig, MediaCommand,
    MediaOutcome, NexusId, NexusInfo, Pending, Step, UnitAttention,
};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A logical unit and its volume, shared by all sessions that use it, through whichever target and portal: SCSI
/// state belongs to the volume (promise 6).
pub struct LogicalUnitHandle {
    inner: Mutex<Inner>,
    volume: Arc<dyn Volume>,
    block_size_bytes: u32,
    thin: bool,
}

struct Inner {
    unit: LogicalUnit,
    operations: Operations,
}

/// A span of time between two resets; counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

/// Counts the operations on the medium, by epoch.
struct Operations {
    /// The epoch of the first count in `live`.
    oldest: u64,
    live: VecDeque<usize>,
    /// Operations of epochs before this one were aborted by a reset.
    aborted_before: u64,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

impl Operations {
    fn new() -> Self {
        Self { oldest: 0, live: VecDeque::from([0]), aborted_before: 0, waiting: Vec::new() }
    }

    fn current(&self) -> u64 {
        // `live` is never empty: it ends with the current epoch.
        self.oldest + (self.live.len() as u64).saturating_sub(1)
    }

    /// The current epoch, counted from 1.
    fn stamp(&self) -> u64 {
        self.current().saturating_add(1)
    }

    fn has_aborted(&self, stamp: u64) -> bool {
        stamp > 0 && stamp <= self.aborted_before
    }

    fn begin(&mut self) -> Epoch {
        if let Some(count) = self.live.back_mut() {
            *count += 1;
        }
        Epoch(self.current())
    }

    fn end(&mut self, epoch: Epoch) {
        let index = usize::try_from(epoch.0.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        let count = self.live.get_mut(index);
        debug_assert!(count.as_ref().is_some_and(|count| **count > 0), "every end has its beginning");
        if let Some(count) = count {
            *count = count.saturating_sub(1);
        }
        self.settle();
    }

    /// Forgets finished epochs and tells who waits for them.
    fn settle(&mut self) {
        while self.live.len() > 1 && self.live.front() == Some(&0) {
            self.live.pop_front();
            self.oldest += 1;
        }
        if self.waiting.is_empty() {
            return;
        }
        let oldest = self.oldest;
        let (over, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(epoch, _)| *epoch < oldest);
        self.waiting = waiting;
        for (_, waiter) in Vec::into_iter(over) {
            let _ = waiter.send(());
        }
    }

    /// Starts a new epoch that aborts the operations of the old ones. The receiver hears when they have ended.
    fn abort_all(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push((self.current(), sender));
        self.live.push_back(0);
        self.aborted_before = self.current();
        self.settle();
        receiver
    }
}

impl LogicalUnitHandle {
    /// Serves `volume` as `config` says.
    ///
    /// # Errors
    /// If the configuration cannot be.
    pub fn new(config: LogicalUnitConfig, volume: Arc<dyn Volume>) -> Result<Self, ConfigError> {
        let (block_size_bytes, thin) = (config.block_size.bytes(), config.thin);
        let inner = Inner { unit: LogicalUnit::new(config)?, operations: Operations::new() };
        Ok(Self { inner: Mutex::new(inner), volume, block_size_bytes, thin })
    }

    /// The volume behind it.
    pub fn volume(&self) -> &Arc<dyn Volume> {
        &self.volume
    }

    /// The volume was resized: every host is told (CAPACITY DATA HAS CHANGED), unless nothing changed.
    ///
    /// # Errors
    /// If the size is not one that hosts can address.
    pub fn capacity_changed(&self) -> Result<(), ConfigError> {
        let blocks = self.volume.size_bytes() / u64::from(self.block_size_bytes);
        self.inner.lock().unit.capacity_changed(blocks)
    }

    /// Write-protects the unit for everyone, or lifts that. Every host is told, unless nothing changed.
    pub fn set_read_only(&self, read_only: bool) {
        self.inner.lock().unit.set_read_only(read_only);
    }

    /// Takes the unit off line (NOT READY) or back.
    pub fn set_availability(&self, availability: Availability) {
        self.inner.lock().unit.set_availability(availability);
    }

    /// Makes a unit attention pending for every host.
    pub fn raise_all(&self, attention: UnitAttention) {
        self.inner.lock().unit.raise_all(attention, None);
    }

    /// Sessions that use the unit.
    pub fn session_count(&self) -> usize {
        self.inner.lock().unit.nexus_count()
    }

    pub(crate) fn block_size_bytes(&self) -> u32 {
        self.block_size_bytes
    }

    pub(crate) fn attach(&self, nexus: NexusId, info: NexusInfo) {
        self.inner.lock().unit.add_nexus(nexus, info);
    }

    pub(crate) fn detach(&self, nexus: NexusId) {
        self.inner.lock().unit.remove_nexus(nexus);
    }

    pub(crate) fn set_nexus_read_only(&self, nexus: NexusId, read_only: bool) {
        self.inner.lock().unit.set_nexus_read_only(nexus, read_only);
    }

    pub(crate) fn raise(&self, nexus: NexusId, attention: UnitAttention) {
        self.inner.lock().unit.raise(nexus, attention);
    }

    /// Starts a command that came when [`LogicalUnitHandle::stamp`] was `stamp`. One that needs the volume counts as
    /// an operation until [`LogicalUnitHandle::finish`].
    pub(crate) fn execute(&self, nexus: NexusId, stamp: u64, cdb: &Cdb, data_out: DataOut) -> Started {
        let mut inner = self.inner.lock();
        if inner.operations.has_aborted(stamp) {
            return Started::Aborted;
        }
        match inner.unit.execute(nexus, cdb, data_out) {
            Step::Done(completion) => Started::Done(completion),
            Step::ReportLuns(report) => Started::ReportLuns(report),
            Step::Media(command, pending) => {
                let epoch = inner.operations.begin();
                Started::Media(command, Operation { pending, epoch })
            }
        }
    }

    /// Ends an operation. None if a reset has aborted it: then nothing is answered (SAM-5 §5.6).
    pub(crate) fn finish(&self, operation: Operation, outcome: MediaOutcome) -> Option<Completion> {
        let mut inner = self.inner.lock();
        let completion = inner.unit.finish(operation.pending, outcome);
        inner.operations.end(operation.epoch);
        (operation.epoch.0 >= inner.operations.aborted_before).then_some(completion)
    }

    /// LOGICAL UNIT RESET (SAM-5 §6.3.3).
    pub(crate) fn reset(&self) -> Reset {
        let mut inner = self.inner.lock();
        inner.unit.reset();
        Reset { quiet: inner.operations.abort_all(), stamp: inner.operations.stamp() }
    }

    /// CLEAR TASK SET by `nexus` (SAM-5 §7.5): aborts everybody's commands, and tells the others.
    pub(crate) fn clear_task_set(&self, nexus: NexusId) -> Reset {
        let mut inner = self.inner.lock();
        inner.unit.raise_all(UnitAttention::CommandsCleared, Some(nexus));
        Reset { quiet: inner.operations.abort_all(), stamp: inner.operations.stamp() }
    }

    /// Marks the time between two resets that it is now; never 0, which is the mark of no time.
    pub(crate) fn stamp(&self) -> u64 {
        self.inner.lock().operations.stamp()
    }

    /// Whether a reset has ended the commands of the time of that stamp.
    pub(crate) fn has_aborted(&self, stamp: u64) -> bool {
        self.inner.lock().operations.has_aborted(stamp)
    }

    /// The future that carries `command` out on the volume.
    pub(crate) fn run(&self, command: MediaCommand) -> media::MediaFuture {
        media::run(Arc::clone(&self.volume), self.thin, command)
    }
}

/// A reset that was begun.
pub(crate) struct Reset {
    /// Hears when no aborted command touches the medium any more.
    pub(crate) quiet: oneshot::Receiver<()>,
    /// The unit's stamp right after it.
    pub(crate) stamp: u64,
}

/// What became of a command handed to a unit.
pub(crate) enum Started {
    Done(Completion),
    ReportLuns(scsi::ReportLuns),
    Media(MediaCommand, Operation),
    /// A reset has ended it before it started: nothing is answered (SAM-5 §5.6).
    Aborted,
}

/// A command that touches the medium; must be given back to [`LogicalUnitHandle::finish`].
pub(crate) struct Operation {
    pending: Pending,
    epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_waits_for_older_operations_only() {
        let mut operations = Operations::new();
        let (first, second) = (operations.begin(), operations.begin());
        let mut quiet = operations.abort_all();
        let newer = operations.begin();
        assert!(first < newer && first.0 < operations.aborted_before && newer.0 >= operations.aborted_before);
        operations.end(first);
        assert!(quiet.try_recv().is_err(), "one is still out");
        let mut quiet_too = operations.abort_all();
        operations.end(second);
        quiet.try_recv().expect("all older ones have ended");
        assert!(quiet_too.try_recv().is_err(), "the second reset waits for what began after the first");
        operations.end(newer);
        quiet_too.try_recv().expect("ended");
        assert_eq!(operations.live.len(), 1, "finished epochs are forgotten");
    }

    #[test]
    fn a_reset_ends_what_came_before_it_and_had_not_begun() {
        let mut operations = Operations::new();
        let before = operations.stamp();
        assert!(!operations.has_aborted(before));
        operations.abort_all().try_recv().expect("quiet at once");
        assert!(operations.has_aborted(before) && !operations.has_aborted(operations.stamp()));
        assert!(!operations.has_aborted(0), "no unit was there when the command came");
    }

    #[test]
    fn a_reset_of_an_idle_unit_waits_for_nothing() {
        let mut operations = Operations::new();
        operations.abort_all().try_recv().expect("quiet at once");
        let epoch = operations.begin();
        operations.end(epoch);
        operations.abort_all().try_recv().expect("quiet at once");
    }
}
