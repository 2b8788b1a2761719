//! A pass over the pool that makes old content go from all slabs.
//!
//! It is made in steps by the background loop, between checkpoints and the work on layers, so that these and the hosts
//! of other volumes go on; and it goes on at the next opening if the pool is closed.

use super::prune::Pruning;
use crate::catalog::{SanitizePhase, SanitizeRecord, Slab};
use crate::disks::{Copies, Slabs};
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, VolumeId};
use crate::number::{len_of, wide};
use crate::segment::Phase;
use crate::state::State;
use block::{BlockError, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// Steps in a row that gain nothing after which the pass is given up: half a minute, if nothing else happens.
const FRUITLESS_MAX: u32 = 300;
/// Errors of the disk, in one pass, after which it is given up.
const ERRORS_MAX: u32 = 8;
/// Time after which it is looked again for what has to come from elsewhere: batches that end, reads, space.
const NAP: Duration = Duration::from_millis(100);
/// Bytes that are read and written at once when a slab is wiped.
const WIPE_BYTES: u64 = 1 << 20;

/// A pass in progress.
pub(super) struct Pass {
    /// The volumes whose old content goes with it.
    volumes: Vec<VolumeId>,
    stage: Stage,
    /// Slabs that had to be wiped at its begin.
    total: u64,
    /// The fewest segments and live blocks in them there ever were to be emptied.
    best: Option<(u64, u64)>,
    fruitless: u32,
    errors: u32,
}

/// What the pass does.
enum Stage {
    /// Blocks that no volume can see are given up.
    Prunes(Pruning),
    /// Segments are emptied and slabs wiped.
    Wipes,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Worked,
    /// What is left has to wait for others.
    Waits,
    /// Nothing is left.
    Done,
}

/// What there is to be emptied and wiped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unwiped {
    /// Segments on slabs that have not been wiped.
    pub(crate) segments: u64,
    /// Live blocks in them.
    pub(crate) live: u64,
    /// Some of them only wait for a checkpoint.
    pub(crate) empty: bool,
    /// One that cannot be emptied, because it is damaged.
    pub(crate) damaged: bool,
    /// Something has to end first: batches that are written, reads, the giving back of a slab.
    pub(crate) on_the_way: bool,
}

impl Engine {
    /// A bounded step of what is left to do for volumes that are being sanitized. True if there was something.
    pub(crate) async fn sanitize_step(self: &Arc<Self>) -> Result<bool> {
        let begun = self.state().begin_pass();
        match begun {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(()) => {
                let what =
                    "a part of a map cannot be read: what it names cannot be wiped; restore from a copy";
                let volumes = self.state().sanitizing.in_phase(SanitizePhase::Wiping);
                self.fail_sanitize(volumes, &self.error(ErrorKind::Corrupt, what)).await?;
                return Ok(true);
            }
        }
        match self.pass_step().await {
            Ok(Step::Worked) => Ok(true),
            Ok(Step::Waits) => {
                self.nap();
                Ok(false)
            }
            Ok(Step::Done) => self.end_pass().await.map(|()| true),
            Err(error) => {
                let too_many = self.state().note_error();
                let Some(volumes) = too_many else { return Err(error) };
                self.fail_sanitize(volumes, &error).await.map(|()| true)
            }
        }
    }

    async fn pass_step(self: &Arc<Self>) -> Result<Step> {
        if self.prune_step().await? {
            return Ok(Step::Worked);
        }
        if self.state().begin_wiping(self) {
            return Ok(Step::Worked);
        }
        self.give_up_unwiped_heads().await;
        let slab = self.slabs.lock().take_unwiped();
        if let Some(slab) = slab {
            self.wipe_free(slab).await?;
            self.note_progress();
            return Ok(Step::Worked);
        }
        let left = self.note_progress();
        if left == Unwiped::default() {
            return Ok(Step::Done);
        }
        let moved = self.empty_unwiped().await?;
        let fruitless = self.state().note_gain(left);
        if fruitless > FRUITLESS_MAX {
            let message = "has no room to move what must be moved for sanitizing; free or add space";
            let volumes = self.state().sanitizing.in_phase(SanitizePhase::Wiping);
            self.fail_sanitize(volumes, &self.error(ErrorKind::NoSpace, message)).await?;
            return Ok(Step::Worked);
        }
        if !moved && left.damaged && !left.empty {
            let message = "damaged data cannot be moved out of the way of sanitizing; delete or restore it";
            let volumes = self.state().sanitizing.in_phase(SanitizePhase::Wiping);
            self.fail_sanitize(volumes, &self.error(ErrorKind::Corrupt, message)).await?;
            return Ok(Step::Worked);
        }
        if moved && fruitless == 0 { Ok(Step::Worked) } else { Ok(Step::Waits) }
    }

