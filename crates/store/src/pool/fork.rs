//! Snapshots and clones: what is made of volumes' present content, of several at one instant; and the way back.
//!
//! A snapshot is a volume record whose top layer is frozen. Freezing pushes an empty layer on top: O(1), whatever the
//! volume's size. For several volumes at once the writers of all are held back together, and one transaction freezes all
//! layers: at that moment nothing is under way to any of them, so it is an instant that all of them had in common.

use super::Pool;
use super::volumes::thick_blocks;
use crate::catalog::{Changes, LayerRecord, PoolRecord, VolumeRecord};
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, LayerId, VolumeId};
use crate::layer::Layer;
use crate::options::Fact;
use crate::state::{State, VolumeEntry};
use crate::volume::{RangeGuard, Shared};
use block::{ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is made of a volume's present content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fork {
    Snapshot,
    Clone,
}

/// A transaction on layers and volumes, as it is made.
struct Plan {
    pool: PoolRecord,
    /// Layers that take no writes any more.
    frozen: Vec<(LayerId, LayerRecord)>,
    /// New layers.
    made: Vec<(LayerId, LayerRecord)>,
    volumes: Vec<(VolumeId, VolumeRecord)>,
    /// New snapshots, with the volumes that they are of.
    owned: Vec<(VolumeId, VolumeId)>,
    /// Blocks that thick volumes need once more.
    thick_blocks: u64,
    /// Map nodes for unmapping that are needed no more, and from now on.
    nodes_replaced: u64,
    nodes_counted: u64,
}

impl Pool {
    /// Makes `snapshot`, a frozen copy of volume `id` as of some moment during the call.
    ///
    /// # Errors
    /// `NotFound`; `Exists`; `NoSpace` for a thick volume whose reservation does not fit a second time, and if there
    /// is no room for the map nodes that unmapping in the volume may need from now on; `Busy` if the volume is being
    /// sanitized, `Device` if that failed.
    pub async fn snapshot_volume(&self, id: VolumeId, snapshot: VolumeId, facts: Vec<Fact>) -> Result<()> {
        self.fork(vec![(id, snapshot)], Fork::Snapshot, facts).await
    }

    /// Makes snapshots of several volumes, given as volume and snapshot, all as of one moment during the call: every
    /// write to any of them that was acknowledged before the call is in; and a write that is not in was not acknowledged
    /// when one that is in was issued. All or none are made.
    ///
    /// # Errors
    /// As [`Pool::snapshot_volume`]; `Invalid` if a volume is named twice.
    pub async fn snapshot_volumes(
        &self,
        snapshots: Vec<(VolumeId, VolumeId)>,
        facts: Vec<Fact>,
    ) -> Result<()> {
        self.fork(snapshots, Fork::Snapshot, facts).await
    }

    /// Makes `clone`, a thin volume with the content of the volume or snapshot `source`.
    ///
    /// # Errors
    /// `NotFound`; `Exists`; as [`Pool::snapshot_volume`].
    pub async fn clone_volume(&self, source: VolumeId, clone: VolumeId, facts: Vec<Fact>) -> Result<()> {
        self.fork(vec![(source, clone)], Fork::Clone, facts).await
    }

    /// Gives volume `id` the content of `snapshot`, which stays; what it had becomes the snapshot `safety`. The volume
    /// keeps its size: what it has gained since reads as zeros. What was read before and is read again is another thing
    /// then, so nobody should be using the volume.
    ///
    /// # Errors
    /// `NotFound`; `Exists`; `Invalid` if `id` is a snapshot, `snapshot` is none, or larger; as
    /// [`Pool::snapshot_volume`].
    pub async fn roll_back_volume(
        &self,
        id: VolumeId,
        snapshot: VolumeId,
        safety: VolumeId,
        facts: Vec<Fact>,
    ) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let work = async move { engine.roll_back(id, snapshot, safety, facts).await };
        self.engine.detached(work).await
    }

    /// Deletes a snapshot: [`Pool::delete_volume`] for nothing else.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is no snapshot.
    pub async fn delete_snapshot(&self, id: VolumeId, facts: Vec<Fact>) -> Result<()> {
        if !self.engine.is_frozen(id)? {
            return Err(self.engine.error(ErrorKind::Invalid, "that is a volume, not a snapshot"));
        }
        self.delete_volume(id, facts).await
    }

    /// Bytes mapped in the own layer of a volume or snapshot: what was written to it since the last snapshot of it, or
    /// between that before and this one.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn own_bytes(&self, id: VolumeId) -> Result<u64> {
        let state = self.engine.state();
        let top = self.engine.volume(&state, id)?.record.top;
        Ok(state.layers.get(&top).map_or(0, |layer| layer.mapped * BLOCK_BYTES))
    }

    async fn fork(&self, pairs: Vec<(VolumeId, VolumeId)>, fork: Fork, facts: Vec<Fact>) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.fork(pairs, fork, facts).await }).await
    }
}

