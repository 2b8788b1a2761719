//! Garbage collection: the first chooser of the mover.

use crate::engine::Engine;
use block::Result;
use std::sync::Arc;

impl Engine {
    /// One bounded round of collection. True if there was something to do.
    pub(crate) async fn collect(self: &Arc<Self>) -> Result<bool> {
        Ok(false)
    }
}
