//! Layers that go: emptied because nothing refers to them, or merged into their only child.

use crate::engine::Engine;
use crate::format::LayerId;
use crate::state::State;
use block::Result;
use std::sync::Arc;

impl Engine {
    /// One bounded step of work on layers. True if there was something to do.
    pub(crate) async fn work_on_layers(self: &Arc<Self>) -> Result<bool> {
        self.state().background.layers_changed = false;
        Ok(false)
    }
}

impl State {
    /// Layers whose parent is `id`.
    pub(crate) fn children(&self, id: LayerId) -> Vec<LayerId> {
        let children = self.layers.iter().filter(|(_, layer)| layer.parent == Some(id));
        children.map(|(child, _)| *child).collect()
    }

    /// Layers that have been emptied for good: the next checkpoint drops them.
    pub(crate) fn layers_gone(&self) -> Vec<LayerId> {
        let gone = self
            .layers
            .iter()
            .filter(|(_, layer)| (layer.record.doomed || layer.record.merging) && layer.map.is_empty());
        gone.map(|(id, _)| *id).collect()
    }
}
