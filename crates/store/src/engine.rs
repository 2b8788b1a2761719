//! The engine: its surroundings, its state, and the calls that join them.

use crate::catalog::{Catalog, Changes};
use crate::disks::{Bad, Disks, SharedSlabs};
use crate::format::node::Node;
use crate::format::{BLOCK_SIZE, PoolId, SegmentId, Seq};
use crate::keys::Keys;
use crate::number::wide;
use crate::options::{Fact, PoolOptions};
use crate::space::Budget;
use crate::state::{Needed, State};
use crate::sync::{Event, hand_to};
use block::{BlockError, ErrorKind, Result, Runtime};
use bytes::Bytes;
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::{Mutex, MutexGuard};
use std::sync::{Arc, Weak};

/// Bytes of the catalog that a byte of a record may take: pages are filled by half at the least, and written anew.
const FACT_FACTOR: u64 = 4;

/// A pool that is open.
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) pool: PoolId,
    pub(crate) disks: Disks,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) options: PoolOptions,
    pub(crate) slabs: SharedSlabs,
    pub(crate) keys: Keys,
    /// Zeros to read from.
    pub(crate) zeros: Bytes,
    state: Mutex<State>,
    catalog: Arc<Catalog>,
    /// Held from the making of a transaction to its end.
    catalog_gate: AsyncMutex<()>,
    /// Held by the one checkpoint in progress.
    pub(crate) checkpoint_gate: AsyncMutex<()>,
    /// Held while relocation batches are on their way, and while an epoch ends.
    pub(crate) relocation_gate: AsyncMutex<()>,
    /// Held while a disk joins or leaves.
    pub(crate) members_gate: AsyncMutex<()>,
    /// Itself, for tasks that outlive a call.
    pub(crate) me: Weak<Self>,
    /// Held while the pool takes in what its disk has gained.
    pub(crate) grow_gate: AsyncMutex<()>,
    /// Writers waiting for a checkpoint or for free slabs look again.
    pub(crate) room_made: Event,
    /// There is little room, or none.
    pub(crate) shortage: Event,
    /// The background loops look for work.
    pub(crate) work_wanted: Event,
    /// A batch, a background step or a task ended: who waits for quiet looks again.
    pub(crate) progress: Event,
}

impl Engine {
    #[expect(clippy::too_many_arguments, reason = "called once, by the two ways to open a pool")]
    pub(crate) fn new(
        name: String,
        pool: PoolId,
        disks: Disks,
        runtime: Arc<dyn Runtime>,
        options: PoolOptions,
        slabs: SharedSlabs,
        keys: Keys,
        catalog: Catalog,
        state: State,
    ) -> Arc<Self> {
        let mut zeros = options.buffers.take(16 * BLOCK_SIZE);
        zeros.fill(0);
        Arc::new_cyclic(|me| Self {
            name,
            pool,
            disks,
            me: me.clone(),
            runtime,
            options,
            slabs,
            keys,
            zeros: zeros.freeze(),
            state: Mutex::new(state),
            catalog: Arc::new(catalog),
            catalog_gate: AsyncMutex::new(()),
            checkpoint_gate: AsyncMutex::new(()),
            relocation_gate: AsyncMutex::new(()),
            members_gate: AsyncMutex::new(()),
            grow_gate: AsyncMutex::new(()),
            room_made: Event::default(),
            shortage: Event::default(),
            work_wanted: Event::default(),
            progress: Event::default(),
        })
    }

