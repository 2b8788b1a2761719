//! The key area on disks: reading the newest copy, and overwriting all.

use crate::catalog::Leg;
use crate::engine::Engine;
use crate::format::keys::{AREA_BYTES, COPIES_AT, KeyArea};
use crate::format::{Invalid, PoolId};
use block::Result;

/// What is found when a pool is opened.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) area: Option<KeyArea>,
    /// There should be keys, and no copy can be read.
    pub(crate) lost: bool,
    /// Some copy is damaged or older.
    pub(crate) uneven: bool,
    /// Whether the first copy is whole and the newest on some disk, and the second.
    pub(crate) sound: [bool; 2],
    /// Bytes of each copy that may not be zeros.
    pub(crate) bytes: usize,
}

/// The keys of an encrypted pool. Blocks the thread.
pub(crate) fn read<'a>(legs: impl Iterator<Item = &'a Leg>, pool: &PoolId) -> Found {
    let mut copies: Vec<Option<KeyArea>> = Vec::new();
    for leg in legs {
        for offset in COPIES_AT {
            let mut bytes = vec![0; AREA_BYTES];
            let read = leg.disk.read_blocking(offset, &mut bytes);
            let copy = match read.map(|()| KeyArea::decode(&bytes)) {
                Ok(Ok(area)) if area.pool == *pool => Some(area),
                Ok(Ok(_)) => told(leg, offset, "it is of another pool"),
                Ok(Err(Invalid::Magic)) => told(leg, offset, "there is none"),
                Ok(Err(invalid)) => told(leg, offset, &invalid.to_string()),
                Err(error) => told(leg, offset, &error.to_string()),
            };
            copies.push(copy);
        }
    }
    let newest: Option<KeyArea> = copies.iter().flatten().max_by_key(|area| area.generation).cloned();
    let uneven = copies.iter().any(|copy| *copy != newest);
    let is_sound =
        |which: usize| copies.iter().skip(which).step_by(COPIES_AT.len()).any(|copy| *copy == newest);
    let sound = [0, 1].map(|which| newest.is_some() && is_sound(which));
    Found { lost: newest.is_none(), area: newest, uneven, sound, bytes: AREA_BYTES }
}

fn told(leg: &Leg, offset: u64, why: &str) -> Option<KeyArea> {
    tracing::warn!(disk = leg.disk.info().name, offset, why, "a copy of the pool's keys cannot be used");
    None
}

impl Engine {
    /// Overwrites all copies on all disks, one after the other: at any time one of them is whole, as the first to be
    /// written is one that the other can stand in for. Of what was there
    /// before nothing is left when this returns. Must run to its end: call it from tasks.
    ///
    /// # Errors
    /// The disk's: copies may be old or new.
    pub(super) async fn write_keys(&self, area: &KeyArea) -> Result<()> {
        let mut bytes = area.encode();
        let used = bytes.len();
        let former = {
            let mut inner = self.keys.inner.lock();
            // Before the first one: whatever a pool that was there before has left.
            let former = if inner.ring.is_none() { AREA_BYTES } else { inner.bytes };
            inner.bytes = former.max(used);
            former
        };
        bytes.resize(former.max(used), 0);
        let bytes = self.options.buffers.copy_of(&bytes).freeze();
        let order = if self.keys.inner.lock().sound[1] { [0, 1] } else { [1, 0] };
        for which in order {
            self.keys.inner.lock().sound[which] = false;
            self.write_everywhere(COPIES_AT[which], &bytes).await?;
            self.keys.inner.lock().sound[which] = true;
        }
        self.keys.inner.lock().bytes = used;
        Ok(())
    }
}
