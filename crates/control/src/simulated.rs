//! An engine, targets and surroundings that are simulated in memory, beside the real ones: for tests of everything
//! above them.

use crate::{
    Cache, DiskFacts, Engine, Error, ErrorKind, FactChange, Frontend, NamedFact, PoolEngine, PoolId,
    PoolUsage, Result, SessionFacts, VolumeId, VolumeRecord, VolumeSpec,
};
use block::{
    BlockError, BoxFuture, ByteRange, Comparison, Durability, Extent, Media, Provisioning, Runtime, Task,
    Volume,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Pools in memory. They outlive a [`crate::Group`] over them, so that tests can restart it.
#[derive(Default)]
pub struct SimEngine {
    pools: Mutex<BTreeMap<PoolId, Arc<SimPool>>>,
    broken: Mutex<Option<Error>>,
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
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

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
        Box::pin(ready(opened))
    }
}

#[derive(Default)]
struct SimPoolInner {
    disks: Vec<DiskFacts>,
    facts: BTreeMap<(&'static str, String), Vec<u8>>,
    volumes: BTreeMap<VolumeId, (VolumeSpec, Arc<SimVolume>)>,
    closed: bool,
    destroyed: bool,
    crash_after: Option<u32>,
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

    fn disks(&self) -> Vec<DiskFacts> {
        self.inner.lock().disks.clone()
    }

    fn usage(&self) -> PoolUsage {
        let inner = self.inner.lock();
        let size_bytes = inner.size_bytes();
        let used_bytes = inner.volumes.values().map(|(_, volume)| volume.used_bytes()).sum();
        PoolUsage { size_bytes, used_bytes, free_bytes: size_bytes.saturating_sub(used_bytes) }
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
            inner.volumes.insert(id, (spec, Arc::new(SimVolume::new(spec.size_bytes))));
            inner.keep(fact);
            Ok(())
        })
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
                volume.size_bytes.store(size_bytes, Ordering::Release);
            }
            inner.keep(fact);
            Ok(())
        })
    }

    fn delete_volume(&self, id: VolumeId, fact: FactChange) -> BoxFuture<'_, Result<()>> {
        self.change(|inner| {
            inner.volumes.remove(&id).ok_or_else(|| missing_volume(id))?;
            inner.keep(fact);
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

const BLOCK: u64 = 4096;

/// A volume in memory.
struct SimVolume {
    size_bytes: AtomicU64,
    blocks: Mutex<BTreeMap<u64, [u8; 4096]>>,
}

impl SimVolume {
    fn new(size_bytes: u64) -> Self {
        Self { size_bytes: AtomicU64::new(size_bytes), blocks: Mutex::new(BTreeMap::new()) }
    }

    fn used_bytes(&self) -> u64 {
        BLOCK.saturating_mul(u64::try_from(self.blocks.lock().len()).unwrap_or(u64::MAX))
    }

    fn check(&self, offset: u64, len: u64) -> block::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes() => Ok(()),
            _ => Err(BlockError::new(block::ErrorKind::Invalid, "volume", "past the end").at(offset)),
        }
    }

    fn byte(blocks: &BTreeMap<u64, [u8; 4096]>, position: u64) -> u8 {
        let within = usize::try_from(position % BLOCK).unwrap_or(0);
        blocks.get(&(position / BLOCK)).map_or(0, |block| block[within])
    }

    fn put(blocks: &mut BTreeMap<u64, [u8; 4096]>, offset: u64, data: &[Bytes]) {
        for (position, byte) in (offset..).zip(data.iter().flatten()) {
            let within = usize::try_from(position % BLOCK).unwrap_or(0);
            blocks.entry(position / BLOCK).or_insert([0; 4096])[within] = *byte;
        }
    }
}

fn len_of(data: &[Bytes]) -> u64 {
    data.iter().map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX)).sum()
}

impl Volume for SimVolume {
    fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    fn granularity_bytes(&self) -> u32 {
        4096
    }

    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, block::Result<Vec<Bytes>>> {
        let read = || {
            self.check(offset, len)?;
            let blocks = self.blocks.lock();
            Ok(vec![(offset..offset + len).map(|position| Self::byte(&blocks, position)).collect()])
        };
        Box::pin(ready(read()))
    }