    /// The state. Never kept across a wait.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// An error of the pool as such.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> BlockError {
        BlockError::new(kind, &self.name, message)
    }

    /// Runs `work` as a task to its end, whatever becomes of the caller.
    pub(crate) async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        hand_to(&*self.runtime, work).take().await
    }

    /// One transaction: `prepare` makes it from the state, `done` takes it into the state once it is durable.
    /// Must run to its end: call it from tasks.
    ///
    /// # Errors
    /// What `prepare` says; the catalog's errors, after which the pool takes no more writes.
    pub(crate) async fn transact<T>(
        &self,
        prepare: impl FnOnce(&mut State) -> Result<(Changes, T)>,
        done: impl FnOnce(&mut State, T),
    ) -> Result<()> {
        let _gate = self.catalog_gate.lock().await;
        let (changes, prepared) = prepare(&mut self.state())?;
        let outcome = self.commit(changes).await;
        self.lose_failed().await;
        self.refresh_budget();
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                done(&mut state, prepared);
                Ok(())
            }
            Err(error) => {
                state.make_read_only(&format!("the catalog cannot be written: {error}"));
                Err(error)
            }
        }
    }

    /// The disk or the catalog may have grown.
    pub(crate) fn refresh_budget(&self) {
        let slabs = self.slabs.lock().capacity();
        let mut state = self.state();
        state.budget = Budget::new(slabs, state.segments.slab_blocks(), self.options.dirty_nodes_max);
    }

    /// Sees to it that the catalog could become twice as long once more, before facts of `bytes` are added to it for a
    /// user. So what the engine itself has to write there, checkpoints above all, always finds room in what users left.
    ///
    /// # Errors
    /// `NoSpace`; the disk's.
    pub(crate) async fn room_in_catalog(&self, facts: &[Fact]) -> Result<()> {
        let bytes =
            facts.iter().filter_map(|(.., content)| content.as_ref()).map(|content| wide(content.len()));
        let bytes = FACT_FACTOR * bytes.sum::<u64>();
        let missing = self.catalog.spare_missing(bytes);
        if missing == 0 {
            return Ok(());
        }
        let (room, floor) = {
            let state = self.state();
            (state.room() / state.budget.slab_payload, state.budget.host_floor)
        };
        let (free, own) = {
            let slabs = self.slabs.lock();
            (slabs.free(), slabs.free_for_catalog())
        };
        if missing > room || missing + floor > free || missing > own {
            let message = "has no room for its catalog to grow; delete or unmap something, or add space";
            return Err(self.error(ErrorKind::NoSpace, message));
        }
        let catalog = Arc::clone(&self.catalog);
        let taken = self.blocking(move || catalog.take_spare(bytes)).await;
        self.lose_failed().await;
        self.refresh_budget();
        taken
    }

    async fn commit(&self, changes: Changes) -> Result<()> {
        let catalog = Arc::clone(&self.catalog);
        self.blocking(move || catalog.commit(&changes)).await
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        run_blocking(&*self.runtime, work).await
    }

    /// The catalog, for reads and label changes.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// Reads a map node into memory, unless that is no longer needed.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged; the disk's.
    pub(crate) async fn load(&self, needed: Needed) -> Result<()> {
        let entry = needed.load.entry;
        let Some((place, _pin)) = self.pin(entry.location.segment()).and_then(|pin| {
            let place = self.state().segments.place_of(entry.location)?;
            Some((place, pin))
        }) else {
            return self.damaged_node(needed, "its segment is gone");
        };
        let block = match self.read_verified(place, &[entry.checksum]).await {
            Ok(block) => block,
            Err(Bad::Disk(error)) => return Err(error),
            Err(Bad::Block(_)) => return self.damaged_node(needed, "its checksum is wrong"),
        };
        let key = needed.load.key;
        match Node::decode(&block) {
            Ok(node)
                if node.layer == needed.layer && node.level == key.level() && node.index == key.index() =>
            {
                self.take_in(needed, node)
            }
            Ok(_) => self.damaged_node(needed, "it is another node"),
            Err(invalid) => self.damaged_node(needed, &invalid.to_string()),
        }
    }

    fn take_in(&self, needed: Needed, node: Node) -> Result<()> {
        let only_places =
            |node: &Node| node.entries.iter().all(|e| e.location.is_place() || e.location.0 == 0);
        if node.level > 0 && !only_places(&node) {
            return self.damaged_node(needed, "an inner entry is no place");
        }
        let mut state = self.state();
        let level = node.level;
        let taken = state.with_layer(needed.layer, |layer, _| layer.map.insert_loaded(needed.load, node));
        if taken == Some(true) && level == 0 {
            state.evict();
            state.enter_clock(needed.layer, needed.load.key.index());
        }
        Ok(())
    }

    /// An error, unless the map has changed so that the node is no longer looked for.
    fn damaged_node(&self, needed: Needed, why: &str) -> Result<()> {
        use crate::map::Find;
        let mut state = self.state();
        let find = state.map(needed.layer).map(|map| map.find_node(needed.load.key));
        if find != Some(Find::Load(needed.load)) {
            return Ok(());
        }
        let what = format!("map node at {:?} cannot be used: {why}", needed.load.entry.location);
        state.degrade(&what);
        Err(self.error(ErrorKind::Corrupt, what))
    }

    /// Keeps a segment's slab from being used again while the pin lives. None if the segment is unknown.
    pub(crate) fn pin(&self, id: SegmentId) -> Option<Pin<'_>> {
        self.state().segments.pin(id).then(|| Pin { engine: self, ids: vec![id] })
    }

    /// A pin on segments that the caller has pinned in the state.
    pub(crate) fn pinned(&self, ids: Vec<SegmentId>) -> Pin<'_> {
        Pin { engine: self, ids }
    }
}

/// Segments that are being read.
pub(crate) struct Pin<'a> {
    engine: &'a Engine,
    ids: Vec<SegmentId>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut last = false;
        {
            let mut state = self.engine.state();
            for id in self.ids.drain(..) {
                last |= state.segments.unpin(id);
            }
        }
        if last {
            self.engine.work_wanted.happen();
        }
    }
}

/// Runs `work` where it may block.
pub(crate) async fn run_blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    runtime.run_blocking(Box::new(move || *filled.lock() = Some(work()))).await;
    let result = slot.lock().take();
    result.unwrap_or_else(|| Err(BlockError::new(ErrorKind::Closed, "pool", "its threads are gone")))
}

/// The sequence number after which nothing ends.
pub(crate) const OPEN_END: Seq = Seq(u64::MAX);
