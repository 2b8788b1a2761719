//! A simulated disk: delays and reorders completions, loses and tears what was not flushed, fails on demand,
//! and stops at any step.
//!
//! The medium ([`SimDisk`]) outlives crashes. The engine gets an [`SimDisk::attach`]ed handle; after a crash that
//! handle fails or never answers, and a new one is attached for the next life.

mod death;
mod handle;
mod image;
mod power;
#[cfg(test)]
mod tests;

pub use death::Failure;
pub use handle::DiskHandle;

use crate::executor::Executor;
use crate::rng::Rng;
use block::{BlockError, BufferPool, DiskInfo, ErrorKind, Media, Persist, Result};
use bytes::Bytes;
use image::{Image, PAGE, SECTOR, Survival};
use parking_lot::Mutex;
use power::Power;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// How often a fault strikes: of 65,536 operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that fail.
    pub read_errors: u32,
    /// Writes that fail, leaving old or new content sector by sector.
    pub write_errors: u32,
    /// Writes that find no space in the file system below.
    pub no_space: u32,
    /// Flushes that fail; what they should have made durable may stay volatile for good.
    pub flush_errors: u32,
    /// Operations that take seconds.
    pub stuck: u32,
    /// Strikes blocking operations (the catalog's) too.
    pub blocking: bool,
}

/// How long operations take.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Operations of 100 that are done when the call returns.
    pub immediate_percent: u64,
    /// The longest time of others, without those that are stuck.
    pub max: Duration,
}

/// What is left of unfinished and unflushed writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process ended: completed writes are in the kernel's cache, others happen in part.
    Process,
    /// The machine ended: unflushed sectors are lost or not, one by one.
    Machine,
}

/// How often things happened to a disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskCounts {
    /// Reads.
    pub reads: u64,
    /// Writes, cached ones and durable ones.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Faults injected.
    pub faults: u64,
    /// Writes that a crash caught in flight.
    pub in_flight_at_crash: u64,
    /// Writes of several sectors of which a crash left some and lost others.
    pub torn: u64,
    /// Log batches written, by the stream in their header (`docs/format.md`): host, relocation, nodes.
    pub batches: [u64; 3],
}

enum Work {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<Bytes>, persist: Persist },
    Flush { pages: BTreeMap<usize, u8> },
    Discard { offset: u64, len: u64 },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { offset, len } => write!(f, "read {offset:#x}+{len:#x}"),
            Self::Write { offset, data, persist } => {
                let len: usize = data.iter().map(Bytes::len).sum();
                write!(f, "write {offset:#x}+{len:#x} {persist:?}")
            }
            Self::Flush { pages } => write!(f, "flush of {} pages", pages.len()),
            Self::Discard { offset, len } => write!(f, "discard {offset:#x}+{len:#x}"),
        }
    }
}

enum Reply {
    Done,
    Data(Bytes),
}

struct Operation {
    work: Work,
    result: Option<Result<Reply>>,
    waker: Option<Waker>,
    abandoned: bool,
}

struct State {
    image: Image,
    buffers: BufferPool,
    rng: Rng,
    size_bytes: u64,
    unit_bytes: usize,
    latency: Latency,
    faults: Faults,
    life: u64,
    power: Arc<Power>,
    operations: BTreeMap<u64, Operation>,
    /// After how many operations more it fails for good, and how.
    dying: Option<(u64, Failure)>,
    /// A flush has failed in this life: no other succeeds, and no durable write, as [`Disk::flush`] says.
    flush_failed: bool,
    /// Sectors whose flush failed: only writing them again makes them durable.
    unflushable: BTreeMap<usize, u8>,
    serial: u64,
    counts: DiskCounts,
}

struct Medium {
    name: String,
    executor: Executor,
    state: Mutex<State>,
}

/// A simulated medium. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    medium: Arc<Medium>,
}

impl SimDisk {
    /// A disk of `size_bytes` that reads as zeros, whose units of `unit_bytes` (512 or 4096) are written whole.
    #[must_use]
    pub fn new(size_bytes: u64, unit_bytes: usize, latency: Latency, executor: &Executor, rng: Rng) -> Self {
        let power = Arc::new(Power::default());
        Self::powered("sim".into(), size_bytes, unit_bytes, latency, executor, rng, power)
    }

    /// Another disk of the same machine: what ends one ends the other.
    #[must_use]
    pub fn beside(&self, number: usize, size_bytes: u64, rng: Rng) -> Self {
        let (unit_bytes, latency, power) = {
            let state = self.medium.state.lock();
            (state.unit_bytes, state.latency, Arc::clone(&state.power))
        };
        let name = format!("sim{number}");
        Self::powered(name, size_bytes, unit_bytes, latency, &self.medium.executor, rng, power)
    }

