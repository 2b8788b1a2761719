//! Volumes that are encrypted: what is on the disk, who can read it, and what becomes of keys.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{Disk, ErrorKind, SanitizeMethod, Volume};
use bytes::Bytes;
use std::sync::Arc;
use store::{Health, KeyStatus, Pool, PoolOptions, Secret, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Lands, Scripted, Target};
use support::steps::{at_every_step, prepared};
use support::{Local, holds, new_pool, pattern_page, put, put_run, reopen, sound, thin, unmap};
use zeroize::Zeroizing;

const MIB: u64 = 1 << 20;
const AREA: std::ops::Range<u64> = 16 << 10..1008 << 10;
const COPIES: [u64; 2] = [16 << 10, 512 << 10];

fn options() -> PoolOptions {
    support::small(256 << 10)
}

fn words(text: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
}

fn file(byte: u8) -> Secret {
    Secret::KeyFile(Zeroizing::new(vec![byte; 32]))
}

fn encrypted(id: u8, size_bytes: u64) -> VolumeSpec {
    VolumeSpec { encrypted: true, ..thin(id, size_bytes) }
}

fn volume(pool: &Pool, id: u8) -> Arc<StoreVolume> {
    pool.open_volume([id; 16]).unwrap()
}

fn families(pool: &Pool) -> usize {
    pool.keys().unwrap().families
}

/// A disk with a pool that "hush" opens; a pool made on it.
fn keyed() -> (Arc<Scripted>, Arc<Local>, Arc<Pool>) {
    let disk = Scripted::new(24 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(pool.begin_encryption(words("hush"), true)).unwrap();
    (disk, local, pool)
}

fn bytes_of(disk: &dyn Disk, range: std::ops::Range<u64>) -> Vec<u8> {
    let start = range.start - range.start % 4096;
    let len = |from: u64, to: u64| usize::try_from(to - from).unwrap();
    let mut bytes = vec![0; len(start, range.end.next_multiple_of(4096))];
    disk.read_blocking(start, &mut bytes).unwrap();
    bytes[len(start, range.start)..len(start, range.end)].to_vec()
}

/// How often a block holds what was written, anywhere on the disk.
fn found(disk: &dyn Disk, seed: u64) -> usize {
    let needle = pattern_page(seed);
    let all = bytes_of(disk, 0..disk.info().size_bytes);
    // Sixteen bytes are enough to tell, wherever they begin.
    all.windows(16).filter(|window| *window == &needle[64..80]).count()
}

#[test]
fn nothing_of_an_encrypted_volume_is_on_the_disk_while_all_of_another_is() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(thin(2, MIB), Vec::new()).await.unwrap();
        put_run(&volume(&pool, 1), 3, 100, 5).await.unwrap();
        put_run(&volume(&pool, 2), 3, 200, 5).await.unwrap();
        // A part of a block: what is there is read, decrypted, and encrypted anew.
        let part = vec![Bytes::from(pattern_page(300)[..512].to_vec())];
        volume(&pool, 1).write(4 * 4096 + 512, part, block::Durability::Durable).await.unwrap();
        let [one, other] = [100, 101].map(|seed| vec![Bytes::from(pattern_page(seed))]);
        let first = volume(&pool, 1);
        let compared = first.compare_and_write(3 * 4096, one, other, block::Durability::Default).await;
        assert_eq!(compared, Ok(block::Comparison::Equal));
        let atomic = vec![Bytes::from([pattern_page(0), pattern_page(102)].concat())];
        volume(&pool, 1).write_atomic(10 * 4096, atomic, block::Durability::Durable).await.unwrap();
        pool.checkpoint().await.unwrap();
        let infos = pool.volumes();
        assert_eq!(infos.iter().map(|info| info.encrypted).collect::<Vec<_>>(), [true, false]);
        pool.close().await.unwrap();
    });
    let disk = disk.disk();
    for seed in 100..105 {
        assert_eq!(found(&*disk, seed), 0, "block {seed} can be read from the disk");
        assert!(found(&*disk, seed + 100) > 0, "what is not encrypted is there");
    }
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        pool.unlock(words("hush")).await.unwrap();
        let first = volume(&pool, 1);
        holds(&first, 3, 101).await;
        holds(&first, 7, 104).await;
        holds(&first, 10, 0).await;
        holds(&first, 11, 102).await;
        let mixed = first.read(4 * 4096, 4096).await.unwrap().concat();
        assert!(mixed[..512] == pattern_page(101)[..512] && mixed[512..1024] == pattern_page(300)[..512]);
        assert!(mixed[1024..] == pattern_page(101)[1024..]);
        holds(&volume(&pool, 2), 3, 200).await;
        sound(&pool).await;
    });
}

