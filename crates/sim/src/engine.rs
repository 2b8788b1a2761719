//! What the simulation asks of an engine: the pool engine, or the small one that the simulation is tested with.

use crate::model::VolumeId;
use block::{BoxFuture, Disk, Result, Runtime, Volume};
use std::sync::Arc;
use std::time::Duration;

/// How an engine is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Slab size in bytes.
    pub slab_bytes: u64,
    /// Memory for maps, in bytes.
    pub map_cache_bytes: u64,
    /// A checkpoint after so many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint after so long.
    pub checkpoint_interval: Duration,
    /// A checkpoint after so many changed nodes.
    pub dirty_nodes_max: u64,
    /// Tell the disk what is free.
    pub discard: bool,
    /// How many copies there are.
    pub class: store::Redundancy,
    /// The pool has keys, and every other volume is encrypted.
    pub encrypted: bool,
}

/// A volume or snapshot as an engine lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its identity.
    pub id: VolumeId,
    /// Size in bytes.
    pub size_bytes: u64,
    /// `cache=buffered`.
    pub buffered: bool,
    /// Bytes mapped in its own layer, where the engine knows.
    pub mapped_bytes: Option<u64>,
}

/// What an engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Checkpoints since opening.
    pub checkpoints: u64,
    /// Batches replayed at opening.
    pub replayed: u64,
    /// Bytes that data and maps can fill, headroom included.
    pub usable_bytes: u64,
    /// Bytes of live data.
    pub data_bytes: u64,
    /// Bytes of maps.
    pub map_bytes: u64,
    /// Bytes held back.
    pub headroom_bytes: u64,
    /// What new data may take.
    pub free_bytes: u64,
    /// Disks that do not count any more.
    pub lost: Vec<usize>,
    /// Why it takes no writes, if so.
    pub read_only: Option<String>,
}

/// What a consistency check counted, and what does not fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Blocks of live data.
    pub data_blocks: u64,
    /// Map nodes.
    pub nodes: u64,
    /// Contradictions.
    pub problems: Vec<String>,
}

