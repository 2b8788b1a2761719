//! A disk in memory that does what a script says: fails, holds back, loses power, dies at a step, is damaged.
//!
//! Writes are in the cache until a flush, or durable at once if that is asked for; all of it without chance.

use super::pattern_page;
use block::{BlockError, BoxFuture, BufferPool, Disk, DiskInfo, ErrorKind, Media, Persist, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, poll_fn, ready};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;

type Pages = BTreeMap<u64, Arc<[u8]>>;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A batch of the host stream.
    Host,
    /// A batch of the relocation stream.
    Relocation,
    /// A batch of map nodes.
    Nodes,
    /// A flush.
    Flush,
    /// A read.
    Read,
    /// A write of the keys of encrypted volumes.
    Keys,
    /// A blocking write or flush: the catalog's, or a label's.
    Catalog,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process ends: what was written is there.
    Process,
    /// The power fails: what was not flushed is gone.
    Power,
}

/// What of a write that fails reaches the disk all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lands {
    Nothing,
    FirstHalf,
    All,
}

struct Fault {
    target: Target,
    skip: u32,
    times: u32,
    kind: ErrorKind,
    lands: Lands,
}

#[derive(Default)]
struct State {
    seen: Pages,
    stable: Pages,
    faults: Vec<Fault>,
    bad: BTreeSet<u64>,
    held: BTreeSet<Target>,
    waiting: Vec<Waker>,
    steps: u64,
    crash_at: Option<u64>,
    dead: bool,
    flush_failed: bool,
    counts: BTreeMap<Target, u64>,
}

/// The disk.
pub(crate) struct Scripted {
    infos: [OnceLock<DiskInfo>; 2],
    buffers: BufferPool,
    state: Mutex<State>,
}

/// A batch found on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnDisk {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) segment: u64,
    pub(crate) durable: u64,
    pub(crate) descriptor_blocks: u64,
    pub(crate) data_blocks: u64,
}

fn info(size_bytes: u64) -> DiskInfo {
    DiskInfo {
        name: "scripted".into(),
        size_bytes,
        alignment_bytes: 4096,
        media: Media::File,
        rotational: false,
    }
}

fn device(message: &str) -> BlockError {
    BlockError::new(ErrorKind::Device, "scripted", message)
}

impl Scripted {
    /// An empty disk.
    pub(crate) fn new(size_bytes: u64) -> Arc<Self> {
        Self::with(size_bytes, Pages::new())
    }

    fn with(size_bytes: u64, pages: Pages) -> Arc<Self> {
        let infos = [OnceLock::from(info(size_bytes)), OnceLock::new()];
        let state = State { stable: pages.clone(), seen: pages, ..State::default() };
        Arc::new(Self { infos, buffers: BufferPool::new(0), state: Mutex::new(state) })
    }

