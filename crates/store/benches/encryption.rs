//! What encryption costs: the same I/O on a volume of an encrypted pool that is encrypted, and on one that is not, in one
//! run, on a disk in memory.

#[path = "../tests/support/mod.rs"]
mod support;

use block::testing::{join_all, pattern};
use block::{BufferPool, Durability, Volume};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use store::{Secret, VolumeSpec};
use support::{disk, new_pool, small, thin};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 256 * MIB;
const DEPTH: u64 = 32;

fn encryption(criterion: &mut Criterion) {
    let (local, pool) = new_pool(&disk(2 << 30), small(MIB));
    let secret = Secret::KeyFile(vec![7; 32].into());
    local.block_on(pool.begin_encryption(secret, false)).expect("keys");
    let data: Bytes = BufferPool::default().copy_of(&pattern(1, 1 << 20)).freeze();
    let mut group = criterion.benchmark_group("encryption");
    for (id, name, encrypted) in [(1, "plain", false), (2, "encrypted", true)] {
        let spec = VolumeSpec { encrypted, ..thin(id, SIZE) };
        local.block_on(pool.create_volume(spec, Vec::new())).expect("create");
        let volume = pool.open_volume([id; 16]).expect("open");
        let write = |at: u64, len: usize| volume.write(at, vec![data.slice(..len)], Durability::Default);
        for at in (0..SIZE).step_by(1 << 20) {
            local.block_on(write(at, 1 << 20)).expect("write");
        }
        let mut at = 0;
        let mut next = move |len: u64| {
            at = (at + 37 * len) % SIZE;
            at
        };
        group.throughput(Throughput::Bytes(MIB));
        group.bench_function(format!("read 1 MiB, {name}"), |bencher| {
            bencher.iter(|| black_box(local.block_on(volume.read(next(MIB), MIB)).expect("read")));
        });
        group.bench_function(format!("write 1 MiB, {name}"), |bencher| {
            bencher.iter(|| local.block_on(write(next(MIB), 1 << 20)).expect("write"));
        });
        group.throughput(Throughput::Bytes(DEPTH * 4096));
        group.bench_function(format!("read 4 KiB x 32, {name}"), |bencher| {
            bencher.iter(|| {
                let reads = (0..DEPTH).map(|_| volume.read(next(4096), 4096)).collect();
                local.block_on(join_all(reads)).into_iter().for_each(|read| drop(read.expect("read")));
            });
        });
        group.bench_function(format!("write 4 KiB x 32, {name}"), |bencher| {
            bencher.iter(|| {
                let writes = (0..DEPTH).map(|_| write(next(4096), 4096)).collect();
                local.block_on(join_all(writes)).into_iter().for_each(|write| write.expect("write"));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encryption);
criterion_main!(benches);
