//! The catalog in a full pool: what users add to it is refused before the engine's own transactions lack room.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::ErrorKind;
use store::{Fact, Health, Pool};
use support::scripted::{Crash, Scripted};
use support::{holds, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const FACT_BYTES: usize = 16 << 10;

fn fact(number: u64) -> Fact {
    ("host".to_owned(), format!("{number:06}"), Some(vec![7; FACT_BYTES]))
}

/// Puts facts one by one until the pool refuses them. Returns how many it took, and what it said.
async fn facts_until_refused(pool: &Pool) -> (u64, block::BlockError) {
    for number in 0..10_000 {
        if let Err(error) = pool.put_facts(vec![fact(number)]).await {
            return (number, error);
        }
    }
    panic!("160 MiB of facts in a full pool");
}

fn a_full_pool_keeps_room_for_checkpoints(slab: u64, slabs: u64) {
    let disk = Scripted::new(slabs * slab);
    let (local, pool) = new_pool(&disk.disk(), small(slab));
    let (written, refused_at) = local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let mut written = 0;
        while put(&volume, written, written + 1).await.is_ok() {
            written += 1;
        }
        let (facts, refused) = facts_until_refused(&pool).await;
        assert_eq!(refused.kind, ErrorKind::NoSpace);
        assert!(refused.message.contains("catalog"), "{}", refused.message);
        assert!(facts > 10, "{facts}");
        let refused = pool.create_volume(thin(2, 1 << 30), vec![fact(9999)]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NoSpace);
        // The engine goes on: segments come and go, checkpoints are made.
        for round in 0..3 {
            for address in (0..written).step_by(2) {
                put(&volume, address, address + round).await.unwrap();
            }
            pool.checkpoint().await.unwrap();
        }
        assert_eq!(pool.status().health, Health::Healthy);
        sound(&pool).await;
        (written, facts)
    });
    let (local, pool) = reopen(&disk.after(Crash::Power).disk(), small(slab));
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        holds(&volume, 0, 2).await;
        assert_eq!(pool.facts("host").await.unwrap().len() as u64, refused_at);
        // Taking away is never refused, and what is given back makes room for the catalog, too.
        pool.put_facts(vec![("host".to_owned(), "000000".to_owned(), None)]).await.unwrap();
        unmap(&volume, 0, written).await.unwrap();
        pool.settle().await.unwrap();
        pool.put_facts(vec![fact(0), fact(refused_at)]).await.unwrap();
        pool.create_volume(thin(2, 1 << 30), Vec::new()).await.unwrap();
        put_run(&pool.open_volume([2; 16]).unwrap(), 0, 1, 100).await.unwrap();
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        sound(&pool).await;
        assert_eq!(pool.status().health, Health::Healthy);
    });
}

#[test]
fn a_full_pool_of_usual_slabs_keeps_room_for_checkpoints() {
    a_full_pool_keeps_room_for_checkpoints(MIB, 52);
}

#[test]
fn a_full_pool_of_tiny_slabs_keeps_room_for_checkpoints() {
    a_full_pool_keeps_room_for_checkpoints(64 << 10, 200);
}
