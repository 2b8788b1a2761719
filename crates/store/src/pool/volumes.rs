//! Volumes as catalog transactions. Snapshots and clones of them are in `fork`.

use super::{Pool, check_open};
use crate::catalog::{Changes, LayerRecord, PoolRecord, VolumeRecord};
use crate::engine::Engine;
use crate::format::keys::FamilyId;
use crate::format::{BLOCK_BYTES, LayerId, VolumeId};
use crate::layer::Layer;
use crate::options::{Fact, VolumeInfo, VolumeSpec};
use crate::state::{State, VolumeEntry};
use crate::volume::{Shared, StoreVolume};
use block::{ErrorKind, Result};
use std::sync::Arc;

/// The largest volume: what a map of the highest level covers.
const VOLUME_BYTES_MAX: u64 = 1 << 52;

impl Pool {
    /// Makes an empty volume, and puts `facts`, in one transaction.
    ///
    /// # Errors
    /// `Exists`; `Invalid` size; `NoSpace` for a thick one that does not fit, and if the catalog cannot grow.
    pub async fn create_volume(&self, spec: VolumeSpec, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.create_volume(spec, facts).await }).await
    }

    /// The volume or snapshot `id`, for I/O. All handles of one volume work together.
    ///
    /// # Errors
    /// `NotFound`, `Closed`.
    pub fn open_volume(&self, id: VolumeId) -> Result<Arc<StoreVolume>> {
        let state = self.engine.state();
        if state.closing {
            return Err(self.engine.error(ErrorKind::Closed, "is closed"));
        }
        let shared = Arc::clone(&self.engine.volume(&state, id)?.shared);
        Ok(Arc::new(StoreVolume::new(Arc::clone(&self.engine), shared)))
    }

    /// All volumes and snapshots, by identity.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let state = self.engine.state();
        let info = |(id, entry): (&VolumeId, &VolumeEntry)| {
            let record = &entry.record;
            let top = state.layers.get(&record.top);
            VolumeInfo {
                id: *id,
                size_bytes: record.size_bytes,
                thick: record.thick,
                buffered: record.buffered,
                encrypted: record.family.is_some(),
                snapshot: top.is_some_and(|layer| layer.record.frozen),
                mapped_bytes: top.map_or(0, |layer| layer.mapped * BLOCK_BYTES),
            }
        };
        state.volumes.iter().map(info).collect()
    }

    /// Grows a volume to `size_bytes`; a size it has already is fine.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a smaller size or a snapshot; `NoSpace` for a thick one that does not fit; `Busy` if it
    /// is being sanitized, `Device` if that failed.
    pub async fn resize_volume(&self, id: VolumeId, size_bytes: u64, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.resize_volume(id, size_bytes, facts).await }).await
    }

    /// Deletes a volume or snapshot. The key of an encrypted one, of which no snapshot or clone is left, is overwritten
    /// when this returns ([`Health`](crate::Health) says so if it could not be); its space comes back in the background. Open handles answer `Closed`. If it is being
    /// sanitized, what it held is still made to leave the disks.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_volume(&self, id: VolumeId, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.delete_volume(id, facts).await }).await
    }
}

