//! Out of space and back (promise 5): reads and UNMAP go on, and writes succeed again once there is space.

use super::{io, volumes};
use crate::life::Life;
use crate::model::{VolumeId, name};
use crate::rng::Rng;
use block::{ErrorKind, Runtime};
use std::sync::Arc;
use std::time::Duration;

/// Freed space must be usable after so long of virtual time.
const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// Below this much free space, unmapping the volume has not freed enough to expect anything.
const FREED_BYTES_MIN: u64 = 256 << 10;

/// Sectors of the write that must succeed again.
const WRITE_SECTORS: u32 = 64;

/// Fills the pool with whole volumes until no space is left, frees some, and writes again.
pub(crate) async fn recover_space(life: &Arc<Life>, rng: &mut Rng) {
    if life.pool.gauges().read_only.is_some() {
        return;
    }
    let Some((id, sectors)) = largest(life) else { return };
    let mut full = false;
    for first in (0..sectors).step_by(512) {
        let count = 512.min(sectors - first);
        full |= io::write_at(life, rng, id, first, count).await == Some(ErrorKind::NoSpace);
        if life.world.is_over() {
            return;
        }
    }
    life.world.count(if full { "volumes that filled the pool" } else { "volumes that fitted" });
    io::unmap_at(life, id, 0, sectors).await;
    if life.pool.gauges().free_bytes < FREED_BYTES_MIN {
        return;
    }
    let since = life.world.executor.now();
    loop {
        if life.world.is_over() || life.needs_the_dead() {
            return;
        }
        match io::write_at(life, rng, id, 0, WRITE_SECTORS.min(sectors)).await {
            None => break,
            Some(_) if life.world.executor.now().saturating_sub(since) > RECOVERY_MAX => {
                let gauges = life.pool.gauges();
                let id = name(&id);
                return life
                    .world
                    .fail(format!("volume {id} was unmapped, and no space came back: {gauges:?}"));
            }
            Some(_) => life.world.executor.sleep(Duration::from_secs(1)).await,
        }
    }
    if full {
        life.world.count("recoveries from a full pool");
    }
}

/// The largest volume that takes writes and shares nothing with snapshots, and its sectors.
fn largest(life: &Life) -> Option<(VolumeId, u32)> {
    let ids = volumes(life);
    let model = life.world.model.lock();
    let writable = ids
        .iter()
        .filter_map(|id| model.volume(id))
        .filter(|volume| !volume.frozen && volume.alone && !volume.is_sanitizing());
    writable.map(|volume| (volume.id, volume.sectors())).max_by_key(|&(_, sectors)| sectors)
}
