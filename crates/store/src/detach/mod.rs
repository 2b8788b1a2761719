//! Detaching: a layer comes to have all that it is read as, needs no parent any more, and so shares no fate with it.
//!
//! A layer that others lie on, too, keeps its blocks until one of these is left, also those that all of them have
//! overwritten; and each of them is looked up through it. Detaching ends that. Blocks are not moved but become shared
//! ([`crate::share`]), unless they lie under a volume that has space reserved: these are written once more.
//!
//! What the layer reads as is the same before and after each step, so the log is told of moved blocks only. After a
//! crash it starts again from what the checkpoint knew; the catalog says which layers are to be detached. Once all
//! references are in a checkpoint, one transaction takes the parent away.

mod step;

use crate::catalog::{Changes, LayerRecord};
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, LayerId, VolumeId};
use crate::log::{Guard, Payload, Write};
use crate::number::{len_of, wide};
use crate::options::{Detachment, Fact};
use crate::state::State;
use crate::sync::yield_once;
use crate::volume::StoreVolume;
use block::{BlockError, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use step::Step;

/// Steps in a row before others have their turn.
const STEPS_AT_ONCE: u32 = 8;
/// Errors in a row after which it waits for the pool to be opened again.
const ERRORS_MAX: u32 = 5;
/// Time between an error and the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// How far a layer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The leaf to go on with.
    leaf: u64,
    /// Why it does not go on for now.
    waits: Option<String>,
}

/// A layer that is to be detached is so no longer: it was cancelled, or the layer is gone.
struct Over;

impl Engine {
    /// Begins to detach volume `id` from all that is not of its `family`, and puts `facts`. False if it is on nothing
    /// else: there is nothing to do.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a snapshot; `NoSpace` if what it takes does not fit; as a change of a volume.
    pub(crate) async fn begin_detach(
        self: &Arc<Self>,
        id: VolumeId,
        family: Vec<VolumeId>,
        facts: Vec<Fact>,
    ) -> Result<bool> {
        self.room_in_catalog(&facts).await?;
        self.enable_sharing().await?;
        let prepare = |state: &mut State| {
            let top = self.detachable(state, id)?;
            let base = state.base_of(top, |user| user == id || family.contains(&user));
            let record = base.and_then(|base| Some((base, state.layers.get(&base)?.record)));
            let begun = record.filter(|(_, record)| record.parent.is_some() && !record.detaching);
            let record = begun.map(|(base, record)| (base, LayerRecord { detaching: true, ..record }));
            if let Some((base, _)) = record {
                self.check_fits(state, state.detach_charge(base))?;
            }
            let layers = record.iter().map(|(base, record)| (*base, Some(*record))).collect();
            Ok((Changes { layers, facts, ..Changes::default() }, record))
        };
        let mut begun = None;
        self.transact(prepare, |state, record| {
            begun = record.map(|(base, _)| base);
            let layer = record.and_then(|(base, record)| Some((state.layers.get_mut(&base)?, record)));
            if let Some((layer, record)) = layer {
                (layer.record, layer.detaching) = (record, Some(Progress::default()));
            }
        })
        .await?;
        if let Some(base) = begun {
            self.spawn_detaching(base);
        }
        Ok(self.state().detachment(id).is_some())
    }

    /// Does not go on with detaching volume `id`, and puts `facts`. What it has got to refer to it keeps.
    ///
    /// # Errors
    /// `NotFound`; as a change of a volume.
    pub(crate) async fn cancel_detach(&self, id: VolumeId, facts: Vec<Fact>) -> Result<()> {
        self.room_in_catalog(&facts).await?;
        let prepare = |state: &mut State| {
            let top = self.detachable(state, id)?;
            let chain =
                state.chain(top).into_iter().filter_map(|id| Some((id, state.layers.get(&id)?.record)));
            let detaching = chain.filter(|(_, record)| record.detaching);
            let layers: Vec<_> =
                detaching.map(|(id, record)| (id, LayerRecord { detaching: false, ..record })).collect();
            let changed = layers.iter().map(|(id, record)| (*id, Some(*record))).collect();
            Ok((Changes { layers: changed, facts, ..Changes::default() }, layers))
        };
        self.transact(prepare, |state, layers| {
            for (id, record) in layers {
                if let Some(layer) = state.layers.get_mut(&id) {
                    (layer.record, layer.detaching) = (record, None);
                }
            }
            state.background.layers_changed = true;
        })
        .await?;
        self.progress.happen();
        self.room_made.happen();
        self.work_wanted.happen();
        Ok(())
    }

