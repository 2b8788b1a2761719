//! Volumes of one pool share its space: when one has taken some, the hosts of all others are told what it comes to.
//!
//! Nothing here runs by the clock. A unit looks at its space by itself when enough was written to it; when the pool
//! has moved by a part of its size since all were told, all are told.

use control::{PoolId, VolumeId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use target::LogicalUnitHandle;

/// All units of a pool are told when its free space has moved by this part of the pool.
const STEPS: u64 = 512;

#[derive(Default)]
struct PoolSpace {
    units: HashMap<VolumeId, Weak<LogicalUnitHandle>>,
    /// Free space when all were told.
    told_bytes: u64,
}

/// The units of each pool.
#[derive(Default)]
pub(crate) struct SharedSpace {
    pools: Mutex<HashMap<PoolId, PoolSpace>>,
}

impl SharedSpace {
    /// From now on `unit` hears of what others take of `pool`, and others of what it takes.
    pub(crate) fn join(self: &Arc<Self>, pool: PoolId, id: VolumeId, unit: &Arc<LogicalUnitHandle>) {
        let mut pools = self.pools.lock();
        let units = &mut pools.entry(pool).or_default().units;
        units.retain(|_, unit| unit.strong_count() > 0);
        units.insert(id, Arc::downgrade(unit));
        drop(pools);
        let shared = Arc::downgrade(self);
        unit.watch_space(Box::new(move |resources| {
            if let Some(shared) = shared.upgrade() {
                shared.moved(pool, resources);
            }
        }));
    }

    /// A unit of the pool has looked and found this.
    fn moved(&self, pool: PoolId, resources: block::Resources) {
        let others: Vec<_> = {
            let mut pools = self.pools.lock();
            let Some(space) = pools.get_mut(&pool) else { return };
            let free = resources.available_bytes;
            if free > 0 && free.abs_diff(space.told_bytes) < resources.pool_bytes / STEPS {
                return;
            }
            if free == space.told_bytes {
                return;
            }
            space.told_bytes = free;
            space.units.values().filter_map(Weak::upgrade).collect()
        };
        for unit in others {
            let _ = unit.look_at_space();
        }
    }
}
