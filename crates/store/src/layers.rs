//! Layers that go: emptied because nothing refers to them, or merged into their only child.
//!
//! What of a map cannot be read is passed over: the layer stays, with that part of it, and is said to be set aside.
//!
//! Both only change maps in memory, a leaf at a time; the next checkpoint makes it last. After a crash the work
//! starts again from what the checkpoint knew. A layer leaves the catalog with the checkpoint that finds it empty.

use crate::catalog::{Changes, LayerRecord};
use crate::engine::Engine;
use crate::format::node::{Entry, FAN_OUT};
use crate::format::{LayerId, Location};
use crate::layer::Layer;
use crate::map::{Find, Next};
use crate::state::{Needed, State};
use block::{BlockError, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Leaves that one step changes at most.
const STEP_LEAVES: u32 = 64;
/// Times that reading a layer's map may fail, damage apart, before that part is passed over.
const FAILURES_MAX: u32 = 3;

/// What is to be done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing refers to it: its blocks are given up.
    Empty,
    /// Only this layer refers to it: its blocks become that one's.
    MergeInto(LayerId),
}

impl Engine {
    /// One bounded step of work on layers. True if there was something to do.
    pub(crate) async fn work_on_layers(self: &Arc<Self>) -> Result<bool> {
        let chosen = self.state().next_layer_work();
        let Some((id, fate)) = chosen else { return Ok(false) };
        if !self.mark(id, fate).await? {
            return Ok(true);
        }
        let mut from =
            self.state().background.layer_cursor.take().filter(|(at, _)| *at == id).map_or(0, |at| at.1);
        for _ in 0..STEP_LEAVES {
            let full = {
                let state = self.state();
                state.pending.leaves() > 0 && state.dirty_soon() >= state.budget.dirty_nodes
            };
            if full {
                // The references that went change more of the shared layer than a checkpoint should write at once.
                break;
            }
            let step = match fate {
                Fate::Empty => self.state().empty_leaf(id, from),
                Fate::MergeInto(child) => self.state().merge_leaf(id, child, from),
            };
            match step {
                Ok(Some(next)) => from = next,
                Ok(None) => {
                    self.state().layer_walked(id);
                    // Emptied: the checkpoint drops the layer, and perhaps its parent is next.
                    self.checkpoint_now().await?;
                    return Ok(true);
                }
                Err(needed) => {
                    if let Err(error) = self.load(needed).await {
                        from = self.state().pass_over(id, needed, from, error)?;
                    }
                }
            }
        }
        self.state().background.layer_cursor = Some((id, from));
        Ok(true)
    }

    /// Has the catalog say what happens to the layer. False if that is not to happen any more.
    async fn mark(&self, id: LayerId, fate: Fate) -> Result<bool> {
        let marked = |record: LayerRecord| match fate {
            Fate::Empty => {
                LayerRecord { doomed: true, merging: false, detaching: false, frozen: true, ..record }
            }
            Fate::MergeInto(_) => LayerRecord { merging: true, ..record },
        };
        let record = self.state().layers.get(&id).map(|layer| layer.record);
        if record.is_none_or(|record| marked(record) == record) {
            return Ok(true);
        }
        let mut stays = false;
        let prepare = |state: &mut State| {
            let record = state.layers.get(&id).expect("only this task drops layers").record;
            // Meanwhile somebody may have begun to detach it.
            stays = record.detaching && fate != Fate::Empty;
            let record = if stays { record } else { marked(record) };
            Ok((Changes { layers: vec![(id, Some(record))], ..Changes::default() }, record))
        };
        self.transact(prepare, |state, record| {
            if let Some(layer) = state.layers.get_mut(&id) {
                layer.record = record;
                layer.detaching = layer.detaching.take().filter(|_| record.detaching);
            }
        })
        .await?;
        Ok(!stays)
    }
}

impl State {
    /// Layers whose parent is `id`.
    pub(crate) fn children(&self, id: LayerId) -> Vec<LayerId> {
        let children = self.layers.iter().filter(|(_, layer)| layer.parent == Some(id));
        children.map(|(child, _)| *child).collect()
    }

    /// Layers that have been emptied for good: the checkpoint drops them.
    pub(crate) fn layers_gone(&self) -> Vec<LayerId> {
        let gone = self
            .layers
            .iter()
            .filter(|(_, layer)| (layer.record.doomed || layer.record.merging) && layer.map.is_empty());
        gone.map(|(id, _)| *id).collect()
    }