impl Engine {
    pub(crate) fn volume<'a>(&self, state: &'a State, id: VolumeId) -> Result<&'a VolumeEntry> {
        let name = uuid::Uuid::from_bytes(id);
        let missing = || self.error(ErrorKind::NotFound, format!("has no volume {name}"));
        state.volumes.get(&id).ok_or_else(missing)
    }

    /// The volume, if it is not being sanitized.
    pub(crate) fn volume_at_rest<'a>(&self, state: &'a State, id: VolumeId) -> Result<&'a VolumeEntry> {
        let entry = self.volume(state, id)?;
        let name = uuid::Uuid::from_bytes(id);
        entry.shared.sanitizing.refusal(&name.to_string()).map_or(Ok(entry), Err)
    }

    pub(super) fn check_new(&self, state: &State, id: VolumeId) -> Result<()> {
        check_open(state)?;
        if state.volumes.contains_key(&id) {
            let name = uuid::Uuid::from_bytes(id);
            return Err(self.error(ErrorKind::Exists, format!("has a volume {name} already")));
        }
        if state.sanitizing.knows(&id) {
            return Err(self.error(ErrorKind::Busy, "is still sanitizing what a deleted volume held"));
        }
        Ok(())
    }

    fn check_size(&self, size_bytes: u64) -> Result<()> {
        if size_bytes == 0 || !size_bytes.is_multiple_of(512) || size_bytes > VOLUME_BYTES_MAX {
            let message =
                format!("{size_bytes} bytes is no size for a volume: 512 B to 4 PiB in steps of 512 B");
            return Err(self.error(ErrorKind::Invalid, message));
        }
        Ok(())
    }

    pub(crate) fn check_fits(&self, state: &State, blocks: u64) -> Result<()> {
        if blocks > state.room() {
            let message =
                format!("{} bytes do not fit; there is room for {}", blocks << 12, state.room() << 12);
            return Err(self.error(ErrorKind::NoSpace, message));
        }
        Ok(())
    }

    async fn create_volume(&self, spec: VolumeSpec, facts: Vec<Fact>) -> Result<()> {
        self.check_size(spec.size_bytes)?;
        if !spec.encrypted {
            return self.create_volume_of(spec, None, facts).await;
        }
        let _gate = self.keys.gate.lock().await;
        self.check_new(&self.state(), spec.id)?;
        let family = self.add_family().await?;
        let created = self.create_volume_of(spec, Some(family), facts).await;
        if created.is_err() {
            self.forget_unused().await;
        }
        created
    }

    async fn create_volume_of(
        &self,
        spec: VolumeSpec,
        family: Option<FamilyId>,
        facts: Vec<Fact>,
    ) -> Result<()> {
        self.room_in_catalog(&facts).await?;
        let prepare = |state: &mut State| {
            self.check_new(state, spec.id)?;
            if spec.thick {
                self.check_fits(state, thick_blocks(spec.size_bytes))?;
            }
            let (pool, top) = state.next_layer();
            let VolumeSpec { size_bytes, thick, buffered, .. } = spec;
            let record = VolumeRecord { top, size_bytes, thick, buffered, family };
            let layer = LayerRecord::default();
            let changes = Changes {
                pool: Some(pool),
                layers: vec![(top, Some(layer))],
                volumes: vec![(spec.id, Some(record))],
                facts,
                ..Changes::default()
            };
            Ok((changes, (pool, layer, record)))
        };
        self.transact(prepare, |state, (pool, layer, record)| {
            state.pool_record = pool;
            state.insert_layer(record.top, Layer::new(layer));
            let shared = Shared::new(spec.id, &record);
            state.volumes.insert(spec.id, VolumeEntry { record, shared });
            state.set_reservations();
        })
        .await
    }

    async fn resize_volume(&self, id: VolumeId, size_bytes: u64, facts: Vec<Fact>) -> Result<()> {
        self.check_size(size_bytes)?;
        self.room_in_catalog(&facts).await?;
        let prepare = |state: &mut State| {
            check_open(state)?;
            let record = self.volume_at_rest(state, id)?.record;
            let frozen = state.layers.get(&record.top).is_some_and(|layer| layer.record.frozen);
            if size_bytes < record.size_bytes || (frozen && size_bytes > record.size_bytes) {
                return Err(
                    self.error(ErrorKind::Invalid, "volumes grow only, and snapshots stay as they are")
                );
            }
            if record.thick {
                self.check_fits(state, thick_blocks(size_bytes) - thick_blocks(record.size_bytes))?;
            }
            let record = VolumeRecord { size_bytes, ..record };
            let changes = Changes { volumes: vec![(id, Some(record))], facts, ..Changes::default() };
            Ok((changes, record))
        };
        self.transact(prepare, |state, record| {
            if let Some(entry) = state.volumes.get_mut(&id) {
                entry.record = record;
                entry.shared.set_size(record.size_bytes);
            }
            state.set_reservations();
        })
        .await
    }

    async fn delete_volume(&self, id: VolumeId, facts: Vec<Fact>) -> Result<()> {
        let _quiet = self.quiesce(id).await?;
        let prepare = |state: &mut State| {
            check_open(state)?;
            let shared = Arc::clone(&self.volume(state, id)?.shared);
            let sanitizing = state.sanitizing.after_deletion(&id);
            let volumes = vec![(id, None)];
            let changes = Changes { volumes, facts, sanitizing: sanitizing.clone(), ..Changes::default() };
            Ok((changes, (shared, sanitizing)))
        };
        let mut closed = None;
        self.transact(prepare, |state, (shared, sanitizing)| {
            state.volumes.remove(&id);
            state.accounts.forget(&id);
            shared.close();
            closed = Some(shared);
            state.sanitizing.take_in(sanitizing);
            state.set_reservations();
            state.background.layers_changed = true;
        })
        .await?;
        closed.iter().for_each(|shared| shared.sanitizing.wake());
        if closed.iter().any(|shared| shared.family().is_some()) {
            self.sweep_keys().await;
        }
        self.work_wanted.happen();
        Ok(())
    }
}

impl State {
    pub(crate) fn next_layer(&self) -> (PoolRecord, LayerId) {
        let id = self.pool_record.next_layer;
        (PoolRecord { next_layer: LayerId(id.0 + 1), ..self.pool_record }, id)
    }

    /// Sets each layer's reservation by the volumes.
    pub(crate) fn set_reservations(&mut self) {
        let ids: Vec<_> = self.layers.keys().copied().collect();
        for id in ids {
            let of_layer = |entry: &&VolumeEntry| entry.record.top == id && entry.record.thick;
            let volume = self.volumes.values().find(of_layer);
            let reserved = volume.map_or(0, |entry| thick_blocks(entry.record.size_bytes));
            self.with_layer(id, |layer, _| layer.reserved = if layer.record.frozen { 0 } else { reserved });
        }
        self.count_zero_nodes();
        self.assign_layers();
    }
}

/// Blocks of a volume that is mapped as a whole, and of its map.
pub(super) fn thick_blocks(size_bytes: u64) -> u64 {
    let mut level = size_bytes.div_ceil(BLOCK_BYTES);
    let mut sum = level;
    while level > 1 {
        level = level.div_ceil(256);
        sum += level;
    }
    sum + 1
}
