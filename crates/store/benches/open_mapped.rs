//! From opening a pool that was killed under load to the first read that is answered.
//!
//! A pool with default options maps `--gib N` (100) with 1 MiB writes, makes a checkpoint, and takes random 4 KiB
//! overwrites until shortly before the next checkpoint would begin: the most that a crash leaves to replay. Then
//! everything is dropped, writes in flight included, and the pool is opened from copies of the disk in drives of
//! several speeds.

#[path = "open_mapped/disk.rs"]
mod disk;
#[path = "open_mapped/runtime.rs"]
mod runtime;

use block::{BufferPool, Durability, Volume};
use bytes::Bytes;
use disk::{CompactDisk, Drive, now};
use futures_util::stream::{FuturesUnordered, StreamExt};
use runtime::OnTokio;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Pool, PoolOptions, PoolStatus, StoreVolume, VolumeSpec};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const VOLUME: [u8; 16] = [1; 16];
/// A load without an answer for so long waits for a checkpoint.
const STUCK: Duration = Duration::from_secs(1);
const DRIVES: [Drive; 3] = [
    Drive { name: "no latency", latency: Duration::ZERO, mib_per_s: 0 },
    Drive { name: "100 µs, 2 GiB/s", latency: Duration::from_micros(100), mib_per_s: 2048 },
    Drive { name: "250 µs, 500 MiB/s", latency: Duration::from_micros(250), mib_per_s: 500 },
];

/// How the pool is overwritten before it is killed.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// Writes at a time.
    depth: usize,
    /// Blocks of each; one is written at random, more in order.
    blocks: u64,
    /// The checkpoint begins and is not over at the kill; the load goes on until writes have to wait for it.
    in_checkpoint: bool,
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB random, 32 at a time", depth: 32, blocks: 1, in_checkpoint: false },
    Load { name: "4 KiB random, one at a time", depth: 1, blocks: 1, in_checkpoint: false },
    Load { name: "1 MiB in order, 8 at a time", depth: 8, blocks: 256, in_checkpoint: false },
    Load { name: "4 KiB random, in checkpoint", depth: 32, blocks: 1, in_checkpoint: true },
    Load { name: "1 MiB, in checkpoint", depth: 8, blocks: 256, in_checkpoint: true },
];

/// The newest acknowledged write of each block that was overwritten.
type Acknowledged = HashMap<u64, u64>;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--gib").skip(1);
    let gib: u64 = arguments.next().map_or(100, |n| n.parse().expect("--gib takes a number"));
    let filled = CompactDisk::new((gib + gib / 4 + 3) << 30);
    let begun = now();
    phase(|| fill(Arc::clone(&filled), gib));
    println!("{gib} GiB mapped in {:.0?}, memory {} MiB", begun.elapsed(), memory_mib("VmRSS"));
    let all = gib << 18;
    println!(
        "{:<28} {:<18} {:>7} {:>7} {:>8} {:>9} {:>7} {:>9} {:>9}",
        "load", "drive", "batches", "reads", "MiB read", "nodes", "MiB mem", "open, s", "I/O, s"
    );
    for load in LOADS {
        let crashed = filled.copy_into(DRIVES[0]);
        let acknowledged = phase(|| overwrite(Arc::clone(&crashed), load, all));
        for drive in DRIVES {
            let disk = crashed.copy_into(drive);
            phase(|| reopen(disk, load, &acknowledged));
        }
    }
}

/// Runs one life of the pool on a runtime of its own and ends it as `kill -9` does: nothing is finished.
fn phase<F: Future>(life: impl FnOnce() -> F) -> F::Output {
    let tokio: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio.block_on(async { life().await })
}

async fn open(disk: Arc<CompactDisk>) -> (Arc<Pool>, Arc<StoreVolume>) {
    let pool = Pool::open(vec![disk], PoolOptions::default(), Arc::new(OnTokio::current())).await;
    let pool = pool.expect("open");
    let volume = pool.open_volume(VOLUME).expect("the volume");
    (pool, volume)
}

async fn fill(disk: Arc<CompactDisk>, gib: u64) {
    let runtime = Arc::new(OnTokio::current());
    let pool = Pool::create(vec![disk], "bench", PoolOptions::default(), runtime).await.expect("create");
    let spec =
        VolumeSpec { id: VOLUME, size_bytes: gib << 30, thick: false, buffered: false, encrypted: false };
    pool.create_volume(spec, Vec::new()).await.expect("create");
    let volume = pool.open_volume(VOLUME).expect("the volume");
    let buffers = BufferPool::default();
    let mut running = FuturesUnordered::new();
    for mib in 0..gib << 10 {
        if running.len() == 8 {
            let done: Option<block::Result<()>> = running.next().await;
            done.expect("eight are running").expect("write");
        }
        running.push(volume.write(mib << 20, vec![blocks(&buffers, mib << 8, 256, 0)], Durability::Default));
    }
    while let Some(done) = running.next().await {
        done.expect("write");
    }
    drop(running);
    pool.checkpoint().await.expect("checkpoint");
}

