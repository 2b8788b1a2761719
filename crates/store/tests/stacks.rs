//! Volumes high on a stack of snapshots: what is read is right, whatever happened to the layers below since.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::Volume;
use std::collections::BTreeMap;
use store::{Pool, PoolOptions};
use support::{disk, holds, new_pool, put, reopen, small, sound, thin, unmap};

/// Blocks of the volumes.
const BLOCKS: u64 = 700;

/// What volumes and snapshots hold: the seed of each block, none for zeros.
type Model = BTreeMap<[u8; 16], BTreeMap<u64, u64>>;

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

async fn check(pool: &Pool, model: &Model, dice: &mut Dice) {
    for (id, blocks) in model {
        let volume = pool.open_volume(*id).unwrap();
        for _ in 0..40 {
            let address = dice.below(BLOCKS);
            holds(&volume, address, blocks.get(&address).copied().unwrap_or(0)).await;
        }
        let extents = volume.extents(0, BLOCKS * 4096, 1 << 20).await.unwrap();
        let mapped = extents.iter().filter(|extent| extent.provisioning == block::Provisioning::Mapped);
        let mapped: u64 = mapped.map(|extent| extent.range.len / 4096).sum();
        assert_eq!(usize::try_from(mapped).unwrap(), blocks.len());
    }
}

/// One random change of the pool and the model.
async fn change(pool: &Pool, model: &mut Model, dice: &mut Dice, step: u64) {
    let volume = [1; 16];
    let handle = pool.open_volume(volume).unwrap();
    let mut id = [2; 16];
    id[..8].copy_from_slice(&step.to_le_bytes());
    let snapshots: Vec<_> = model.keys().copied().filter(|other| *other != volume).collect();
    let some = usize::try_from(dice.below(1000)).unwrap() % snapshots.len().max(1);
    match dice.below(20) {
        0..4 => {
            pool.snapshot_volume(volume, id, Vec::new()).await.unwrap();
            let held = model[&volume].clone();
            model.insert(id, held);
        }
        4 if !snapshots.is_empty() => {
            pool.roll_back_volume(volume, snapshots[some], id, Vec::new()).await.unwrap();
            let held = model.insert(volume, model[&snapshots[some]].clone()).unwrap();
            model.insert(id, held);
        }
        5..7 if snapshots.len() > 12 => {
            pool.delete_snapshot(snapshots[some], Vec::new()).await.unwrap();
            model.remove(&snapshots[some]);
        }
        7 => pool.settle().await.unwrap(),
        8 => {
            pool.detach_volume(volume, vec![volume], Vec::new()).await.unwrap();
        }
        9..12 => {
            let (first, count) = (dice.below(BLOCKS - 30), 1 + dice.below(30));
            unmap(&handle, first, count).await.unwrap();
            model.get_mut(&volume).unwrap().retain(|address, _| !(first..first + count).contains(address));
        }
        _ => {
            let address = dice.below(BLOCKS);
            put(&handle, address, 100_000 + step).await.unwrap();
            model.get_mut(&volume).unwrap().insert(address, 100_000 + step);
        }
    }
}

fn run(options: &PoolOptions, seed: u64) {
    let disk = disk(64 << 20);
    let mut dice = Dice(seed);
    let mut model = Model::from([([1; 16], BTreeMap::new())]);
    let (mut local, mut pool) = new_pool(&disk, options.clone());
    local.block_on(async { pool.create_volume(thin(1, BLOCKS * 4096), Vec::new()).await.unwrap() });
    for step in 0..400 {
        local.block_on(async {
            change(&pool, &mut model, &mut dice, step).await;
            if step % 10 == 0 {
                check(&pool, &model, &mut dice).await;
            }
        });
        if step % 150 == 149 {
            drop((local, pool));
            (local, pool) = reopen(&disk, options.clone());
        }
    }
    local.block_on(async {
        pool.settle().await.unwrap();
        check(&pool, &model, &mut dice).await;
        sound(&pool).await;
    });
}

#[test]
fn what_is_read_is_right_whatever_happens_to_the_layers_below() {
    for seed in 0..6 {
        run(&small(256 << 10), seed);
    }
}

#[test]
fn it_is_with_hardly_any_memory_for_maps_too() {
    for seed in 10..14 {
        run(&PoolOptions { map_cache_bytes: 4096, ..small(256 << 10) }, seed);
    }
}

#[test]
fn a_hundred_snapshots_take_no_more_memory_than_maps_may() {
    let disk = disk(64 << 20);
    let options = PoolOptions { map_cache_bytes: 256 << 10, ..small(256 << 10) };
    let (local, pool) = new_pool(&disk, options);
    local.block_on(async {
        pool.create_volume(thin(1, 64 << 20), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for snapshot in 0..100 {
            for leaf in 0..8 {
                put(&volume, leaf * 256 + snapshot, 1000 * leaf + snapshot + 1).await.unwrap();
            }
            let mut id = [9; 16];
            id[0] = u8::try_from(snapshot).unwrap();
            pool.snapshot_volume([1; 16], id, Vec::new()).await.unwrap();
        }
        for _ in 0..2 {
            for snapshot in 0..100 {
                for leaf in 0..8 {
                    holds(&volume, leaf * 256 + snapshot, 1000 * leaf + snapshot + 1).await;
                }
            }
        }
        sound(&pool).await;
    });
}
