//! One open pool of `store`, as the model wants it.

use crate::engine::{blocking, parse_disks};
use backend::{DiskSpec, OpenDisk};
use block::{BoxFuture, Disk, Runtime, Volume};
use control::{
    Cache, Detachment, Difference, DiskFacts, Error, ErrorKind, FactChange, Holding, KeyChange, NamedFact,
    PoolEngine, PoolId, PoolKeys, PoolSecret, PoolSpace, PoolUsage, Result, VolumeId, VolumeSpec,
};
use parking_lot::Mutex;
use std::sync::Arc;
use store::{Fact, Health, Pool};

/// Both places of labels on a disk: two blocks behind the first one, and the last two (docs/format.md).
const BLOCK: u64 = 4096;
const LABELS_BYTES: usize = 2 * 4096;

/// A pool and its disks.
pub(crate) struct SystemPool {
    id: PoolId,
    pool: Arc<Pool>,
    disks: Vec<OpenDisk>,
    facts: Mutex<Vec<DiskFacts>>,
    runtime: Arc<dyn Runtime>,
    survey: crate::survey::Kept,
}

impl SystemPool {
    pub(crate) fn new(pool: Arc<Pool>, disks: Vec<OpenDisk>, runtime: Arc<dyn Runtime>) -> Self {
        let id = PoolId::from_bytes(pool.status().pool);
        let facts = disks.iter().map(|open| {
            let info = open.disk.info();
            DiskFacts { path: info.name.clone(), size_bytes: info.size_bytes, media: info.media }
        });
        Self {
            id,
            pool,
            facts: Mutex::new(facts.collect()),
            disks,
            runtime,
            survey: crate::survey::Kept::default(),
        }
    }

    async fn grow(&self, disk: String) -> Result<()> {
        let wanted = parse_disks(std::slice::from_ref(&disk))?;
        let (path, size_bytes) = match wanted.first() {
            Some(DiskSpec::Path { path, size_bytes }) => (path.display().to_string(), *size_bytes),
            _ => return Err(Error::new(ErrorKind::Invalid, disk, "memory cannot grow; make a new pool")),
        };
        let missing = || Error::new(ErrorKind::NotFound, &path, "the pool has no such disk");
        let index = self.disks.iter().position(|open| open.disk.info().name == path).ok_or_else(missing)?;
        let open = self.disks.get(index).cloned().ok_or_else(missing)?;
        let size_bytes = blocking(move || open.grow(size_bytes)).await??;
        self.pool.grow_disk(u16::try_from(index).unwrap_or(u16::MAX), size_bytes).await?;
        if let Some(facts) = self.facts.lock().get_mut(index) {
            facts.size_bytes = size_bytes;
        }
        Ok(())
    }

    /// Overwrites the labels: the disk is nobody's then.
    async fn erase(&self, disk: Arc<dyn Disk>) -> Result<()> {
        let label = store::label_of(disk.clone(), &*self.runtime).await?;
        let size_bytes = label.map_or(disk.info().size_bytes, |label| label.size_bytes);
        let erase = move || {
            let zeros = [0; LABELS_BYTES];
            disk.write_blocking(size_bytes - 2 * BLOCK, &zeros)?;
            disk.write_blocking(BLOCK, &zeros)?;
            disk.flush_blocking()
        };
        Ok(blocking(erase).await??)
    }
}

/// What an administrator should know.
fn warning_of(health: &Health, layers_set_aside: u64) -> Option<String> {
    let set_aside = match layers_set_aside {
        0 => String::new(),
        1 => "; a deleted volume or snapshot keeps its space, as its map cannot be read".to_owned(),
        many => {
            format!("; {many} deleted volumes or snapshots keep their space, as their maps cannot be read")
        }
    };
    match health {
        Health::Healthy => set_aside.strip_prefix("; ").map(str::to_owned),
        Health::Degraded(reason) => {
            Some(format!("damaged blocks were found; reads of them fail: {reason}{set_aside}"))
        }
        Health::ReadOnly(reason) => Some(format!("it takes no writes: {reason}{set_aside}")),
    }
}