    /// What is to be done next. Looking and noting that there is nothing are one: a deletion in between would
    /// wait for the next one.
    fn next_layer_work(&mut self) -> Option<(LayerId, Fate)> {
        let chosen = self.choose_layer();
        self.background.layers_changed = chosen.is_some();
        chosen
    }

    /// A node that the work on layer `id` needs cannot be read: where to go on behind what it covers.
    ///
    /// # Errors
    /// `error`, if it may be different the next time.
    fn pass_over(&mut self, id: LayerId, needed: Needed, from: u64, error: BlockError) -> Result<u64> {
        let Some(layer) = self.layers.get_mut(&id) else { return Err(error) };
        layer.failures += 1;
        if error.kind != ErrorKind::Corrupt && layer.failures < FAILURES_MAX {
            self.background.layer_cursor = Some((id, from));
            return Err(error);
        }
        layer.failures = 0;
        layer.unreadable = true;
        self.degrade(&format!("a part of layer {id} cannot be given up: {error}"));
        Ok(needed.load.key.end_leaf().max(from))
    }

    /// All leaves of a layer have been looked at. What was passed over stays as it is until the pool is opened anew.
    fn layer_walked(&mut self, id: LayerId) {
        if let Some(layer) = self.layers.get_mut(&id) {
            layer.set_aside = layer.unreadable;
        }
    }

    /// The first layer that nothing, or only a child, refers to.
    fn choose_layer(&self) -> Option<(LayerId, Fate)> {
        let tops: BTreeSet<_> = self.volumes.values().map(|entry| entry.record.top).collect();
        let goes =
            |id: &LayerId, layer: &Layer| *id != LayerId::SHARED && !tops.contains(id) && !layer.set_aside;
        let open = self.layers.iter().filter(|(id, layer)| goes(id, layer));
        open.map(|(id, _)| id).find_map(|id| match self.children(*id)[..] {
            [] => Some((*id, Fate::Empty)),
            // It moves into its child when it has its own.
            [_] if self.layers.get(id).is_some_and(|layer| layer.record.detaching) => None,
            [child] => {
                let goes = self.layers.get(&child).is_some_and(|c| c.record.doomed || c.record.merging);
                (!goes && (tops.contains(&child) || !self.children(child).is_empty()))
                    .then_some((*id, Fate::MergeInto(child)))
            }
            _ => None,
        })
    }

    /// Gives up the blocks of the first leaf from `from` on. Returns where to go on; none at the end.
    fn empty_leaf(&mut self, id: LayerId, from: u64) -> std::result::Result<Option<u64>, Needed> {
        let Some(leaf) = self.loaded_leaf(id, from)? else { return Ok(None) };
        self.edit_leaf(id, leaf, 0..FAN_OUT, |_, _| Entry::default());
        Ok(Some(leaf + 1))
    }

    /// Moves the entries of the first leaf of `id` from `from` on to `child`, where that has none of its own.
    fn merge_leaf(
        &mut self,
        id: LayerId,
        child: LayerId,
        from: u64,
    ) -> std::result::Result<Option<u64>, Needed> {
        let Some(leaf) = self.loaded_leaf(id, from)? else { return Ok(None) };
        let Some(map) = self.map(child) else { return Ok(None) };
        match map.find(leaf) {
            Find::Load(load) => return Err(Needed { layer: child, load }),
            Find::Absent => self.create_leaf(child, leaf),
            Find::Here => {}
        }
        let is_last = self.layers.get(&id).is_some_and(|layer| layer.parent.is_none());
        let Some(entries) = self.map(id).and_then(|map| map.leaf(leaf).cloned()) else { return Ok(None) };
        // Given up first: in between, under the lock, the blocks belong to nobody, and never to two.
        self.edit_leaf(id, leaf, 0..FAN_OUT, |_, _| Entry::default());
        self.edit_leaf(child, leaf, 0..FAN_OUT, |slot, own| {
            let below = entries[slot];
            let pointless = is_last && below.location == Location::ZEROS;
            if own.location == Location::NONE && !pointless { below } else { own }
        });
        Ok(Some(leaf + 1))
    }

    /// The first leaf of a layer from `from` on, brought to memory; none if there are no more.
    fn loaded_leaf(&mut self, id: LayerId, from: u64) -> std::result::Result<Option<u64>, Needed> {
        let Some(map) = self.map(id) else { return Ok(None) };
        let leaf = match map.next_leaf(from) {
            Next::End => return Ok(None),
            Next::Load(load) => return Err(Needed { layer: id, load }),
            Next::Leaf(leaf) => leaf,
        };
        match map.find(leaf) {
            Find::Load(load) => Err(Needed { layer: id, load }),
            _ => Ok(Some(leaf)),
        }
    }
}