    fn powered(
        name: String,
        size_bytes: u64,
        unit_bytes: usize,
        latency: Latency,
        executor: &Executor,
        rng: Rng,
        power: Arc<Power>,
    ) -> Self {
        let state = State {
            image: Image::new(size_bytes),
            buffers: BufferPool::new(4 << 20),
            rng,
            size_bytes,
            unit_bytes,
            latency,
            faults: Faults::default(),
            life: 0,
            power,
            operations: BTreeMap::new(),
            dying: None,
            flush_failed: false,
            unflushable: BTreeMap::new(),
            serial: 0,
            counts: DiskCounts::default(),
        };
        let medium = Medium { name, executor: executor.clone(), state: Mutex::new(state) };
        Self { medium: Arc::new(medium) }
    }

    /// A handle for one life of the engine; handles of former lives are dead.
    #[must_use]
    pub fn attach(&self) -> DiskHandle {
        let mut state = self.medium.state.lock();
        state.life += 1;
        state.power.restore();
        state.flush_failed = false;
        state.dying = None;
        let info = self.info(&state);
        DiskHandle::new(Arc::clone(&self.medium), state.life, info)
    }

    fn info(&self, state: &State) -> DiskInfo {
        DiskInfo {
            name: self.medium.name.clone(),
            size_bytes: state.size_bytes,
            alignment_bytes: state.unit_bytes as u32,
            media: Media::File,
            rotational: false,
        }
    }

    /// True if a flush has failed in this life. A process that opens the disk anew gets rid of what the kernel
    /// still shows of lost pages: to it that is the loss of all that was not flushed.
    #[must_use]
    pub fn flush_failed(&self) -> bool {
        self.medium.state.lock().flush_failed
    }

    /// Crashes at the `steps`-th step from now. Steps are the start and the end of each operation.
    pub fn crash_after(&self, steps: u64) {
        self.medium.state.lock().power.crash_after(steps);
    }

    /// Crashes now.
    pub fn crash_now(&self) {
        self.medium.state.lock().power.crash();
    }

    /// True from the crash on until the next [`SimDisk::attach`].
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.medium.state.lock().power.crashed()
    }

    /// Settles what a crash left. To be called when all tasks have been ended.
    pub fn settle(&self, crash: Crash) {
        self.medium.state.lock().settle(crash);
    }

    /// Sets how often faults strike from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.medium.state.lock().faults = faults;
    }

    /// The disk fails for good after `operations` more, until the next [`SimDisk::attach`].
    pub fn die_after(&self, operations: u64, failure: Failure) {
        self.medium.state.lock().dying = Some((operations, failure));
    }

    /// Makes the disk larger; attached handles say so at once.
    pub fn grow(&self, handle: &DiskHandle, size_bytes: u64) {
        let mut state = self.medium.state.lock();
        assert!(size_bytes >= state.size_bytes, "a disk grows only");
        state.size_bytes = size_bytes;
        state.image.grow(size_bytes);
        let info = self.info(&state);
        drop(state);
        handle.update(info);
    }

    /// Flips a bit of one of the sectors that `choose` accepts; its offset, or none if there is none.
    pub fn corrupt(&self, choose: impl Fn(&[u8]) -> bool) -> Option<u64> {
        let mut state = self.medium.state.lock();
        let state = &mut *state;
        let sectors = state.image.sectors_where(choose);
        if sectors.is_empty() {
            return None;
        }
        let offset = state.rng.pick(&sectors);
        state.image.corrupt(offset, &mut state.rng);
        Some(offset)
    }

    /// Offsets of the sectors that `choose` accepts, as they are now or as they would be without power.
    pub fn find(&self, choose: impl Fn(&[u8]) -> bool) -> Vec<u64> {
        let state = self.medium.state.lock();
        let mut found = state.image.sectors_where(&choose);
        found.extend(state.image.durable_sectors_where(choose));
        found
    }

    /// Steps taken so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.medium.state.lock().power.steps()
    }

    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.medium.state.lock().size_bytes
    }

    /// How often things happened.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.medium.state.lock().counts
    }

    /// Bytes of memory that the image takes.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.medium.state.lock().image.resident_bytes()
    }
}

impl State {
    /// Counts a step; true if the crash comes here.
    fn step(&mut self) -> bool {
        self.power.step()
    }

    fn strikes(&mut self, rate: u32) -> bool {
        let strikes = self.rng.per_64k(rate);
        self.counts.faults += u64::from(strikes);
        strikes
    }