fn store_id(id: VolumeId) -> store::VolumeId {
    id.bytes()
}

fn store_fact(fact: FactChange) -> Fact {
    (fact.kind.to_owned(), fact.name, fact.content)
}

impl PoolEngine for SystemPool {
    fn id(&self) -> PoolId {
        self.id
    }

    fn disks(&self) -> Vec<DiskFacts> {
        self.facts.lock().clone()
    }

    fn usage(&self) -> PoolUsage {
        let status = self.pool.status();
        PoolUsage {
            size_bytes: status.usable_bytes.saturating_sub(status.headroom_bytes),
            used_bytes: status.data_bytes.saturating_add(status.map_bytes),
            free_bytes: status.free_bytes,
        }
    }

    fn warning(&self) -> Option<String> {
        let status = self.pool.status();
        let keys = self.pool.keys();
        let told =
            [warning_of(&status.health, status.layers_set_aside), crate::keys::warning_of(keys.as_ref())];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    fn keys(&self) -> Option<PoolKeys> {
        self.pool.keys().map(crate::keys::keys_of)
    }

    fn change_keys(&self, change: KeyChange<PoolSecret>) -> BoxFuture<'_, Result<()>> {
        Box::pin(crate::keys::change(&self.pool, change))
    }

    fn volumes(&self) -> Vec<VolumeId> {
        let volumes = self.pool.volumes().into_iter().filter(|volume| !volume.snapshot);
        volumes.map(|volume| VolumeId::from_bytes(volume.id)).collect()
    }

    fn facts(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<NamedFact>>> {
        Box::pin(async move { Ok(self.pool.facts(kind).await?) })
    }

    fn put_fact(&self, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { Ok(self.pool.put_facts(vec![store_fact(fact)]).await?) })
    }

    fn create_volume(&self, id: VolumeId, spec: VolumeSpec, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        let spec = store::VolumeSpec {
            id: store_id(id),
            size_bytes: spec.size_bytes,
            thick: spec.thick,
            buffered: spec.cache == Cache::Buffered,
            encrypted: spec.encrypted,
        };
        Box::pin(async move { Ok(self.pool.create_volume(spec, vec![store_fact(fact)]).await?) })
    }

