//! Faults planted between the pool engine and its disk, each of which breaks a promise: a simulation that does
//! not find them proves nothing.

use block::{BoxFuture, Disk, DiskInfo, Persist, Result};
use bytes::Bytes;
use sim::disk::DiskHandle;
use sim::engine::{Engine, Store};
use sim::schedule::{Wrap, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a disk lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A flush is acknowledged and not done.
    DropsFlushes,
    /// A durable write is in the cache only.
    AcksEarly,
    /// Now and then a write is acknowledged and not done: the block reverts.
    LosesWrites,
    /// Now and then a write goes to another place.
    Misdirects,
    /// Zeros are acknowledged and not written: what was there stays.
    KeepsWhatIsWiped,
}

struct Liar {
    inner: DiskHandle,
    lie: Lie,
    writes: AtomicU64,
}

impl Liar {
    /// True for one write of forty.
    fn now(&self) -> bool {
        self.writes.fetch_add(1, Ordering::Relaxed) % 40 == 39
    }
}

impl Disk for Liar {
    fn info(&self) -> &DiskInfo {
        self.inner.info()
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.inner.read(offset, len)
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>> {
        match self.lie {
            Lie::AcksEarly => self.inner.write(offset, data, Persist::Cached),
            Lie::KeepsWhatIsWiped if data.iter().flatten().all(|byte| *byte == 0) => {
                Box::pin(std::future::ready(Ok(())))
            }
            Lie::LosesWrites if self.now() => Box::pin(std::future::ready(Ok(()))),
            Lie::Misdirects if self.now() => self.inner.write(offset.saturating_sub(4096), data, persist),
            _ => self.inner.write(offset, data, persist),
        }
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        match self.lie {
            Lie::DropsFlushes => Box::pin(std::future::ready(Ok(()))),
            _ => self.inner.flush(),
        }
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        self.inner.discard(offset, len)
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_blocking(offset, buf)
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.write_blocking(offset, data)
    }

    fn flush_blocking(&self) -> Result<()> {
        match self.lie {
            Lie::DropsFlushes => Ok(()),
            _ => self.inner.flush_blocking(),
        }
    }
}

fn liar(inner: DiskHandle, lie: Lie) -> Arc<dyn Disk> {
    Arc::new(Liar { inner, lie, writes: AtomicU64::new(0) })
}

/// The lie must be found within so many schedules; the engine may also notice by itself and stop.
fn is_found(lie: Lie, wrap: Wrap, schedules: u64) {
    let engine: Arc<dyn Engine> = Arc::new(Store::new());
    let found = (0..schedules).find_map(|seed| {
        let result = catch_unwind(AssertUnwindSafe(|| run(&engine, seed, Some(wrap))));
        match result {
            Ok(Ok(_)) => None,
            Ok(Err(failed)) => Some(failed.to_string()),
            Err(_) => Some(format!("SEED={seed}: the engine stopped")),
        }
    });
    println!(
        "{lie:?}: {}",
        found.unwrap_or_else(|| panic!("{lie:?} was not found in {schedules} schedules"))
    );
}

#[test]
fn a_disk_that_drops_flushes_is_found() {
    is_found(Lie::DropsFlushes, |disk| liar(disk, Lie::DropsFlushes), 200);
}

#[test]
fn a_disk_that_acknowledges_durable_writes_early_is_found() {
    is_found(Lie::AcksEarly, |disk| liar(disk, Lie::AcksEarly), 200);
}

#[test]
fn a_disk_that_loses_writes_is_found() {
    is_found(Lie::LosesWrites, |disk| liar(disk, Lie::LosesWrites), 200);
}

#[test]
fn a_disk_that_misdirects_writes_is_found() {
    is_found(Lie::Misdirects, |disk| liar(disk, Lie::Misdirects), 200);
}

#[test]
fn a_disk_that_keeps_what_is_wiped_is_found() {
    is_found(Lie::KeepsWhatIsWiped, |disk| liar(disk, Lie::KeepsWhatIsWiped), 400);
}