    fn perform(&mut self, work: &Work) -> Result<Reply> {
        match work {
            Work::Read { offset, len } => self.read(*offset, *len),
            Work::Write { offset, data, persist } => {
                if self.flush_failed && *persist == Persist::Durable {
                    return Err(device("a flush failed before"));
                }
                self.write(*offset, data, *persist).map(|()| Reply::Done)
            }
            Work::Flush { pages } => self.finish_flush(pages).map(|()| Reply::Done),
            Work::Discard { offset, len } => {
                self.forget_range(*offset, *len);
                Ok(Reply::Done)
            }
        }
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Reply> {
        if self.strikes(self.faults.read_errors) {
            return Err(device("injected read error").at(offset));
        }
        let mut data = self.buffers.take(len);
        self.image.read(offset, &mut data);
        Ok(Reply::Data(data.freeze()))
    }

    fn write(&mut self, offset: u64, data: &[Bytes], persist: Persist) -> Result<()> {
        for (kind, rate) in
            [(ErrorKind::Device, self.faults.write_errors), (ErrorKind::NoSpace, self.faults.no_space)]
        {
            if self.strikes(rate) {
                self.write_partly(offset, data);
                return Err(BlockError::new(kind, "sim", "injected write error").at(offset));
            }
        }
        let mut at = offset;
        for chunk in data {
            self.write_chunk(at, chunk, persist);
            at += chunk.len() as u64;
        }
        self.write_back();
        Ok(())
    }

    fn write_chunk(&mut self, at: u64, chunk: &[u8], persist: Persist) {
        self.settle_before_overwriting(at, chunk.len());
        match persist {
            Persist::Cached => self.image.write_cached(at, chunk),
            Persist::Durable => self.image.write_durable(at, chunk),
        }
    }

    /// A page that a running flush has to make durable is written again: the flush's version goes to the
    /// medium first, as a disk may do at any time, so that the flush need not remember it.
    fn settle_before_overwriting(&mut self, at: u64, len: usize) {
        let pages = at as usize / PAGE..(at as usize + len).div_ceil(PAGE);
        for page in pages.clone() {
            self.unflushable.remove(&page);
        }
        for operation in self.operations.values_mut() {
            let Work::Flush { pages: flushing } = &mut operation.work else { continue };
            for page in pages.clone() {
                if let Some(mask) = flushing.remove(&page) {
                    self.image.settle(page, mask);
                }
            }
        }
    }

    /// Now and then the cache writes something back by itself.
    fn write_back(&mut self) {
        if !self.rng.percent(10) {
            return;
        }
        if let Some((page, mask)) = self.image.some_unflushed(&mut self.rng) {
            let bad = self.unflushable.get(&page).copied().unwrap_or(0);
            let some = if self.unit_bytes == PAGE { u8::MAX } else { self.rng.draw() as u8 };
            self.image.settle(page, mask & some & !bad);
        }
    }

    /// The pages that a flush issued now has to make durable.
    fn begin_flush(&self) -> BTreeMap<usize, u8> {
        let good = |(page, mask)| (page, mask & !self.unflushable.get(&page).copied().unwrap_or(0));
        self.image.unflushed().map(good).filter(|&(_, mask)| mask != 0).collect()
    }

    fn finish_flush(&mut self, pages: &BTreeMap<usize, u8>) -> Result<()> {
        if self.flush_failed {
            return Err(device("a flush failed before"));
        }
        let fails = self.strikes(self.faults.flush_errors);
        self.flush_failed = fails;
        for (&page, &mask) in pages {
            if !fails || self.rng.percent(40) {
                self.image.settle(page, mask);
            } else if self.rng.percent(50) {
                // The kernel reports a failed write-back once and takes the page for clean from then on.
                *self.unflushable.entry(page).or_default() |= mask;
            }
        }
        if fails { Err(device("injected flush error")) } else { Ok(()) }
    }

    /// Discarded pages read as anything: as before, as zeros, or as garbage.
    fn forget_range(&mut self, offset: u64, len: u64) {
        for page in
            (offset.div_ceil(PAGE as u64)..(offset + len) / PAGE as u64).map(|page| page * PAGE as u64)
        {
            match self.rng.below(3) {
                0 => self.write_chunk(page, &[0; PAGE], Persist::Cached),
                1 => self.write_chunk(page, &[0xDB; PAGE], Persist::Cached),
                _ => {}
            }
        }
    }

    /// Writes some of the units, as an interrupted write does: none, all, the first ones, or any.
    fn write_partly(&mut self, offset: u64, data: &[Bytes]) {
        let whole: Vec<u8> = data.iter().flatten().copied().collect();
        let units = whole.len() / self.unit_bytes;
        let (mode, first) = (self.rng.below(4), self.rng.index(units.max(1)));
        let mut written = 0;
        for (index, unit) in whole.chunks(self.unit_bytes).enumerate() {
            let write = match mode {
                0 => false,
                1 => true,
                2 => index < first,
                _ => self.rng.percent(50),
            };
            if write {
                written += 1;
                self.write_chunk(offset + (index * self.unit_bytes) as u64, unit, Persist::Cached);
            }
        }
        self.counts.torn += u64::from(written > 0 && written < units);
    }

    fn settle(&mut self, crash: Crash) {
        self.power.crash();
        for (_, operation) in std::mem::take(&mut self.operations) {
            match (operation.result, operation.work) {
                (None, Work::Write { offset, data, .. }) => {
                    self.counts.in_flight_at_crash += 1;
                    self.write_partly(offset, &data);
                }
                (None, Work::Discard { offset, len }) if self.rng.percent(50) => {
                    self.forget_range(offset, len)
                }
                _ => {}
            }
        }
        if crash == Crash::Machine {
            let percent = self.rng.pick(&[0, 0, 5, 50, 95, 100]);
            let survival = Survival { percent, unit_bytes: self.unit_bytes };
            self.image.lose_power(survival, &mut self.rng);
            self.unflushable.clear();
        }
    }
}

fn device(message: &str) -> BlockError {
    BlockError::new(ErrorKind::Device, "sim", message)
}

const _: () = assert!(PAGE.is_multiple_of(SECTOR));
