//! A logical unit that is served: the SCSI state, the volume behind it, and what is on its way between them.

mod offload;
mod uses;

use crate::copies::Requester;
use crate::operations::{Ended, Epoch, Operations};
use crate::reservations::{Persisting, ReservationStore};
use crate::sanitize::{Waiter, Waiting, sanitization_of};
use crate::{atomic, copy, media};
use block::Volume;
use parking_lot::Mutex;
use scsi::{
    Availability, ByteRange, Cdb, Completion, ConfigError, DataOut, LogicalUnit, LogicalUnitConfig,
    MediaCommand, MediaFailure, MediaFailureKind, MediaOutcome, NexusId, NexusInfo, NotKept, Pending,
    PendingReservation, PortGroup, Reservations, SpaceWarning, Step, UnitAttention,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use offload::Offload;

pub use offload::CopyCounts;
pub(crate) use offload::Piece;
pub use uses::UnitUse;

/// A logical unit and its volume, shared by all sessions that use it, through whichever target and portal: SCSI
/// state belongs to the volume (promise 6).
pub struct LogicalUnitHandle {
    inner: Mutex<Inner>,
    volume: Arc<dyn Volume>,
    block_size_bytes: u32,
    thin: bool,
    /// The volume can be sanitized: its state is looked at before each command.
    sanitizes: bool,
    /// Tells of tasks that are ended.
    aborts: Arc<Notify>,
    offload: Offload,
    /// Bytes written and unmapped since space was last looked at.
    moved_bytes: AtomicU64,
    space_watcher: OnceLock<SpaceWatcher>,
    pub(crate) reservation_store: Option<Arc<dyn ReservationStore>>,
    /// Held while reservations change.
    pub(crate) reservation_turn: tokio::sync::Mutex<()>,
}

/// Hears what space there is whenever a unit has looked.
pub type SpaceWatcher = Box<dyn Fn(block::Resources) + Send + Sync>;

/// After so many bytes of writes and unmaps a unit looks whether a threshold is reached: as many as a threshold set.
const LOOK_BYTES: u64 = 1 << 20;

struct Inner {
    unit: LogicalUnit,
    operations: Operations,
    /// The volume was locked when it was looked at last.
    locked: bool,
}

impl LogicalUnitHandle {
    /// Serves `volume` as `config` says; copies are not offloaded to it before [`LogicalUnitHandle::with_copies`].
    ///
    /// # Errors
    /// If the configuration cannot be.
    pub fn new(mut config: LogicalUnitConfig, volume: Arc<dyn Volume>) -> Result<Self, ConfigError> {
        let (block_size_bytes, thin) = (config.block_size.bytes(), config.thin);
        config.offload = false;
        config.sanitize = volume.can_sanitize();
        config.crypto_erase = volume.can_crypto_erase();
        let sanitizes = config.sanitize;
        let limits = &mut config.limits;
        limits.atomic_bytes_max = atomic::bytes_max(
            volume.atomic_bytes_max(),
            volume.granularity_bytes(),
            block_size_bytes,
            limits.transfer_bytes_max,
        );
        let offload = Offload::of(config.identity.naa);
        let unit = LogicalUnit::new(config)?;
        let inner = Inner { unit, operations: Operations::new(), locked: false };
        let aborts = inner.operations.aborts();
        Ok(Self {
            inner: Mutex::new(inner),
            volume,
            block_size_bytes,
            thin,
            sanitizes,
            aborts,
            offload,
            moved_bytes: AtomicU64::new(0),
            space_watcher: OnceLock::new(),
            reservation_store: None,
            reservation_turn: tokio::sync::Mutex::default(),
        })
    }

    /// Has reservations outlive the process where hosts ask for that (APTPL), by way of `store`; `kept` is what was
    /// kept there before.
    #[must_use]
    pub fn keeping_reservations(
        mut self,
        kept: Option<Reservations>,
        store: Arc<dyn ReservationStore>,
    ) -> Self {
        self.inner.get_mut().unit.keep_reservations(kept);
        self.reservation_store = Some(store);
        self
    }

    pub(crate) fn with_unit<T>(&self, ask: impl FnOnce(&LogicalUnit) -> T) -> T {
        ask(&self.inner.lock().unit)
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

    /// Takes the target port groups as they are now. Every host is told if it sees a difference.
    pub fn set_port_groups(&self, groups: Vec<PortGroup>) {
        self.inner.lock().unit.set_port_groups(groups);
    }

    /// Makes a unit attention pending for every host.
    pub fn raise_all(&self, attention: UnitAttention) {
        self.inner.lock().unit.raise_all(attention, None);
    }

    /// When hosts are to be warned that space runs short. See [`LogicalUnit::set_space_warning`].
    pub fn set_space_warning(&self, warning: SpaceWarning) {
        self.inner.lock().unit.set_space_warning(warning);
    }

    /// Has `watcher` called after each look at space that the unit takes by itself: on a reactor's thread, without
    /// locks. Only the first one counts.
    pub fn watch_space(&self, watcher: SpaceWatcher) {
        let _ = self.space_watcher.set(watcher);
    }

    /// Looks how much space there is, and tells hosts of thresholds that are reached.
    pub fn look_at_space(&self) -> Option<block::Resources> {
        let resources = self.volume.resources().filter(|_| self.thin)?;
        self.inner.lock().unit.resources_changed(media::resources_of(resources));
        Some(resources)
    }

    /// The same if enough was written by now, with `bytes` more, or a write found no space.
    pub(crate) fn look_if_moved(&self, bytes: u64, is_full: bool) {
        if !self.thin || (bytes == 0 && !is_full) {
            return;
        }
        let moved = self.moved_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if moved < LOOK_BYTES && !is_full {
            return;
        }
        self.moved_bytes.store(0, Ordering::Relaxed);
        if let (Some(resources), Some(watcher)) = (self.look_at_space(), self.space_watcher.get()) {
            watcher(resources);
        }
    }

    /// Sessions that use the unit.
    pub fn session_count(&self) -> usize {
        self.inner.lock().unit.nexus_count()
    }

    pub(crate) fn block_size_bytes(&self) -> u32 {
        self.block_size_bytes
    }

    pub(crate) fn attach(&self, nexus: NexusId, info: NexusInfo) {
        let mut inner = self.inner.lock();
        inner.operations.attach(nexus);
        inner.unit.add_nexus(nexus, info);
    }

    pub(crate) fn detach(&self, nexus: NexusId) {
        let mut inner = self.inner.lock();
        inner.operations.detach(nexus);
        inner.unit.remove_nexus(nexus);
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
        let started = self.decode(nexus, stamp, cdb, data_out);
        if let Started::Media(_, Operation { written: Some(range), .. }) = &started {
            self.changed(*range);
        }
        started
    }

    fn decode(&self, nexus: NexusId, stamp: u64, cdb: &Cdb, data_out: DataOut) -> Started {
        let mut inner = self.inner.lock();
        if let Some(ended) = inner.operations.ended(nexus, stamp) {
            inner.tell(nexus, ended);
            return Started::Aborted;
        }
        self.look_at_volume(&mut inner);
        let step = inner.unit.execute(nexus, cdb, data_out);
        inner.started(step, Some(nexus))
    }

    /// Told to the unit before each command, and piece of a copy: whether the volume is locked, or being sanitized.
    fn look_at_volume(&self, inner: &mut Inner) {
        if self.volume.is_locked() != inner.locked {
            inner.locked = !inner.locked;
            let availability = match inner.locked {
                true => Availability::ManualInterventionRequired,
                false => Availability::Ready,
            };
            inner.unit.set_availability(availability);
        }
        if self.sanitizes {
            inner.unit.set_sanitization(sanitization_of(self.volume.sanitization()));
        }
    }

    /// Ready when tasks of the unit are ended the next time.
    pub(crate) fn tasks_end(&self) -> Notified<'_> {
        self.aborts.notified()
    }

    /// Whether tasks of the nexus and time of an operation have been ended since it began.
    pub(crate) fn has_ended_operation(&self, nexus: NexusId, epoch: Epoch) -> bool {
        self.inner.lock().operations.ended_since(nexus, epoch).is_some()
    }

    /// An operation touches the medium no more, but is not finished yet.
    pub(crate) fn off_the_medium(&self, nexus: NexusId, epoch: Epoch) {
        self.inner.lock().operations.end(nexus, epoch);
    }

    /// Ends an operation. None if a reset or another nexus has aborted it: then nothing is answered (SAM-5 §5.6).
    pub(crate) fn finish(&self, operation: Operation, outcome: MediaOutcome) -> Option<Completion> {
        operation.written.into_iter().for_each(|range| self.changed(range));
        let full = MediaFailureKind::SpaceExhausted;
        let is_full = matches!(outcome, MediaOutcome::Failed(MediaFailure { kind, .. }) if kind == full);
        self.look_if_moved(operation.written.map_or(0, |range| range.len), is_full);
        let mut inner = self.inner.lock();
        let completion = inner.unit.finish(operation.pending, outcome);
        let (nexus, epoch) = (operation.nexus, operation.epoch);
        let left = operation.waiting.is_some_and(|waiting| waiting.has_begun());
        let ended = if left {
            inner.operations.ended_since(nexus, epoch)
        } else {
            inner.operations.end(nexus, epoch)
        };
        match ended {
            None => Some(completion),
            Some(ended) => {
                inner.tell(nexus, ended);
                None
            }
        }
    }

    /// Ends a change of reservations that was to be made durable.
    pub(crate) fn persisted(
        &self,
        pending: PendingReservation,
        kept: Result<(), NotKept>,
        operation: Option<(NexusId, Epoch)>,
    ) -> Started {
        let mut inner = self.inner.lock();
        let step = inner.unit.persisted(pending, kept);
        let started = inner.started(step, operation.map(|(nexus, _)| nexus));
        if let Some((nexus, epoch)) = operation {
            inner.operations.end(nexus, epoch);
        }
        started
    }

    /// Starts to end every reservation, for an administrator.
    pub(crate) fn begin_clear_reservations(&self) -> Started {
        let mut inner = self.inner.lock();
        let step = inner.unit.clear_reservations();
        inner.started(step, None)
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

    /// Whether a reset or another nexus has ended the commands of the nexus of the time of that stamp.
    pub(crate) fn has_ended(&self, nexus: NexusId, stamp: u64) -> bool {
        let mut inner = self.inner.lock();
        let ended = inner.operations.ended(nexus, stamp);
        ended.is_some_and(|ended| {
            inner.tell(nexus, ended);
            true
        })
    }

    /// The future that carries out on the volume what is asked for in the name of `nexus`, whose host `requester` tells.
    /// [`crate::sanitize::run`] is for the rest.
    pub(crate) fn run(
        self: &Arc<Self>,
        nexus: NexusId,
        requester: impl FnOnce() -> Requester,
        command: MediaCommand,
    ) -> media::MediaFuture {
        match command {
            MediaCommand::Copy(command) => copy::run(Arc::clone(self), nexus, requester(), command),
            command => media::run(Arc::clone(&self.volume), self.thin, command),
        }
    }
}

impl Inner {
    /// Takes note of what a step starts; it is `nexus`'s, if it is a host's.
    fn started(&mut self, step: Step, nexus: Option<NexusId>) -> Started {
        match step {
            Step::Done(completion) => Started::Done(completion),
            Step::ReportLuns(report) => Started::ReportLuns(report),
            Step::Media(command, pending) => {
                let operation = self.begin(pending, nexus, &command);
                Started::Media(command, operation)
            }
            Step::Background(command, pending, completion) => {
                let operation = self.begin(pending, nexus, &command);
                Started::Background(completion, command, operation)
            }
            Step::Persist(kept, pending) => {
                let operation = nexus.map(|nexus| (nexus, self.operations.begin(nexus)));
                Started::Persist(Persisting { kept, pending, operation })
            }
            Step::Abort(nexuses, completion) => Started::Aborting(self.operations.abort(nexuses), completion),
        }
    }

    fn begin(&mut self, pending: Pending, nexus: Option<NexusId>, command: &MediaCommand) -> Operation {
        let nexus = nexus.unwrap_or(NexusId(0));
        let epoch = self.operations.begin(nexus);
        Operation { pending, nexus, epoch, written: media::range_written(command), waiting: None }
    }

    /// Who had a task ended by another nexus hears of that (SAM-5 §5.14, COMMANDS CLEARED BY ANOTHER INITIATOR). Of a
    /// reset everybody hears anyhow.
    fn tell(&mut self, nexus: NexusId, ended: Ended) {
        if ended == Ended::Nexus {
            self.unit.raise(nexus, UnitAttention::CommandsCleared);
        }
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
    /// The host is answered; the work goes on.
    Background(Completion, MediaCommand, Operation),
    /// Reservations have to be made durable; then [`LogicalUnitHandle::persisted`].
    Persist(Persisting),
    /// Answered when the tasks of others that it ends touch the medium no more.
    Aborting(oneshot::Receiver<()>, Completion),
    /// A reset or another nexus has ended it before it started: nothing is answered (SAM-5 §5.6).
    Aborted,
}

/// A command that touches the medium; must be given back to [`LogicalUnitHandle::finish`].
pub(crate) struct Operation {
    pending: Pending,
    nexus: NexusId,
    epoch: Epoch,
    /// What it changes.
    written: Option<ByteRange>,
    /// It may wait for what the volume does by itself.
    waiting: Option<Arc<Waiting>>,
}

impl Operation {
    /// It, as who waits for the end of a sanitizing.
    pub(crate) fn waiter(&mut self, waiting: Arc<Waiting>) -> Waiter {
        self.waiting = Some(Arc::clone(&waiting));
        Waiter { nexus: self.nexus, epoch: self.epoch, waiting }
    }
}
