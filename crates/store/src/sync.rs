//! The few ways in which tasks of the engine wait for each other.
//!
//! Wakers are called without any lock of the engine held, in the order in which waiters came: a run under the
//! simulator's executor repeats exactly.

use block::Runtime;
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Something that happens again and again, and that tasks wait for.
#[derive(Default)]
pub(crate) struct Event {
    inner: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    times: u64,
    wakers: Vec<Waker>,
}

impl Event {
    /// How often it has happened. Taken before a condition is looked at, and given to [`Event::after`].
    pub(crate) fn times(&self) -> u64 {
        self.inner.lock().times
    }

    /// It happens: wakes all who wait.
    pub(crate) fn happen(&self) {
        let wakers = {
            let mut inner = self.inner.lock();
            inner.times += 1;
            std::mem::take(&mut inner.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Is ready once it has happened more than `times` times.
    pub(crate) fn after(&self, times: u64) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(move |context| {
            let mut inner = self.inner.lock();
            if inner.times > times {
                return Poll::Ready(());
            }
            if !inner.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                inner.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// Lets others run, once.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A value that one task hands to another, once.
pub(crate) struct Handover<T> {
    inner: Mutex<(Option<T>, Option<Waker>)>,
}

impl<T: Send> Handover<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new((None, None)) })
    }

    /// Gives the value.
    pub(crate) fn give(&self, value: T) {
        let waker = {
            let mut inner = self.inner.lock();
            inner.0 = Some(value);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the value.
    pub(crate) fn take(&self) -> impl Future<Output = T> + Send + '_ {
        poll_fn(|context| {
            let mut inner = self.inner.lock();
            match inner.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

/// Runs `work` to its end whatever becomes of the returned future, once that was polled. The first poll happens
/// in the caller's, so that work which does not wait costs no task.
pub(crate) async fn drive<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut work = Some(Box::pin(work));
    let first = poll_fn(|context| {
        let polled = work.as_mut().map(|work| work.as_mut().poll(context));
        Poll::Ready(match polled {
            Some(Poll::Ready(value)) => Ok(value),
            _ => Err(work.take().map(|work| hand_to(runtime, work))),
        })
    });
    match first.await {
        Ok(value) => value,
        Err(Some(handover)) => handover.take().await,
        Err(None) => unreachable!("the work is there at the first poll, and there is no second"),
    }
}

/// Runs `work` as a task; its value comes through the handover.
pub(crate) fn hand_to<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> Arc<Handover<T>> {
    let handover = Handover::new();
    let giver = Arc::clone(&handover);
    runtime.spawn(Box::pin(async move { giver.give(work.await) }));
    handover
}