impl Engine {
    /// Waits until nothing is written to the volume, and holds writers back until the guard goes.
    pub(super) async fn quiesce(&self, id: VolumeId) -> Result<Arc<RangeGuard>> {
        let shared = Arc::clone(&self.volume(&self.state(), id)?.shared);
        Ok(shared.hold_all().await)
    }

    /// The same for several. All who hold more than one volume take them in the same order, so none waits for another
    /// that waits for it.
    async fn quiesce_all(&self, volumes: impl Iterator<Item = VolumeId>) -> Result<Vec<Arc<RangeGuard>>> {
        let volumes: BTreeSet<_> = volumes.collect();
        let mut guards = Vec::with_capacity(volumes.len());
        for id in volumes {
            guards.push(self.quiesce(id).await?);
        }
        Ok(guards)
    }

    fn is_frozen(&self, id: VolumeId) -> Result<bool> {
        let state = self.state();
        let top = self.volume(&state, id)?.record.top;
        Ok(state.layers.get(&top).is_some_and(|layer| layer.record.frozen))
    }

    async fn fork(&self, pairs: Vec<(VolumeId, VolumeId)>, fork: Fork, facts: Vec<Fact>) -> Result<()> {
        let sources: BTreeSet<_> = pairs.iter().map(|(source, _)| *source).collect();
        let new: BTreeSet<_> = pairs.iter().map(|(_, new)| *new).collect();
        if sources.len() != pairs.len() || new.len() != pairs.len() {
            return Err(self.error(ErrorKind::Invalid, "is asked for two snapshots of one volume at once"));
        }
        self.room_in_catalog(&facts).await?;
        let _quiet = self.quiesce_all(sources.into_iter()).await?;
        let prepare = |state: &mut State| {
            let mut plan = Plan::new(state);
            for (source, new) in &pairs {
                self.check_new(state, *new)?;
                let record = self.volume_at_rest(state, *source)?.record;
                plan.fork(state, (*source, record), *new, fork);
            }
            self.check_plan(state, &plan)?;
            Ok((plan.changes(facts), plan))
        };
        self.transact(prepare, |state, plan| plan.apply(state)).await
    }

    async fn roll_back(
        &self,
        id: VolumeId,
        snapshot: VolumeId,
        safety: VolumeId,
        facts: Vec<Fact>,
    ) -> Result<()> {
        self.room_in_catalog(&facts).await?;
        let _quiet = self.quiesce_all([id, snapshot].into_iter()).await?;
        if self.is_frozen(id)? || !self.is_frozen(snapshot)? {
            return Err(self.error(ErrorKind::Invalid, "rolls volumes back, to snapshots"));
        }
        let prepare = |state: &mut State| {
            self.check_new(state, safety)?;
            let record = self.volume_at_rest(state, id)?.record;
            let wanted = self.volume(state, snapshot)?.record;
            if wanted.size_bytes > record.size_bytes {
                return Err(
                    self.error(ErrorKind::Invalid, "a snapshot of a larger volume is not gone back to")
                );
            }
            let mut plan = Plan::new(state);
            plan.roll_back(state, (id, record), &wanted, safety);
            self.check_plan(state, &plan)?;
            Ok((plan.changes(facts), plan))
        };
        self.transact(prepare, |state, plan| plan.apply(state)).await
    }

    /// Checks that there is room for what thick volumes reserve, and for what unmapping may need.
    fn check_plan(&self, state: &State, plan: &Plan) -> Result<()> {
        let nodes = state.zero_nodes.saturating_sub(plan.nodes_replaced) + plan.nodes_counted;
        let more = state.zero_charge(nodes).saturating_sub(state.zero_charge(state.zero_nodes));
        self.check_fits(state, plan.thick_blocks + more)
    }
}

