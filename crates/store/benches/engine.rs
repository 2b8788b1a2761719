//! Map lookup and update, and 4 KiB reads and writes of a volume on a disk in memory.

#[path = "../tests/support/mod.rs"]
mod support;

use block::testing::{join_all, pattern};
use block::{BufferPool, Durability, Volume};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use store::PoolOptions;
use support::{disk, new_pool, thin};

const DEPTH: u64 = 32;
const BLOCKS: u64 = 64 << 10;

struct Random(u64);

impl Random {
    fn block(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % BLOCKS
    }
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

criterion_group!(benches, volume_io);
criterion_main!(benches);
