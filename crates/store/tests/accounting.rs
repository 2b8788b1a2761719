//! Where a pool's space is adds up, and what each volume and snapshot holds is what a model of them says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::Volume;
use std::collections::{BTreeMap, BTreeSet};
use store::{Pool, PoolOptions, PoolSpace, VolumeId, VolumeSpec};
use support::{disk, new_pool, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

fn id(number: u8) -> VolumeId {
    [number; 16]
}

fn parts(space: &PoolSpace) -> u64 {
    space.volumes_bytes
        + space.snapshots_bytes
        + space.released_bytes
        + space.map_bytes
        + space.reserved_bytes
        + space.spare_bytes
        + space.headroom_bytes
        + space.withheld_bytes
        + space.collectable_bytes
        + space.unused_bytes
}

/// What each volume and snapshot maps: block to the number of the write.
#[derive(Default)]
struct Model {
    tops: BTreeMap<u8, BTreeMap<u64, u64>>,
    snapshots: BTreeMap<u8, u8>,
    /// Writes that were copied by reference.
    referenced: BTreeSet<u64>,
    writes: u64,
}

impl Model {
    fn write(&mut self, volume: u8, address: u64, count: u64) -> u64 {
        let first = self.writes + 1;
        let blocks = self.tops.get_mut(&volume).unwrap();
        for i in 0..count {
            blocks.insert(address + i, first + i);
        }
        self.writes += count;
        first
    }

    fn copy(&mut self, from: (u8, u64), to: (u8, u64), count: u64) {
        for i in 0..count {
            let found = self.tops[&from.0].get(&(from.1 + i)).copied();
            let target = self.tops.get_mut(&to.0).unwrap();
            match found {
                Some(write) => {
                    self.referenced.insert(write);
                    target.insert(to.1 + i, write);
                }
                None => _ = target.remove(&(to.1 + i)),
            }
        }
    }

    /// By write: who has it, and their volumes.
    fn holders(&self) -> BTreeMap<u64, BTreeSet<u8>> {
        let mut holders: BTreeMap<u64, BTreeSet<u8>> = BTreeMap::new();
        for (top, blocks) in &self.tops {
            blocks.values().for_each(|write| _ = holders.entry(*write).or_default().insert(*top));
        }
        holders
    }

    fn owner(&self, top: u8) -> u8 {
        self.snapshots.get(&top).copied().unwrap_or(top)
    }

    async fn compare(&self, pool: &Pool) {
        let survey = pool.survey(None).await.unwrap();
        assert!(pool.is_current(&survey));
        let holders = self.holders();
        let own = |write: &&u64| !self.referenced.contains(write);
        let blocks = |matches: &dyn Fn(&BTreeSet<u8>) -> bool| {
            let all = holders.iter().filter(|(write, _)| own(write));
            all.filter(|(_, holders)| matches(holders)).count() as u64 * BLOCK
        };
        let kept = |holders: &BTreeSet<u8>| holders.iter().all(|top| self.snapshots.contains_key(top));
        for (top, mapped) in &self.tops {
            let holding = survey.holding(&id(*top)).unwrap();
            assert_eq!(holding.mapped_bytes, mapped.len() as u64 * BLOCK, "{top} maps");
            let unique = blocks(&|holders| holders.iter().eq([top]));
            assert_eq!(holding.unique_bytes, unique, "{top} alone has");
            let of_this = |holders: &BTreeSet<u8>| holders.iter().all(|one| self.owner(*one) == *top);
            let by_snapshots = blocks(&|holders| kept(holders) && of_this(holders));
            assert_eq!(holding.snapshots_bytes, by_snapshots, "snapshots of {top} have");
        }
        let space = pool.space(Some(&survey));
        assert_eq!(parts(&space), space.usable_bytes, "{space:?}");
        assert_eq!(space.snapshots_bytes, blocks(&kept));
        let data = space.volumes_bytes + space.snapshots_bytes;
        assert_eq!(data, holders.len() as u64 * BLOCK, "what somebody has: {space:?}");
        let several = blocks(&|holders| holders.len() > 1);
        let referenced = holders.keys().filter(|write| !own(write)).count() as u64 * BLOCK;
        assert_eq!(space.shared_bytes, several + referenced);
        sound(pool).await;
    }
}

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of(&mut self, tops: impl Iterator<Item = u8>) -> u8 {
        let tops: Vec<u8> = tops.collect();
        tops[self.below(tops.len() as u64) as usize]
    }
}