#[test]
fn a_locked_pool_serves_what_is_not_encrypted_and_loses_nothing() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(thin(2, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 7).await.unwrap();
        assert!(!volume(&pool, 1).is_locked());
    });
    // Not closed: the log is replayed without keys.
    let disk = disk.after(Crash::Power).disk();
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        let (sealed, open) = (volume(&pool, 1), volume(&pool, 2));
        assert!(sealed.is_locked() && !open.is_locked());
        assert!(pool.keys().is_some_and(|keys| keys.locked && keys.encrypt_new && keys.families == 1));
        let kind = |result: block::Result<()>| result.err().map(|error| error.kind);
        assert_eq!(kind(sealed.read(0, 4096).await.map(drop)), Some(ErrorKind::Locked));
        assert_eq!(kind(put(&sealed, 0, 8).await), Some(ErrorKind::Locked));
        assert_eq!(kind(unmap(&sealed, 0, 1).await), Some(ErrorKind::Locked));
        assert_eq!(kind(sealed.flush().await), Some(ErrorKind::Locked));
        let created = pool.create_volume(encrypted(3, MIB), Vec::new()).await;
        assert_eq!(kind(created), Some(ErrorKind::Locked));
        put(&open, 0, 9).await.unwrap();
        pool.snapshot_volume([1; 16], [4; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        for wrong in [words("hash"), words("hush "), file(1)] {
            assert_eq!(kind(pool.unlock(wrong).await), Some(ErrorKind::Denied));
        }
        assert!(sealed.is_locked());
        pool.unlock(words("hush")).await.unwrap();
        holds(&sealed, 0, 7).await;
        holds(&volume(&pool, 4), 0, 7).await;
        put(&sealed, 0, 8).await.unwrap();
        pool.lock().await.unwrap();
        assert_eq!(kind(put(&sealed, 0, 9).await), Some(ErrorKind::Locked));
        pool.unlock(words("hush")).await.unwrap();
        holds(&sealed, 0, 8).await;
        sound(&pool).await;
    });
}

#[test]
fn a_family_has_one_key_and_its_members_go_their_own_ways() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, 4 * MIB), Vec::new()).await.unwrap();
        put_run(&volume(&pool, 1), 0, 1, 8).await.unwrap();
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        pool.clone_volume([2; 16], [3; 16], Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 1, 50).await.unwrap();
        put(&volume(&pool, 3), 2, 60).await.unwrap();
        assert_eq!(families(&pool), 1);
        let found = pool.difference([2; 16], [3; 16], 0, 100).await.unwrap();
        assert_eq!(found.ranges, [block::ByteRange { offset: 2 * 4096, len: 4096 }]);
        pool.roll_back_volume([1; 16], [2; 16], [4; 16], Vec::new()).await.unwrap();
        for (id, expected) in [(1, [1, 2, 3]), (2, [1, 2, 3]), (3, [1, 2, 60]), (4, [1, 50, 3])] {
            for (address, seed) in (0..).zip(expected) {
                holds(&volume(&pool, id), address, seed).await;
            }
        }
        pool.delete_snapshot([4; 16], Vec::new()).await.unwrap();
        pool.delete_snapshot([2; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(families(&pool), 1, "the clone still has the key");
        pool.close().await.unwrap();
    });
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        pool.unlock(words("hush")).await.unwrap();
        holds(&volume(&pool, 3), 1, 2).await;
        holds(&volume(&pool, 3), 2, 60).await;
        pool.delete_volume([3; 16], Vec::new()).await.unwrap();
        assert_eq!(families(&pool), 0);
    });
}

