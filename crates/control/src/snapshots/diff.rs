//! What has changed between snapshots, and since.

use crate::{Difference, Error, Group, PoolId, Result, State, VolumeId};

/// Most ranges of one answer, unless fewer are asked for.
const RANGES_MAX: usize = 16_384;

/// What is compared, and a part of what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDifference {
    /// The one, as `VOLUME` or `VOLUME@SNAPSHOT`, and its size in bytes.
    pub from: (String, u64),
    /// The other.
    pub to: (String, u64),
    /// What differs.
    pub part: Difference,
}

struct Compared {
    name: String,
    id: VolumeId,
    size_bytes: u64,
    pool: PoolId,
}

impl State {
    /// The volume, or the snapshot of one, of this name: `VOLUME` or `VOLUME@SNAPSHOT`.
    fn find_compared(&self, text: &str) -> Result<Compared> {
        let (volume, snapshot) = match text.split_once('@') {
            Some((volume, snapshot)) => (volume, Some(snapshot)),
            None => (text, None),
        };
        let volume = &self.find_volume(volume)?.record;
        let Some(snapshot) = snapshot else {
            let name = volume.name.to_string();
            return Ok(Compared { name, id: volume.id, size_bytes: volume.size_bytes, pool: volume.pool });
        };
        let snapshot = self.find_snapshot(volume, snapshot)?;
        let name = format!("{}@{}", volume.name, snapshot.name);
        Ok(Compared { name, id: snapshot.id, size_bytes: snapshot.size_bytes, pool: volume.pool })
    }
}

impl Group {
    /// The bytes that differ between two volumes or snapshots of a pool, given as `VOLUME` or `VOLUME@SNAPSHOT`, from a
    /// byte on; at most about so many ranges. Of a volume that is written to meanwhile each block is compared at some
    /// moment.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `Invalid` for different pools; what reading says.
    pub async fn difference(
        &self,
        from: &str,
        to: &str,
        start: u64,
        ranges_max: Option<usize>,
    ) -> Result<VolumeDifference> {
        let (from, to, engine) = {
            let state = self.state.read();
            let (from, to) = (state.find_compared(from)?, state.find_compared(to)?);
            if from.pool != to.pool {
                let message = "they are in different pools, and have nothing in common";
                return Err(Error::invalid(format!("{} and {}", from.name, to.name), message));
            }
            let engine = state.pools.get(&from.pool).map(crate::state::PoolEntry::open);
            let missing = || Err(Error::not_found("pool", &from.pool.to_string()));
            let engine = engine.unwrap_or_else(missing)?;
            (from, to, engine)
        };
        let ranges_max = ranges_max.unwrap_or(RANGES_MAX).clamp(1, RANGES_MAX);
        let part = engine.difference(from.id, to.id, start, ranges_max).await?;
        Ok(VolumeDifference { from: (from.name, from.size_bytes), to: (to.name, to.size_bytes), part })
    }
}
