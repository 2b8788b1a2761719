//! The map alone: look-up and update, in memory. Look-up through a stack of layers. 4 KiB reads and writes of a
//! volume on a disk in memory.

#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the map, taken out of the engine: it uses a part of this"
)]
#[path = "../src/format/mod.rs"]
mod format;
#[allow(dead_code, unused_imports, reason = "what only the engine and its tests use")]
#[path = "../src/map/mod.rs"]
mod map;
#[allow(dead_code, reason = "as above")]
#[path = "../src/number.rs"]
mod number;
#[path = "../tests/support/mod.rs"]
mod support;

use block::testing::{join_all, pattern};
use block::{BufferPool, Durability, Volume};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use format::node::Entry;
use format::{BlockAddress, Location, SegmentId};
use map::{Find, Map, leaf_of, slot_of};
use std::hint::black_box;
use store::PoolOptions;
use support::{disk, new_pool, put_run, thin};

const DEPTH: u64 = 32;
const BLOCKS: u64 = 64 << 10;
/// Look-ups or updates that are timed together.
const STEPS: u64 = 1024;
/// Blocks of the map that is timed alone: 16 GiB, three levels, 64 MiB of nodes; no cache of a processor holds them.
const MAP_BLOCKS: u64 = 4 << 20;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn block(&mut self) -> u64 {
        self.below(BLOCKS)
    }
}

/// Where the next block is: one after the other, or anywhere.
type Order<'a> = &'a mut dyn FnMut() -> u64;

fn in_both_orders(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    blocks: u64,
    mut run: impl FnMut(Order<'_>),
) {
    let mut at = 0;
    let mut next = move || {
        at = (at + 1) % blocks;
        at
    };
    group.bench_function(format!("{name}, sequential"), |bencher| bencher.iter(|| run(&mut next)));
    let mut random = Random(1);
    let mut next = move || random.below(blocks);
    group.bench_function(format!("{name}, random"), |bencher| bencher.iter(|| run(&mut next)));
}

fn map_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Elements(STEPS));
    let place = |block: u64| Entry { location: Location::new(SegmentId(1 + block), 1), checksum: 1 };
    let mut map = Map::new(Entry::default(), 0, 0);
    for leaf in 0..MAP_BLOCKS / 256 {
        map.create(leaf);
        map.edit(leaf, 0..256, |_, entry| *entry = place(leaf));
    }
    in_both_orders(&mut group, "look-up x 1024", MAP_BLOCKS, |next| {
        for _ in 0..STEPS {
            let address = BlockAddress(next());
            assert!(map.find(leaf_of(address)) == Find::Here);
            black_box(map.get(address));
        }
    });
    let mut version = 0;
    in_both_orders(&mut group, "update x 1024", MAP_BLOCKS, |next| {
        for _ in 0..STEPS {
            version += 1;
            let address = BlockAddress(next());
            let slot = slot_of(address);
            map.edit(leaf_of(address), slot..slot + 1, |_, entry| *entry = place(version));
        }
    });
    group.finish();
}

/// Each snapshot holds some blocks all over the volume: most look-ups go through all layers.
fn stack_of_layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stack");
    group.throughput(Throughput::Elements(STEPS));
    for layers in [1, 8, 64] {
        let (local, pool) = new_pool(&disk(1 << 30), PoolOptions::default());
        local.block_on(async {
            pool.create_volume(thin(255, BLOCKS * 4096), Vec::new()).await.expect("create");
            let volume = pool.open_volume([255; 16]).expect("open");
            for at in (0..BLOCKS).step_by(256) {
                put_run(&volume, at, at + 1, 256).await.expect("write");
            }
            for layer in 1..layers {
                pool.snapshot_volume([255; 16], [layer; 16], Vec::new()).await.expect("snapshot");
                for leaf in 0..BLOCKS / 256 {
                    put_run(&volume, leaf * 256 + u64::from(layer), leaf + 1, 1).await.expect("write");
                }
            }
        });
        let volume = pool.open_volume([255; 16]).expect("open");
        in_both_orders(&mut group, &format!("look-up x 1024 in {layers} layers"), BLOCKS, |next| {
            local.block_on(async {
                for _ in 0..STEPS {
                    black_box(volume.extents(next() * 4096, 4096, 1).await.expect("extents"));
                }
            });
        });
    }
    group.finish();
}

fn volume_io(criterion: &mut Criterion) {
    let disk = disk(2 << 30);
    let (local, pool) = new_pool(&disk, PoolOptions::default());
    local.block_on(pool.create_volume(thin(1, BLOCKS * 4096), Vec::new())).expect("create");
    let volume = pool.open_volume([1; 16]).expect("open");
    let data: Bytes = BufferPool::default().copy_of(&pattern(1, 1 << 20)).freeze();
    local.block_on(async {
        for mib in 0..BLOCKS / 256 {
            volume.write(mib << 20, vec![data.clone()], Durability::Default).await.expect("write");
        }
    });
    let mut random = Random(1);
    let mut group = criterion.benchmark_group("volume");
    group.throughput(Throughput::Elements(DEPTH));
    group.bench_function("read 4 KiB x 32", |bencher| {
        bencher.iter(|| {
            let reads = (0..DEPTH).map(|_| volume.read(random.block() * 4096, 4096)).collect();
            for read in local.block_on(join_all(reads)) {
                black_box(read.expect("read"));
            }
        });
    });
    group.bench_function("write 4 KiB x 32", |bencher| {
        bencher.iter(|| {
            let write = |at: u64| volume.write(at * 4096, vec![data.slice(..4096)], Durability::Default);
            let writes = (0..DEPTH).map(|_| write(random.block())).collect();
            for write in local.block_on(join_all(writes)) {
                write.expect("write");
            }
        });
    });
    group.bench_function("extents of 1 MiB (map lookup of 256 blocks)", |bencher| {
        bencher.iter(|| {
            let at = random.block() / 256 * 256;
            black_box(local.block_on(volume.extents(at * 4096, 1 << 20, 16)).expect("extents"));
        });
    });
    group.finish();
}

/// 64 MiB from one volume to another: shared, and read and written as a copy that shares nothing does.
fn copies(criterion: &mut Criterion) {
    const MIB: u64 = 64;
    let disk = disk(2 << 30);
    let (local, pool) = new_pool(&disk, PoolOptions::default());
    let [source, target] = [1, 2].map(|id| {
        local.block_on(pool.create_volume(thin(id, MIB << 20), Vec::new())).expect("create");
        pool.open_volume([id; 16]).expect("open")
    });
    let data: Bytes = BufferPool::default().copy_of(&pattern(1, 1 << 20)).freeze();
    local.block_on(async {
        for mib in 0..MIB {
            source.write(mib << 20, vec![data.clone()], Durability::Default).await.expect("write");
        }
    });
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Bytes(MIB << 20));
    group.bench_function("64 MiB moved", |bencher| {
        bencher.iter(|| {
            local.block_on(async {
                for mib in 0..MIB {
                    let data = source.read(mib << 20, 1 << 20).await.expect("read");
                    target.write(mib << 20, data, Durability::Default).await.expect("write");
                }
            });
        });
    });
    group.bench_function("64 MiB shared", |bencher| {
        bencher.iter(|| {
            let copied = target.copy_from(0, MIB << 20, &*source, 0).expect("one pool");
            assert!(local.block_on(copied).expect("copy").is_empty());
        });
    });
    group.finish();
}

criterion_group!(benches, map_alone, stack_of_layers, volume_io, copies);
criterion_main!(benches);