#[test]
fn blocks_are_shared_at_their_own_address_within_a_family_and_else_not() {
    let (_disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, 4 * MIB), Vec::new()).await.unwrap();
        pool.create_volume(encrypted(5, 4 * MIB), Vec::new()).await.unwrap();
        pool.create_volume(thin(6, 4 * MIB), Vec::new()).await.unwrap();
        put_run(&volume(&pool, 1), 0, 1, 64).await.unwrap();
        pool.clone_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        let (one, clone) = (volume(&pool, 1), volume(&pool, 2));
        put_run(&one, 0, 500, 32).await.unwrap();
        let len = 32 * 4096;
        for (from, to) in [(0, 64 * 4096), (4096, 0)] {
            assert!(one.copy_from(to, len, &*one, from).is_none(), "another address");
            assert!(clone.copy_from(to, len, &*one, from).is_none());
        }
        for other in [volume(&pool, 5), volume(&pool, 6)] {
            assert!(other.copy_from(0, len, &*one, 0).is_none(), "another key");
            assert!(one.copy_from(0, len, &*other, 0).is_none());
        }
        let left = clone.copy_from(0, len, &*one, 0).expect("same key and address").await.unwrap();
        assert_eq!(left, []);
        holds(&clone, 5, 505).await;
        put(&one, 5, 9).await.unwrap();
        pool.settle().await.unwrap();
        holds(&clone, 5, 505).await;
        holds(&clone, 40, 41).await;
        sound(&pool).await;
    });
}

/// With what is on the disk, and all secrets, a volume that was deleted cannot be read again.
#[test]
fn of_a_deleted_volume_the_key_is_overwritten_at_once_in_both_copies() {
    let (disk, local, pool) = keyed();
    let disk = disk.disk();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(encrypted(2, MIB), Vec::new()).await.unwrap();
        // Entries of families are 128 bytes, from the second block on; that of the first volume is the first.
        let wrapped = bytes_of(&*disk, COPIES[0] + 4096..COPIES[0] + 4096 + 128);
        assert!(wrapped[32..112].iter().any(|byte| *byte != 0));
        let count = |disk: &dyn Disk| {
            let area = bytes_of(disk, AREA);
            area.windows(80).filter(|window| *window == &wrapped[32..112]).count()
        };
        assert_eq!(count(&*disk), 2);
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        assert_eq!(count(&*disk), 0);
        assert_eq!((families(&pool), pool.status().health), (1, Health::Healthy));
        // Numbers are not used again, so an old entry that was kept somewhere fits no new volume.
        pool.create_volume(encrypted(3, MIB), Vec::new()).await.unwrap();
        let last = bytes_of(&*disk, COPIES[1] + 4096 + 128..COPIES[1] + 4096 + 136);
        assert_eq!(last, 3u64.to_le_bytes());
    });
}

#[test]
fn a_crypto_erase_empties_a_volume_and_forgets_its_key_but_snapshots_keep_theirs() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(thin(2, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        let before = bytes_of(&*disk.disk(), COPIES[0] + 4096..COPIES[0] + 4224);
        let erased = volume(&pool, 1).sanitize(SanitizeMethod::CryptoErase, false).await;
        erased.unwrap();
        assert_eq!((families(&pool), volume(&pool, 1).sanitization()), (1, block::Sanitization::Idle));
        assert_ne!(bytes_of(&*disk.disk(), COPIES[0] + 4096..COPIES[0] + 4224), before);
        holds(&volume(&pool, 1), 0, 0).await;
        put(&volume(&pool, 1), 0, 2).await.unwrap();
        pool.snapshot_volume([1; 16], [3; 16], Vec::new()).await.unwrap();
        volume(&pool, 1).sanitize(SanitizeMethod::CryptoErase, false).await.unwrap();
        assert_eq!(families(&pool), 2);
        put(&volume(&pool, 1), 0, 4).await.unwrap();
        holds(&volume(&pool, 3), 0, 2).await;
        let refused = volume(&pool, 2).sanitize(SanitizeMethod::CryptoErase, false).await;
        assert_eq!(refused.map_err(|error| error.kind), Err(ErrorKind::Invalid));
        assert!(volume(&pool, 1).can_crypto_erase() && !volume(&pool, 2).can_crypto_erase());
        assert!(!volume(&pool, 3).can_crypto_erase(), "a snapshot stays as it is");
    });
    let disk = disk.after(Crash::Power).disk();
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        pool.unlock(words("hush")).await.unwrap();
        holds(&volume(&pool, 1), 0, 4).await;
        holds(&volume(&pool, 3), 0, 2).await;
        sound(&pool).await;
    });
}

