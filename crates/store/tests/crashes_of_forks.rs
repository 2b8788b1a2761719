//! A crash at every single step of a snapshot of several volumes, and of the way back to one: it has happened as a whole,
//! with its record, or not at all.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use store::{Pool, StoreVolume};
use support::steps::{at_every_step, prepared};
use support::{holds, pattern_page, put, put_run, thin};

/// Blocks that each volume has from before.
const BLOCKS: u64 = 300;

fn volume(pool: &Pool, id: u8) -> Option<Arc<StoreVolume>> {
    pool.open_volume([id; 16]).ok()
}

fn facts(name: &str) -> Vec<store::Fact> {
    vec![("test".to_owned(), name.to_owned(), Some(vec![1]))]
}

async fn has_facts(pool: &Pool) -> bool {
    !pool.facts("test").await.unwrap().is_empty()
}

/// Which of these patterns a block holds.
async fn one_of(volume: &StoreVolume, address: u64, candidates: [u64; 2]) -> u64 {
    use block::Volume;
    let found = volume.read(address * 4096, 4096).await.unwrap().concat();
    candidates.into_iter().find(|seed| found == pattern_page(*seed)).unwrap()
}

#[test]
fn snapshots_of_several_volumes_are_all_there_or_none_is() {
    let base = prepared(async |pool| {
        for id in 1..=3 {
            pool.create_volume(thin(id, 1 << 30), Vec::new()).await.unwrap();
            put_run(&volume(pool, id).unwrap(), 0, 1000 * u64::from(id), BLOCKS).await.unwrap();
        }
    });
    let work = async |pool: &Pool, _: &_| {
        for id in 1..=3 {
            put(&volume(pool, id).unwrap(), 5, 50 + u64::from(id)).await?;
        }
        let pairs = (1..=3).map(|id| ([id; 16], [id + 10; 16])).collect();
        pool.snapshot_volumes(pairs, facts("together")).await?;
        for id in 1..=3 {
            put(&volume(pool, id).unwrap(), 6, 60 + u64::from(id)).await?;
        }
        Ok(())
    };
    let check = async |pool: &Pool, done: Option<&()>, step: u64| {
        let snapshots: Vec<_> = (11..=13).filter_map(|id| volume(pool, id)).collect();
        assert!([0, 3].contains(&snapshots.len()), "{} of 3 at step {step}", snapshots.len());
        assert_eq!(has_facts(pool).await, !snapshots.is_empty(), "step {step}");
        assert!(done.is_none() || snapshots.len() == 3);
        for (id, snapshot) in (1..).zip(&snapshots) {
            holds(snapshot, 4, 1000 * id + 4).await;
            holds(snapshot, 5, 50 + id).await;
            holds(snapshot, 6, 1000 * id + 6).await;
        }
        for id in 1..=3 {
            let volume = volume(pool, id).unwrap();
            let id = u64::from(id);
            let new = one_of(&volume, 6, [1000 * id + 6, 60 + id]).await == 60 + id;
            assert!(!new || !snapshots.is_empty(), "a write after the snapshot is there, and that is not");
            assert!(done.is_none() || new, "step {step}");
            holds(&volume, BLOCKS - 1, 1000 * id + BLOCKS - 1).await;
        }
    };
    assert!(at_every_step(&base, work, check) > 5);
}

#[test]
fn a_volume_has_gone_back_with_what_it_held_kept_or_it_has_not() {
    let base = prepared(async |pool| {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        put_run(&volume(pool, 1).unwrap(), 0, 1000, BLOCKS).await.unwrap();
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        put_run(&volume(pool, 1).unwrap(), 100, 2100, BLOCKS).await.unwrap();
    });
    let work = async |pool: &Pool, _: &_| {
        put(&volume(pool, 1).unwrap(), 5, 55).await?;
        pool.roll_back_volume([1; 16], [2; 16], [3; 16], facts("back")).await?;
        put(&volume(pool, 1).unwrap(), 6, 66).await
    };
    let check = async |pool: &Pool, done: Option<&()>, step: u64| {
        let (present, snapshot) = (volume(pool, 1).unwrap(), volume(pool, 2).unwrap());
        let safety = volume(pool, 3);
        assert_eq!(has_facts(pool).await, safety.is_some(), "step {step}");
        assert!(done.is_none() || safety.is_some());
        for (address, then) in [(0, 1000), (5, 1005), (100, 1100), (BLOCKS, 0)] {
            holds(&snapshot, address, then).await;
        }
        let Some(safety) = safety else {
            holds(&present, 100, 2100).await;
            holds(&present, 6, 1006).await;
            return;
        };
        for (address, before, now) in [(5, 55, 1005), (100, 2100, 1100), (BLOCKS, 2000 + BLOCKS, 0)] {
            holds(&safety, address, before).await;
            holds(&present, address, now).await;
        }
        holds(&safety, 6, 1006).await;
        let new = one_of(&present, 6, [1006, 66]).await == 66;
        assert!(done.is_none() || new, "step {step}");
    };
    assert!(at_every_step(&base, work, check) > 5);
}
