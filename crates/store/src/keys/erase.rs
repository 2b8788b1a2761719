//! Giving a volume a new key: what it held cannot be read any more, wherever it still is.

use crate::catalog::{Changes, LayerRecord, VolumeRecord};
use crate::engine::Engine;
use crate::layer::Layer;
use crate::state::State;
use crate::volume::Shared;
use block::{ErrorKind, Result};
use std::sync::Arc;

impl Engine {
    /// Empties an encrypted volume and gives it a key of its own. The former key is overwritten, unless a snapshot or
    /// clone has it, too. Must run to its end: call it from tasks.
    ///
    /// # Errors
    /// `Invalid` if it is not encrypted, or a snapshot; `Locked`; `Busy` if it is being sanitized; the disk's.
    pub(crate) async fn crypto_erase(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<()> {
        let _quiet = shared.hold_all().await;
        let _gate = self.keys.gate.lock().await;
        let id = shared.id;
        if self.state().can_begin(shared)?.family.is_none() {
            return Err(shared.error(ErrorKind::Invalid, "is not encrypted, so that it has no key to change"));
        }
        let family = self.add_family().await?;
        let prepare = |state: &mut State| {
            state.refusal(&self.name).map_or(Ok(()), Err)?;
            let record = state.can_begin(shared)?;
            let (pool, top) = state.next_layer();
            let record = VolumeRecord { top, family: Some(family), ..record };
            let layer = LayerRecord::default();
            let failed: Vec<_> = state.sanitizing.knows(&id).then_some((id, None)).into_iter().collect();
            let changes = Changes {
                pool: Some(pool),
                layers: vec![(top, Some(layer))],
                volumes: vec![(id, Some(record))],
                sanitizing: failed.clone(),
                ..Changes::default()
            };
            Ok((changes, (pool, record, layer, failed)))
        };
        let erased = self.transact(prepare, |state, (pool, record, layer, failed)| {
            state.pool_record = pool;
            state.insert_layer(record.top, Layer::new(layer));
            if let Some(entry) = state.volumes.get_mut(&id) {
                entry.record = record;
                // Both at once, under the lock: no reader sees one without the other.
                entry.shared.set_top(record.top);
                entry.shared.set_family(record.family);
            }
            if !failed.is_empty() {
                state.sanitizing.take_in(failed);
                shared.sanitizing.end(None);
            }
            state.set_reservations();
            state.background.layers_changed = true;
        });
        let erased = erased.await;
        self.forget_unused().await;
        erased?;
        shared.sanitizing.wake();
        tracing::info!(volume = %uuid::Uuid::from_bytes(id), "the volume has a new key, and is empty");
        self.work_wanted.happen();
        Ok(())
    }
}
