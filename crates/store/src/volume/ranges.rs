//! Ranges of blocks that changes hold, each alone, in the order in which they came.
//!
//! So read-modify-write and compare-and-write see no other in between, and a change that a dead path left behind
//! is in place before one that a live path sends after it: nobody overtakes a waiter of the same blocks.

use crate::format::BlockAddress;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

#[derive(Debug, Clone, Copy)]
struct Claim {
    id: u64,
    /// Two ranges; one may be empty.
    ranges: [(u64, u64); 2],
}

impl Claim {
    fn conflicts(&self, other: &Self) -> bool {
        let overlap = |a: (u64, u64), b: (u64, u64)| a.0 < b.1 && b.0 < a.1;
        self.ranges.iter().any(|own| other.ranges.iter().any(|theirs| overlap(*own, *theirs)))
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
    pub(crate) async fn hold(self: &Arc<Self>, first: BlockAddress, count: u64) -> Arc<RangeGuard> {
        self.hold_two((first, count), (BlockAddress(0), 0)).await
    }

    /// Waits until both ranges can be held: neither is held while the other is waited for.
    pub(crate) async fn hold_two(
        self: &Arc<Self>,
        one: (BlockAddress, u64),
        other: (BlockAddress, u64),
    ) -> Arc<RangeGuard> {
        let range = |(first, count): (BlockAddress, u64)| (first.0, first.0.saturating_add(count));
        let guard = {
            let mut claims = self.claims.lock();
            let id = claims.next;
            claims.next += 1;
            let claim = Claim { id, ranges: [range(one), range(other)] };
            let free = !claims.held.iter().any(|held| held.conflicts(&claim))
                && !claims.waiting.iter().any(|(waiting, _)| waiting.conflicts(&claim));
            let guard = Arc::new(RangeGuard { ranges: Arc::clone(self), id });
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
    fn overlapping_changes_happen_in_the_order_they_came() {
        let ranges = Arc::new(Ranges::default());
        let first = poll(pin!(ranges.hold(BlockAddress(10), 5))).unwrap();
        let mut second = pin!(ranges.hold(BlockAddress(14), 2));
        assert!(poll(second.as_mut()).is_none());
        assert!(poll(pin!(ranges.hold(BlockAddress(16), 1))).is_some(), "no overlap");
        let mut third = pin!(ranges.hold(BlockAddress(15), 1));
        assert!(poll(third.as_mut()).is_none(), "free blocks, but somebody waits for them");
        drop(first);
        let second = poll(second.as_mut()).unwrap();
        assert!(poll(third.as_mut()).is_none());
        drop(second);
        assert!(poll(third.as_mut()).is_some());
    }

    #[test]
    fn two_ranges_are_held_together_and_waited_for_without_holding_either() {
        let ranges = Arc::new(Ranges::default());
        let last = poll(pin!(ranges.hold(BlockAddress(100), 5))).unwrap();
        let mut both = pin!(ranges.hold_two((BlockAddress(0), 5), (BlockAddress(104), 1)));
        assert!(poll(both.as_mut()).is_none());
        let mut all = pin!(ranges.hold(BlockAddress(0), u64::MAX));
        assert!(poll(all.as_mut()).is_none());
        drop(last);
        let both = poll(both.as_mut()).unwrap();
        assert!(poll(all.as_mut()).is_none());
        assert!(poll(pin!(ranges.hold(BlockAddress(50), 1))).is_none(), "somebody waits for all");
        drop(both);
        assert!(poll(all.as_mut()).is_some());
    }

    #[test]
    fn a_range_is_held_until_the_last_of_its_guards_goes() {
        let ranges = Arc::new(Ranges::default());
        let guard = poll(pin!(ranges.hold(BlockAddress(0), 1))).unwrap();
        let step = Arc::clone(&guard);
        drop(guard);
        let mut next = pin!(ranges.hold(BlockAddress(0), 1));
        assert!(poll(next.as_mut()).is_none());
        drop(step);
        assert!(poll(next.as_mut()).is_some());
    }

    #[test]
    fn a_waiter_that_goes_away_blocks_nobody() {
        let ranges = Arc::new(Ranges::default());
        let a = poll(pin!(ranges.hold(BlockAddress(0), 9))).unwrap();
        {
            let mut gone = pin!(ranges.hold(BlockAddress(0), 9));
            assert!(poll(gone.as_mut()).is_none());
        }
        drop(a);
        assert!(poll(pin!(ranges.hold(BlockAddress(0), 9))).is_some());
        assert!(ranges.claims.lock().held.is_empty());
    }
}