#[test]
fn a_volume_rolled_back_to_before_a_crypto_erase_has_its_former_key_again() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        volume(&pool, 1).sanitize(SanitizeMethod::CryptoErase, false).await.unwrap();
        put(&volume(&pool, 1), 0, 3).await.unwrap();
        pool.roll_back_volume([1; 16], [2; 16], [4; 16], Vec::new()).await.unwrap();
        holds(&volume(&pool, 1), 0, 1).await;
        put(&volume(&pool, 1), 1, 5).await.unwrap();
        assert_eq!(families(&pool), 2, "the safety snapshot has the newer key");
    });
    let disk = disk.after(Crash::Power).disk();
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        pool.unlock(words("hush")).await.unwrap();
        for (id, expected) in [(1, [1, 5]), (2, [1, 0]), (4, [3, 0])] {
            for (address, seed) in (0..).zip(expected) {
                holds(&volume(&pool, id), address, seed).await;
            }
        }
        sound(&pool).await;
    });
}

#[test]
fn what_a_volume_is_overwritten_with_is_encrypted_too_and_waits_for_the_key() {
    let (disk, local, pool) = keyed();
    let pattern = Bytes::from(vec![0xa5; 512]);
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        volume(&pool, 1).sanitize(SanitizeMethod::Overwrite(pattern), false).await.unwrap();
    });
    let disk = disk.after(Crash::Process).disk();
    let (local, pool) = reopen(&disk, options());
    let waits = local.run_until_stuck(volume(&pool, 1).sanitized(), std::time::Duration::from_secs(60));
    assert!(waits.is_none(), "there is no key to write it with: {waits:?}");
    local.block_on(async {
        pool.unlock(words("hush")).await.unwrap();
        volume(&pool, 1).sanitized().await.unwrap();
        let read = volume(&pool, 1).read(0, MIB).await.unwrap().concat();
        assert!(read.iter().all(|byte| *byte == 0xa5));
        sound(&pool).await;
    });
    // 512 of them are in the catalog, as what to write.
    assert!(!bytes_of(&*disk, 0..24 * MIB).windows(1024).any(|window| window == [0xa5; 1024]));
}

#[test]
fn slots_come_and_go_and_the_last_one_stays() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        assert_eq!(pool.add_key(file(5)).await, Ok(1));
        pool.change_key(0, words("new words")).await.unwrap();
        let kind = |result: block::Result<()>| result.err().map(|error| error.kind);
        assert_eq!(kind(pool.unlock(words("hush")).await), Some(ErrorKind::Denied));
        pool.remove_key(0).await.unwrap();
        assert_eq!(kind(pool.remove_key(0).await), Some(ErrorKind::NotFound));
        assert_eq!(kind(pool.remove_key(1).await), Some(ErrorKind::Invalid));
        assert_eq!(kind(pool.change_key(6, file(1)).await), Some(ErrorKind::NotFound));
        assert_eq!(kind(pool.add_key(words("")).await.map(drop)), Some(ErrorKind::Invalid));
        for slot in [0, 2, 3, 4, 5, 6, 7] {
            assert_eq!(pool.add_key(file(10 + slot)).await, Ok(slot));
        }
        assert_eq!(kind(pool.add_key(file(99)).await.map(drop)), Some(ErrorKind::Invalid));
        pool.set_encrypt_new(false).await.unwrap();
        pool.close().await.unwrap();
    });
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        let KeyStatus { slots, encrypt_new, .. } = pool.keys().unwrap();
        assert!(slots.len() == 8 && slots.iter().all(|slot| !slot.passphrase) && !encrypt_new);
        assert!(pool.unlock(words("new words")).await.is_err());
        pool.unlock(file(17)).await.unwrap();
        holds(&volume(&pool, 1), 0, 1).await;
    });
}