    fn snapshot_volumes(
        &self,
        snapshots: Vec<(VolumeId, VolumeId)>,
        facts: Vec<FactChange>,
    ) -> BoxFuture<'_, Result<()>> {
        let pairs = snapshots.into_iter().map(|(volume, snapshot)| (store_id(volume), store_id(snapshot)));
        let (pairs, facts) = (pairs.collect(), facts.into_iter().map(store_fact).collect());
        Box::pin(async move { Ok(self.pool.snapshot_volumes(pairs, facts).await?) })
    }

    fn clone_volume(&self, source: VolumeId, clone: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        let facts = vec![store_fact(fact)];
        Box::pin(async move { Ok(self.pool.clone_volume(store_id(source), store_id(clone), facts).await?) })
    }

    fn roll_back_volume(
        &self,
        volume: VolumeId,
        snapshot: VolumeId,
        safety: VolumeId,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>> {
        let [volume, snapshot, safety] = [volume, snapshot, safety].map(store_id);
        let facts = vec![store_fact(fact)];
        Box::pin(async move { Ok(self.pool.roll_back_volume(volume, snapshot, safety, facts).await?) })
    }

    fn detach_volume(
        &self,
        volume: VolumeId,
        family: Vec<VolumeId>,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>> {
        let (family, facts) = (family.into_iter().map(store_id).collect(), vec![store_fact(fact)]);
        Box::pin(async move { Ok(self.pool.detach_volume(store_id(volume), family, facts).await.map(drop)?) })
    }

    fn cancel_detach(&self, volume: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        let facts = vec![store_fact(fact)];
        Box::pin(async move { Ok(self.pool.cancel_detach(store_id(volume), facts).await?) })
    }

    fn detachment(&self, volume: VolumeId) -> Option<Detachment> {
        let store::Detachment { done_bytes, size_bytes, waits } = self.pool.detachment(store_id(volume))?;
        Some(Detachment { done_bytes, size_bytes, waits })
    }

    fn difference(
        &self,
        one: VolumeId,
        other: VolumeId,
        from: u64,
        ranges_max: usize,
    ) -> BoxFuture<'_, Result<Difference>> {
        Box::pin(async move {
            let found = self.pool.difference(store_id(one), store_id(other), from, ranges_max).await?;
            let store::Difference { ranges, next } = found;
            Ok(Difference { ranges, next })
        })
    }

    fn written_bytes(&self, id: VolumeId) -> u64 {
        self.pool.own_bytes(store_id(id)).unwrap_or(0)
    }

    fn space(&self) -> PoolSpace {
        self.survey.space(&self.pool)
    }

    fn holding(&self, id: VolumeId) -> Option<Holding> {
        self.survey.holding(id)
    }

    fn set_limit(&self, id: VolumeId, since_unix_ms: u64, bytes: Option<u64>) {
        self.pool.set_limit(store_id(id), since_unix_ms, bytes);
    }

    fn set_pool_limit(&self, bytes: Option<u64>) {
        self.pool.set_pool_limit(bytes);
    }

    fn taken_bytes(&self, id: VolumeId) -> Option<u64> {
        self.pool.taken_bytes(&store_id(id))
    }

    fn watch_space(&self, low_bytes: u64, relief: bool) {
        self.pool.watch_space(low_bytes, relief);
    }

    fn shortages(&self) -> u64 {
        self.pool.shortages()
    }

    fn shortage_after(&self, times: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.pool.shortage_after(times))
    }

    fn is_giving_back(&self) -> bool {
        self.pool.is_giving_back()
    }

    fn count_space(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.survey.renew(&self.pool, &*self.runtime))
    }

    fn set_owners(&self, owners: Vec<(VolumeId, VolumeId)>) {
        let owners = owners.into_iter().map(|(snapshot, volume)| (store_id(snapshot), store_id(volume)));
        self.pool.set_owners(&owners.collect::<Vec<_>>());
    }

    fn open_volume(&self, id: VolumeId) -> BoxFuture<'_, Result<Arc<dyn Volume>>> {
        let opened = self.pool.open_volume(store_id(id));
        Box::pin(async move { Ok(opened? as Arc<dyn Volume>) })
    }

    fn volume_used_bytes(&self, id: VolumeId) -> u64 {
        self.pool.open_volume(store_id(id)).map_or(0, |volume| volume.mapped_bytes())
    }

    fn grow_volume(&self, id: VolumeId, size_bytes: u64, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        let facts = vec![store_fact(fact)];
        Box::pin(async move { Ok(self.pool.resize_volume(store_id(id), size_bytes, facts).await?) })
    }

    fn delete_volume(&self, id: VolumeId, facts: Vec<FactChange>) -> BoxFuture<'_, Result<()>> {
        let facts = facts.into_iter().map(store_fact).collect();
        Box::pin(async move { Ok(self.pool.delete_volume(store_id(id), facts).await?) })
    }

    fn extend(&self, disk: String) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.grow(disk))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { Ok(self.pool.close().await?) })
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.pool.close().await?;
            for open in &self.disks {
                self.erase(open.disk.clone()).await?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deleted_volumes_keep_is_said_beside_the_pools_health() {
        assert_eq!(warning_of(&Health::Healthy, 0), None);
        let one = warning_of(&Health::Healthy, 1).unwrap_or_default();
        assert_eq!(one, "a deleted volume or snapshot keeps its space, as its map cannot be read");
        let both = warning_of(&Health::Degraded("segment 7".to_owned()), 3).unwrap_or_default();
        assert!(both.contains("segment 7; 3 deleted volumes or snapshots keep their space"), "{both}");
        let fails = warning_of(&Health::ReadOnly("a flush failed".to_owned()), 0).unwrap_or_default();
        assert_eq!(fails, "it takes no writes: a flush failed");
    }
}
