//! One life of the engine: from opening to crash, kill or close, with all that its clients share.

use crate::content::WriteId;
use crate::counts::Counts;
use crate::disk::{DiskHandle, Faults, SimDisk};
use crate::engine::EnginePool;
use crate::executor::Executor;
use crate::model::{Model, Presence, Time, Violation, VolumeId, VolumeModel};
use crate::narrate::say;
use crate::plan::Plan;
use crate::rng::mix;
use block::{BlockError, ErrorKind, Runtime, Volume};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An operation that has no answer for so long of virtual time is hung. Stuck disk operations take 20 s each.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// A snapshot or clone being taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fork {
    pub(crate) id: VolumeId,
    pub(crate) source: VolumeId,
    pub(crate) start: Time,
    pub(crate) frozen: bool,
    /// It keeps what the source held when this wrote all of the source anew: a rollback.
    pub(crate) rollback: Option<WriteId>,
    /// It was taken at one instant with others.
    pub(crate) group: Option<Time>,
}

/// An operation without an answer yet.
struct Running {
    what: String,
    since: Duration,
    start: Time,
}

/// What outlives a life: the model, the medium, the clock.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) executor: Executor,
    pub(crate) disks: Vec<SimDisk>,
    pub(crate) model: Mutex<Model>,
    pub(crate) counts: Mutex<Counts>,
    pub(crate) verdict: Mutex<Option<Violation>>,
    pub(crate) volumes_made: Mutex<u32>,
    /// Disks that were lost once.
    pub(crate) victims: Mutex<Vec<usize>>,
}

/// What the clients of one life share.
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) pool: Arc<dyn EnginePool>,
    pub(crate) handles: Vec<DiskHandle>,
    pub(crate) faults: Faults,
    state: Mutex<LifeState>,
}

#[derive(Default)]
struct LifeState {
    running: BTreeMap<u64, Running>,
    forks: Vec<Fork>,
    kept: Vec<VolumeId>,
    serial: u64,
}

impl World {
    pub(crate) fn fail(&self, message: impl Into<String>) {
        let mut verdict = self.verdict.lock();
        if verdict.is_none() {
            *verdict = Some(Violation(message.into()));
        }
    }

    pub(crate) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation.0);
        }
    }

    /// The machine has crashed.
    pub(crate) fn crashed(&self) -> bool {
        self.disks.iter().any(SimDisk::crashed)
    }

    /// Crashes at the `steps`-th step of any disk from now.
    pub(crate) fn crash_after(&self, steps: u64) {
        if let Some(disk) = self.disks.first() {
            disk.crash_after(steps);
        }
    }

    pub(crate) fn count(&self, name: &'static str) {
        self.counts.lock().add(name);
    }

    /// True when nothing that happens from now on counts: the machine has crashed, or the engine was wrong.
    pub(crate) fn is_over(&self) -> bool {
        self.crashed() || self.verdict.lock().is_some()
    }

    pub(crate) fn new_volume_id(&self) -> VolumeId {
        let mut made = self.volumes_made.lock();
        *made += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&made.to_le_bytes());
        id[8..].copy_from_slice(&mix(u64::from(*made)).to_le_bytes());
        id
    }
}

impl Life {
    pub(crate) fn new(
        world: &Arc<World>,
        pool: Arc<dyn EnginePool>,
        handles: Vec<DiskHandle>,
        faults: Faults,
    ) -> Self {
        Self { world: Arc::clone(world), pool, handles, faults, state: Mutex::default() }
    }

    /// Sectors that `choose` accepts on the disks that count: what a lost disk has is out of the engine's reach.
    pub(crate) fn find_on_disks(&self, choose: &impl Fn(&[u8]) -> bool) -> Vec<u64> {
        let lost = self.pool.gauges().lost;
        let victims = self.world.victims.lock().clone();
        let disks = self.world.disks.iter().enumerate();
        let disks = disks.filter(|(index, _)| !lost.contains(index) && !victims.contains(index));
        disks.flat_map(|(_, disk)| disk.find(choose)).collect()
    }

    /// True if injected faults have cost the pool the disks that it would need to do without one that has died.
    pub(crate) fn needs_the_dead(&self) -> bool {
        let lost = self.pool.gauges().lost;
        let mut died = (0..).zip(&self.world.disks).filter(|(_, disk)| disk.has_died());
        self.faults != Faults::default() && died.any(|(index, _)| !lost.contains(&index))
    }

