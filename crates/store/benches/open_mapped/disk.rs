//! A large disk in little memory, with the time that a drive takes for reads.

use block::{BlockError, BoxFuture, BufferPool, Disk, DiskInfo, ErrorKind, Media, Persist, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const BLOCK: usize = 4096;
/// Reads that a drive works on at a time.
const CHANNELS: usize = 32;

/// How long reads take. Writes take none: it is openings that are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// Of one read; 32 are worked on at a time.
    pub(crate) latency: Duration,
    /// Of all reads together; zero is no bound.
    pub(crate) mib_per_s: u64,
}

/// What is on the disk. A block of one non-zero word over and over is kept as that word.
#[derive(Clone)]
struct Content {
    words: Vec<u64>,
    whole: HashMap<u64, Arc<[u8]>>,
}

impl Content {
    fn put(&mut self, block: u64, data: &[u8]) {
        let slot = usize::try_from(block).expect("64 bits");
        self.words[slot] = 0;
        self.whole.remove(&block);
        let first = u64::from_ne_bytes(data[..8].try_into().expect("8 bytes"));
        if data[..BLOCK - 8] == data[8..] {
            self.words[slot] = first;
        } else {
            self.whole.insert(block, data.into());
        }
    }

    fn get(&self, block: u64, to: &mut [u8]) {
        let word = self.words[usize::try_from(block).expect("64 bits")];
        match self.whole.get(&block) {
            Some(data) if word == 0 => to.copy_from_slice(data),
            _ => to.as_chunks_mut::<8>().0.fill(word.to_ne_bytes()),
        }
    }
}

/// The drive's clockwork: when each of its channels, and its link, is free again.
struct Timing {
    drive: Drive,
    channels: [Instant; CHANNELS],
    link: Instant,
}

type Alarm = (Instant, oneshot::Sender<()>);

/// The disk.
pub(crate) struct CompactDisk {
    info: DiskInfo,
    content: Mutex<Content>,
    timing: Mutex<Timing>,
    alarms: Sender<Alarm>,
    buffers: BufferPool,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    holds_nodes: AtomicBool,
}

impl CompactDisk {
    /// An empty disk that answers at once.
    pub(crate) fn new(size_bytes: u64) -> Arc<Self> {
        let blocks = usize::try_from(size_bytes / 4096).expect("64 bits");
        let content = Content { words: vec![0; blocks], whole: HashMap::new() };
        let drive = Drive { name: "", latency: Duration::ZERO, mib_per_s: 0 };
        Self::with(size_bytes, content, drive)
    }

    /// Another disk of the same content, in a drive of its own.
    pub(crate) fn copy_into(&self, drive: Drive) -> Arc<Self> {
        let content = self.content.lock().clone();
        Self::with(self.info.size_bytes, content, drive)
    }

    fn with(size_bytes: u64, content: Content, drive: Drive) -> Arc<Self> {
        let (alarms, set) = channel();
        std::thread::spawn(move || ring(&set));
        let info = DiskInfo {
            name: "compact".to_owned(),
            size_bytes,
            alignment_bytes: 4096,
            media: Media::Memory,
            rotational: false,
        };
        let start = now();
        let timing = Timing { drive, channels: [start; CHANNELS], link: start };
        Arc::new(Self {
            info,
            content: Mutex::new(content),
            timing: Mutex::new(timing),
            alarms,
            buffers: BufferPool::default(),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            holds_nodes: AtomicBool::new(false),
        })
    }

    /// The drive it is in.
    pub(crate) fn drive(&self) -> Drive {
        self.timing.lock().drive
    }

    /// Writes of map nodes never end from now on: a checkpoint begins, and is not over when the process dies.
    pub(crate) fn hold_nodes(&self) {
        self.holds_nodes.store(true, Ordering::Relaxed);
    }

