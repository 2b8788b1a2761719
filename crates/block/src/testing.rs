//! The conformance suite that every [`Disk`] passes, and a seeded source of bytes for it.
//!
//! A disk's own tests call [`check_disk`] on a disk of at least [`CHECK_DISK_SIZE_MIN`] bytes whose content may
//! be destroyed. A failed check panics with the rule of [`Disk`] that it is about.

use crate::{BufferPool, Disk, ErrorKind, Persist};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// The smallest disk the suite can run on, in bytes.
pub const CHECK_DISK_SIZE_MIN: u64 = 16 << 20;

/// `len` bytes that depend on `seed` alone.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Waits for all of `futures` on the current task.
pub async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    poll_fn(|context| {
        let mut left = 0;
        for (future, output) in &mut running {
            let Some(pending) = future else { continue };
            match pending.as_mut().poll(context) {
                Poll::Ready(value) => (*future, *output) = (None, Some(value)),
                Poll::Pending => left += 1,
            }
        }
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// Runs every check on `disk`.
///
/// # Panics
/// If the disk breaks a rule.
pub async fn check_disk(disk: &dyn Disk) {
    assert!(disk.info().size_bytes >= CHECK_DISK_SIZE_MIN, "the disk is large enough for the suite");
    assert_eq!(disk.info().size_bytes % 4096, 0, "sizes are whole 4 KiB blocks");
    check_round_trips(disk).await;
    check_chunk_shapes(disk).await;
    check_refusals(disk).await;
    check_concurrency(disk).await;
    check_dropped_futures(disk).await;
    check_blocking_agrees(disk).await;
    check_discard(disk).await;
}

/// Written data is read back, for every size and persistence, and at both ends of the disk.
async fn check_round_trips(disk: &dyn Disk) {
    let end = disk.info().size_bytes;
    for persist in [Persist::Cached, Persist::Durable] {
        for len in [4096usize, 8192, 65_536, 1 << 20, (1 << 20) + 4096] {
            let data = pattern(u64::try_from(len).unwrap_or(0), len);
            for offset in [0, 4096 * 3, end - u64::try_from(len).unwrap_or(0)] {
                disk.write(offset, vec![aligned(&data)], persist).await.expect("write");
                let back = disk.read(offset, len).await.expect("read");
                assert_eq!(back, data, "{len} bytes at {offset}, {persist:?}");
                assert_eq!(back.as_ptr().addr() % 4096, 0, "reads come in page-aligned memory");
            }
        }
    }
    disk.flush().await.expect("flush");
}

/// Chunks follow each other, whatever their number, size and alignment in memory.
async fn check_chunk_shapes(disk: &dyn Disk) {
    let data = pattern(7, 3 * 1024 * 4096);
    let odd = Bytes::from(pattern(0, 1).into_iter().chain(data.iter().copied()).collect::<Vec<_>>());
    let shapes: [Vec<usize>; 5] =
        [vec![4096; 3], vec![4096; 1500], vec![1, 4095, 8191, 1], vec![512, 3584, 0, 4096], vec![100; 1024]];
    for (number, lengths) in shapes.iter().enumerate() {
        let mut start = 1;
        let mut chunks = Vec::new();
        for len in lengths {
            chunks.push(odd.slice(start..start + len));
            start += len;
        }
        let total = start - 1;
        let page_aligned = number % 2 == 0 && lengths.iter().all(|len| len % 4096 == 0);
        let chunks = if page_aligned { chunks.iter().map(|c| aligned(c)).collect() } else { chunks };
        disk.write(8192, chunks, Persist::Durable).await.expect("write of odd chunks");
        assert_eq!(disk.read(8192, total).await.expect("read"), data[..total], "shape {number}");
    }
    disk.write(0, Vec::new(), Persist::Durable).await.expect("a write of nothing");
}

/// Unaligned requests and requests past the end are refused as `Invalid` and change nothing.
async fn check_refusals(disk: &dyn Disk) {
    let end = disk.info().size_bytes;
    let before = disk.read(end - 4096, 4096).await.expect("read");
    for (offset, len) in [(end, 4096), (end - 4096, 8192), (1, 4096), (0, 100), (u64::MAX - 4095, 4096)] {
        let read = disk.read(offset, len).await.expect_err("refused");
        let write =
            disk.write(offset, vec![aligned(&vec![9; len])], Persist::Cached).await.expect_err("refused");
        let discard = disk.discard(offset, u64::try_from(len).unwrap_or(0)).await.expect_err("refused");
        for error in [read, write, discard] {
            assert_eq!(error.kind, ErrorKind::Invalid, "{len} bytes at {offset}: {error}");
        }
    }
    assert_eq!(disk.read(end - 4096, 4096).await.expect("read"), before);
}

/// Many requests at once, more than any queue inside holds, each end with their own data.
async fn check_concurrency(disk: &dyn Disk) {
    const REQUESTS: u64 = 1000;
    let block = |number: u64| pattern(number + 1, 4096);
    let persist = |number: u64| if number.is_multiple_of(3) { Persist::Durable } else { Persist::Cached };
    let writes = (0..REQUESTS).map(|n| disk.write(n * 4096, vec![aligned(&block(n))], persist(n))).collect();
    assert!(join_all(writes).await.iter().all(Result::is_ok), "all writes end well");
    let flushes = (0..20).map(|_| disk.flush()).collect();
    assert!(join_all(flushes).await.iter().all(Result::is_ok), "all flushes end well");
    let reads = join_all((0..REQUESTS).rev().map(|n| disk.read(n * 4096, 4096)).collect()).await;
    for (number, read) in (0..REQUESTS).rev().zip(reads) {
        assert_eq!(read.expect("read"), block(number), "block {number}");
    }
}

/// A dropped future's operation still runs to its end, and its memory stays its own until then.
async fn check_dropped_futures(disk: &dyn Disk) {
    let old = pattern(1, 4096);
    let new = pattern(2, 4096);
    for number in 0..64u64 {
        disk.write(number * 4096, vec![aligned(&old)], Persist::Cached).await.expect("write");
        drop_after_one_poll(disk.write(number * 4096, vec![aligned(&new)], Persist::Durable)).await;
        drop_after_one_poll(disk.read(number * 4096, 65_536)).await;
    }
    for number in 0..64u64 {
        while disk.read(number * 4096, 4096).await.expect("read") != new {}
    }
    drop_after_one_poll(disk.flush()).await;
}

/// The blocking calls and the asynchronous ones see the same bytes.
async fn check_blocking_agrees(disk: &dyn Disk) {
    let data = pattern(3, 12_288);
    disk.write_blocking(1 << 20, &data).expect("blocking write");
    assert_eq!(disk.read(1 << 20, 12_288).await.expect("read"), data);
    let newer = pattern(4, 4096);
    disk.write((1 << 20) + 4096, vec![aligned(&newer)], Persist::Durable).await.expect("write");
    let mut back = vec![0; 12_288];
    disk.read_blocking(1 << 20, &mut back).expect("blocking read");
    assert_eq!(back[..4096], data[..4096]);
    assert_eq!(back[4096..8192], newer);
    disk.flush_blocking().expect("blocking flush");
    let past_end = disk.read_blocking(disk.info().size_bytes, &mut back).expect_err("past the end");
    assert_eq!(past_end.kind, ErrorKind::Invalid);
    let past_end = disk.write_blocking(disk.info().size_bytes - 4096, &data).expect_err("past the end");
    assert_eq!(past_end.kind, ErrorKind::Invalid);
}

/// A discard leaves its neighbours alone, and the range can be written again.
async fn check_discard(disk: &dyn Disk) {
    let data = pattern(5, 3 << 20);
    disk.write(0, vec![aligned(&data)], Persist::Durable).await.expect("write");
    disk.discard(1 << 20, 1 << 20).await.expect("discard");
    disk.discard(0, 0).await.expect("discard of nothing");
    assert_eq!(disk.read(0, 1 << 20).await.expect("read"), data[..1 << 20]);
    assert_eq!(disk.read(2 << 20, 1 << 20).await.expect("read"), data[2 << 20..]);
    disk.read(1 << 20, 1 << 20).await.expect("discarded blocks can be read");
    disk.write(1 << 20, vec![aligned(&data[..4096])], Persist::Durable).await.expect("write again");
    assert_eq!(disk.read(1 << 20, 4096).await.expect("read"), data[..4096]);
}

async fn drop_after_one_poll<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = Pin::as_mut(&mut future).poll(context);
        Poll::Ready(())
    })
    .await;
}