    /// One step of giving up what no volume can see. False if that is done.
    async fn prune_step(self: &Arc<Self>) -> Result<bool> {
        let pruning = match self.state().sanitizing.pass.as_mut().map(|pass| &mut pass.stage) {
            Some(Stage::Prunes(pruning)) => pruning.clone(),
            _ => return Ok(false),
        };
        let Some(next) = self.prune(pruning).await? else {
            // With it go the last references to shared blocks: what is wiped must not be what is moved.
            self.checkpoint_now().await?;
            return Ok(false);
        };
        if let Some(pass) = self.state().sanitizing.pass.as_mut() {
            pass.stage = Stage::Prunes(next);
        }
        Ok(true)
    }

    /// Segments that were set aside or begun before are not written any more.
    async fn give_up_unwiped_heads(self: &Arc<Self>) {
        if !self.state().has_unwiped_heads(&self.slabs.lock()) {
            return;
        }
        {
            let _no_checkpoint = self.checkpoint_gate.lock().await;
            let _no_relocation = self.relocation_gate.lock().await;
            let mut state = self.state();
            let slabs = self.slabs.lock();
            let State { heads, segments, .. } = &mut *state;
            heads.iter_mut().for_each(|head| head.give_up(segments, |copies| slabs.needs_wiping(copies)));
        }
        self.kick();
    }

    /// Wipes a slab that was taken to be wiped, and gives it back.
    async fn wipe_free(self: &Arc<Self>, slab: Slab) -> Result<()> {
        let mut wiped = self.wipe_slab(slab).await;
        if wiped.is_ok() {
            wiped = self.flush_wiped().await;
        }
        if let Err(error) = wiped {
            self.slabs.lock().give_slab(slab);
            return Err(error);
        }
        self.slabs.lock().note_wiped(slab);
        if self.options.discard {
            if let Some(member) = self.disks.current(slab.disk) {
                let discard = member.disk.discard(self.disks.offset(slab), self.disks.slab_bytes());
                if let Err(error) = self.discarded(slab.disk, discard).await {
                    tracing::debug!(%error, "a discard failed");
                }
            }
            self.slabs.lock().give_discarded(slab);
        } else {
            self.slabs.lock().give_slab(slab);
        }
        self.room_made.happen();
        self.kick();
        Ok(())
    }

    /// Wipes those of `slabs`, which are taken, that may hold old content.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn wipe_taken(&self, taken: &[Copies]) -> Result<()> {
        for slab in taken.iter().flat_map(|copies| copies.slabs().to_vec()) {
            let needed = self.slabs.lock().slab_needs_wiping(slab);
            if needed {
                self.wipe_slab(slab).await?;
                self.slabs.lock().note_wiped(slab);
            }
        }
        Ok(())
    }

    /// Makes a slab hold nothing but zeros. What does already is not written, so that a disk that was never written, or
    /// of which much is discarded, takes no space for it. Not yet durable.
    async fn wipe_slab(&self, slab: Slab) -> Result<()> {
        // What is on a disk that has left is out of reach.
        let alone = self.disks.alone();
        let mut at = 0;
        while at < self.disks.slab_bytes() && self.disks.current(slab.disk).is_some() {
            let part = WIPE_BYTES.min(self.disks.slab_bytes() - at);
            let read = self.read_slab(slab, at, len_of(part), alone).await;
            let is_zero = |part: &[u8]| part == &self.zeros[..part.len()];
            if !read.is_ok_and(|data| data.chunks(self.zeros.len()).all(is_zero)) {
                self.write_slab(slab, at, self.zero_chunks(part / BLOCK_BYTES)).await?;
            }
            at += part;
        }
        Ok(())
    }

    async fn flush_wiped(&self) -> Result<()> {
        let flushed = self.flush_disks().await;
        if let Err(error) = &flushed {
            self.state().make_read_only(&format!("a flush failed: {error}"));
        }
        flushed
    }

    /// All old content is gone from slabs that segments may lie on: it goes from the catalog's, and that is noted.
    async fn end_pass(self: &Arc<Self>) -> Result<()> {
        let catalog = self.catalog();
        self.blocking(move || catalog.wipe_spare()).await?;
        self.flush_wiped().await?;
        let volumes = self.state().close_pass(&self.slabs).map(|pass| pass.volumes).unwrap_or_default();
        let next = |record: &SanitizeRecord| (!record.pattern.is_empty()).then_some(SanitizePhase::Filling);
        self.note_phase(SanitizePhase::Wiping, volumes, None, next).await?;
        self.resume_sanitizing();
        Ok(())
    }

    /// It cannot be done.
    pub(super) async fn fail_sanitize(&self, volumes: Vec<VolumeId>, error: &BlockError) -> Result<()> {
        tracing::error!(%error, "sanitizing failed");
        self.state().close_pass(&self.slabs);
        let failed = |_: &SanitizeRecord| Some(SanitizePhase::Failed);
        self.note_phase(SanitizePhase::Wiping, volumes, Some(error), failed).await
    }

    /// Tells the volumes how far it is. Returns what is left.
    fn note_progress(&self) -> Unwiped {
        let state = self.state();
        let slabs = self.slabs.lock();
        let left = state.unwiped(&slabs);
        let Some(pass) = &state.sanitizing.pass else { return left };
        let done = pass.total.saturating_sub(left.segments + slabs.unwiped());
        for id in &pass.volumes {
            let Some(record) = state.sanitizing.records.get(id) else { continue };
            let share = if record.pattern.is_empty() { 1 << 16 } else { 1 << 15 };
            if let Some(entry) = state.volumes.get(id) {
                entry.shared.sanitizing.advance((0, share), done, pass.total);
            }
        }
        left
    }

    /// Has the background loop look again in a while.
    fn nap(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().sanitizing.napping, true) {
            return;
        }
        let engine = Arc::clone(self);
        self.runtime.spawn(Box::pin(async move {
            engine.runtime.sleep(NAP).await;
            engine.state().sanitizing.napping = false;
            engine.work_wanted.happen();
        }));
    }
}