    /// Reads and bytes read so far.
    pub(crate) fn read_counts(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.read_bytes.load(Ordering::Relaxed))
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let len = u64::try_from(len).expect("64 bits");
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.info.size_bytes);
        if offset.is_multiple_of(4096) && len.is_multiple_of(4096) && inside {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::Invalid, &self.info.name, "not aligned or not inside").at(offset))
    }

    fn copy_out(&self, offset: u64, to: &mut [u8]) {
        let content = self.content.lock();
        for (block, part) in (offset / 4096..).zip(to.chunks_exact_mut(BLOCK)) {
            content.get(block, part);
        }
    }

    fn copy_in(&self, offset: u64, data: &[u8]) {
        let mut content = self.content.lock();
        for (block, part) in (offset / 4096..).zip(data.chunks_exact(BLOCK)) {
            content.put(block, part);
        }
    }

    /// When a read that begins now ends; none if that is at once.
    fn read_ends(&self, len: usize) -> Option<Instant> {
        let len = u64::try_from(len).expect("64 bits");
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(len, Ordering::Relaxed);
        let mut timing = self.timing.lock();
        let Timing { drive, channels, link } = &mut *timing;
        if drive.latency.is_zero() {
            return None;
        }
        let now = now();
        let per_mib = Duration::from_secs(1).checked_div(u32::try_from(drive.mib_per_s).unwrap_or(0));
        let transfer = per_mib.unwrap_or_default().mul_f64(len as f64 / f64::from(1 << 20));
        let first_free = channels.iter_mut().min().expect("a drive has channels");
        *link = (*link).max(now) + transfer;
        *first_free = ((*first_free).max(now) + drive.latency).max(*link);
        Some(*first_free)
    }
}

/// True for a batch of the node stream.
fn is_of_nodes(data: &[Bytes]) -> bool {
    data.first().is_some_and(|first| first.starts_with(b"PALBATCH") && first.get(14) == Some(&2))
}

/// Tells each alarm when its time has come.
fn ring(set: &Receiver<Alarm>) {
    let mut waiting: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    let mut times: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    for number in 0.. {
        while let Some(Reverse((at, id))) = times.peek().copied() {
            if at > now() {
                break;
            }
            times.pop();
            // Whoever is gone need not be told.
            let _ = waiting.remove(&id).map(|alarm| alarm.send(()));
        }
        let left = times.peek().map(|Reverse((at, _))| at.saturating_duration_since(now()));
        match set.recv_timeout(left.unwrap_or(Duration::from_secs(3600))) {
            Ok((at, alarm)) => {
                waiting.insert(number, alarm);
                times.push(Reverse((at, number)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The time.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Disk for CompactDisk {
    fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        let ends = self.read_ends(len).map(|at| {
            let (alarm, rung) = oneshot::channel();
            self.alarms.send((at, alarm)).expect("the clockwork runs as long as the disk");
            rung
        });
        Box::pin(async move {
            self.check(offset, len)?;
            if let Some(rung) = ends {
                rung.await.expect("every alarm rings");
            }
            let mut buffer = self.buffers.take(len);
            self.copy_out(offset, &mut buffer);
            Ok(buffer.freeze())
        })
    }

    fn write(&self, offset: u64, data: Vec<Bytes>, _persist: Persist) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // So that writes are in flight together, as on a drive.
            tokio::task::yield_now().await;
            if self.holds_nodes.load(Ordering::Relaxed) && is_of_nodes(&data) {
                std::future::pending::<()>().await;
            }
            let mut at = offset;
            for chunk in data {
                self.write_blocking(at, &chunk)?;
                at += u64::try_from(chunk.len()).expect("64 bits");
            }
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn discard(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<()>> {
        let mut content = self.content.lock();
        for block in offset / 4096..(offset + len) / 4096 {
            content.words[usize::try_from(block).expect("64 bits")] = 0;
            content.whole.remove(&block);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    #[allow(clippy::disallowed_methods, reason = "the caller's thread waits for the drive")]
    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = offset / 4096 * 4096;
        let head = usize::try_from(offset - start).expect("64 bits");
        let mut blocks = vec![0; (head + buf.len()).next_multiple_of(BLOCK)];
        self.check(start, blocks.len())?;
        if let Some(ends) = self.read_ends(blocks.len()) {
            std::thread::sleep(ends.saturating_duration_since(now()));
        }
        self.copy_out(start, &mut blocks);
        buf.copy_from_slice(&blocks[head..head + buf.len()]);
        Ok(())
    }

    fn write_blocking(&self, offset: u64, data: &[u8]) -> Result<()> {
        if self.check(offset, data.len()).is_ok() {
            self.copy_in(offset, data);
            return Ok(());
        }
        let start = offset / 4096 * 4096;
        let head = usize::try_from(offset - start).expect("64 bits");
        let mut blocks = vec![0; (head + data.len()).next_multiple_of(BLOCK)];
        self.check(start, blocks.len())?;
        self.copy_out(start, &mut blocks);
        blocks[head..head + data.len()].copy_from_slice(data);
        self.copy_in(start, &blocks);
        Ok(())
    }

    fn flush_blocking(&self) -> Result<()> {
        Ok(())
    }
}