    /// The disk as the engine takes it.
    pub(crate) fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::<Self>::clone(self)
    }

    /// Another disk, with what a crash now leaves of this one.
    pub(crate) fn after(&self, crash: Crash) -> Arc<Self> {
        let mut state = self.state.lock();
        state.dead = true;
        let pages = if crash == Crash::Power { state.stable.clone() } else { state.seen.clone() };
        Self::with(self.info().size_bytes, pages)
    }

    /// Lets `times` operations for `target` fail, after `skip` that do not.
    pub(crate) fn fail(&self, target: Target, skip: u32, times: u32, kind: ErrorKind) {
        self.state.lock().faults.push(Fault { target, skip, times, kind, lands: Lands::Nothing });
    }

    /// As [`Scripted::fail`], once, by a device error after the write has happened as far as `lands` says.
    pub(crate) fn fail_after(&self, target: Target, skip: u32, lands: Lands) {
        let kind = ErrorKind::Device;
        self.state.lock().faults.push(Fault { target, skip, times: 1, kind, lands });
    }

    /// No operation fails any more.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.bad.clear();
    }

    /// Reads of the page at `offset` fail.
    pub(crate) fn bad_page(&self, offset: u64) {
        self.state.lock().bad.insert(offset / PAGE_BYTES);
    }

    /// Operations for `target` wait.
    pub(crate) fn hold(&self, target: Target) {
        self.state.lock().held.insert(target);
    }

    /// Operations for `target` go on.
    pub(crate) fn release(&self, target: Target) {
        let wakers = {
            let mut state = self.state.lock();
            state.held.remove(&target);
            std::mem::take(&mut state.waiting)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The disk dies at the `steps`-th write, flush or discard from now; that one does not happen.
    pub(crate) fn crash_after(&self, steps: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.steps + steps);
    }

    /// Writes, flushes and discards so far.
    pub(crate) fn steps(&self) -> u64 {
        self.state.lock().steps
    }

    /// Operations for `target` so far.
    pub(crate) fn count(&self, target: Target) -> u64 {
        self.state.lock().counts.get(&target).copied().unwrap_or(0)
    }

    /// The disk is larger now.
    pub(crate) fn enlarge(&self, size_bytes: u64) {
        assert!(self.infos[1].set(info(size_bytes)).is_ok(), "a disk is enlarged once");
    }

    /// Changes a byte in the page at `offset`, also where it is stable.
    pub(crate) fn flip(&self, offset: u64, byte: usize) {
        let mut state = self.state.lock();
        let State { seen, stable, .. } = &mut *state;
        for pages in [seen, stable] {
            let mut page = pages.get(&(offset / PAGE_BYTES)).map_or(vec![0; PAGE], |page| page.to_vec());
            page[byte] ^= 0x40;
            pages.insert(offset / PAGE_BYTES, page.into());
        }
    }

    /// The content of a page.
    pub(crate) fn page(&self, offset: u64) -> Vec<u8> {
        self.state.lock().seen.get(&(offset / PAGE_BYTES)).map_or(vec![0; PAGE], |page| page.to_vec())
    }

    /// Batches of `stream` (0 host, 1 relocation, 2 nodes) on the disk, by sequence number.
    pub(crate) fn batches(&self, stream: u8) -> Vec<OnDisk> {
        let state = self.state.lock();
        let of_stream =
            state.seen.iter().filter(|(_, page)| page.starts_with(b"PALBATCH") && page[14] == stream);
        let mut found: Vec<OnDisk> = of_stream.map(|(at, page)| on_disk(at * PAGE_BYTES, page)).collect();
        found.sort_by_key(|batch| batch.seq);
        found
    }

    /// Offsets of the map nodes of a layer and level on the disk.
    pub(crate) fn nodes(&self, layer: u64, level: u8) -> Vec<u64> {
        let state = self.state.lock();
        let wanted =
            |page: &[u8]| page.starts_with(b"PALNODE1") && page[12] == level && u64_at(page, 16) == layer;
        state.seen.iter().filter(|(_, page)| wanted(page)).map(|(at, _)| at * PAGE_BYTES).collect()
    }

    /// Those of `seeds` of whose `pattern(seed, 4096)` a sector is anywhere: in what reads see, or in what would be left
    /// without power.
    pub(crate) fn remains(&self, seeds: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        let head = |sector: &[u8]| <[u8; 16]>::try_from(&sector[..16]).expect("sixteen bytes");
        let of_seed = |seed| pattern_page(seed).chunks(512).map(|s| (head(s), seed)).collect::<Vec<_>>();
        let heads: BTreeMap<[u8; 16], u64> = seeds.into_iter().flat_map(of_seed).collect();
        let state = self.state.lock();
        let pages = state.seen.values().chain(state.stable.values());
        pages.flat_map(|page| page.chunks(512)).filter_map(|s| heads.get(&head(s)).copied()).collect()
    }

    /// Offsets of the pages that hold `pattern(seed, 4096)`.
    pub(crate) fn pages_of(&self, seed: u64) -> Vec<u64> {
        let wanted = pattern_page(seed);
        let state = self.state.lock();
        state.seen.iter().filter(|(_, page)| ***page == wanted[..]).map(|(at, _)| at * PAGE_BYTES).collect()
    }
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}

fn on_disk(offset: u64, page: &[u8]) -> OnDisk {
    let narrow = |at: usize, len: usize| u64_at(page, at) & ((1 << (8 * len)) - 1);
    OnDisk {
        offset,
        segment: u64_at(page, 32),
        seq: u64_at(page, 40),
        epoch: u64_at(page, 48),
        durable: u64_at(page, 56),
        descriptor_blocks: narrow(68, 2),
        data_blocks: narrow(72, 4),
    }
}

/// What a write is for, by its first bytes.
fn target_of(data: &[Bytes]) -> Option<Target> {
    let first = data.first()?;
    if first.starts_with(b"PALISKEY") {
        return Some(Target::Keys);
    }
    first.starts_with(b"PALBATCH").then_some(())?;
    Some([Target::Host, Target::Relocation, Target::Nodes][usize::from(first[14])])
}