    /// Registers an operation, so that it is missed when it gets no answer; its number and start.
    pub(crate) fn begin(&self, what: impl Into<String>) -> (u64, Time) {
        let start = self.world.model.lock().tick();
        let mut state = self.state.lock();
        state.serial += 1;
        if state.serial.is_multiple_of(64) {
            // What ended is checked after it left the list: so nothing is forgotten when an operation ends.
            let horizon = state.running.values().map(|running| running.start).min();
            self.world.model.lock().purge(horizon.unwrap_or(start));
        }
        let serial = state.serial;
        let since = self.world.executor.now();
        let what = what.into();
        say(format_args!("[{start}] {since:?} #{serial} begins: {what}"));
        state.running.insert(serial, Running { what, since, start });
        (serial, start)
    }

    /// The operation has its answer. False if the crash came first, so that nobody ever saw it.
    pub(crate) fn end(&self, serial: u64) -> bool {
        if self.world.is_over() {
            return false;
        }
        let ended = self.state.lock().running.remove(&serial);
        say(format_args!(
            "{:?} #{serial} ends: {}",
            self.world.executor.now(),
            ended.map_or_else(String::new, |ended| ended.what)
        ));
        true
    }

    /// What has been without an answer for too long.
    pub(crate) fn hung(&self) -> Option<String> {
        let now = self.world.executor.now();
        let state = self.state.lock();
        let oldest = state.running.values().find(|running| now.saturating_sub(running.since) > ANSWER_MAX)?;
        Some(format!("no answer for {:?} of virtual time: {}", ANSWER_MAX, oldest.what))
    }

    /// All that runs, for a report.
    pub(crate) fn running(&self) -> Vec<String> {
        self.state.lock().running.values().map(|running| running.what.clone()).collect()
    }

    pub(crate) fn begin_fork(&self, fork: Fork) {
        self.state.lock().forks.push(fork);
    }

    pub(crate) fn end_fork(&self, id: &VolumeId) {
        self.state.lock().forks.retain(|fork| fork.id != *id);
    }

    /// `id` is needed: it is not to be deleted.
    pub(crate) fn keep(&self, id: VolumeId) {
        self.state.lock().kept.push(id);
    }

    pub(crate) fn end_keeping(&self, id: VolumeId) {
        let mut state = self.state.lock();
        if let Some(at) = state.kept.iter().position(|kept| *kept == id) {
            state.kept.swap_remove(at);
        }
    }

    /// True if `id` is being copied, or needed otherwise.
    pub(crate) fn is_forking(&self, id: &VolumeId) -> bool {
        let state = self.state.lock();
        state.forks.iter().any(|fork| fork.source == *id) || state.kept.contains(id)
    }

    /// The forks without an answer.
    pub(crate) fn forks(&self) -> Vec<Fork> {
        self.state.lock().forks.clone()
    }

    /// The handle of a volume that exists, or none; a certain volume that cannot be opened is a violation.
    pub(crate) fn open_volume(&self, id: VolumeId) -> Option<Arc<dyn Volume>> {
        match self.pool.open_volume(id) {
            Ok(volume) => Some(volume),
            Err(error) => {
                if self.is_certain(&id) && !self.world.is_over() {
                    self.world.fail(format!("volume {} cannot be opened: {error}", crate::model::name(&id)));
                }
                None
            }
        }
    }

    /// True if `id` exists and is not being deleted.
    pub(crate) fn is_certain(&self, id: &VolumeId) -> bool {
        let model = self.world.model.lock();
        model.volume(id).is_some_and(|volume| volume.presence == Presence::Certain)
    }

    /// True if `id` is being sanitized, or may be, or could not be.
    pub(crate) fn is_sanitizing(&self, id: &VolumeId) -> bool {
        self.world.model.lock().volume(id).is_some_and(VolumeModel::is_sanitizing)
    }

    /// An operation on `id` failed: whether it may.
    pub(crate) fn judge(&self, id: &VolumeId, what: &str, error: &BlockError) {
        let gauges = self.pool.gauges();
        let injected = self.faults != Faults::default();
        let allowed = match error.kind {
            ErrorKind::Device => injected || self.is_sanitizing(id),
            ErrorKind::Busy => self.is_sanitizing(id),
            ErrorKind::ReadOnly => injected && gauges.read_only.is_some(),
            ErrorKind::NoSpace => self.faults.no_space > 0 || gauges.free_bytes < gauges.usable_bytes / 2,
            ErrorKind::Closed | ErrorKind::NotFound => !self.is_certain(id),
            _ => false,
        };
        self.world.counts.lock().add(match error.kind {
            ErrorKind::Device => "device errors seen by hosts",
            ErrorKind::ReadOnly => "writes to read-only pools",
            ErrorKind::NoSpace => "no space",
            ErrorKind::Busy => "operations on volumes being sanitized",
            _ => "operations on volumes being deleted",
        });
        if !allowed && !self.world.is_over() {
            self.world.fail(format!("{what} failed without a reason: {:?} {error}; {gauges:?}", error.kind));
        }
    }
}
