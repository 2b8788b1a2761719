//! The one background loop: checkpoints, layers, collection, in this order of urgency.
//!
//! It sleeps while there is nothing to do: an idle pool has no timer.

use crate::engine::Engine;
use crate::format::{LayerId, Stream};
use crate::number::wide;
use crate::options::Health;
use crate::state::State;
use block::{BlockError, ErrorKind, Result};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Collection rounds in a row without gain after which waiting writes fail.
const FRUITLESS_MAX: u32 = 3;

/// Rounds in a row without gain after which also the rest of what was begun fails.
const HOPELESS: u32 = 32;
/// Time between an error of background work and the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// What the loop remembers.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// When the first change since the last cut was noticed.
    pub(crate) dirty_since: Option<Duration>,
    /// Volumes or layers were deleted, or layers emptied: there may be layers to work on.
    pub(crate) layers_changed: bool,
    /// The layer that is being worked on, and where to go on.
    pub(crate) layer_cursor: Option<(LayerId, u64)>,
    /// Rounds of collection that gained nothing.
    pub(crate) fruitless: u32,
    /// Blocks written when a round gained no slab though no write waited for one. Until a slab more is written,
    /// by hosts or checkpoints, another round would only rewrite what the last one wrote.
    pub(crate) content_at: Option<u64>,
    /// What hosts had done, most free slabs and least waste since then.
    pub(crate) best: Option<(u64, u64, u64)>,
    /// A write waits for the space that a checkpoint gives back.
    pub(crate) space_wanted: bool,
    /// The loop has ended.
    pub(crate) ended: bool,
    /// The loop is at work.
    pub(crate) busy: bool,
}

impl Engine {
    pub(crate) async fn background(self: Arc<Self>) {
        self.state().background.layers_changed = true;
        loop {
            let times = self.work_wanted.times();
            if self.state().closing {
                break;
            }
            self.state().background.busy = true;
            let worked = self.work().await;
            self.state().background.busy = false;
            self.progress.happen();
            match worked {
                Ok(true) => {}
                Ok(false) => self.rest(times).await,
                Err(error) => {
                    tracing::error!(%error, "background work failed");
                    self.zeros_if_stalled().await;
                    self.room_made.happen();
                    self.runtime.sleep(PAUSE).await;
                }
            }
        }
        self.state().background.ended = true;
        self.progress.happen();
    }

    /// Does what is most urgent. True if there was something.
    async fn work(self: &Arc<Self>) -> Result<bool> {
        self.release_evacuated().await;
        if matches!(self.state().health, Health::ReadOnly(_)) {
            self.fail_waiting(&self.no_slab());
            // No checkpoint will come: there is nothing to wait for.
            self.state().background.dirty_since = None;
            self.cannot_sanitize();
            return Ok(false);
        }
        let now = self.runtime.now();
        let free = self.slabs.lock().free();
        let due = self.state().checkpoint_due(now, &self.options, free);
        if due {
            self.checkpoint_now().await?;
            return Ok(true);
        }
        let free = self.slabs.lock().free();
        let urgent = self.state().is_stalled(free);
        if urgent && self.collect().await? {
            return Ok(true);
        }
        let layers = self.state().background.layers_changed;
        if layers && self.work_on_layers().await? {
            return Ok(true);
        }
        if self.sanitize_step().await? {
            return Ok(true);
        }
        Ok(!urgent && self.collect().await?)
    }

    /// Waits for work, or for the time of the next checkpoint.
    async fn rest(&self, times: u64) {
        let wanted = pin!(self.work_wanted.after(times));
        let since = {
            let state = self.state();
            // No checkpoint is made of a pool that takes no writes: its time would never be over.
            let takes_writes = !matches!(state.health, Health::ReadOnly(_));
            state.background.dirty_since.filter(|_| takes_writes)
        };
        match since {
            None => wanted.await,
            Some(since) => {
                let passed = self.runtime.now().saturating_sub(since);
                let left = self.options.checkpoint_interval.saturating_sub(passed);
                match select(wanted, self.runtime.sleep(left)).await {
                    Either::Left(_) | Either::Right(_) => {}
                }
            }
        }
    }

    /// Writes that cannot be written for want of slabs fail, if the pool takes writes, by `why` there are none; else all
    /// fail.
    pub(crate) fn fail_waiting(self: &Arc<Self>, why: &BlockError) {
        self.fail_queued(why);
        self.room_made.happen();
        self.progress.happen();
    }

