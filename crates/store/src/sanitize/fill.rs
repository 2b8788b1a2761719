//! Overwriting a volume that holds nothing, as its host would.

use crate::catalog::{SanitizePhase, SanitizeRecord};
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, BlockAddress, VolumeId, crc32c};
use crate::log::{Guard, Payload, Write};
use crate::number::len_of;
use crate::state::State;
use crate::volume::{Cipher, Shared};
use block::{ErrorKind, Result};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Blocks that are written at once (1 MiB).
const STEP_BLOCKS: u64 = 256;
/// Errors of the disk in a row after which it is given up.
const ERRORS_MAX: u32 = 5;
/// Time between an error and the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// A volume that is being overwritten.
struct Filling {
    shared: Arc<Shared>,
    pattern: Vec<u8>,
}

impl Engine {
    /// Goes on with volumes of which only the overwriting is left.
    pub(crate) fn resume_sanitizing(self: &Arc<Self>) {
        let volumes = self.state().sanitizing.begin_filling();
        for id in volumes {
            let engine = Arc::clone(self);
            self.runtime.spawn(Box::pin(async move { engine.fill(id).await }));
        }
    }

    async fn fill(self: Arc<Self>, id: VolumeId) {
        let filled = self.fill_all(id).await;
        let noted = match &filled {
            Ok(()) => self.note_phase(SanitizePhase::Filling, vec![id], None, |_| None).await,
            // It goes on when the pool is opened, or unlocked, again.
            Err(error) if matches!(error.kind, ErrorKind::Closed | ErrorKind::Locked) => Ok(()),
            Err(error) if error.kind == ErrorKind::ReadOnly => {
                self.cannot_sanitize();
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "sanitizing failed");
                let failed = |_: &SanitizeRecord| Some(SanitizePhase::Failed);
                self.note_phase(SanitizePhase::Filling, vec![id], Some(error), failed).await
            }
        };
        if let Err(error) = noted {
            tracing::error!(%error, "the end of a sanitizing could not be noted");
        }
        self.state().sanitizing.filling.remove(&id);
    }

    async fn fill_all(self: &Arc<Self>, id: VolumeId) -> Result<()> {
        let Some(filling) = self.state().filling(id) else { return Ok(()) };
        let size = filling.shared.size_bytes();
        let blocks = size.div_ceil(BLOCK_BYTES);
        let mut at = 0;
        let mut errors = 0;
        while at < blocks {
            let count = STEP_BLOCKS.min(blocks - at);
            match self.fill_step(&filling, BlockAddress(at), count, size).await {
                Ok(true) => (at, errors) = (at + count, 0),
                Ok(false) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Device && errors < ERRORS_MAX => {
                    errors += 1;
                    self.runtime.sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
            filling.shared.sanitizing.advance((1 << 15, 1 << 16), at, blocks);
        }
        self.flush().await
    }

    /// What is stored of blocks from `first` on.
    fn sealed(&self, cipher: Option<&Cipher>, first: BlockAddress, blocks: Vec<Bytes>) -> Vec<Bytes> {
        let Some(cipher) = cipher else { return blocks };
        let seal = |(block, address): (Bytes, u64)| {
            cipher.encrypted(&self.options.buffers, BlockAddress(address), &block)
        };
        blocks.into_iter().zip(first.0..).map(seal).collect()
    }

    /// Writes the pattern to some blocks. False if the volume is gone.
    async fn fill_step(
        self: &Arc<Self>,
        filling: &Filling,
        first: BlockAddress,
        count: u64,
        size: u64,
    ) -> Result<bool> {
        // Deleting the volume waits for this, and is seen afterwards.
        let guard: Guard = filling.shared.ranges.hold(first, count).await;
        if self.state().filling(filling.shared.id).is_none() {
            return Ok(false);
        }
        let cipher = filling.shared.cipher(&self.state())?;
        let chunks = self.sealed(cipher.as_deref(), first, filling.chunks(first, count, size));
        let checksums = chunks.iter().map(|block| crc32c(block)).collect();
        let pieces = vec![(first, Payload::Data { chunks, checksums })];
        let layer = filling.shared.top();
        self.write(Write { layer, pieces, durable: false, whole: false, guard: Some(guard) }).await?;
        Ok(true)
    }
}

impl Filling {
    /// The pattern, for `count` blocks; what is behind the end of the volume stays zeros.
    fn chunks(&self, first: BlockAddress, count: u64, size: u64) -> Vec<Bytes> {
        let block = Bytes::from(self.pattern.repeat(BLOCK_SIZE / self.pattern.len()));
        let of = |address: u64| {
            let inside = len_of((size - address * BLOCK_BYTES).min(BLOCK_BYTES));
            if inside == BLOCK_SIZE {
                return block.clone();
            }
            let mut last = block.to_vec();
            last[inside..].fill(0);
            Bytes::from(last)
        };
        (first.0..first.0 + count).map(of).collect()
    }
}

impl State {
    /// What is left to be written of `id`; none if it is gone.
    fn filling(&self, id: VolumeId) -> Option<Filling> {
        let record = self.sanitizing.records.get(&id)?;
        let shared = Arc::clone(&self.volumes.get(&id)?.shared);
        let pattern = record.pattern.clone();
        (record.phase == SanitizePhase::Filling && !pattern.is_empty()).then_some(Filling { shared, pattern })
    }
}
