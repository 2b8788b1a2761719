//! A small executor with its own time, for tests and benchmarks: tasks run in the order in which they are woken,
//! and time passes only when nothing can run.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod scripted;
pub(crate) mod steps;

use block::testing::pattern;
use block::{BoxFuture, BufferPool, ByteRange, Disk, Durability, MemoryDisk, Result, Runtime, Task, Volume};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use store::{KeyCost, Pool, PoolOptions, StoreVolume, VolumeSpec};

type Ready = Arc<Mutex<VecDeque<Arc<Cell>>>>;

struct Cell {
    task: Mutex<Option<Task>>,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for Cell {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let ready = Arc::clone(&self.ready);
            ready.lock().push_back(self);
        }
    }
}

#[derive(Default)]
struct Clock {
    now: Duration,
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

/// The executor.
#[derive(Default)]
pub(crate) struct Local {
    ready: Ready,
    clock: Arc<Mutex<Clock>>,
    ids: AtomicU64,
    /// Blocking work runs when other tasks have had their turn, not at once.
    pub(crate) lazy: AtomicBool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Local {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The executor's time.
    pub(crate) fn now_for_tests(&self) -> Duration {
        self.clock.lock().now
    }

    /// Runs `future` and all tasks until it is ready.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if woken.0.swap(false, Ordering::AcqRel)
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return value;
            }
            let next = self.ready.lock().pop_front();
            match next {
                Some(cell) => run(cell),
                None if woken.0.load(Ordering::Acquire) => {}
                None => assert!(self.pass_time(), "deadlock: nothing can run and nobody waits for time"),
            }
        }
    }

    /// Runs `future` and all tasks until it is ready, or nothing can run any more, or `limit` has passed on the
    /// executor's clock: as far as a disk that has died lets them.
    pub(crate) fn run_until_stuck<F: Future>(&self, future: F, limit: Duration) -> Option<F::Output> {
        let until = self.now() + limit;
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if woken.0.swap(false, Ordering::AcqRel)
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Some(value);
            }
            let next = self.ready.lock().pop_front();
            match next {
                Some(cell) => run(cell),
                None if woken.0.load(Ordering::Acquire) => {}
                None if self.now() < until && self.pass_time() => {}
                None => return None,
            }
        }
    }

    fn pass_time(&self) -> bool {
        let mut clock = self.clock.lock();
        let Some(((at, _), waker)) = clock.timers.pop_first() else { return false };
        clock.now = clock.now.max(at);
        drop(clock);
        waker.wake();
        true
    }
}

fn run(cell: Arc<Cell>) {
    cell.queued.store(false, Ordering::Release);
    let Some(mut task) = cell.task.lock().take() else { return };
    let waker = Waker::from(Arc::clone(&cell));
    if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        *cell.task.lock() = Some(task);
    }
}

impl Runtime for Local {
    fn now(&self) -> Duration {
        self.clock.lock().now
    }

    fn unix_time_ms(&self) -> u64 {
        1_790_000_000_000
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.clock);
        let until = self.now() + duration;
        Box::pin(poll_fn(move |context| {
            let mut clock = clock.lock();
            if clock.now >= until {
                return Poll::Ready(());
            }
            let id = clock.next;
            clock.next += 1;
            clock.timers.insert((until, id), context.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, task: Task) {
        let cell = Cell {
            task: Mutex::new(Some(task)),
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        };
        Arc::new(cell).wake();
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        if !self.lazy.load(Ordering::Relaxed) {
            work();
            return Box::pin(std::future::ready(()));
        }
        let mut work = Some(work);
        let mut turns = 3;
        Box::pin(poll_fn(move |context| {
            turns -= 1;
            if turns > 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            work.take().into_iter().for_each(|work| work());
            Poll::Ready(())
        }))
    }

    fn random_id(&self) -> [u8; 16] {
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        u128::from(id).to_be_bytes()
    }
}

/// A disk in memory.
pub(crate) fn disk(size_bytes: u64) -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new("ram", size_bytes, BufferPool::default()))
}

/// Options for a small pool.
pub(crate) fn small(slab_bytes: u64) -> PoolOptions {
    let key_cost = KeyCost { memory_kib: 8, passes: 1, lanes: 1 };
    PoolOptions { slab_bytes: Some(slab_bytes), key_cost, ..PoolOptions::default() }
}

/// A new pool and its executor.
pub(crate) fn new_pool(disk: &Arc<dyn Disk>, options: PoolOptions) -> (Arc<Local>, Arc<Pool>) {
    let local = Local::new();
    let created = Pool::create(vec![Arc::clone(disk)], "test", options, local.clone());
    let pool = local.block_on(created).expect("create");
    (local, pool)
}

/// The pool on `disk`, opened with a new executor, as after a crash of the process if it was not closed.
pub(crate) fn reopen(disk: &Arc<dyn Disk>, options: PoolOptions) -> (Arc<Local>, Arc<Pool>) {
    let local = Local::new();
    let pool = local.block_on(Pool::open(vec![Arc::clone(disk)], options, local.clone())).expect("open");
    (local, pool)
}

/// A thin volume.
pub(crate) fn thin(id: u8, size_bytes: u64) -> VolumeSpec {
    VolumeSpec { id: [id; 16], size_bytes, thick: false, buffered: false, encrypted: false }
}

/// Opens the pool on `disk`, or says why that cannot be.
pub(crate) fn try_open(disk: &Arc<dyn Disk>, options: PoolOptions) -> (Arc<Local>, Result<Arc<Pool>>) {
    let local = Local::new();
    let opened = local.block_on(Pool::open(vec![Arc::clone(disk)], options, local.clone()));
    (local, opened)
}

/// `pattern(seed, 4096)`; zeros for seed 0.
pub(crate) fn pattern_page(seed: u64) -> Vec<u8> {
    if seed == 0 { vec![0; 4096] } else { pattern(seed, 4096) }
}

/// Writes the pattern of `seed` to block `address`.
pub(crate) async fn put(volume: &StoreVolume, address: u64, seed: u64) -> Result<()> {
    put_run(volume, address, seed, 1).await
}

/// Writes the patterns of `seed`, `seed + 1` and so on to `count` blocks from `address` on, in one call.
pub(crate) async fn put_run(volume: &StoreVolume, address: u64, seed: u64, count: u64) -> Result<()> {
    let data: Vec<u8> = (seed..seed + count).flat_map(pattern_page).collect();
    let data: Vec<Bytes> = vec![BufferPool::new(0).copy_of(&data).freeze()];
    volume.write(address * 4096, data, Durability::Default).await
}

/// Gives back `count` blocks from `address` on.
pub(crate) async fn unmap(volume: &StoreVolume, address: u64, count: u64) -> Result<()> {
    volume.unmap(vec![ByteRange { offset: address * 4096, len: count * 4096 }]).await
}

/// Asserts that block `address` holds the pattern of `seed`.
pub(crate) async fn holds(volume: &StoreVolume, address: u64, seed: u64) {
    let read = volume.read(address * 4096, 4096).await.expect("a read of a sound block");
    assert!(read.concat() == pattern_page(seed), "block {address} holds the pattern of {seed}");
}

/// Asserts that the pool's accounts are right.
pub(crate) async fn sound(pool: &Pool) {
    assert_eq!(pool.check().await.expect("the maps can be read").problems, Vec::<String>::new());
}