impl State {
    /// True if there is a pass to work on. It begins when nothing is left to do for layers.
    ///
    /// # Errors
    /// A layer that has to go cannot be given up.
    fn begin_pass(&mut self) -> std::result::Result<bool, ()> {
        if self.sanitizing.pass.is_some() {
            return Ok(true);
        }
        let volumes = self.sanitizing.in_phase(SanitizePhase::Wiping);
        if volumes.is_empty() || self.background.layers_changed {
            return Ok(false);
        }
        if self.layers.values().any(|layer| layer.set_aside) {
            return Err(());
        }
        let stage = Stage::Prunes(Pruning::default());
        let pass = Pass { volumes, stage, total: 0, best: None, fruitless: 0, errors: 0 };
        self.sanitizing.pass = Some(pass);
        Ok(true)
    }

    /// All slabs have to be wiped from now on, if that has not begun. Segments that could not be emptied once get
    /// another chance.
    fn begin_wiping(&mut self, engine: &Engine) -> bool {
        let Some(pass) = self.sanitizing.pass.as_mut() else { return false };
        if matches!(pass.stage, Stage::Wipes) {
            return false;
        }
        pass.stage = Stage::Wipes;
        let mut slabs = engine.slabs.lock();
        slabs.begin_wipe();
        pass.total = slabs.unwiped() + wide(self.segments.iter().count());
        let ids: Vec<_> = self.segments.iter().filter(|(_, s)| s.damaged || s.suspect).map(|s| s.0).collect();
        for id in ids {
            let segment = self.segments.change(id);
            (segment.damaged, segment.suspect) = (false, false);
        }
        true
    }

    fn has_unwiped_heads(&self, slabs: &Slabs) -> bool {
        let written = |phase| matches!(phase, Phase::Reserved | Phase::Open);
        self.segments.iter().any(|(_, segment)| written(segment.phase) && slabs.needs_wiping(&segment.copies))
    }

    /// What is left to be emptied and wiped.
    fn unwiped(&self, slabs: &Slabs) -> Unwiped {
        let mut left = Unwiped::default();
        for (_, segment) in self.segments.iter().filter(|(_, segment)| slabs.needs_wiping(&segment.copies)) {
            left.segments += 1;
            left.live += u64::from(segment.live);
            left.damaged |= segment.damaged;
            let settled = segment.is_settled();
            left.empty |= settled && segment.live == 0;
            left.on_the_way |=
                segment.phase == Phase::Evacuated || (segment.phase == Phase::Sealed && !settled);
        }
        let in_segments = |disk| {
            let copies = self.segments.iter().flat_map(|(_, segment)| segment.copies.slabs());
            wide(copies.filter(|slab| slab.disk == disk).count())
        };
        left.on_the_way |= !slabs.are_accounted(in_segments) || slabs.unwiped() > 0;
        left
    }

    /// How many times in a row nothing was gained, though there was nothing that had to end first.
    fn note_gain(&mut self, left: Unwiped) -> u32 {
        let Some(pass) = self.sanitizing.pass.as_mut() else { return 0 };
        let now = (left.segments, left.live);
        let gained = pass.best.is_none_or(|(segments, live)| now.0 < segments || now.1 < live);
        pass.fruitless = if gained || left.on_the_way { 0 } else { pass.fruitless + 1 };
        pass.best = Some(pass.best.map_or(now, |best| (best.0.min(now.0), best.1.min(now.1))));
        pass.fruitless
    }

    /// An error came. The volumes of the pass, if there were too many.
    fn note_error(&mut self) -> Option<Vec<VolumeId>> {
        let pass = self.sanitizing.pass.as_mut()?;
        pass.errors += 1;
        (pass.errors > ERRORS_MAX).then(|| pass.volumes.clone())
    }

    /// The pass is over, however it went.
    fn close_pass(&mut self, slabs: &crate::disks::SharedSlabs) -> Option<Pass> {
        slabs.lock().end_wipe();
        self.sanitizing.pass.take()
    }
}
