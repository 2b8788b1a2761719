//! When space runs short: snapshots that may go are deleted, the oldest first, before writes of hosts fail.
//!
//! The engine says when there is little room, or none for a write, which then waits a while; who has a clock to wait with
//! calls [`Group::keep_space`] then, and now and then besides.

use crate::snapshots::Clones;
use crate::{
    Dropped, Group, OnShort, PoolEngine, PoolId, Result, SnapshotRecord, State, VolumeId, VolumeRecord,
};
use std::sync::Arc;
use std::time::Duration;

/// Room is made in a pool that has less left than this part of its size.
const LOW_PART: u64 = 32;
/// How long is waited for the space of a deleted snapshot before the next is deleted, and how often is looked.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_MAX: u32 = 500;

/// A pool that is short of space, or a volume of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Short {
    Pool,
    Volume(VolumeId),
}

impl State {
    /// What becomes of a volume's snapshots when space runs short.
    #[must_use]
    pub fn on_short(&self, record: &VolumeRecord) -> OnShort {
        let of_pool = || self.pools.get(&record.pool).map(|pool| pool.record.rules.on_short);
        record.rules.on_short.or_else(of_pool).unwrap_or_default()
    }

    /// The oldest snapshot of a volume that may go. Those that somebody wants kept stay, those that clones were made of,
    /// and unless the rule is for all those that no schedule made.
    fn oldest_of(&self, record: &VolumeRecord, clones: &Clones) -> Option<&SnapshotRecord> {
        let rule = self.on_short(record);
        let may_go = |snapshot: &&SnapshotRecord| {
            let by_rule = match rule {
                OnShort::Warn => false,
                OnShort::DeleteOldest => snapshot.schedule.is_some(),
                OnShort::DeleteOldestOfAll => true,
            };
            by_rule && !snapshot.kept && !clones.contains_key(&snapshot.id)
        };
        self.snapshots_of(record.id).filter(may_go).min_by_key(|one| (one.created_unix_ms, one.id))
    }

    /// The snapshot that goes next, if any may.
    fn next_to_go(&self, pool: PoolId, short: Short) -> Option<(VolumeRecord, SnapshotRecord)> {
        let clones = self.clones();
        let meant = |record: &&VolumeRecord| match short {
            Short::Pool => record.pool == pool,
            Short::Volume(id) => record.id == id,
        };
        let oldest =
            |record| self.oldest_of(record, &clones).map(|snapshot| (record.clone(), snapshot.clone()));
        let found = self.volume_records().filter(meant).filter_map(oldest);
        found.min_by_key(|(_, snapshot)| (snapshot.created_unix_ms, snapshot.id))
    }

    /// Volumes of a pool whose snapshots keep more than they may, or which have nearly reached their limit.
    fn short_volumes(&self, pool: PoolId, engine: &Arc<dyn PoolEngine>) -> Vec<VolumeId> {
        let is_short = |record: &&VolumeRecord| {
            let kept = engine.holding(record.id).map_or(0, |holding| holding.snapshots_bytes);
            let over = record.rules.snapshot_reserve_bytes.is_some_and(|reserve| kept > reserve);
            let left = record.rules.limit_bytes.zip(engine.taken_bytes(record.id));
            let near = left.is_some_and(|(limit, taken)| limit.saturating_sub(taken) <= limit / LOW_PART);
            over || near
        };
        let records = self.volume_records().filter(|record| record.pool == pool);
        records.filter(is_short).map(|record| record.id).collect()
    }
}

/// The pool has little room left.
fn is_low(engine: &Arc<dyn PoolEngine>) -> bool {
    let usage = engine.usage();
    usage.free_bytes <= usage.size_bytes / LOW_PART
}

impl Group {
    /// Deletes snapshots where space is short, as far as rules let it, the oldest first; and tells pools whether there is
    /// anything that could be deleted. Returns what was deleted, as volume and snapshot.
    pub async fn keep_space(&self) -> Vec<(String, String)> {
        let mut gone = Vec::new();
        let pools: Vec<_> = {
            let state = self.state.read();
            let open =
                |(id, entry): (&PoolId, &crate::state::PoolEntry)| Some((*id, entry.engine.clone().ok()?));
            state.pools.iter().filter_map(open).collect()
        };
        for (pool, engine) in pools {
            if let Err(error) = self.keep_space_of(pool, &engine, &mut gone).await {
                tracing::error!(%error, "space is short, and a snapshot could not be deleted");
            }
        }
        gone
    }

