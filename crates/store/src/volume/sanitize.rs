//! Sanitizing a volume: what its users ask for. What is done about it is in [`crate::sanitize`].

use super::StoreVolume;
use crate::catalog::SanitizeRecord;
use block::{ErrorKind, Result, SanitizeMethod};
use std::sync::Arc;

impl StoreVolume {
    /// True unless it is a snapshot.
    pub(super) fn takes_writes(&self) -> bool {
        let state = self.engine.state();
        state.layers.get(&self.shared.top()).is_some_and(|layer| !layer.record.frozen)
    }

    pub(super) async fn begin_sanitize(&self, method: SanitizeMethod, unrestricted_exit: bool) -> Result<()> {
        if self.shared.is_closed() {
            return Err(self.shared.error(ErrorKind::Closed, "was deleted or is closed"));
        }
        let (engine, shared) = (Arc::clone(&self.engine), Arc::clone(&self.shared));
        let pattern = match method {
            SanitizeMethod::CryptoErase => {
                let erase = async move { engine.crypto_erase(&shared).await };
                return self.engine.detached(erase).await;
            }
            SanitizeMethod::BlockErase => Vec::new(),
            SanitizeMethod::Overwrite(bytes) if !SanitizeRecord::is_pattern(&bytes) => {
                let message = format!("a pattern of {} bytes is none", bytes.len());
                return Err(self.shared.error(ErrorKind::Invalid, message));
            }
            // Zeros take no space: a volume that is empty reads as them.
            SanitizeMethod::Overwrite(bytes) if bytes.iter().all(|byte| *byte == 0) => Vec::new(),
            SanitizeMethod::Overwrite(bytes) => bytes.to_vec(),
        };
        let begin = async move { engine.begin_sanitize(&shared, pattern, unrestricted_exit).await };
        self.engine.detached(begin).await
    }

    pub(super) async fn leave_sanitize(&self) -> Result<()> {
        let (engine, shared) = (Arc::clone(&self.engine), Arc::clone(&self.shared));
        self.engine.detached(async move { engine.leave_sanitize(&shared).await }).await
    }
}