impl State {
    /// Counts a step. True if the disk is dead, by it or before.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.dead |= self.crash_at.is_some_and(|at| self.steps >= at);
        self.dead
    }

    /// The error that the script has for an operation, and what of a write happens.
    fn strike(&mut self, target: Target) -> Option<(BlockError, Lands)> {
        *self.counts.entry(target).or_default() += 1;
        for fault in self.faults.iter_mut().filter(|fault| fault.target == target && fault.times > 0) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            return Some((BlockError::new(fault.kind, "scripted", "fails by script"), fault.lands));
        }
        None
    }

    fn write(&mut self, offset: u64, data: &[u8], persist: Persist) {
        for (page, content) in (offset / PAGE_BYTES..).zip(data.chunks(PAGE)) {
            let content: Arc<[u8]> = content.into();
            if persist == Persist::Durable {
                self.stable.insert(page, Arc::clone(&content));
            }
            self.seen.insert(page, content);
        }
    }

    fn finish_write(
        &mut self,
        target: Option<Target>,
        offset: u64,
        data: &[u8],
        persist: Persist,
    ) -> Result<()> {
        if self.flush_failed && persist == Persist::Durable {
            return Err(device("a flush failed before"));
        }
        if let Some((error, lands)) = target.and_then(|target| self.strike(target)) {
            let part = match lands {
                Lands::Nothing => 0,
                Lands::FirstHalf => data.len() / 2 / PAGE * PAGE,
                Lands::All => data.len(),
            };
            self.write(offset, &data[..part], persist);
            return Err(error);
        }
        self.write(offset, data, persist);
        Ok(())
    }

    fn finish_flush(&mut self, target: Target) -> Result<()> {
        if let Some((error, _)) = self.strike(target) {
            self.flush_failed = true;
            return Err(error);
        }
        if self.flush_failed {
            return Err(device("a flush failed before"));
        }
        self.stable = self.seen.clone();
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        for (page, part) in (offset / PAGE_BYTES..).zip(buffer.chunks_mut(PAGE)) {
            if self.bad.contains(&page) {
                return Err(device("a page cannot be read").at(page * PAGE_BYTES));
            }
            match self.seen.get(&page) {
                Some(content) => part.copy_from_slice(&content[..part.len()]),
                None => part.fill(0),
            }
        }
        Ok(())
    }
}

impl Scripted {
    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let end = offset + u64::try_from(len).expect("lengths are small");
        if offset.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE) && end <= self.info().size_bytes {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::Invalid, "scripted", "not aligned or not inside").at(offset))
    }

    /// Waits while operations for `target` are held back.
    async fn gate(&self, target: Option<Target>) {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if target.is_some_and(|target| state.held.contains(&target)) {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Disk for Scripted {
    fn info(&self) -> &DiskInfo {
        self.infos[1].get().or_else(|| self.infos[0].get()).expect("the first is set at once")
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        if let Err(error) = self.check(offset, len) {
            return Box::pin(ready(Err(error)));
        }
        Box::pin(async move {
            self.gate(Some(Target::Read)).await;
            if self.state.lock().dead {
                return pending().await;
            }
            let mut buffer = self.buffers.take(len);
            let mut state = self.state.lock();
            if let Some((error, _)) = state.strike(Target::Read) {
                return Err(error.at(offset));
            }
            state.read(offset, &mut buffer)?;
            Ok(buffer.freeze())
        })
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>> {
        let (target, data) = (target_of(&data), data.concat());
        if let Err(error) = self.check(offset, data.len()) {
            return Box::pin(ready(Err(error)));
        }
        Box::pin(async move {
            self.gate(target).await;
            if self.state.lock().step() {
                return pending().await;
            }
            self.state.lock().finish_write(target, offset, &data, persist)
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.gate(Some(Target::Flush)).await;
            if self.state.lock().step() {
                return pending().await;
            }
            self.state.lock().finish_flush(Target::Flush)
        })
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        let mut state = self.state.lock();
        if state.step() {
            return Box::pin(pending());
        }
        for page in offset / PAGE_BYTES..(offset + len) / PAGE_BYTES {
            state.seen.insert(page, vec![0xDB; PAGE].into());
        }
        Box::pin(ready(Ok(())))
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len())?;
        let state = self.state.lock();
        if state.dead { Err(device("is dead")) } else { state.read(offset, buf) }
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, data.len())?;
        let mut state = self.state.lock();
        if state.step() {
            return Err(device("is dead"));
        }
        state.finish_write(Some(Target::Catalog), offset, data, Persist::Cached)
    }

    fn flush_blocking(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.step() {
            return Err(device("is dead"));
        }
        state.finish_flush(Target::Catalog)
    }
}
