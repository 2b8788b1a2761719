//! An engine, targets and surroundings that are simulated in memory, beside the real ones: for tests of everything
//! above them.

mod keys;
mod rules;
mod surroundings;
mod volume;

pub use surroundings::{SimFrontend, SimRuntime};

use crate::{
    Cache, Detachment, Difference, DiskFacts, Engine, Error, ErrorKind, FactChange, Holding, KeyChange,
    NamedFact, PoolEngine, PoolId, PoolKeys, PoolSecret, PoolSpace, PoolUsage, Result, VolumeId, VolumeSpec,
};
use block::{BoxFuture, Media, Volume};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use volume::SimVolume;

/// Pools in memory. They outlive a [`crate::Group`] over them, so that tests can restart it.
#[derive(Default)]
pub struct SimEngine {
    pools: Mutex<BTreeMap<PoolId, Arc<SimPool>>>,
    broken: Mutex<Option<Error>>,
    /// Held by a test, it holds up the opening of pools.
    pub gate: tokio::sync::Mutex<()>,
}

impl SimEngine {
    /// From now on pools fail to open with this error, or open again.
    pub fn break_opening(&self, error: Option<Error>) {
        *self.broken.lock() = error;
    }

    /// A pool, to look into it.
    pub fn pool(&self, id: PoolId) -> Option<Arc<SimPool>> {
        self.pools.lock().get(&id).cloned()
    }
}

/// Spreads small numbers over all bits, so that parts of identities differ, too.
pub(crate) const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Splits `PATH:SIZE`; a disk without a size has 1 GiB.
fn sized(disk: &str) -> (String, u64) {
    match disk.rsplit_once(':').map(|(path, size)| (path, block::parse_size(size))) {
        Some((path, Ok(size_bytes))) => (path.to_owned(), size_bytes),
        _ => (disk.to_owned(), 1 << 30),
    }
}

impl Engine for SimEngine {
    fn create_pool(&self, _name: String, disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>> {
        let mut pools = self.pools.lock();
        let disks: Vec<DiskFacts> = disks
            .iter()
            .map(|disk| {
                let (path, size_bytes) = sized(disk);
                let media = if path == "ram" { Media::Memory } else { Media::File };
                DiskFacts { path, size_bytes, media }
            })
            .collect();
        let used = |disk: &&DiskFacts| {
            pools.values().any(|pool| pool.inner.lock().disks.iter().any(|other| other.path == disk.path))
        };
        if let Some(disk) = disks.iter().filter(|disk| disk.media != Media::Memory).find(used) {
            let error = Error::new(ErrorKind::InUse, &disk.path, "it is in a pool already");
            return Box::pin(ready(Err(error)));
        }
        let count = u128::try_from(pools.len()).unwrap_or(u128::MAX);
        let id = PoolId::from_random((count + 1).wrapping_mul(SPREAD).to_be_bytes());
        let pool =
            Arc::new(SimPool { id, inner: Mutex::new(SimPoolInner { disks, ..SimPoolInner::default() }) });
        pools.insert(id, pool.clone());
        Box::pin(ready(Ok(pool as Arc<dyn PoolEngine>)))
    }

    fn open_pool(&self, id: PoolId, _disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>> {
        let missing = || Error::new(ErrorKind::NotFound, "disk", "there is no such pool on it");
        let opened = match self.broken.lock().clone() {
            Some(error) => Err(error),
            None => self.pool(id).map(|pool| pool as Arc<dyn PoolEngine>).ok_or_else(missing),
        };
        Box::pin(async move {
            let _open = self.gate.lock().await;
            opened
        })
    }
}

#[derive(Default)]
struct SimPoolInner {
    disks: Vec<DiskFacts>,
    facts: BTreeMap<(&'static str, String), Vec<u8>>,
    volumes: BTreeMap<VolumeId, (VolumeSpec, Arc<SimVolume>)>,
    /// Volumes of snapshots.
    owners: BTreeMap<VolumeId, VolumeId>,
    limits: BTreeMap<VolumeId, u64>,
    limit: Option<u64>,
    relief: bool,
    closed: bool,
    destroyed: bool,
    crash_after: Option<u32>,
    detach_slowly: bool,
    detaching: BTreeSet<VolumeId>,
    keys: Option<keys::SimKeys>,
}

/// A pool in memory.
pub struct SimPool {
    id: PoolId,
    inner: Mutex<SimPoolInner>,
}

impl SimPool {
    /// Lets so many more changes through; then each fails, as if the machine had stopped.
    pub fn crash_after(&self, changes: Option<u32>) {
        self.inner.lock().crash_after = changes;
    }

    /// Volumes are detached at once, or not before it is said that they are.
    pub fn detach_slowly(&self, slowly: bool) {
        let mut inner = self.inner.lock();
        inner.detach_slowly = slowly;
        inner.detaching.clear();
    }

    /// As after a restart: nothing is unlocked.
    pub fn forget_secrets(&self) {
        self.inner.lock().keys.iter_mut().for_each(keys::SimKeys::lock);
    }

    /// It was closed properly.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// How many volumes it holds, with or without records.
    pub fn volume_count(&self) -> usize {
        self.inner.lock().volumes.len()
    }

    /// How many records it keeps.
    pub fn fact_count(&self) -> usize {
        self.inner.lock().facts.len()
    }

    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SimPoolInner) -> Result<T>,
    ) -> BoxFuture<'_, Result<T>> {
        let mut inner = self.inner.lock();
        let result = match inner.crash_after {
            Some(0) => Err(Error::new(ErrorKind::Device, "disk", "the simulation stopped it")),
            left => {
                inner.crash_after = left.map(|left| left - 1);
                work(&mut inner)
            }
        };
        Box::pin(ready(result))
    }
}

