//! Promise 2: a block whose stored bits changed is reported, never returned; everything else goes on.

use block::{Durability, ErrorKind, Runtime, Volume};
use bytes::Bytes;
use sim::content::{Content, SECTOR, WriteId, content, fill};
use sim::disk::{Crash, Latency, SimDisk};
use sim::engine::{Engine, EnginePool, Setup, Store};
use sim::executor::{Executor, Outcome};
use sim::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ID: [u8; 16] = [9; 16];
/// The volume that shares its blocks.
const COPY: [u8; 16] = [8; 16];
const BLOCKS: u64 = 512;

const SETUP: Setup = Setup {
    slab_bytes: 64 << 10,
    map_cache_bytes: 64 << 10,
    checkpoint_log_bytes: 1 << 20,
    checkpoint_interval: Duration::from_secs(30),
    dirty_nodes_max: 1000,
    discard: true,
    class: store::Redundancy::Single,
    encrypted: false,
};

/// What each block holds: the write that was acknowledged last.
type Expected = BTreeMap<u64, WriteId>;

fn block_of(write: WriteId, block: u64) -> Vec<u8> {
    let mut data = vec![0; 4096];
    for (index, sector) in data.chunks_mut(SECTOR).enumerate() {
        fill(sector, write, (block * 8 + index as u64) as u32);
    }
    data
}

async fn write_some(volume: &dyn Volume, rng: &mut Rng, expected: &mut Expected) {
    for write in 1..400 {
        let block = rng.below(BLOCKS);
        let data = block_of(WriteId(write), block);
        volume
            .write(block * 4096, vec![Bytes::from(data)], Durability::Default)
            .await
            .expect("nothing is in the way");
        expected.insert(block, WriteId(write));
    }
}

/// Reads every block: none may be wrong. The number of those reported as corrupt.
async fn damaged(volume: &dyn Volume, expected: &Expected) -> u64 {
    let mut damaged = 0;
    for (&block, &write) in expected {
        match volume.read(block * 4096, 4096).await {
            Ok(chunks) => assert_eq!(chunks.concat(), block_of(write, block), "block {block}"),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
                assert_eq!(error.offset, Some(block * 4096), "the error says where");
                damaged += 1;
            }
        }
    }
    damaged
}

async fn open(disk: &SimDisk, executor: &Executor, new: bool) -> Arc<dyn EnginePool> {
    let (handle, runtime) = (Arc::new(disk.attach()), Arc::new(executor.clone()) as Arc<dyn Runtime>);
    let engine = Store::new();
    if new {
        engine.create(vec![handle], SETUP, runtime).await.expect("nothing is in the way")
    } else {
        engine.open(vec![handle], SETUP, runtime).await.expect("nothing is in the way")
    }
}

/// A second volume that shares all that can be shared with the first.
async fn copy(pool: &dyn EnginePool, from: &dyn Volume) -> Arc<dyn Volume> {
    pool.create_volume(COPY, BLOCKS * 4096, false).await.expect("nothing is in the way");
    let volume = pool.open_volume(COPY).expect("nothing is in the way");
    let copied = volume.copy_from(0, BLOCKS * 4096, from, 0).expect("they are in one pool");
    let left = copied.await.expect("nothing is in the way");
    assert!(left.is_empty(), "what was written one after the other is shared: {left:?}");
    volume
}

/// Writes, corrupts, reads, lets the collector move what it can, reads again, opens anew, reads again. The number
/// of blocks reported.
async fn scenario(disk: SimDisk, executor: Executor, seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let pool = open(&disk, &executor, true).await;
    pool.create_volume(ID, BLOCKS * 4096, false).await.expect("nothing is in the way");
    let volume = pool.open_volume(ID).expect("nothing is in the way");
    let mut expected = Expected::new();
    write_some(&*volume, &mut rng, &mut expected).await;
    let shares = rng.percent(50);
    let copy = if shares { copy(&*pool, &*volume).await } else { Arc::clone(&volume) };
    pool.checkpoint().await.expect("nothing is in the way");
    assert_eq!(damaged(&*volume, &expected).await, 0);
    for _ in 0..rng.between(1, 6) {
        assert!(disk.corrupt(|sector| matches!(content(sector), Content::Stamp { .. })).is_some());
    }
    let first = damaged(&*volume, &expected).await;
    assert_eq!(damaged(&*copy, &expected).await, first, "all that refer to a block are told");
    pool.settle().await.expect("nothing is in the way");
    assert_eq!(
        damaged(&*volume, &expected).await,
        first,
        "moving a damaged block neither heals nor hides it"
    );
    pool.close().await.expect("nothing is in the way");
    drop((volume, copy, pool));
    let pool = open(&disk, &executor, false).await;
    let volume = pool.open_volume(ID).expect("nothing is in the way");
    assert_eq!(damaged(&*volume, &expected).await, first, "nor does opening the pool again");
    if shares {
        let copy = pool.open_volume(COPY).expect("nothing is in the way");
        assert_eq!(damaged(&*copy, &expected).await, first);
    }
    first
}

#[test]
fn changed_bits_are_reported_and_never_returned() {
    let mut reported = 0;
    for seed in 0..100 {
        let executor = Executor::new(Rng::new(seed));
        let latency = Latency { immediate_percent: 50, max: Duration::from_micros(100) };
        let disk = SimDisk::new(16 << 20, 4096, latency, &executor, Rng::new(seed + 1));
        let outcome = executor.run(scenario(disk.clone(), executor.clone(), seed), || false, 1_000_000);
        executor.kill_all();
        disk.settle(Crash::Process);
        match outcome {
            Outcome::Done(damaged) => reported += damaged,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(reported > 50, "only {reported} damaged blocks were seen");
}
