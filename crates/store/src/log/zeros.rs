//! Giving space back when there is none for the log.
//!
//! A batch of zeros is a block of log, and a full pool may have no slab for it that collection could spare. But the
//! log is only there so that callers need not wait for a checkpoint: zeros that are taken into the map at once, and
//! acknowledged when a checkpoint has made them last, need no log. A checkpoint always has slabs
//! ([`crate::space::Budget::relocation_floor`]), so unmapping always works.

use super::{Item, Payload, Request};
use crate::engine::Engine;
use crate::log::request::Ended;
use crate::number::wide;
use crate::options::Health;
use crate::state::State;
use block::Result;
use std::sync::Arc;

impl Engine {
    /// Does what is queued of zeros by a checkpoint instead of the log.
    ///
    /// # Errors
    /// The checkpoint's, which those who wait get, too.
    pub(crate) async fn zeros_by_checkpoint(self: &Arc<Self>) -> Result<()> {
        let requests = self.state().apply_queued_zeros();
        if requests.is_empty() {
            return Ok(());
        }
        tracing::debug!(parts = requests.len(), "unmapping by a checkpoint");
        let outcome = self.checkpoint_now().await;
        let mut ended = Ended::default();
        {
            let mut state = self.state();
            for request in requests {
                if request.part_ended(outcome.clone()) {
                    state.let_go(&request);
                    ended.0.push(request);
                }
            }
        }
        ended.tell();
        // Leaves that were held meanwhile, and segments that are empty now, go with the next one.
        self.kick();
        outcome
    }
}

impl State {
    /// Takes all zeros from the queue into the map. Returns the requests they are parts of, one for each part.
    ///
    /// Nothing that is queued or in flight speaks of the same blocks: each request holds its range. So it is of no
    /// matter that the log does not say when this happened.
    fn apply_queued_zeros(&mut self) -> Vec<Arc<Request>> {
        let mut requests = Vec::new();
        if matches!(self.health, Health::ReadOnly(_)) {
            return requests;
        }
        for item in std::mem::take(&mut self.host.queue) {
            let Item { request, address, payload: Payload::Zeros(count) } = item else {
                self.host.queue.push_back(item);
                continue;
            };
            self.apply_zeros(request.layer, address, u64::from(count), &request.leaves);
            requests.push(request);
        }
        self.counters.host_log += wide(requests.len());
        requests
    }
}