/// A kind of engine.
pub trait Engine: Send + Sync + 'static {
    /// Makes a pool on `disks`.
    fn create(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>>;

    /// Opens the pool on `disks`.
    fn open(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>>;

    /// True if space that was freed can be used again, so that filling the pool is worth a try.
    fn collects(&self) -> bool;
}

/// An open pool. The methods mean what those of `store::Pool` do.
pub trait EnginePool: Send + Sync + 'static {
    /// Makes an empty thin volume.
    fn create_volume(&self, id: VolumeId, size_bytes: u64, buffered: bool) -> BoxFuture<'_, Result<()>>;
    /// A volume or snapshot for I/O.
    fn open_volume(&self, id: VolumeId) -> Result<Arc<dyn Volume>>;
    /// All volumes and snapshots.
    fn volumes(&self) -> Vec<Listed>;
    /// Grows a volume.
    fn resize(&self, id: VolumeId, size_bytes: u64) -> BoxFuture<'_, Result<()>>;
    /// Deletes a volume or snapshot.
    fn delete(&self, id: VolumeId) -> BoxFuture<'_, Result<()>>;
    /// Takes a snapshot.
    fn snapshot(&self, id: VolumeId, snapshot: VolumeId) -> BoxFuture<'_, Result<()>>;
    /// Makes a volume with the content of another or of a snapshot.
    fn clone_volume(&self, source: VolumeId, clone: VolumeId) -> BoxFuture<'_, Result<()>>;
    /// What an engine of layers does more; none if it has none.
    fn layered(&self) -> Option<&dyn Layered> {
        None
    }
    /// Disk `index` has grown.
    fn grow_disk(&self, index: u16, size_bytes: u64) -> BoxFuture<'_, Result<()>>;
    /// Makes a checkpoint.
    fn checkpoint(&self) -> BoxFuture<'_, Result<()>>;
    /// Finishes background work.
    fn settle(&self) -> BoxFuture<'_, Result<()>>;
    /// Checks what is on disk and in memory against each other.
    fn check(&self) -> BoxFuture<'_, Result<Findings>>;
    /// What the engine says of itself.
    fn gauges(&self) -> Gauges;
    /// Closes the pool.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// What an engine of layers does more.
pub trait Layered: Sync {
    /// Takes snapshots of several volumes, given as volume and snapshot, at one instant.
    fn snapshot_group(&self, pairs: Vec<(VolumeId, VolumeId)>) -> BoxFuture<'_, Result<()>>;
    /// Gives a volume the content of a snapshot, and makes what it held the snapshot `safety`.
    fn roll_back(&self, id: VolumeId, snapshot: VolumeId, safety: VolumeId) -> BoxFuture<'_, Result<()>>;
    /// Begins to make a volume independent of all that is not of its family. False if there is nothing to do.
    fn detach(&self, id: VolumeId, family: Vec<VolumeId>) -> BoxFuture<'_, Result<bool>>;
    /// Does not go on with that.
    fn cancel_detach(&self, id: VolumeId) -> BoxFuture<'_, Result<()>>;
    /// True if it is at it.
    fn is_detaching(&self, id: VolumeId) -> bool;
}

/// The pool engine.
pub struct Store {
    buffers: block::BufferPool,
}

impl Store {
    /// The pool engine, whose pools take their memory from one stock.
    #[must_use]
    pub fn new() -> Self {
        Self { buffers: block::BufferPool::new(8 << 20) }
    }

    fn options(&self, setup: Setup) -> store::PoolOptions {
        store::PoolOptions {
            slab_bytes: Some(setup.slab_bytes),
            redundancy: setup.class,
            map_cache_bytes: setup.map_cache_bytes,
            checkpoint_log_bytes: setup.checkpoint_log_bytes,
            checkpoint_interval: setup.checkpoint_interval,
            dirty_nodes_max: setup.dirty_nodes_max,
            discard: setup.discard,
            key_cost: store::KeyCost { memory_kib: 8, passes: 1, lanes: 1 },
            buffers: self.buffers.clone(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Store {
    fn create(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>> {
        let options = self.options(setup);
        Box::pin(async move {
            let pool = store::Pool::create(disks, "sim", options, runtime).await?;
            StorePool { pool, encrypted: setup.encrypted }.unlocked().await
        })
    }

    fn open(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>> {
        let options = self.options(setup);
        Box::pin(async move {
            let pool = store::Pool::open(disks, options, runtime).await?;
            StorePool { pool, encrypted: setup.encrypted }.unlocked().await
        })
    }

    fn collects(&self) -> bool {
        true
    }
}

struct StorePool {
    pool: Arc<store::Pool>,
    encrypted: bool,
}

impl StorePool {
    /// Lets encrypted volumes be used, if there are to be some. A crash may have left the pool without keys.
    async fn unlocked(self) -> Result<Arc<dyn EnginePool>> {
        if self.encrypted {
            let secret = store::Secret::KeyFile(zeroize::Zeroizing::new(vec![7; 32]));
            match self.pool.keys() {
                Some(_) => self.pool.unlock(secret).await?,
                None => self.pool.begin_encryption(secret, true).await?,
            }
        }
        Ok(Arc::new(self))
    }

    fn lost(&self) -> Vec<usize> {
        let disks = self.pool.disks().into_iter();
        disks
            .filter(|disk| disk.state == store::DiskState::Lost)
            .map(|disk| usize::from(disk.index))
            .collect()
    }
}

impl Layered for StorePool {
    fn snapshot_group(&self, pairs: Vec<(VolumeId, VolumeId)>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.snapshot_volumes(pairs, Vec::new()))
    }

    fn roll_back(&self, id: VolumeId, snapshot: VolumeId, safety: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.roll_back_volume(id, snapshot, safety, Vec::new()))
    }

    fn detach(&self, id: VolumeId, family: Vec<VolumeId>) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.pool.detach_volume(id, family, Vec::new()))
    }

    fn cancel_detach(&self, id: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.cancel_detach(id, Vec::new()))
    }

    fn is_detaching(&self, id: VolumeId) -> bool {
        self.pool.detachment(id).is_some()
    }
}

impl EnginePool for StorePool {
    fn create_volume(&self, id: VolumeId, size_bytes: u64, buffered: bool) -> BoxFuture<'_, Result<()>> {
        let encrypted = self.encrypted && id[0].is_multiple_of(2);
        let spec = store::VolumeSpec { id, size_bytes, thick: false, buffered, encrypted };
        Box::pin(self.pool.create_volume(spec, Vec::new()))
    }

    fn open_volume(&self, id: VolumeId) -> Result<Arc<dyn Volume>> {
        Ok(self.pool.open_volume(id)?)
    }

    fn volumes(&self) -> Vec<Listed> {
        let listed = |info: store::VolumeInfo| Listed {
            id: info.id,
            size_bytes: info.size_bytes,
            buffered: info.buffered,
            mapped_bytes: Some(info.mapped_bytes),
        };
        self.pool.volumes().into_iter().map(listed).collect()
    }

    fn resize(&self, id: VolumeId, size_bytes: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.resize_volume(id, size_bytes, Vec::new()))
    }

    fn delete(&self, id: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.delete_volume(id, Vec::new()))
    }

    fn snapshot(&self, id: VolumeId, snapshot: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.snapshot_volume(id, snapshot, Vec::new()))
    }

    fn clone_volume(&self, source: VolumeId, clone: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.clone_volume(source, clone, Vec::new()))
    }

    fn layered(&self) -> Option<&dyn Layered> {
        Some(self)
    }

    fn grow_disk(&self, index: u16, size_bytes: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.grow_disk(index, size_bytes))
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.checkpoint())
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.settle())
    }

    fn check(&self) -> BoxFuture<'_, Result<Findings>> {
        Box::pin(async move {
            let report = self.pool.check().await?;
            Ok(Findings { data_blocks: report.data_blocks, nodes: report.nodes, problems: report.problems })
        })
    }

    fn gauges(&self) -> Gauges {
        let status = self.pool.status();
        Gauges {
            checkpoints: status.checkpoints,
            replayed: status.replayed_batches,
            usable_bytes: status.usable_bytes,
            data_bytes: status.data_bytes,
            map_bytes: status.map_bytes,
            headroom_bytes: status.headroom_bytes,
            free_bytes: status.free_bytes,
            lost: self.lost(),
            read_only: match status.health {
                store::Health::ReadOnly(why) => Some(why),
                _ => None,
            },
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.pool.close())
    }
}
