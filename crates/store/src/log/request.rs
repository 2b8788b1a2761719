//! A write on its way through the log.

use super::submit::Needs;
use crate::format::node::Entry;
use crate::format::{BlockAddress, LayerId};
use block::{BlockError, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What becomes of some blocks.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// New data: chunks of whole blocks, and a checksum for each block.
    Data {
        /// The chunks, in order.
        chunks: Vec<Bytes>,
        /// The blocks' checksums.
        checksums: Vec<u32>,
    },
    /// Zeros, for this many blocks.
    Zeros(u32),
    /// What as many blocks are in `layer` from `address` on; the source is held until this has ended.
    Copy {
        /// The source's layer.
        layer: LayerId,
        /// The first block that is copied.
        address: BlockAddress,
        /// Number of blocks, all of them mapped.
        count: u32,
        /// The entries that refer to the shared blocks, from admission on.
        references: Vec<Entry>,
    },
}

impl Payload {
    /// Blocks of data.
    pub(crate) fn data_blocks(&self) -> u64 {
        match self {
            Self::Data { checksums, .. } => crate::number::wide(checksums.len()),
            Self::Zeros(_) | Self::Copy { .. } => 0,
        }
    }

    /// It takes nothing and gives space back.
    pub(crate) fn gives_back(&self) -> bool {
        matches!(self, Self::Zeros(_))
    }

    /// Blocks it speaks of.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Data { checksums, .. } => crate::number::wide(checksums.len()),
            Self::Zeros(count) | Self::Copy { count, .. } => u64::from(*count),
        }
    }
}

/// A part of a request in the queue.
pub(crate) struct Item {
    pub(crate) request: Arc<Request>,
    pub(crate) address: BlockAddress,
    pub(crate) payload: Payload,
}

/// What is held until a write has ended: ranges of volumes.
pub(crate) type Guard = Arc<dyn std::any::Any + Send + Sync>;

/// A write that was admitted. It holds its leaves in memory and its range of the volume until it has ended.
pub(crate) struct Request {
    pub(crate) layer: LayerId,
    /// Leaves that are pinned for it.
    pub(crate) leaves: Vec<u64>,
    /// Leaves of the shared layer that are pinned for it.
    pub(crate) shared: Vec<u64>,
    /// Leaves that it may change.
    pub(crate) touched: u64,
    /// Blocks admitted for it.
    pub(crate) admitted: u64,
    /// Blocks that are not mapped yet.
    pub(crate) fresh: u64,
    pub(crate) durable: bool,
    /// It has one part, which is not cut.
    pub(crate) whole: bool,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Parts not yet ended; none are left out.
    parts: usize,
    outcome: Result<()>,
    /// Some part was written.
    changed: bool,
    ended: bool,
    waker: Option<Waker>,
    guard: Option<Guard>,
}

impl Request {
    pub(super) fn new(
        layer: LayerId,
        needs: Needs,
        durable: bool,
        whole: bool,
        parts: usize,
        guard: Option<Guard>,
    ) -> Arc<Self> {
        assert!(parts == 1 || !whole, "what is written as a whole is one part");
        let touched = needs.touched();
        let Needs { leaves, shared, blocks: admitted, fresh, .. } = needs;
        let shared = shared.into_iter().collect();
        let progress = Progress { parts, outcome: Ok(()), changed: false, ended: false, waker: None, guard };
        let progress = Mutex::new(progress);
        Arc::new(Self { layer, leaves, shared, touched, admitted, fresh, durable, whole, progress })
    }

    /// A part was cut in two.
    pub(super) fn one_more_part(&self) {
        self.progress.lock().parts += 1;
    }

    /// A part of it was written: it should be finished rather than fail.
    pub(super) fn has_begun(&self) -> bool {
        self.progress.lock().changed
    }

    /// A part has ended. True if it was the last.
    pub(super) fn part_ended(&self, outcome: Result<()>) -> bool {
        let mut progress = self.progress.lock();
        progress.changed |= outcome.is_ok();
        if progress.outcome.is_ok() {
            progress.outcome = outcome;
        }
        progress.parts = progress.parts.checked_sub(1).expect("a part ends once");
        progress.parts == 0
    }

    /// Tells the caller, without any lock of the engine held. All parts have ended.
    pub(super) fn tell(&self) {
        let (waker, guard) = {
            let mut progress = self.progress.lock();
            assert!(progress.parts == 0, "callers are told at the end");
            progress.ended = true;
            (progress.waker.take(), progress.guard.take())
        };
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the end.
    pub(crate) fn outcome(&self) -> impl Future<Output = Result<()>> + Send + '_ {
        poll_fn(|context| {
            let mut progress = self.progress.lock();
            if progress.ended {
                return Poll::Ready(progress.outcome.clone());
            }
            progress.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

/// What has to be told after the engine's lock is released.
#[derive(Default)]
pub(super) struct Ended(pub(super) Vec<Arc<Request>>);

impl Ended {
    pub(super) fn tell(self) {
        for request in self.0 {
            request.tell();
        }
    }
}

/// The same error for each of many callers.
pub(super) fn failed(error: &BlockError) -> Result<()> {
    Err(error.clone())
}