/// Overwrites until a checkpoint is about to begin, and leaves with writes in flight.
async fn overwrite(disk: Arc<CompactDisk>, load: Load, all: u64) -> Acknowledged {
    let (pool, volume) = open(Arc::clone(&disk)).await;
    pool.checkpoint().await.expect("checkpoint");
    if load.in_checkpoint {
        disk.hold_nodes();
    }
    let before = pool.status();
    let buffers = BufferPool::default();
    let mut acknowledged = Acknowledged::new();
    let mut running = FuturesUnordered::new();
    let mut random = 1u64;
    for generation in 1.. {
        let in_order = (generation - 1) * load.blocks;
        let address = if load.blocks > 1 { in_order } else { next(&mut random) } % all;
        let data = blocks(&buffers, address, load.blocks, generation);
        let writing = volume.write(address * 4096, vec![data], Durability::Default);
        running.push(async move {
            writing.await.expect("write");
            (address, generation)
        });
        if running.len() < load.depth {
            continue;
        }
        let Ok(done) = timeout(STUCK, running.next()).await else { break };
        let (address, generation) = done.expect("some are running");
        for block in address..address + load.blocks {
            let newest = acknowledged.entry(block).or_insert(generation);
            *newest = generation.max(*newest);
        }
        if !load.in_checkpoint && (generation % 64 == 0 || load.blocks > 1) && is_full(&pool, &before) {
            break;
        }
    }
    acknowledged
}

/// The next checkpoint is about to begin.
fn is_full(pool: &Pool, before: &PoolStatus) -> bool {
    let (status, options) = (pool.status(), PoolOptions::default());
    assert_eq!(status.checkpoints, before.checkpoints, "the load stops before the next checkpoint");
    let log = status.written_bytes - before.written_bytes;
    let near = |value: u64, limit: u64| value * 100 >= limit * 98;
    near(log, options.checkpoint_log_bytes) || near(status.nodes_dirty, options.dirty_nodes_max)
}

/// Opens, reads one block, and prints how long that took; then reads what was acknowledged.
async fn reopen(disk: Arc<CompactDisk>, load: Load, acknowledged: &Acknowledged) {
    let (address, generation) = acknowledged.iter().next().expect("something was written");
    let drive = disk.drive();
    let memory = memory_mib("VmRSS");
    let begun = now();
    let (pool, volume) = open(Arc::clone(&disk)).await;
    let opened = begun.elapsed();
    let read = volume.read(address * 4096, 4096).await.expect("read");
    let first = begun.elapsed();
    assert!(holds(&read, *address, *generation), "the first block read is the one acknowledged last");
    let (reads, bytes) = disk.read_counts();
    let status = pool.status();
    println!(
        "{:<28} {:<18} {:>7} {:>7} {:>8} {:>9} {:>7} {:>9.3} {:>9.3}",
        load.name,
        drive.name,
        status.replayed_batches,
        reads,
        bytes >> 20,
        status.nodes_in_memory,
        memory_mib("VmRSS").saturating_sub(memory),
        opened.as_secs_f64(),
        first.as_secs_f64()
    );
    if drive.latency.is_zero() {
        for (address, generation) in acknowledged {
            let read = volume.read(address * 4096, 4096).await.expect("read");
            assert!(holds(&read, *address, *generation), "block {address} is as acknowledged, or newer");
        }
    }
}

/// True if `read` is the block as written in `generation`, or by one of the writes still in flight at the kill.
fn holds(read: &[Bytes], address: u64, generation: u64) -> bool {
    let first = read.first().and_then(|chunk| chunk.first_chunk::<8>()).copied().map(u64::from_ne_bytes);
    first.is_some_and(|word| word % (1 << 28) == address && (word >> 28) % (1 << 24) >= generation)
}

/// Blocks that say where they belong and which write they are of.
fn blocks(buffers: &BufferPool, address: u64, count: u64, generation: u64) -> Bytes {
    let mut data = buffers.take(usize::try_from(count * 4096).expect("64 bits"));
    for (address, block) in (address..).zip(data.chunks_exact_mut(4096)) {
        let word = 1 << 63 | generation << 28 | address;
        block.as_chunks_mut::<8>().0.fill(word.to_ne_bytes());
    }
    data.freeze()
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 20
}

/// A line of this process's status, in MiB.
fn memory_mib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found =
        status.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().nth(1)?.parse::<u64>().ok());
    found.unwrap_or(0) >> 10
}
