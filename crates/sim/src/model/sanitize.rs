//! Sanitizing in the model: a write of all of a volume, after which nothing of what it held may be found anywhere.

use super::VolumeId;
use super::volume::VolumeModel;
use super::world::{Model, WriteState};
use crate::content::{Content, WriteId};

/// A volume that is being sanitized, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sanitizing {
    /// It counts as a write of all of the volume.
    pub write: WriteId,
    /// The volume is overwritten with a pattern: what this write writes to sector 0.
    pub pattern: bool,
}

impl VolumeModel {
    /// True if it is being sanitized, or may be, or could not be.
    #[must_use]
    pub fn is_sanitizing(&self) -> bool {
        self.sanitizing.is_some()
    }
}

impl Model {
    /// A volume is asked to be sanitized. From here on operations may be refused.
    pub fn begin_sanitize(&mut self, id: &VolumeId, pattern: bool) -> WriteId {
        let sectors = self.get(id).sectors();
        if pattern {
            let write = self.writes.next();
            let contents = vec![Content::Zeros, Content::Stamp { write, sector: 0 }];
            self.writes.set_contents(write, vec![contents; sectors as usize]);
        }
        let write = self.begin_write(id, 0, sectors, !pattern, true);
        self.get(id).sanitizing = Some(Sanitizing { write, pattern });
        write
    }

    /// It has begun: whatever happens, what the volume held before is not seen any more.
    pub fn sanitize_begun(&mut self, id: &VolumeId) {
        let Some(Sanitizing { write, .. }) = self.volume(id).and_then(|volume| volume.sanitizing) else {
            return;
        };
        if self.writes.of(write).state != WriteState::Acked {
            self.ack_write(id, write);
        }
    }

    /// It is over, and `done` unless it failed.
    pub fn end_sanitize(&mut self, id: &VolumeId, done: bool) {
        let Some(volume) = self.volumes.get_mut(id) else { return };
        let Some(Sanitizing { write, pattern: true }) = volume.sanitizing.take() else { return };
        if done {
            let count = self.writes.of(write).count as usize;
            self.writes.set_contents(write, vec![vec![Content::Stamp { write, sector: 0 }]; count]);
        }
    }

    /// True if `found` was written to `id` before `sanitize` began.
    #[must_use]
    pub fn was_held_before(&self, id: &VolumeId, sanitize: WriteId, found: WriteId) -> bool {
        found < sanitize && self.owners.get(found.0 as usize) == Some(id)
    }
}
