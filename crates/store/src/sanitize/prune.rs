//! Blocks that are in a layer and that no volume can see.
//!
//! A layer that no volume is on and that several others are on keeps what all of them have overwritten: it is merged
//! only when one of them is left. Where old content has to go, these blocks have to go, too.

use crate::engine::Engine;
use crate::format::node::{Entry, FAN_OUT};
use crate::format::{LayerId, Location};
use crate::map::{Entries, Find, Next};
use crate::state::{Needed, State};
use block::Result;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Leaves that one step looks at.
const STEP_LEAVES: u32 = 64;

/// How far the walk over all layers is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pruning {
    layer: LayerId,
    leaf: u64,
}

impl Engine {
    /// Looks at some more leaves. Returns how far it has come, none at the end.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub(super) async fn prune(&self, from: Pruning) -> Result<Option<Pruning>> {
        let mut at = from;
        for _ in 0..STEP_LEAVES {
            let full = {
                let state = self.state();
                state.dirty_soon() >= state.budget.dirty_nodes
            };
            if full {
                // A checkpoint comes first.
                break;
            }
            let step = self.state().prune_leaf(&at);
            match step {
                Ok(Some(next)) => at = next,
                Ok(None) => return Ok(None),
                Err(needed) => self.load(needed).await?,
            }
        }
        Ok(Some(at))
    }
}

impl State {
    /// Gives up what is hidden in the first leaf from `at` on. Returns where to go on; none at the end.
    fn prune_leaf(&mut self, at: &Pruning) -> std::result::Result<Option<Pruning>, Needed> {
        let Some(layer) = self.next_pruned(at.layer) else { return Ok(None) };
        let from = if layer == at.layer { at.leaf } else { 0 };
        let Some(map) = self.map(layer) else { return Ok(None) };
        let leaf = match map.next_leaf(from) {
            Next::End => return Ok(Some(Pruning { layer: LayerId(layer.0 + 1), leaf: 0 })),
            Next::Load(load) => return Err(Needed { layer, load }),
            Next::Leaf(leaf) => leaf,
        };
        if let Find::Load(load) = map.find(leaf) {
            return Err(Needed { layer, load });
        }
        let mut above: Vec<Option<Arc<Entries>>> = Vec::new();
        for child in self.children(layer) {
            let Some(map) = self.map(child) else { continue };
            if let Find::Load(load) = map.find(leaf) {
                return Err(Needed { layer: child, load });
            }
            above.push(map.leaf(leaf).cloned());
        }
        let hides = |entries: &Option<Arc<Entries>>, slot: usize| {
            entries.as_ref().is_some_and(|entries| entries[slot].location != Location::NONE)
        };
        let hidden = |slot: usize| above.iter().all(|entries| hides(entries, slot));
        let own = self.map(layer).and_then(|map| map.leaf(leaf).cloned());
        let prunes = own
            .is_some_and(|own| (0..FAN_OUT).any(|slot| own[slot].location != Location::NONE && hidden(slot)));
        if prunes {
            let new = |slot, own| if hidden(slot) { Entry::default() } else { own };
            self.edit_leaf(layer, leaf, 0..FAN_OUT, new);
        }
        Ok(Some(Pruning { layer, leaf: leaf + 1 }))
    }

    /// The first layer from `from` on that several are on, but no volume.
    fn next_pruned(&self, from: LayerId) -> Option<LayerId> {
        let tops: BTreeSet<_> = self.volumes.values().map(|entry| entry.record.top).collect();
        let layers = self.layers.range(from..LayerId::SHARED).map(|(id, _)| *id);
        layers.into_iter().find(|id| !tops.contains(id) && self.children(*id).len() > 1)
    }
}
