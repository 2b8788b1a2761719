//! After a crash: a batch that only some copies have is written to the others before anybody relies on it.

use super::{Log, Logged, is_whole};
use crate::engine::Engine;
use crate::format::BLOCK_SIZE;
use crate::format::batch::decode;
use crate::number::count_of;
use block::Result;
use bytes::Bytes;
use futures_util::future::join_all;

/// Batches whose copies are compared at the same time.
const BATCHES: usize = 8;

impl Engine {
    /// Sees to it that all copies have every batch of `logs` that some copy has.
    ///
    /// # Errors
    /// The disk's, where the pool cannot do without it.
    pub(super) async fn level(&self, logs: &[&Log]) -> Result<()> {
        let mut mirrored = Vec::new();
        for batch in logs.iter().flat_map(|log| log.values()).filter(|batch| batch.whole) {
            let state = self.state();
            let segment = state.segments.get(batch.descriptor.header.segment);
            if segment.is_some_and(|segment| segment.copies.only().is_none()) {
                mirrored.push(batch);
            }
        }
        for batches in mirrored.chunks(BATCHES) {
            let levelled = join_all(batches.iter().map(|batch| self.level_batch(batch))).await;
            levelled.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }

    async fn level_batch(&self, batch: &Logged) -> Result<()> {
        let header = &batch.descriptor.header;
        let place = self.state().segments.place(header.segment, header.start_block);
        let Some(place) = place else { return Ok(()) };
        let len = count_of(batch.blocks()) * BLOCK_SIZE;
        let (mut good, mut lacking) = (None, Vec::new());
        for slab in place.copies.slabs() {
            if self.disks.current(slab.disk).is_none() {
                continue;
            }
            match self.read_slab(*slab, place.within, len, false).await {
                Ok(data) if batch.is(&data) => good = good.or(Some(data)),
                _ => lacking.push(*slab),
            }
        }
        let Some(good) = good else { return Ok(()) };
        for slab in lacking {
            self.write_slab(slab, place.within, vec![good.clone()]).await?;
        }
        Ok(())
    }
}

impl Logged {
    /// True if `data` is this batch, all of it.
    fn is(&self, data: &Bytes) -> bool {
        let descriptors = count_of(self.descriptor.descriptor_blocks) * BLOCK_SIZE;
        decode(data).is_ok_and(|found| {
            found == self.descriptor && is_whole(&found, &data.slice(descriptors.min(data.len())..))
        })
    }
}