    /// The top layer of a volume that may be changed.
    fn detachable(&self, state: &State, id: VolumeId) -> Result<LayerId> {
        crate::pool::check_open(state)?;
        let top = self.volume_at_rest(state, id)?.record.top;
        if state.layers.get(&top).is_some_and(|layer| layer.record.frozen) {
            return Err(self.error(ErrorKind::Invalid, "detaches volumes, not snapshots"));
        }
        Ok(top)
    }

    /// Goes on with what was begun before the pool was opened.
    pub(crate) fn resume_detaching(self: &Arc<Self>) {
        let begun: Vec<_> = {
            let state = self.state();
            state.layers.iter().filter(|(_, layer)| layer.record.detaching).map(|(id, _)| *id).collect()
        };
        begun.into_iter().for_each(|id| self.spawn_detaching(id));
    }

    fn spawn_detaching(self: &Arc<Self>, id: LayerId) {
        let engine = Arc::clone(self);
        self.runtime.spawn(Box::pin(async move { engine.detach_layer(id).await }));
    }

    async fn detach_layer(self: Arc<Self>, id: LayerId) {
        let mut errors = 0;
        loop {
            let times = self.room_made.times();
            let error = match self.detach_some(id).await {
                Ok(Some(Over)) => return,
                Ok(None) => {
                    errors = 0;
                    yield_once().await;
                    continue;
                }
                Err(error) => error,
            };
            self.state().note_waiting(id, &error);
            match error.kind {
                // It goes on when the pool is opened again.
                ErrorKind::Closed | ErrorKind::ReadOnly => return,
                ErrorKind::NoSpace => {
                    self.progress.happen();
                    self.room_made.after(times).await;
                }
                _ if errors >= ERRORS_MAX => {
                    tracing::error!(%error, "a volume cannot be detached");
                    self.progress.happen();
                    return;
                }
                _ => errors += 1,
            }
            self.runtime.sleep(PAUSE).await;
        }
    }

    /// Some steps.
    async fn detach_some(self: &Arc<Self>, id: LayerId) -> Result<Option<Over>> {
        self.enable_sharing().await?;
        for _ in 0..STEPS_AT_ONCE {
            let full = {
                let state = self.state();
                crate::pool::check_open(&state)?;
                state.dirty_soon() >= state.budget.dirty_nodes
            };
            if full {
                self.checkpoint_now().await?;
            }
            let step = self.state().detach_step(id);
            match step {
                Err(needed) => self.load(needed).await?,
                Ok(Step::Over) => return Ok(Some(Over)),
                Ok(Step::Shared) => {}
                Ok(Step::NoRoom) => {
                    let message =
                        "there is no room for the map of what it would have; unmap or delete something";
                    return Err(self.error(ErrorKind::NoSpace, message));
                }
                Ok(Step::Move { from, first, count }) => self.move_blocks(id, from, first, count).await?,
                Ok(Step::Complete) => return self.end_detach(id).await.map(Some),
            }
        }
        Ok(None)
    }