fn aligned(data: &[u8]) -> Bytes {
    BufferPool::new(0).copy_of(data).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxFuture, DiskInfo, MemoryDisk, Result};
    use std::task::{Context, Waker};

    #[test]
    fn the_disk_in_memory_conforms() {
        let disk = MemoryDisk::new("ram", CHECK_DISK_SIZE_MIN, BufferPool::default());
        let mut check = pin!(check_disk(&disk));
        let mut context = Context::from_waker(Waker::noop());
        assert!(check.as_mut().poll(&mut context).is_ready(), "memory never waits");
    }

    /// A disk that breaks one rule.
    struct Faulty {
        disk: MemoryDisk,
        fault: Fault,
    }

    #[derive(PartialEq)]
    enum Fault {
        LosesCachedWrites,
        SwapsChunks,
        ReadsPastTheEnd,
        DiscardsNeighbours,
        IgnoresBlockingWrites,
    }

    impl Disk for Faulty {
        fn info(&self) -> &DiskInfo {
            self.disk.info()
        }
        fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
            let past_end = offset >= self.info().size_bytes;
            let offset = if past_end && self.fault == Fault::ReadsPastTheEnd { 0 } else { offset };
            self.disk.read(offset, len)
        }
        fn write(&self, offset: u64, mut data: Vec<Bytes>, persist: Persist) -> BoxFuture<'_, Result<()>> {
            if self.fault == Fault::SwapsChunks && data.len() == 3 {
                data.swap(0, 2);
            }
            if self.fault == Fault::LosesCachedWrites && persist == Persist::Cached {
                data.clear();
            }
            self.disk.write(offset, data, persist)
        }
        fn flush(&self) -> BoxFuture<'_, Result<()>> {
            self.disk.flush()
        }
        fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
            let more = if self.fault == Fault::DiscardsNeighbours && len == 1 << 20 { len } else { 0 };
            self.disk.discard(offset, len + more)
        }
        fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            self.disk.read_blocking(offset, buf)
        }
        fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
            let ignored = self.fault == Fault::IgnoresBlockingWrites;
            if ignored { Ok(()) } else { self.disk.write_blocking(offset, data) }
        }
        fn flush_blocking(&self) -> Result<()> {
            self.disk.flush_blocking()
        }
    }

    fn check(fault: Fault) {
        let disk = MemoryDisk::new("faulty", CHECK_DISK_SIZE_MIN, BufferPool::default());
        let faulty = Faulty { disk, fault };
        let mut check = pin!(check_disk(&faulty));
        let _ = check.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    #[should_panic(expected = "Cached")]
    fn a_disk_that_loses_cached_writes_is_found_out() {
        check(Fault::LosesCachedWrites);
    }

    #[test]
    #[should_panic(expected = "shape")]
    fn a_disk_that_mixes_up_chunks_is_found_out() {
        check(Fault::SwapsChunks);
    }

    #[test]
    #[should_panic(expected = "refused")]
    fn a_disk_that_reads_past_its_end_is_found_out() {
        check(Fault::ReadsPastTheEnd);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_disk_that_discards_too_much_is_found_out() {
        check(Fault::DiscardsNeighbours);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_disk_whose_blocking_writes_do_nothing_is_found_out() {
        check(Fault::IgnoresBlockingWrites);
    }

    #[test]
    fn joined_futures_end_together_and_in_order() {
        let polls = std::cell::Cell::new(0);
        let after = |count: u32| {
            let polls = &polls;
            poll_fn(move |_| if polls.get() >= count { Poll::Ready(count) } else { Poll::Pending })
        };
        let mut joined = pin!(join_all(vec![after(2), after(0), after(1)]));
        let mut context = Context::from_waker(Waker::noop());
        for round in 0..2 {
            polls.set(round);
            assert!(joined.as_mut().poll(&mut context).is_pending());
        }
        polls.set(2);
        assert_eq!(joined.as_mut().poll(&mut context), Poll::Ready(vec![2, 0, 1]));
    }

    #[test]
    fn patterns_differ_by_seed() {
        assert_ne!(pattern(1, 512), pattern(2, 512));
        assert_eq!(pattern(1, 513)[..512], pattern(1, 512));
    }
}