impl Plan {
    fn new(state: &State) -> Self {
        Self {
            pool: state.pool_record,
            frozen: Vec::new(),
            made: Vec::new(),
            volumes: Vec::new(),
            owned: Vec::new(),
            thick_blocks: 0,
            nodes_replaced: 0,
            nodes_counted: 0,
        }
    }

    /// A new layer on `parent`.
    fn push(&mut self, parent: LayerId) -> LayerId {
        let id = self.pool.next_layer;
        self.pool.next_layer = LayerId(id.0 + 1);
        self.made.push((id, LayerRecord { parent: Some(parent), ..LayerRecord::default() }));
        id
    }

    /// Freezes the top layer of a volume. Its record as it was; none if the layer was frozen already.
    fn freeze(&mut self, state: &State, volume: &VolumeRecord) -> Option<LayerRecord> {
        let record = state.layers.get(&volume.top).expect("the layer of a volume exists").record;
        if record.frozen {
            return None;
        }
        self.frozen.push((volume.top, LayerRecord { frozen: true, ..record }));
        if volume.thick {
            self.thick_blocks += thick_blocks(volume.size_bytes);
        } else {
            self.nodes_replaced += state.zero_nodes_on(record.parent);
        }
        Some(record)
    }

    /// Snapshots and clones differ in what the new volume's top layer is only: the frozen one, or one more on that.
    fn fork(&mut self, state: &State, source: (VolumeId, VolumeRecord), new: VolumeId, fork: Fork) {
        let (source, record) = source;
        let base = record.top;
        if self.freeze(state, &record).is_some() {
            let top = self.push(base);
            self.volumes.push((source, VolumeRecord { top, ..record }));
            self.nodes_counted += if record.thick { 0 } else { state.zero_nodes_on(Some(base)) };
        }
        let mut top = base;
        if fork == Fork::Snapshot {
            self.owned.push((new, state.accounts.owner(&source)));
        } else {
            top = self.push(base);
            self.nodes_counted += state.zero_nodes_on(Some(base));
        }
        self.volumes.push((new, VolumeRecord { top, thick: false, ..record }));
    }

    /// The volume has the key of what it goes back to, which is another if it was given a new one meanwhile.
    fn roll_back(
        &mut self,
        state: &State,
        volume: (VolumeId, VolumeRecord),
        to: &VolumeRecord,
        safety: VolumeId,
    ) {
        let (id, record) = volume;
        let _ = self.freeze(state, &record);
        self.volumes.push((safety, VolumeRecord { thick: false, ..record }));
        self.owned.push((safety, id));
        let top = self.push(to.top);
        self.volumes.push((id, VolumeRecord { top, family: to.family, ..record }));
        self.nodes_counted += if record.thick { 0 } else { state.zero_nodes_on(Some(to.top)) };
    }

    fn changes(&self, facts: Vec<Fact>) -> Changes {
        let layers = self.frozen.iter().chain(&self.made);
        Changes {
            pool: Some(self.pool),
            layers: layers.map(|(id, record)| (*id, Some(*record))).collect(),
            volumes: self.volumes.iter().map(|(id, record)| (*id, Some(*record))).collect(),
            facts,
            ..Changes::default()
        }
    }

    fn apply(self, state: &mut State) {
        state.pool_record = self.pool;
        for (id, record) in self.frozen {
            state.layers.get_mut(&id).expect("the layer of a volume exists").record = record;
        }
        for (id, record) in self.made {
            state.insert_layer(id, Layer::new(record));
        }
        for (id, record) in self.volumes {
            match state.volumes.get_mut(&id) {
                Some(entry) => {
                    entry.record = record;
                    entry.shared.set_top(record.top);
                    entry.shared.set_family(record.family);
                }
                None => {
                    let shared = Shared::new(id, &record);
                    state.volumes.insert(id, VolumeEntry { record, shared });
                }
            }
        }
        for (snapshot, owner) in self.owned {
            state.accounts.set_owner(snapshot, owner);
        }
        state.set_reservations();
    }
}
