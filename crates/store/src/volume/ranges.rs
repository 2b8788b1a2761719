//! Ranges of blocks that writes hold, so that read-modify-write and compare-and-write see no other in between.
//!
//! Whole-block writes share a range: either order is right for them. Who reads first and writes then has it
//! alone. First come, first served: nobody overtakes a waiter that it conflicts with.

use crate::format::BlockAddress;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// How a range is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// With others that share it.
    Shared,
    /// Alone.
    Alone,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    id: u64,
    first: u64,
    end: u64,
    hold: Hold,
}

impl Claim {
    fn conflicts(&self, other: &Self) -> bool {
        let overlap = self.first < other.end && other.first < self.end;
        overlap && (self.hold == Hold::Alone || other.hold == Hold::Alone)
    }
}

#[derive(Default)]
struct Claims {
    next: u64,
    held: Vec<Claim>,
    waiting: VecDeque<(Claim, Option<Waker>)>,
}

/// The ranges of one volume.
#[derive(Default)]
pub(crate) struct Ranges {
    claims: Mutex<Claims>,
}

/// A range that is held until this is dropped.
pub(crate) struct RangeGuard {
    ranges: Arc<Ranges>,
    id: u64,
}

impl Ranges {
    /// Waits until blocks `first..first + count` can be held.
    pub(crate) async fn hold(self: &Arc<Self>, first: BlockAddress, count: u64, hold: Hold) -> RangeGuard {
        let guard = {
            let mut claims = self.claims.lock();
            let id = claims.next;
            claims.next += 1;
            let claim = Claim { id, first: first.0, end: first.0.saturating_add(count), hold };
            let free = !claims.held.iter().any(|held| held.conflicts(&claim))
                && !claims.waiting.iter().any(|(waiting, _)| waiting.conflicts(&claim));
            let guard = RangeGuard { ranges: Arc::clone(self), id };
            if free {
                claims.held.push(claim);
                return guard;
            }
            claims.waiting.push_back((claim, None));
            guard
        };
        // Dropped while it waits, the guard takes its claim away.
        poll_fn(|context| {
            let mut claims = self.claims.lock();
            match claims.waiting.iter_mut().find(|(claim, _)| claim.id == guard.id) {
                Some((_, waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
        .await;
        guard
    }
}

impl Claims {
    /// Grants what can be granted, in order.
    fn grant(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut still = VecDeque::new();
        for (claim, waker) in std::mem::take(&mut self.waiting) {
            let blocked = self.held.iter().any(|held| held.conflicts(&claim))
                || still.iter().any(|(waiting, _): &(Claim, _)| waiting.conflicts(&claim));
            if blocked {
                still.push_back((claim, waker));
            } else {
                self.held.push(claim);
                wakers.extend(waker);
            }
        }
        self.waiting = still;
        wakers
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let wakers = {
            let mut claims = self.ranges.claims.lock();
            match claims.held.iter().position(|claim| claim.id == self.id) {
                Some(index) => {
                    claims.held.swap_remove(index);
                }
                None => claims.waiting.retain(|(claim, _)| claim.id != self.id),
            }
            if claims.waiting.is_empty() { Vec::new() } else { claims.grant() }
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn whole_block_writes_share_and_read_modify_write_does_not() {
        let ranges = Arc::new(Ranges::default());
        let at = BlockAddress(10);
        let a = poll(pin!(ranges.hold(at, 5, Hold::Shared))).unwrap();
        let b = poll(pin!(ranges.hold(at, 1, Hold::Shared))).unwrap();
        let mut alone = pin!(ranges.hold(BlockAddress(14), 1, Hold::Alone));
        assert!(poll(alone.as_mut()).is_none());
        assert!(poll(pin!(ranges.hold(BlockAddress(15), 1, Hold::Alone))).is_some(), "no overlap");
        drop(b);
        assert!(poll(alone.as_mut()).is_none());
        let mut late = pin!(ranges.hold(at, 5, Hold::Shared));
        assert!(poll(late.as_mut()).is_none(), "nobody overtakes");
        drop(a);
        let alone = poll(alone.as_mut()).unwrap();
        assert!(poll(late.as_mut()).is_none());
        drop(alone);
        assert!(poll(late.as_mut()).is_some());
    }

    #[test]
    fn a_waiter_that_goes_away_blocks_nobody() {
        let ranges = Arc::new(Ranges::default());
        let a = poll(pin!(ranges.hold(BlockAddress(0), 9, Hold::Shared))).unwrap();
        {
            let mut gone = pin!(ranges.hold(BlockAddress(0), 9, Hold::Alone));
            assert!(poll(gone.as_mut()).is_none());
        }
        assert!(poll(pin!(ranges.hold(BlockAddress(0), 9, Hold::Shared))).is_some());
        drop(a);
        assert!(ranges.claims.lock().held.is_empty());
    }
}