#[test]
fn with_a_new_pool_key_the_old_area_opens_nothing_and_data_stays() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        pool.add_key(file(5)).await.unwrap();
        let before = bytes_of(&*disk.disk(), AREA);
        let kind = |result: block::Result<Vec<u8>>| result.err().map(|error| error.kind);
        assert_eq!(kind(pool.rekey(vec![words("wrong")]).await), Some(ErrorKind::Denied));
        assert_eq!(kind(pool.rekey(Vec::new()).await), Some(ErrorKind::Invalid));
        assert_eq!(bytes_of(&*disk.disk(), AREA), before, "nothing has happened");
        assert_eq!(pool.rekey(vec![file(5)]).await, Ok(vec![0]), "the passphrase was not given");
        let after = bytes_of(&*disk.disk(), AREA);
        let entry = |area: &[u8]| area[4096 + 32..4096 + 112].to_vec();
        assert!(!after.windows(80).any(|window| window == entry(&before)));
        put(&volume(&pool, 1), 1, 2).await.unwrap();
        pool.close().await.unwrap();
    });
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        assert!(pool.unlock(words("hush")).await.is_err());
        pool.unlock(file(5)).await.unwrap();
        holds(&volume(&pool, 1), 0, 1).await;
        holds(&volume(&pool, 1), 1, 2).await;
    });
}

#[test]
fn either_copy_of_the_keys_is_enough_and_is_made_two_again() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 1), 0, 1).await.unwrap();
        pool.close().await.unwrap();
    });
    for lost in COPIES {
        let disk = disk.after(Crash::Process).disk();
        // Torn: the header is from another time than the families.
        disk.write_blocking(lost + 4096, &vec![0x77; 4096]).unwrap();
        disk.flush_blocking().unwrap();
        let (local, pool) = reopen(&disk, options());
        local.block_on(async {
            pool.unlock(words("hush")).await.unwrap();
            holds(&volume(&pool, 1), 0, 1).await;
        });
        let copy = |at: u64| bytes_of(&*disk, at..at + (496 << 10));
        assert!(copy(COPIES[0]) == copy(COPIES[1]), "both are whole again");
    }
}

#[test]
fn a_pool_whose_keys_are_all_damaged_opens_and_says_so() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(thin(2, MIB), Vec::new()).await.unwrap();
        put(&volume(&pool, 2), 0, 3).await.unwrap();
        pool.close().await.unwrap();
    });
    let disk = disk.disk();
    COPIES.into_iter().for_each(|at| disk.write_blocking(at, &vec![0; 8192]).unwrap());
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        assert!(pool.keys().is_some_and(|keys| keys.lost && keys.locked));
        assert_eq!(pool.unlock(words("hush")).await.map_err(|error| error.kind), Err(ErrorKind::Corrupt));
        assert_eq!(
            pool.begin_encryption(words("hush"), true).await.map_err(|error| error.kind),
            Err(ErrorKind::Exists),
            "what could be put back from a copy of the disk is not overwritten"
        );
        holds(&volume(&pool, 2), 0, 3).await;
        assert!(volume(&pool, 1).is_locked());
    });
}

#[test]
fn keys_that_cannot_be_overwritten_are_told_of_and_go_later() {
    let (disk, local, pool) = keyed();
    local.block_on(async {
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        disk.fail(Target::Keys, 0, 1, ErrorKind::Device);
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        let health = pool.status().health;
        assert!(matches!(&health, Health::Degraded(why) if why.contains("overwritten")), "{health:?}");
        assert_eq!(families(&pool), 1);
        disk.heal();
        disk.fail(Target::Keys, 1, 1, ErrorKind::Device);
        let failed = pool.create_volume(encrypted(2, MIB), Vec::new()).await;
        assert!(failed.is_err() && pool.open_volume([2; 16]).is_err());
        disk.heal();
        pool.close().await.unwrap();
    });
    let (_local, pool) = reopen(&disk.disk(), options());
    assert_eq!(families(&pool), 0, "gone when the pool was opened");
}

