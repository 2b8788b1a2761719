//! The smallest engine that keeps the promises: a log that is never collected, and all content in memory.
//!
//! The simulation is tested with it, and with [`Bug`]s planted in it that the simulation has to find.

mod log;
mod volume;

use crate::engine::{Engine, EnginePool, Findings, Gauges, Listed, Setup};
use crate::model::VolumeId;
use block::{BlockError, BoxFuture, Disk, ErrorKind, Result, Runtime, Volume};
use log::{Log, Record};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a block, the unit in which content is kept.
const BLOCK: usize = 4096;

/// A fault of the engine that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Acknowledges durable writes that are in the cache only.
    AcksEarly,
    /// A flush of a buffered volume does nothing.
    SkipsFlush,
    /// Replays records without looking at their checksum.
    TrustsTornRecords,
    /// Forgets the last record of the log at recovery.
    ForgetsTail,
    /// Logs each half of a block by itself.
    TearsBlocks,
    /// Logs each half of an atomic write by itself.
    TearsAtomicWrites,
    /// A snapshot shares blocks with its volume for good.
    AliasesSnapshots,
    /// Now and then a read finds the version of a block before the last.
    ReadsStale,
    /// A compare-and-write compares, lets others in, and then writes.
    ComparesThenWaits,
    /// Replay makes deleted volumes exist again.
    RevivesVolumes,
    /// Now and then a write is never answered.
    LosesWakeups,
    /// A partial write merges with what it read before it waited for its turn.
    MergesLate,
}

type Blocks = BTreeMap<u64, Arc<[u8]>>;

/// A volume in memory.
#[derive(Clone, Default)]
struct Content {
    size_bytes: u64,
    buffered: bool,
    frozen: bool,
    blocks: Blocks,
    former: Blocks,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<VolumeId, Content>,
    reads: u64,
}

/// What an open tiny pool and its volumes share.
struct Shared {
    log: Log,
    state: Mutex<State>,
    bug: Option<Bug>,
    runtime: Arc<dyn Runtime>,
}

/// The small engine, with a bug or without.
pub struct Tiny {
    /// The planted bug.
    pub bug: Option<Bug>,
}

struct TinyPool(Arc<Shared>);

impl Shared {
    /// Logs `record` and applies it, once it is its turn.
    async fn commit(&self, record: Record, durable: bool) -> Result<()> {
        let turn = self.log.turn().await;
        self.commit_in_turn(record, durable).await?;
        drop(turn);
        Ok(())
    }

    async fn commit_in_turn(&self, record: Record, durable: bool) -> Result<()> {
        self.log.append(&record, durable, self.bug).await?;
        self.state.lock().apply(record, self.bug);
        Ok(())
    }

    fn open(self: Arc<Self>) -> Arc<dyn EnginePool> {
        Arc::new(TinyPool(self))
    }
}

impl State {
    fn apply(&mut self, record: Record, bug: Option<Bug>) {
        match record {
            Record::Write { volume, offset, data } => {
                let Some(content) = self.volumes.get_mut(&volume) else { return };
                for (index, block) in data.chunks(BLOCK).enumerate() {
                    content.put(offset / BLOCK as u64 + index as u64, block);
                }
                if bug == Some(Bug::AliasesSnapshots) {
                    self.write_to_snapshots(offset, &data);
                }
            }
            Record::Create { volume, size_bytes, buffered } => {
                self.volumes.insert(volume, Content { size_bytes, buffered, ..Content::default() });
            }
            Record::Resize { volume, size_bytes } => {
                if let Some(content) = self.volumes.get_mut(&volume) {
                    content.size_bytes = size_bytes;
                }
            }
            Record::Fork { source, volume, frozen } => {
                if let Some(content) = self.volumes.get(&source).cloned() {
                    self.volumes.insert(volume, Content { frozen, ..content });
                }
            }
            Record::Delete { volume } => {
                self.volumes.remove(&volume);
            }
        }
    }

    fn write_to_snapshots(&mut self, offset: u64, data: &[u8]) {
        for content in self.volumes.values_mut().filter(|content| content.frozen) {
            for (index, block) in data.chunks(BLOCK).enumerate() {
                content.put(offset / BLOCK as u64 + index as u64, block);
            }
        }
    }

    fn get(&self, id: &VolumeId) -> Result<&Content> {
        self.volumes.get(id).ok_or_else(|| BlockError::new(ErrorKind::NotFound, "tiny", "no such volume"))
    }
}

impl Content {
    fn put(&mut self, block: u64, data: &[u8]) {
        if let Some(old) = self.blocks.insert(block, data.into()) {
            self.former.insert(block, old);
        }
    }
}

impl Engine for Tiny {
    fn create(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        _setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>> {
        let bug = self.bug;
        Box::pin(async move {
            let disk = disks.into_iter().next().expect("a disk");
            let shared = Shared { log: Log::new(disk), state: Mutex::default(), bug, runtime };
            Ok(Arc::new(shared).open())
        })
    }

    fn open(
        &self,
        disks: Vec<Arc<dyn Disk>>,
        _setup: Setup,
        runtime: Arc<dyn Runtime>,
    ) -> BoxFuture<'static, Result<Arc<dyn EnginePool>>> {
        let bug = self.bug;
        Box::pin(async move {
            let disk = disks.into_iter().next().expect("a disk");
            let shared = Shared { log: Log::new(disk), state: Mutex::default(), bug, runtime };
            let mut records = shared.log.replay(bug).await?;
            if bug == Some(Bug::ForgetsTail) {
                records.pop();
            }
            if bug == Some(Bug::RevivesVolumes) {
                records.retain(|record| !matches!(record, Record::Delete { .. }));
            }
            for record in records {
                shared.state.lock().apply(record, bug);
            }
            Ok(Arc::new(shared).open())
        })
    }

    fn collects(&self) -> bool {
        false
    }
}

impl EnginePool for TinyPool {
    fn create_volume(&self, volume: VolumeId, size_bytes: u64, buffered: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.commit(Record::Create { volume, size_bytes, buffered }, true))
    }

    fn open_volume(&self, id: VolumeId) -> Result<Arc<dyn Volume>> {
        self.0.state.lock().get(&id)?;
        Ok(Arc::new(volume::TinyVolume::new(id, Arc::clone(&self.0))))
    }

    fn volumes(&self) -> Vec<Listed> {
        let state = self.0.state.lock();
        let listed = state.volumes.iter().map(|(&id, content)| Listed {
            id,
            size_bytes: content.size_bytes,
            buffered: content.buffered,
            mapped_bytes: None,
        });
        listed.collect()
    }

    fn resize(&self, volume: VolumeId, size_bytes: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.commit(Record::Resize { volume, size_bytes }, true))
    }

    fn delete(&self, volume: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.commit(Record::Delete { volume }, true))
    }

    fn snapshot(&self, source: VolumeId, volume: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.commit(Record::Fork { source, volume, frozen: true }, true))
    }

    fn clone_volume(&self, source: VolumeId, volume: VolumeId) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.commit(Record::Fork { source, volume, frozen: false }, true))
    }

    fn grow_disk(&self, _index: u16, _size_bytes: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn check(&self) -> BoxFuture<'_, Result<Findings>> {
        Box::pin(std::future::ready(Ok(Findings::default())))
    }

    fn gauges(&self) -> Gauges {
        let read_only = self.0.log.is_broken().then(|| "a flush failed".to_owned());
        Gauges { usable_bytes: 1 << 30, free_bytes: 1 << 30, read_only, ..Gauges::default() }
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.log.flush())
    }
}
