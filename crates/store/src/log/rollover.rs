//! After a failed log write: the epoch ends before the failed batch, so that it is never replayed, and the log
//! goes on in a new epoch and a fresh segment.

use super::request::Ended;
use super::{FAILURES_MAX, Flight};
use crate::catalog::{Changes, LogRange};
use crate::engine::{Engine, OPEN_END};
use crate::format::{Seq, Stream};
use crate::options::Health;
use crate::state::State;
use block::{ErrorKind, Result};
use std::sync::Arc;

impl Engine {
    pub(super) async fn end_epoch(self: Arc<Self>) {
        let (failed_from, failed) = {
            let state = self.state();
            let Some(Flight::Ended(batch, Err(error))) = state.host.flights.front() else {
                unreachable!("an epoch is ended for a failed batch");
            };
            (batch.header.seq, error.clone())
        };
        let outcome = self.begin_epoch(failed_from).await;
        let mut ended = Ended::default();
        {
            let mut state = self.state();
            if outcome.is_err() {
                state.make_read_only("a failed write could not be cleared up");
            }
            state.host.failures += u32::from(failed.kind == ErrorKind::Device);
            if state.host.failures >= FAILURES_MAX {
                state.make_read_only(&format!("writes failed several times in a row: {failed}"));
            }
            for flight in std::mem::take(&mut state.host.flights) {
                let Flight::Ended(batch, result) = flight else {
                    unreachable!("nothing is written any more")
                };
                let error = result.err().unwrap_or_else(|| failed.clone());
                state.end_parts(batch, &Err(error), &mut ended);
            }
            let next = state.host.next;
            state.host.applied = next;
            if outcome.is_ok() {
                state.host.durable = next;
                state.host.cached_last = None;
            }
            state.host.failed = None;
            state.host.rolling = false;
            state.fail_queue_if_read_only(&self.name, &mut ended);
        }
        ended.tell();
        self.kick();
    }

    /// Ends the epoch: of the host stream, batches from `host_end` on do not count.
    async fn begin_epoch(&self, host_end: Seq) -> Result<()> {
        let _no_relocation = self.relocation_gate.lock().await;
        if matches!(self.state().health, Health::ReadOnly(_)) {
            return Err(self.error(ErrorKind::ReadOnly, "takes no writes"));
        }
        self.flush_disks().await?;
        let prepare = |state: &mut State| {
            if matches!(state.health, Health::ReadOnly(_)) {
                return Err(self.error(ErrorKind::ReadOnly, "takes no writes"));
            }
            state.give_up_tail(host_end);
            let ended = state.epoch;
            let next = LogRange {
                host_first: state.host.next,
                host_end: OPEN_END,
                relocation_first: state.relocation_seq,
                relocation_end: OPEN_END,
            };
            let mut range = state.ranges.get(&ended).copied().expect("the current epoch has a range");
            range.host_end = host_end;
            range.relocation_end = state.relocation_seq;
            let epoch = ended.next();
            let pool = crate::catalog::PoolRecord { epoch, ..state.pool_record };
            let ranges = [(ended, range), (epoch, next)];
            let changes = Changes {
                pool: Some(pool),
                log_ranges: ranges.iter().map(|(epoch, range)| (*epoch, Some(*range))).collect(),
                ..Changes::default()
            };
            Ok((changes, (pool, ranges)))
        };
        self.transact(prepare, |state, (pool, ranges)| {
            state.pool_record = pool;
            state.epoch = pool.epoch;
            state.ranges.extend(ranges);
        })
        .await
    }
}

impl State {
    /// Segments that hold failed batches are not written any more, and end before the first of these.
    fn give_up_tail(&mut self, host_end: Seq) {
        let State { heads, segments, host, .. } = self;
        heads[usize::from(Stream::Host.code())].seal(segments);
        for flight in host.flights.iter().rev() {
            let Flight::Ended(batch, _) = flight else { unreachable!("nothing is written any more") };
            assert!(batch.header.seq >= host_end, "what was written before the failure is applied");
            let segment = segments.change(batch.header.segment);
            segment.used = batch.header.start_block;
            segment.applied = segment.used;
        }
    }
}