    async fn keep_space_of(
        &self,
        pool: PoolId,
        engine: &Arc<dyn PoolEngine>,
        gone: &mut Vec<(String, String)>,
    ) -> Result<()> {
        loop {
            let relief = self.with_state(|state| state.next_to_go(pool, Short::Pool)).is_some();
            engine.watch_space(engine.usage().size_bytes / LOW_PART, relief);
            if !relief {
                return Ok(());
            }
            let rules = self.with_state(|state| {
                let of_pool = state.volume_records().filter(|record| record.pool == pool);
                of_pool.map(|record| &record.rules).any(|rules| rules.snapshot_reserve_bytes.is_some())
            });
            if rules {
                engine.count_space().await?;
            }
            let mut shorts = self.with_state(|state| state.short_volumes(pool, engine));
            let mut shorts: Vec<Short> = shorts.drain(..).map(Short::Volume).collect();
            shorts.extend(is_low(engine).then_some(Short::Pool));
            let mut any = false;
            for short in shorts {
                any |= self.drop_oldest(pool, short, engine, gone).await?;
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// Deletes one snapshot, and waits for its space.
    async fn drop_oldest(
        &self,
        pool: PoolId,
        short: Short,
        engine: &Arc<dyn PoolEngine>,
        gone: &mut Vec<(String, String)>,
    ) -> Result<bool> {
        {
            let _change = self.changes.lock().await;
            let Some((mut volume, snapshot)) = self.with_state(|state| state.next_to_go(pool, short)) else {
                return Ok(false);
            };
            let count = volume.rules.dropped.as_ref().map_or(0, |dropped| dropped.count) + 1;
            let at_unix_ms = self.runtime.unix_time_ms();
            let last = snapshot.name.to_string();
            volume.rules.dropped = Some(Dropped { count, last: last.clone(), at_unix_ms });
            let facts = vec![snapshot.forgotten(), crate::volumes::fact(&volume)?];
            engine.delete_volume(snapshot.id, facts).await?;
            self.state.write().snapshots.remove(&(volume.id, snapshot.id));
            self.keep(&volume).await?;
            tracing::warn!(volume = %volume.name, snapshot = %last, "snapshot deleted: space is short");
            gone.push((volume.name.to_string(), last));
        }
        for _ in 0..LOOKS_MAX {
            if !engine.is_giving_back() {
                break;
            }
            self.runtime.sleep(LOOK).await;
        }
        Ok(true)
    }

    /// How often each open pool was short of space.
    #[must_use]
    pub fn shortages(&self) -> Vec<(Arc<dyn PoolEngine>, u64)> {
        let engines = self.open_engines().into_iter();
        engines.map(|engine| (engine.clone(), engine.shortages())).collect()
    }

    /// Waits until snapshots, rules or pools have changed.
    pub async fn space_rules_changed(&self) {
        self.space_changed.notified().await;
    }

    /// Keeps a snapshot from being deleted by schedules and for want of space, or not any more.
    ///
    /// # Errors
    /// `NotFound`, `Offline`.
    pub async fn keep_snapshot(
        &self,
        volume: &str,
        snapshot: &str,
        kept: bool,
    ) -> Result<(crate::Outcome, crate::SnapshotView)> {
        let _change = self.changes.lock().await;
        let view = self.snapshot(volume, snapshot)?;
        if view.record.kept == kept {
            return Ok((crate::Outcome::Unchanged, view));
        }
        let engine = {
            let state = self.state.read();
            state.engine_of(&state.find_volume(volume)?.record)?
        };
        let record = SnapshotRecord { kept, ..view.record };
        engine.put_fact(record.fact()?).await?;
        self.state.write().snapshots.insert((record.volume, record.id), record);
        self.space_changed.notify_one();
        tracing::info!(volume = %view.volume, snapshot, kept, "snapshot changed");
        Ok((crate::Outcome::Changed, self.snapshot(volume, snapshot)?))
    }
}