#[test]
fn a_pool_without_keys_makes_no_encrypted_volumes() {
    let disk = Scripted::new(24 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        assert_eq!(pool.keys(), None);
        let kind = |result: block::Result<()>| result.err().map(|error| error.kind);
        assert_eq!(kind(pool.create_volume(encrypted(1, MIB), Vec::new()).await), Some(ErrorKind::Invalid));
        assert_eq!(kind(pool.unlock(words("a")).await), Some(ErrorKind::Invalid));
        assert_eq!(kind(pool.begin_encryption(file(1), false).await), None);
        assert_eq!(kind(pool.begin_encryption(file(1), false).await), Some(ErrorKind::Exists));
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        assert_eq!(kind(pool.create_volume(encrypted(1, MIB), Vec::new()).await), Some(ErrorKind::Exists));
        assert_eq!(families(&pool), 1, "a volume that was not made leaves no key");
    });
}

/// An encrypted volume with something in it, and two ways to open it.
async fn with_a_volume(pool: &Pool) {
    pool.begin_encryption(words("hush"), true).await.unwrap();
    pool.add_key(file(5)).await.unwrap();
    pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
    put(&volume(pool, 1), 0, 1).await.unwrap();
}

/// At each step: all keys or none of them are there, for the volumes that are.
#[test]
fn a_crash_at_any_step_of_making_and_forgetting_leaves_a_key_for_each_volume_and_no_other() {
    let base = prepared(with_a_volume);
    let steps = at_every_step(
        &base,
        async |pool, _| {
            pool.unlock(words("hush")).await?;
            pool.create_volume(encrypted(2, MIB), Vec::new()).await?;
            put(&volume(pool, 2), 0, 2).await?;
            pool.delete_volume([1; 16], Vec::new()).await
        },
        async |pool, done, step| {
            pool.unlock(words("hush")).await.unwrap();
            let there = pool.volumes().into_iter().map(|info| info.id[0]).collect::<Vec<_>>();
            assert_eq!(families(pool), there.len(), "step {step}");
            assert!(done.is_none() || there == [2]);
            for id in there {
                let read = volume(pool, id).read(0, 4096).await.unwrap().concat();
                let written = read == pattern_page(u64::from(id));
                assert!(written || (id == 2 && read == pattern_page(0) && done.is_none()), "step {step}");
            }
        },
    );
    assert!(steps >= 8, "{steps}");
}

#[test]
fn a_crash_at_any_step_of_a_rekey_leaves_the_old_keys_or_the_new_ones() {
    let base = prepared(with_a_volume);
    at_every_step(
        &base,
        async |pool, _| {
            pool.unlock(words("hush")).await?;
            pool.rekey(vec![file(5)]).await
        },
        async |pool, done, step| {
            let old = pool.unlock(words("hush")).await.is_ok();
            assert!(!(old && done.is_some()), "step {step}");
            pool.unlock(file(5)).await.unwrap();
            holds(&volume(pool, 1), 0, 1).await;
        },
    );
}

#[test]
fn a_crash_at_any_step_of_the_first_keys_leaves_them_or_none() {
    let base = prepared(async |pool| pool.create_volume(thin(9, MIB), Vec::new()).await.unwrap());
    at_every_step(
        &base,
        async |pool, _| pool.begin_encryption(words("hush"), true).await,
        async |pool, done, _| {
            match pool.keys() {
                Some(keys) => assert!(!keys.lost),
                None => {
                    assert!(done.is_none());
                    pool.begin_encryption(words("hush"), true).await.unwrap();
                }
            }
            pool.unlock(words("hush")).await.unwrap();
            pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        },
    );
}

#[test]
fn a_crash_at_any_step_of_a_crypto_erase_leaves_all_or_nothing() {
    let base = prepared(with_a_volume);
    at_every_step(
        &base,
        async |pool, _| {
            pool.unlock(words("hush")).await?;
            volume(pool, 1).sanitize(SanitizeMethod::CryptoErase, false).await
        },
        async |pool, done, step| {
            pool.unlock(words("hush")).await.unwrap();
            let read = volume(pool, 1).read(0, 4096).await.unwrap().concat();
            assert!(read == pattern_page(0) || (done.is_none() && read == pattern_page(1)), "step {step}");
            assert_eq!(families(pool), 1);
        },
    );
}