async fn act(pool: &Pool, model: &mut Model, dice: &mut Dice, next: &mut u8) {
    let volumes: Vec<u8> =
        model.tops.keys().copied().filter(|top| !model.snapshots.contains_key(top)).collect();
    let volume = dice.one_of(volumes.iter().copied());
    let handle = pool.open_volume(id(volume)).unwrap();
    let address = dice.below(600);
    match dice.below(10) {
        0..5 => {
            let count = 1 + dice.below(40);
            let first = model.write(volume, address, count);
            put_run(&handle, address, first, count).await.unwrap();
        }
        5 => {
            let count = 1 + dice.below(80);
            unmap(&handle, address, count).await.unwrap();
            model.tops.get_mut(&volume).unwrap().retain(|at, _| !(address..address + count).contains(at));
        }
        6 if model.tops.len() < 10 => {
            *next += 1;
            pool.snapshot_volume(id(volume), id(*next), Vec::new()).await.unwrap();
            model.tops.insert(*next, model.tops[&volume].clone());
            model.snapshots.insert(*next, volume);
        }
        7 if model.tops.len() < 10 => {
            *next += 1;
            let source = dice.one_of(model.tops.keys().copied());
            pool.clone_volume(id(source), id(*next), Vec::new()).await.unwrap();
            model.tops.insert(*next, model.tops[&source].clone());
        }
        8 if model.tops.len() > 3 => {
            let gone = dice.one_of(model.tops.keys().copied());
            let has_snapshots = model.snapshots.values().any(|owner| *owner == gone);
            if !has_snapshots && (volumes.len() > 1 || model.snapshots.contains_key(&gone)) {
                pool.delete_volume(id(gone), Vec::new()).await.unwrap();
                model.tops.remove(&gone);
                model.snapshots.remove(&gone);
            }
        }
        9 => {
            let of_volume = model.snapshots.iter().filter(|(_, owner)| **owner == volume);
            let snapshots: Vec<u8> = of_volume.map(|(snapshot, _)| *snapshot).collect();
            if snapshots.is_empty() || model.tops.len() >= 10 {
                return;
            }
            let to = dice.one_of(snapshots.into_iter());
            *next += 1;
            pool.roll_back_volume(id(volume), id(to), id(*next), Vec::new()).await.unwrap();
            model.tops.insert(*next, model.tops[&volume].clone());
            model.snapshots.insert(*next, volume);
            model.tops.insert(volume, model.tops[&to].clone());
        }
        _ => {}
    }
}

#[test]
fn what_each_holds_is_what_a_model_says_after_any_history_and_after_opening_again() {
    for seed in 0..12 {
        let disk = disk(64 * MIB);
        let options = || PoolOptions { map_cache_bytes: 0, ..small(256 << 10) };
        let (local, pool) = new_pool(&disk, options());
        let (mut model, mut dice, mut next) = (Model::default(), Dice(seed), 1);
        local.block_on(async {
            pool.create_volume(thin(1, 64 * MIB), Vec::new()).await.unwrap();
            model.tops.insert(1, BTreeMap::new());
            for _ in 0..6 {
                for _ in 0..12 {
                    act(&pool, &mut model, &mut dice, &mut next).await;
                }
                model.compare(&pool).await;
                pool.settle().await.unwrap();
                model.compare(&pool).await;
            }
            pool.close().await.unwrap();
        });
        drop(pool);
        let (local, pool) = reopen(&disk, options());
        let owners: Vec<_> = model.snapshots.iter().map(|(one, owner)| (id(*one), id(*owner))).collect();
        pool.set_owners(&owners);
        local.block_on(model.compare(&pool));
    }
}

