//! Tests of the simulated disk.

use super::{Crash, Faults, Latency, SimDisk};
use crate::executor::{Executor, Outcome};
use crate::rng::Rng;
use block::{Disk, ErrorKind, Persist};
use bytes::Bytes;
use std::time::Duration;

fn disk(seed: u64, immediate_percent: u64) -> (Executor, SimDisk) {
    let executor = Executor::new(Rng::new(seed));
    let latency = Latency { immediate_percent, max: Duration::from_millis(1) };
    let disk = SimDisk::new(4 << 20, 512, latency, &executor, Rng::new(seed + 1000));
    (executor, disk)
}

fn pages(byte: u8, count: usize) -> Vec<Bytes> {
    vec![vec![byte; 4096 * count].into()]
}

/// The first bytes of the pages of the disk, in its next life.
fn first_bytes(disk: &SimDisk, count: u64) -> Vec<u8> {
    let handle = disk.attach();
    let mut sector = [0; 512];
    let read = |page: u64| {
        handle.read_blocking(page * 4096, &mut sector).unwrap();
        sector[0]
    };
    (0..count).map(read).collect()
}

#[test]
fn flushed_and_durable_writes_survive_and_cached_ones_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let (executor, disk) = disk(seed, 0);
        let handle = disk.attach();
        let work = async move {
            handle.write(0, pages(1, 1), Persist::Cached).await.unwrap();
            handle.flush().await.unwrap();
            handle.write(4096, pages(2, 1), Persist::Durable).await.unwrap();
            handle.write(8192, pages(3, 1), Persist::Cached).await.unwrap();
        };
        assert_eq!(executor.run(work, || false, 1000), Outcome::Done(()));
        executor.kill_all();
        disk.crash_now();
        disk.settle(Crash::Machine);
        let left = first_bytes(&disk, 3);
        assert_eq!(left[..2], [1, 2], "seed {seed}");
        lost += usize::from(left[2] == 0);
    }
    assert!((5..50).contains(&lost), "{lost} of 50 lost");
}

#[test]
fn a_process_crash_keeps_what_was_completed() {
    for seed in 0..20 {
        let (executor, disk) = disk(seed, 0);
        let handle = disk.attach();
        let work = async move { handle.write(0, pages(1, 1), Persist::Cached).await };
        assert_eq!(executor.run(work, || false, 1000), Outcome::Done(Ok(())));
        executor.kill_all();
        disk.crash_now();
        disk.settle(Crash::Process);
        assert_eq!(first_bytes(&disk, 1), [1]);
        disk.crash_now();
        disk.settle(Crash::Machine);
    }
}

#[test]
fn a_flush_does_not_cover_what_was_not_completed_before() {
    let mut lost = 0;
    for seed in 0..50 {
        let (executor, disk) = disk(seed, 0);
        let handle = disk.attach();
        let work = async move {
            let flush = handle.flush();
            handle.write(0, pages(1, 1), Persist::Cached).await.unwrap();
            flush.await.unwrap();
        };
        assert_eq!(executor.run(work, || false, 1000), Outcome::Done(()));
        executor.kill_all();
        disk.crash_now();
        disk.settle(Crash::Machine);
        lost += usize::from(first_bytes(&disk, 1) == [0]);
    }
    assert!(lost > 5, "{lost} of 50 lost");
}

#[test]
fn writes_in_flight_are_torn() {
    let mut mixed = 0;
    for seed in 0..50 {
        let (executor, disk) = disk(seed, 0);
        let handle = disk.attach();
        disk.crash_after(2);
        let work = async move { handle.write(0, pages(7, 16), Persist::Durable).await };
        let stop = disk.clone();
        assert_eq!(executor.run(work, move || stop.crashed(), 1000), Outcome::Stopped);
        executor.kill_all();
        disk.settle(Crash::Machine);
        let left = first_bytes(&disk, 16);
        mixed += usize::from(left.contains(&0) && left.contains(&7));
    }
    assert!(mixed > 5, "{mixed} of 50 torn");
    assert!(disk(0, 0).1.counts().torn == 0);
}

#[test]
fn after_the_crash_blocking_operations_fail_and_others_never_answer() {
    let (executor, disk) = disk(1, 100);
    let handle = disk.attach();
    disk.crash_after(2);
    handle.write_blocking(0, &[1; 512]).unwrap();
    assert_eq!(handle.write_blocking(512, &[2; 512]).unwrap_err().kind, ErrorKind::Device);
    assert_eq!(handle.flush_blocking().unwrap_err().kind, ErrorKind::Device);
    let read = async move { handle.read(0, 512).await.map(|_| ()) };
    assert_eq!(executor.run(read, || false, 1000), Outcome::Hung);
}

#[test]
fn handles_of_former_lives_are_dead() {
    let (_, disk) = disk(1, 100);
    let old = disk.attach();
    disk.settle(Crash::Process);
    let new = disk.attach();
    assert!(old.write_blocking(0, &[1; 512]).is_err());
    assert!(new.write_blocking(0, &[1; 512]).is_ok());
}

#[test]
fn a_failed_flush_may_lose_what_it_covered_and_none_succeeds_after_it() {
    let mut lost = 0;
    for seed in 0..100 {
        let (_, disk) = disk(seed, 100);
        let handle = disk.attach();
        handle.write_blocking(0, &[1; 512]).unwrap();
        disk.set_faults(Faults { flush_errors: 65_536, blocking: true, ..Faults::default() });
        assert_eq!(handle.flush_blocking().unwrap_err().kind, ErrorKind::Device);
        disk.set_faults(Faults::default());
        assert_eq!(handle.flush_blocking().unwrap_err().kind, ErrorKind::Device);
        disk.crash_now();
        disk.settle(Crash::Machine);
        lost += usize::from(first_bytes(&disk, 1) == [0]);
    }
    assert!(lost > 5, "{lost} of 100 lost");
}

#[test]
fn growth_is_seen_at_once_and_reads_as_zeros() {
    let (_, disk) = disk(1, 100);
    let handle = disk.attach();
    assert!(handle.write_blocking(4 << 20, &[1; 512]).is_err());
    disk.grow(&handle, 8 << 20);
    assert_eq!(handle.info().size_bytes, 8 << 20);
    handle.write_blocking(4 << 20, &[1; 512]).unwrap();
    assert!(disk.resident_bytes() < 64 << 10, "memory only for what was written");
}