    /// Writes blocks once more that cannot be shared: to the layer what is read below it.
    async fn move_blocks(
        self: &Arc<Self>,
        id: LayerId,
        from: LayerId,
        first: crate::format::BlockAddress,
        count: u64,
    ) -> Result<()> {
        let host = self.state().host_of(id);
        let guard: Option<Guard> = match host {
            Some(shared) => Some(shared.ranges.hold(first, count).await),
            None => None,
        };
        // A host may have written meanwhile, or somebody taken a snapshot.
        let still = self.state().may_move(id, from, first, count, guard.is_some());
        if !still {
            return Ok(());
        }
        let below = StoreVolume::of_layer(Arc::clone(self), from);
        let chunks = below.read_blocks(first, count).await?;
        let checksums = chunks.iter().flat_map(|chunk| chunk.chunks_exact(len_of(BLOCK_BYTES)));
        let checksums = checksums.map(crate::format::crc32c).collect();
        let pieces = vec![(first, Payload::Data { chunks, checksums })];
        self.write(Write { layer: id, pieces, durable: false, whole: false, guard }).await
    }

    /// The layer has all that it is read as: it needs no parent any more.
    async fn end_detach(self: &Arc<Self>, id: LayerId) -> Result<Over> {
        // What it has got to refer to is on the disk before what it was got from may go.
        self.checkpoint_now().await?;
        let prepare = |state: &mut State| {
            crate::pool::check_open(state)?;
            let record = state.layers.get(&id).map(|layer| layer.record).filter(|record| record.detaching);
            let record = record.map(|record| LayerRecord { parent: None, detaching: false, ..record });
            let layers = record.iter().map(|record| (id, Some(*record))).collect();
            Ok((Changes { layers, ..Changes::default() }, record))
        };
        self.transact(prepare, |state, record| {
            if let (Some(layer), Some(record)) = (state.layers.get_mut(&id), record) {
                layer.parent = None;
                (layer.record, layer.detaching) = (record, None);
            }
            state.count_zero_nodes();
            state.background.layers_changed = true;
        })
        .await?;
        tracing::debug!(layer = %id, "detached");
        self.work_wanted.happen();
        self.progress.happen();
        self.room_made.happen();
        Ok(Over)
    }
}

impl State {
    /// The layers from `top` down.
    pub(crate) fn chain(&self, top: LayerId) -> Vec<LayerId> {
        let parent = |id: &LayerId| self.layers.get(id).and_then(|layer| layer.parent);
        std::iter::successors(Some(top), parent).collect()
    }

    /// The lowest layer below `top` that only volumes and snapshots are on which `is_own`, and that stays: what is being
    /// merged into another gives up what it has.
    fn base_of(&self, top: LayerId, is_own: impl Fn(VolumeId) -> bool) -> Option<LayerId> {
        let others = self.volumes.iter().filter(|(id, _)| !is_own(**id));
        let others: std::collections::BTreeSet<_> =
            others.flat_map(|(_, entry)| self.chain(entry.record.top)).collect();
        let stays = |id: &LayerId| self.layers.get(id).is_some_and(|layer| !layer.record.merging);
        self.chain(top).into_iter().take_while(|id| !others.contains(id)).filter(stays).last()
    }

    /// How far the detaching of volume `id` is, if it is being detached.
    pub(crate) fn detachment(&self, id: VolumeId) -> Option<Detachment> {
        let record = self.volumes.get(&id)?.record;
        let chain = self.chain(record.top);
        let progress = chain.iter().find_map(|id| self.layers.get(id)?.detaching.as_ref())?;
        let done = progress.leaf.saturating_mul(wide(crate::format::node::FAN_OUT) * BLOCK_BYTES);
        Some(Detachment {
            done_bytes: done.min(record.size_bytes),
            size_bytes: record.size_bytes,
            waits: progress.waits.clone(),
        })
    }

    /// True while a layer is being detached that does not wait for anything.
    pub(crate) fn is_detaching(&self) -> bool {
        let mut progress = self.layers.values().filter_map(|layer| layer.detaching.as_ref());
        progress.any(|progress| progress.waits.is_none())
    }

    fn note_waiting(&mut self, id: LayerId, error: &BlockError) {
        if let Some(progress) = self.layers.get_mut(&id).and_then(|layer| layer.detaching.as_mut()) {
            progress.waits = Some(error.to_string());
        }
    }
}