    fn write(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        _durability: Durability,
    ) -> BoxFuture<'_, block::Result<()>> {
        let done = self.check(offset, len_of(&data));
        Box::pin(ready(done.map(|()| Self::put(&mut self.blocks.lock(), offset, &data))))
    }

    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, block::Result<()>> {
        let run = || {
            for range in ranges {
                self.check(range.offset, range.len)?;
                let zeros = Bytes::from(vec![0; usize::try_from(range.len).unwrap_or(0)]);
                let mut blocks = self.blocks.lock();
                Self::put(&mut blocks, range.offset, &[zeros]);
                blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
            }
            Ok(())
        };
        Box::pin(ready(run()))
    }

    fn compare_and_write(
        &self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
        _durability: Durability,
    ) -> BoxFuture<'_, block::Result<Comparison>> {
        let run = || {
            self.check(offset, len_of(&expected))?;
            let mut blocks = self.blocks.lock();
            let mut bytes = (0..).zip(expected.iter().flatten());
            if let Some((at, _)) = bytes.find(|(at, byte)| Self::byte(&blocks, offset + at) != **byte) {
                return Ok(Comparison::DiffersAt(at));
            }
            Self::put(&mut blocks, offset, &data);
            Ok(Comparison::Equal)
        };
        Box::pin(ready(run()))
    }

    fn flush(&self) -> BoxFuture<'_, block::Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn extents(&self, offset: u64, len: u64, _max: usize) -> BoxFuture<'_, block::Result<Vec<Extent>>> {
        let whole = Extent { range: ByteRange { offset, len }, provisioning: Provisioning::Mapped };
        Box::pin(ready(self.check(offset, len).map(|()| vec![whole])))
    }
}

/// Targets that remember what they were told; sessions are made by the test.
#[derive(Default)]
pub struct SimFrontend {
    published: Mutex<BTreeSet<VolumeId>>,
    sizes: Mutex<BTreeMap<VolumeId, u64>>,
    sessions: Mutex<Vec<SessionFacts>>,
}

impl SimFrontend {
    /// As if this session had logged in.
    pub fn log_in(&self, session: SessionFacts) {
        self.sessions.lock().push(session);
    }

    /// The volumes with a target.
    pub fn published(&self) -> Vec<VolumeId> {
        self.published.lock().iter().copied().collect()
    }

    /// The size that hosts were last told, if any.
    pub fn told_size(&self, id: VolumeId) -> Option<u64> {
        self.sizes.lock().get(&id).copied()
    }
}

impl Frontend for SimFrontend {
    fn publish(&self, record: &VolumeRecord, _volume: Arc<dyn Volume>) -> Result<()> {
        self.published.lock().insert(record.id);
        Ok(())
    }

    fn withdraw(&self, record: &VolumeRecord) -> BoxFuture<'_, ()> {
        self.published.lock().remove(&record.id);
        self.sessions.lock().retain(|session| session.volume != Some(record.id));
        Box::pin(ready(()))
    }

    fn grown(&self, id: VolumeId, size_bytes: u64) {
        self.sizes.lock().insert(id, size_bytes);
    }

    fn sessions(&self) -> Vec<SessionFacts> {
        self.sessions.lock().clone()
    }

    fn access_changed(&self, record: &VolumeRecord) {
        let grant_of = |host| record.grants.iter().find(|grant| Some(grant.host) == host);
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.volume != Some(record.id) || grant_of(session.host).is_some());
        for session in sessions.iter_mut().filter(|session| session.volume == Some(record.id)) {
            session.read_only = grant_of(session.host).is_none_or(|grant| grant.read_only);
        }
    }
}

/// Time that stands still, and identities that are counted.
#[derive(Default)]
pub struct SimRuntime {
    identities: AtomicU64,
}

impl Runtime for SimRuntime {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_time_ms(&self) -> u64 {
        1_790_000_000_000
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }

    fn spawn(&self, task: Task) {
        tokio::spawn(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(ready(()))
    }

    fn random_id(&self) -> [u8; 16] {
        let number = u128::from(self.identities.fetch_add(1, Ordering::Relaxed) + 1);
        number.wrapping_mul(SPREAD).to_be_bytes()
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
    }
}
