//! One open pool of `store`, as the model wants it.

use crate::engine::{blocking, parse_disks};
use backend::{DiskSpec, OpenDisk};
use block::{BoxFuture, Disk, Runtime, Volume};
use control::{
    Cache, DiskFacts, Error, ErrorKind, FactChange, NamedFact, PoolEngine, PoolId, PoolUsage, Result,
    VolumeId, VolumeSpec,
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
}

impl SystemPool {
    pub(crate) fn new(pool: Arc<Pool>, disks: Vec<OpenDisk>, runtime: Arc<dyn Runtime>) -> Self {
        let id = PoolId::from_bytes(pool.status().pool);
        let facts = disks.iter().map(|open| {
            let info = open.disk.info();
            DiskFacts { path: info.name.clone(), size_bytes: info.size_bytes, media: info.media }
        });
        Self { id, pool, facts: Mutex::new(facts.collect()), disks, runtime }
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
        self.pool.grow_disk(size_bytes).await?;
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
        match self.pool.status().health {
            Health::Healthy => None,
            Health::Degraded(reason) => {
                Some(format!("damaged blocks were found; reads of them fail: {reason}"))
            }
            Health::ReadOnly(reason) => Some(format!("it takes no writes: {reason}")),
        }
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
        };
        Box::pin(async move { Ok(self.pool.create_volume(spec, vec![store_fact(fact)]).await?) })
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