#[test]
fn blocks_shared_by_reference_are_nobodys_alone() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    let mut model = Model::default();
    local.block_on(async {
        for number in [1, 2] {
            pool.create_volume(thin(number, 64 * MIB), Vec::new()).await.unwrap();
            model.tops.insert(number, BTreeMap::new());
        }
        let [one, other] = [1, 2].map(|number| pool.open_volume(id(number)).unwrap());
        let first = model.write(1, 0, 600);
        put_run(&one, 0, first, 600).await.unwrap();
        let copy = other.copy_from(0, 256 * BLOCK, &*one, 128 * BLOCK).unwrap();
        assert_eq!(copy.await.unwrap(), Vec::new(), "all of it is shared");
        model.copy((1, 128), (2, 0), 256);
        model.compare(&pool).await;
        pool.snapshot_volume(id(1), id(3), Vec::new()).await.unwrap();
        model.tops.insert(3, model.tops[&1].clone());
        model.snapshots.insert(3, 1);
        let first = model.write(1, 100, 60);
        put_run(&one, 100, first, 60).await.unwrap();
        model.compare(&pool).await;
    });
}

#[test]
fn a_pool_that_has_not_changed_is_not_counted_again_and_what_has_is() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        for number in [1, 2] {
            pool.create_volume(thin(number, 64 * MIB), Vec::new()).await.unwrap();
            pool.snapshot_volume(id(number), id(number + 10), Vec::new()).await.unwrap();
        }
        let one = pool.open_volume(id(1)).unwrap();
        put_run(&one, 0, 1, 8).await.unwrap();
        let former = pool.survey(None).await.unwrap();
        put_run(&one, 0, 9, 8).await.unwrap();
        assert!(pool.is_current(&former), "an overwrite of own blocks changes nothing");
        put_run(&one, 8, 17, 1).await.unwrap();
        assert!(!pool.is_current(&former));
        assert_eq!(former.holding(&id(1)).unwrap().unique_bytes, 8 * BLOCK);
        let now = pool.survey(Some(&former)).await.unwrap();
        assert_eq!(now.holding(&id(1)).unwrap().unique_bytes, 9 * BLOCK);
        pool.delete_volume(id(12), Vec::new()).await.unwrap();
        assert!(!pool.is_current(&now));
    });
}

#[test]
fn a_thick_volumes_reservation_a_full_pool_and_dead_blocks_are_parts_of_the_whole() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        let spec = VolumeSpec { thick: true, ..thin(1, 8 * MIB) };
        pool.create_volume(spec, Vec::new()).await.unwrap();
        pool.create_volume(thin(2, 64 * MIB), Vec::new()).await.unwrap();
        let before = pool.space(None);
        assert!(before.reserved_bytes >= 8 * MIB && parts(&before) == before.usable_bytes, "{before:?}");
        let thin = pool.open_volume(id(2)).unwrap();
        for turn in 0..3 {
            put_run(&thin, 0, 1 + turn * 1000, 1000).await.unwrap();
        }
        let dead = pool.space(None);
        assert_eq!(dead.volumes_bytes, 1000 * BLOCK);
        assert!(dead.collectable_bytes >= 2000 * BLOCK, "two versions of three are dead: {dead:?}");
        assert_eq!(dead.collectable_bytes + dead.unused_bytes, pool.status().free_bytes);
        let mut address = 1000;
        while put_run(&thin, address, address, 200).await.is_ok() {
            address += 200;
        }
        let full = pool.space(None);
        assert_eq!(parts(&full), full.usable_bytes, "{full:?}");
        assert!(full.collectable_bytes + full.unused_bytes < 250 * BLOCK);
        assert_eq!(full.headroom_bytes, pool.status().headroom_bytes);
        sound(&pool).await;
    });
}