/// Three disks, of which each segment lies on two: each of them has the keys, so that any two are enough.
#[test]
fn each_disk_of_a_mirror_has_the_keys_and_one_that_was_away_gives_none_back() {
    let disks: Vec<Arc<Scripted>> = (0..3).map(|_| Scripted::new(24 * MIB)).collect();
    let given = |which: &[usize]| which.iter().map(|disk| disks[*disk].disk()).collect::<Vec<_>>();
    let mirrored = || PoolOptions { redundancy: store::Redundancy::Mirror2, ..options() };
    let local = Local::new();
    local.block_on(async {
        let pool = Pool::create(given(&[0, 1, 2]), "p", mirrored(), local.clone()).await.unwrap();
        pool.begin_encryption(words("hush"), true).await.unwrap();
        pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
        pool.create_volume(encrypted(2, MIB), Vec::new()).await.unwrap();
        put_run(&volume(&pool, 1), 0, 1, 64).await.unwrap();
        pool.close().await.unwrap();
    });
    let areas: Vec<_> = disks.iter().map(|disk| bytes_of(&*disk.disk(), AREA)).collect();
    assert!(areas[0] == areas[1] && areas[0] == areas[2]);
    // Without the first: what is done now it does not hear of.
    let local = Local::new();
    local.block_on(async {
        let pool = Pool::open(given(&[1, 2]), mirrored(), local.clone()).await.unwrap();
        pool.unlock(words("hush")).await.unwrap();
        holds(&volume(&pool, 1), 5, 6).await;
        pool.delete_volume([2; 16], Vec::new()).await.unwrap();
        pool.rekey(vec![words("hush")]).await.unwrap();
        pool.close().await.unwrap();
    });
    // It is back: its copy is older, and does not count although it can be read.
    let local = Local::new();
    local.block_on(async {
        let pool = Pool::open(given(&[0, 1, 2]), mirrored(), local.clone()).await.unwrap();
        assert_eq!(families(&pool), 1);
        pool.unlock(words("hush")).await.unwrap();
        holds(&volume(&pool, 1), 5, 6).await;
        pool.close().await.unwrap();
    });
    // A disk whose keys are gone gets them from the others.
    let third = disks[2].disk();
    COPIES.into_iter().for_each(|at| third.write_blocking(at, &vec![0; 8192]).unwrap());
    let local = Local::new();
    local.block_on(async {
        let pool = Pool::open(given(&[1, 2]), mirrored(), local.clone()).await.unwrap();
        pool.unlock(words("hush")).await.unwrap();
        holds(&volume(&pool, 1), 63, 64).await;
    });
    assert!(bytes_of(&*disks[1].disk(), AREA) == bytes_of(&*disks[2].disk(), AREA));
}

#[test]
fn writes_of_the_keys_that_fail_one_after_the_other_leave_one_copy_whole() {
    for skips in [[0, 0], [1, 0], [0, 1], [1, 1]] {
        let (disk, local, pool) = keyed();
        local.block_on(async {
            pool.create_volume(encrypted(1, MIB), Vec::new()).await.unwrap();
            put(&volume(&pool, 1), 0, 1).await.unwrap();
            for (number, skip) in (2..).zip(skips) {
                disk.fail_after(Target::Keys, skip, Lands::FirstHalf);
                let failed = pool.create_volume(encrypted(number, MIB), Vec::new()).await;
                assert!(failed.is_err(), "the keys could not be written");
                disk.heal();
            }
        });
        let disk = disk.after(Crash::Power).disk();
        let (local, pool) = reopen(&disk, options());
        local.block_on(async {
            pool.unlock(words("hush")).await.unwrap_or_else(|error| panic!("{skips:?}: {error}"));
            holds(&volume(&pool, 1), 0, 1).await;
            pool.create_volume(encrypted(9, MIB), Vec::new()).await.unwrap();
        });
    }
}