fn missing_volume(id: VolumeId) -> Error {
    Error::new(ErrorKind::NotFound, format!("volume {id}"), "it is not in the pool")
}

impl SimPoolInner {
    fn keep(&mut self, fact: FactChange) {
        let key = (fact.kind, fact.name);
        match fact.content {
            Some(content) => self.facts.insert(key, content),
            None => self.facts.remove(&key),
        };
    }

    /// Copies a volume, thinly.
    fn fork(&mut self, source: VolumeId, new: VolumeId) -> Result<()> {
        let (spec, volume) = self.volumes.get(&source).ok_or_else(|| missing_volume(source))?;
        let forked = (VolumeSpec { thick: false, ..*spec }, Arc::new(volume.copy()));
        self.volumes.insert(new, forked);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.size_bytes).sum()
    }

    fn reserved_bytes(&self) -> u64 {
        self.volumes.values().filter(|(spec, _)| spec.thick).map(|(spec, _)| spec.size_bytes).sum()
    }

    fn check_room(&self, wanted_bytes: u64) -> Result<()> {
        if self.reserved_bytes().saturating_add(wanted_bytes) > self.size_bytes() {
            return Err(Error::new(ErrorKind::NoSpace, "pool", "it has not so much room left"));
        }
        Ok(())
    }
}

impl PoolEngine for SimPool {
    fn id(&self) -> PoolId {
        self.id
    }

    fn warning(&self) -> Option<String> {
        None
    }

    fn keys(&self) -> Option<PoolKeys> {
        let inner = self.inner.lock();
        let data_keys = inner.volumes.values().filter(|(spec, _)| spec.encrypted).count();
        inner.keys.as_ref().map(|keys| keys.status(data_keys))
    }