    fn no_slab(&self) -> BlockError {
        let message =
            "has no free slab left and collection gains none; unmap or delete something, or add space";
        self.error(ErrorKind::NoSpace, message)
    }

    /// Layer work and checkpoints until nothing is left to do.
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<()> {
        self.state().background.layers_changed = true;
        self.work_wanted.happen();
        loop {
            let times = self.progress.times();
            {
                let state = self.state();
                if let Some(refusal) = state.refusal(&self.name) {
                    return Err(refusal);
                }
                if !state.background.layers_changed && !state.background.busy && !state.is_detaching() {
                    break;
                }
            }
            self.progress.after(times).await;
        }
        self.checkpoint_now().await
    }

    /// A round of collection is fruitless if it neither has more free slabs nor leaves fewer blocks wasted than
    /// the best since hosts wrote last: measured so, rounds without gain come to an end.
    /// True if what gives space back should not wait any longer.
    pub(crate) fn note_round(self: &Arc<Self>, stalled: bool) -> bool {
        let free = self.slabs.lock().free();
        let fruitless = {
            let mut state = self.state();
            let (written, waste) = (state.counters.host_log, state.waste());
            let best = state.background.best.filter(|(at, ..)| *at == written);
            let (_, most_free, least_waste) = best.unwrap_or((written, 0, u64::MAX));
            let gained = free > most_free || (stalled && waste < least_waste);
            state.background.best = Some((written, free.max(most_free), waste.min(least_waste)));
            state.background.fruitless = if gained { 0 } else { state.background.fruitless + 1 };
            if !stalled && !gained {
                state.background.content_at = Some(state.counters.written_blocks);
            }
            state.background.fruitless
        };
        if stalled && fruitless >= FRUITLESS_MAX {
            self.fail_waiting(&self.no_slab());
        }
        if stalled && fruitless >= HOPELESS {
            self.fail_data_queued(&self.error(ErrorKind::NoSpace, "has no free slab left; add space"));
        }
        stalled && fruitless >= FRUITLESS_MAX
    }

    /// Collection cannot go on: what only gives space back does not wait for it.
    async fn zeros_if_stalled(self: &Arc<Self>) {
        let free = self.slabs.lock().free();
        let stalled = self.state().is_stalled(free);
        if stalled && let Err(error) = self.zeros_by_checkpoint().await {
            tracing::error!(%error, "unmapping failed");
        }
    }
}

impl State {
    /// The loop should look for work.
    pub(crate) fn background_wanted(&self, engine: &Engine) -> bool {
        if self.background.busy {
            return false;
        }
        let begins = self.background.dirty_since.is_none() && self.log_since_cut > 0;
        begins || self.checkpoint_pressing(&engine.options) || self.background.layers_changed
    }

    /// A checkpoint should begin whatever the time.
    fn checkpoint_pressing(&self, options: &crate::options::PoolOptions) -> bool {
        let log_bytes = self.log_since_cut.saturating_mul(crate::format::BLOCK_BYTES);
        self.dirty_soon() >= self.budget.dirty_nodes
            || self.background.space_wanted
            || log_bytes >= options.checkpoint_log_bytes
    }

    /// So much log has come since the last cut that writers wait for a checkpoint to end: else an opening after
    /// a crash would have any amount of it to read.
    pub(crate) fn log_is_long(&self, options: &crate::options::PoolOptions) -> bool {
        self.log_since_cut.saturating_mul(crate::format::BLOCK_BYTES) / 2 >= options.checkpoint_log_bytes
    }

    fn checkpoint_due(&mut self, now: Duration, options: &crate::options::PoolOptions, free: u64) -> bool {
        if self.checkpoint_pressing(options) || self.dirty_soon() >= self.dirty_max(free) {
            return true;
        }
        let changed = self.log_since_cut > 0 || self.dirty_soon() > 0;
        if !changed {
            self.background.dirty_since = None;
            return false;
        }
        let since = *self.background.dirty_since.get_or_insert(now);
        now.saturating_sub(since) >= options.checkpoint_interval
    }

    /// Segments that were set aside and never written are given up. Returns how many.
    pub(crate) fn release_reserved(&mut self) -> u64 {
        let State { heads, segments, .. } = self;
        let mut released = 0;
        for stream in Stream::ALL {
            let head = &mut heads[usize::from(stream.code())];
            head.seal(segments);
            let ids = head.release();
            released += wide(ids.len());
            for id in ids {
                segments.change(id).phase = crate::segment::Phase::Sealed;
            }
        }
        released
    }
}
