//! Making acknowledged writes durable.

use super::Batch;
use super::request::Ended;
use crate::engine::Engine;
use crate::format::Seq;
use crate::sync::drive;
use block::{BlockError, ErrorKind, Result};
use std::sync::Arc;

impl Engine {
    /// Makes every acknowledged write durable.
    ///
    /// # Errors
    /// The disk's: what was acknowledged from the page cache may be lost; the pool takes no more writes.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        {
            let state = self.state();
            if state.host.durable >= state.host.applied {
                return Ok(());
            }
            if let Some(refusal) = state.refusal(&self.name).filter(|error| error.kind == ErrorKind::ReadOnly)
            {
                return Err(refusal);
            }
        }
        let engine = Arc::clone(self);
        drive(&*self.runtime, async move { engine.flush_once().await }).await
    }

    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let until = self.state().host.written();
        let result = self.flush_disks().await;
        let next = self.flushed(until, &result, false);
        if let Some(batch) = next {
            self.launch(batch).await;
        }
        result
    }

    /// The flush that batches in flight wait for.
    pub(super) async fn flush_for_batches(self: Arc<Self>) {
        let until = self.state().host.written();
        let result = self.flush_disks().await;
        let next = self.flushed(until, &result, true);
        if let Some(batch) = next {
            self.launch(batch).await;
        }
    }

    /// Everything queued and not begun fails: with `error`, or because the pool takes no writes.
    pub(crate) fn fail_queued(self: &Arc<Self>, error: &BlockError) {
        let mut ended = Ended::default();
        {
            let mut state = self.state();
            state.fail_queue_if_read_only(&self.name, &mut ended);
            let whole = |item: &super::Item| !item.payload.gives_back() && !item.request.has_begun();
            state.fail_queue(error, &mut ended, whole);
        }
        ended.tell();
        self.top_up();
    }

    /// Everything queued and not begun fails with `error`.
    pub(crate) fn fail_all_queued(self: &Arc<Self>, error: &BlockError) {
        let mut ended = Ended::default();
        self.state().fail_queue(error, &mut ended, |_| true);
        ended.tell();
        self.progress.happen();
    }

    /// Data that is queued fails with `error`, begun or not.
    pub(crate) fn fail_data_queued(self: &Arc<Self>, error: &BlockError) {
        let mut ended = Ended::default();
        self.state().fail_queue(error, &mut ended, |item| !item.payload.gives_back());
        ended.tell();
        self.progress.happen();
    }

    fn flushed(self: &Arc<Self>, until: Seq, result: &Result<()>, for_batches: bool) -> Option<Batch> {
        let mut ended = Ended::default();
        let steps = {
            let mut state = self.state();
            if for_batches {
                state.host.flushing = false;
            }
            // A flush that was under way when another one failed may not have been told.
            let refusal = state.refusal(&self.name).filter(|error| error.kind == ErrorKind::ReadOnly);
            let outcome = refusal.map_or_else(|| result.clone(), Err);
            match &outcome {
                Ok(()) => state.host.durable = state.host.durable.max(until),
                Err(error) => {
                    state.make_read_only(&format!("a flush failed: {error}"));
                    state.fail_flights_from_front(error);
                    state.fail_queue_if_read_only(&self.name, &mut ended);
                }
            }
            state.advance(self)
        };
        ended.tell();
        self.take(steps)
    }
}

impl crate::state::State {
    /// Batches that have ended but are not known to be durable have failed.
    fn fail_flights_from_front(&mut self, error: &BlockError) {
        for flight in &mut self.host.flights {
            if let super::Flight::Ended(_, result) = flight {
                *result = Err(error.clone());
            }
        }
    }
}