    fn change_keys(&self, change: KeyChange<PoolSecret>) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| keys::change(&mut inner.keys, change))
    }

    fn disks(&self) -> Vec<DiskFacts> {
        self.inner.lock().disks.clone()
    }

    fn usage(&self) -> PoolUsage {
        let inner = self.inner.lock();
        let size_bytes = inner.size_bytes();
        let used_bytes = inner.volumes.values().map(|(_, volume)| volume.used_bytes()).sum();
        let limit = inner.limit.unwrap_or(size_bytes).min(size_bytes);
        PoolUsage { size_bytes, used_bytes, free_bytes: limit.saturating_sub(used_bytes) }
    }

    fn volumes(&self) -> Vec<VolumeId> {
        self.inner.lock().volumes.keys().copied().collect()
    }

    fn facts(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<NamedFact>>> {
        let inner = self.inner.lock();
        let of_kind = inner.facts.iter().filter(|((other, _), _)| *other == kind);
        let facts = of_kind.map(|((_, name), content)| (name.clone(), content.clone())).collect();
        Box::pin(ready(Ok(facts)))
    }

    fn put_fact(&self, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.keep(fact);
            Ok(())
        })
    }

    fn create_volume(&self, id: VolumeId, spec: VolumeSpec, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            if spec.thick {
                inner.check_room(spec.size_bytes)?;
            }
            if spec.encrypted {
                keys::check_open(inner.keys.as_ref())?;
            }
            inner.volumes.insert(id, (spec, Arc::new(SimVolume::new(spec.size_bytes))));
            inner.keep(fact);
            Ok(())
        })
    }

    fn snapshot_volumes(
        &self,
        snapshots: Vec<(VolumeId, VolumeId)>,
        facts: Vec<FactChange>,
    ) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            for (volume, _) in &snapshots {
                inner.volumes.get(volume).ok_or_else(|| missing_volume(*volume))?;
            }
            for (volume, snapshot) in snapshots {
                inner.fork(volume, snapshot)?;
                inner.owners.insert(snapshot, volume);
            }
            facts.into_iter().for_each(|fact| inner.keep(fact));
            Ok(())
        })
    }

    fn clone_volume(&self, source: VolumeId, clone: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.fork(source, clone)?;
            inner.keep(fact);
            Ok(())
        })
    }

    fn roll_back_volume(
        &self,
        volume: VolumeId,
        snapshot: VolumeId,
        safety: VolumeId,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            let (_, kept) = inner.volumes.get(&snapshot).ok_or_else(|| missing_volume(snapshot))?;
            let content = Arc::new(kept.copy());
            inner.fork(volume, safety)?;
            inner.owners.insert(safety, volume);
            if let Some((spec, present)) = inner.volumes.get_mut(&volume) {
                content.grow(spec.size_bytes);
                *present = content;
            }
            inner.keep(fact);
            Ok(())
        })
    }

    fn detach_volume(
        &self,
        volume: VolumeId,
        _family: Vec<VolumeId>,
        fact: FactChange,
    ) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.volumes.get(&volume).ok_or_else(|| missing_volume(volume))?;
            if inner.detach_slowly {
                inner.detaching.insert(volume);
            }
            inner.keep(fact);
            Ok(())
        })
    }

    fn cancel_detach(&self, volume: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.detaching.remove(&volume);
            inner.keep(fact);
            Ok(())
        })
    }

    fn detachment(&self, volume: VolumeId) -> Option<Detachment> {
        let inner = self.inner.lock();
        let (spec, _) = inner.volumes.get(&volume).filter(|_| inner.detaching.contains(&volume))?;
        Some(Detachment { done_bytes: 0, size_bytes: spec.size_bytes, waits: None })
    }

    fn difference(
        &self,
        one: VolumeId,
        other: VolumeId,
        from: u64,
        _ranges_max: usize,
    ) -> BoxFuture<'_, Result<Difference>> {
        let inner = self.inner.lock();
        let volume = |id| inner.volumes.get(&id).map(|(_, volume)| volume).ok_or_else(|| missing_volume(id));
        let compared = volume(one).and_then(|one| Ok(one.differences(volume(other)?)));
        let after = |mut ranges: Vec<block::ByteRange>| {
            ranges.retain(|range| range.offset >= from);
            Difference { ranges, next: None }
        };
        Box::pin(ready(compared.map(after)))
    }

    fn written_bytes(&self, id: VolumeId) -> u64 {
        self.volume_used_bytes(id)
    }

    fn space(&self) -> PoolSpace {
        let PoolUsage { size_bytes, used_bytes, free_bytes } = self.usage();
        let total_bytes = size_bytes.max(used_bytes);
        PoolSpace { total_bytes, volumes_bytes: used_bytes, unused_bytes: free_bytes, ..PoolSpace::default() }
    }

    fn holding(&self, id: VolumeId) -> Option<Holding> {
        let inner = self.inner.lock();
        let (_, volume) = inner.volumes.get(&id)?;
        let snapshots = inner.owners.iter().filter(|(_, owner)| **owner == id).map(|(snapshot, _)| snapshot);
        let held = snapshots.filter_map(|snapshot| inner.volumes.get(snapshot));
        let mapped_bytes = volume.used_bytes();
        Some(Holding {
            mapped_bytes,
            unique_bytes: mapped_bytes,
            snapshots_bytes: held.map(|(_, volume)| volume.used_bytes()).sum(),
            as_of_unix_ms: 0,
        })
    }

    fn set_limit(&self, id: VolumeId, _since_unix_ms: u64, bytes: Option<u64>) {
        let mut inner = self.inner.lock();
        match bytes {
            Some(bytes) => drop(inner.limits.insert(id, bytes)),
            None => drop(inner.limits.remove(&id)),
        }
    }

    fn set_pool_limit(&self, bytes: Option<u64>) {
        self.inner.lock().limit = bytes;
    }

    fn taken_bytes(&self, id: VolumeId) -> Option<u64> {
        self.inner.lock().limits.get(&id)?;
        self.holding(id).map(|holding| holding.mapped_bytes + holding.snapshots_bytes)
    }

    fn watch_space(&self, _low_bytes: u64, relief: bool) {
        self.inner.lock().relief = relief;
    }

    fn shortages(&self) -> u64 {
        0
    }

    fn shortage_after(&self, _times: u64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn is_giving_back(&self) -> bool {
        false
    }

    fn count_space(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn set_owners(&self, owners: Vec<(VolumeId, VolumeId)>) {
        self.inner.lock().owners.extend(owners);
    }

    fn open_volume(&self, id: VolumeId) -> BoxFuture<'_, Result<Arc<dyn Volume>>> {
        let inner = self.inner.lock();
        let found = inner.volumes.get(&id).map(|(_, volume)| volume.clone() as Arc<dyn Volume>);
        Box::pin(ready(found.ok_or_else(|| missing_volume(id))))
    }

    fn volume_used_bytes(&self, id: VolumeId) -> u64 {
        self.inner.lock().volumes.get(&id).map_or(0, |(_, volume)| volume.used_bytes())
    }

    fn grow_volume(&self, id: VolumeId, size_bytes: u64, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            let (spec, _) = inner.volumes.get(&id).ok_or_else(|| missing_volume(id))?;
            if spec.thick {
                inner.check_room(size_bytes.saturating_sub(spec.size_bytes))?;
            }
            if let Some((spec, volume)) = inner.volumes.get_mut(&id) {
                spec.size_bytes = size_bytes;
                volume.grow(size_bytes);
            }
            inner.keep(fact);
            Ok(())
        })
    }

    fn delete_volume(&self, id: VolumeId, facts: Vec<FactChange>) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.volumes.remove(&id).ok_or_else(|| missing_volume(id))?;
            facts.into_iter().for_each(|fact| inner.keep(fact));
            Ok(())
        })
    }

    fn extend(&self, disk: String) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            let (path, size_bytes) = sized(&disk);
            let known = inner.disks.iter_mut().find(|known| known.path == path);
            let known = known.ok_or_else(|| Error::new(ErrorKind::NotFound, &path, "no such disk"))?;
            if size_bytes < known.size_bytes {
                return Err(Error::new(ErrorKind::Invalid, path, "a disk only grows"));
            }
            known.size_bytes = size_bytes;
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.lock().closed = true;
        Box::pin(ready(Ok(())))
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.destroyed = true;
            inner.disks.clear();
            Ok(())
        })
    }
}

/// What a new simulated volume is like, for tests that make many.
#[must_use]
pub fn thin_volume(name: &str, size_bytes: u64) -> crate::NewVolume {
    crate::NewVolume {
        name: name.to_owned(),
        size_bytes,
        pool: None,
        block_size: 512,
        thick: false,
        cache: Cache::Durable,
        offload: true,
        encrypt: None,
    }
}
