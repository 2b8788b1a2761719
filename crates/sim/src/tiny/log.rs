//! The log of the small engine: one record after the other, each checksummed, written one at a time.

use super::{BLOCK, Bug};
use crate::model::VolumeId;
use block::{BlockError, Disk, ErrorKind, Persist, Result};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A change of the pool.
#[derive(Debug, Clone)]
pub(super) enum Record {
    /// Whole blocks of a volume.
    Write { volume: VolumeId, offset: u64, data: Bytes },
    /// A new volume.
    Create { volume: VolumeId, size_bytes: u64, buffered: bool },
    /// Another size.
    Resize { volume: VolumeId, size_bytes: u64 },
    /// A snapshot or clone.
    Fork { source: VolumeId, volume: VolumeId, frozen: bool },
    /// The end of a volume.
    Delete { volume: VolumeId },
}

impl Record {
    /// Kind, two identities, two numbers, and data.
    fn parts(&self) -> (u8, VolumeId, VolumeId, u64, u64, Bytes) {
        let none = [0; 16];
        match self {
            Self::Write { volume, offset, data } => (1, *volume, none, *offset, 0, data.clone()),
            Self::Create { volume, size_bytes, buffered } => {
                (2, *volume, none, *size_bytes, u64::from(*buffered), Bytes::new())
            }
            Self::Resize { volume, size_bytes } => (3, *volume, none, *size_bytes, 0, Bytes::new()),
            Self::Fork { source, volume, frozen } => {
                (4, *volume, *source, u64::from(*frozen), 0, Bytes::new())
            }
            Self::Delete { volume } => (5, *volume, none, 0, 0, Bytes::new()),
        }
    }

    fn encode(&self, sequence: u64) -> Vec<u8> {
        let (kind, volume, source, first, second, data) = self.parts();
        let mut bytes = vec![0; BLOCK];
        bytes[8] = kind;
        bytes[16..32].copy_from_slice(&volume);
        bytes[32..48].copy_from_slice(&source);
        for (at, number) in [(48, first), (56, second), (64, sequence), (72, data.len() as u64)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&data);
        let sum = checksum(CrcAlgorithm::Crc32Iscsi, &bytes);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], sequence: u64, trusting: bool) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let identity = |at: usize| bytes[at..at + 16].try_into().unwrap_or_default();
        let mut plain = bytes.to_vec();
        plain[..8].fill(0);
        let good = number(0) == checksum(CrcAlgorithm::Crc32Iscsi, &plain);
        if !(good || trusting) || number(64) != sequence {
            return None;
        }
        let (volume, source) = (identity(16), identity(32));
        Some(match bytes[8] {
            1 => Self::Write { volume, offset: number(48), data: Bytes::copy_from_slice(&bytes[BLOCK..]) },
            2 => Self::Create { volume, size_bytes: number(48), buffered: number(56) != 0 },
            3 => Self::Resize { volume, size_bytes: number(48) },
            4 => Self::Fork { source, volume, frozen: number(48) != 0 },
            5 => Self::Delete { volume },
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Tail {
    offset: u64,
    sequence: u64,
    unflushed: bool,
    /// A flush failed: what is on the disk is unknown, and nothing can be promised any more.
    broken: bool,
}

#[derive(Default)]
struct Queue {
    busy: bool,
    waiting: VecDeque<Waker>,
}

/// The log on its disk.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    tail: Mutex<Tail>,
    queue: Mutex<Queue>,
}

/// The right to append, until dropped.
pub(super) struct Turn<'a>(&'a Log);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.busy = false;
        for waker in std::mem::take(&mut queue.waiting) {
            waker.wake();
        }
    }
}

impl Log {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, tail: Mutex::default(), queue: Mutex::default() }
    }

    /// Waits until nobody else appends.
    pub(super) async fn turn(&self) -> Turn<'_> {
        std::future::poll_fn(|cx| {
            let mut queue = self.queue.lock();
            if queue.busy {
                queue.waiting.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            queue.busy = true;
            Poll::Ready(())
        })
        .await;
        Turn(self)
    }

    /// Writes `record` to the end. The caller has the turn.
    pub(super) async fn append(&self, record: &Record, durable: bool, bug: Option<Bug>) -> Result<()> {
        if self.is_broken() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "tiny", "a flush failed"));
        }
        let (offset, sequence, unflushed) = {
            let tail = self.tail.lock();
            (tail.offset, tail.sequence, tail.unflushed)
        };
        let bytes = record.encode(sequence);
        let len = bytes.len() as u64;
        if offset + len > self.disk.info().size_bytes {
            return Err(BlockError::new(ErrorKind::NoSpace, "tiny", "the log is full"));
        }
        let durable = durable && bug != Some(Bug::AcksEarly);
        let persist = if durable && !unflushed { Persist::Durable } else { Persist::Cached };
        self.disk.write(offset, vec![bytes.into()], persist).await?;
        if durable && unflushed {
            self.flush_disk().await?;
        }
        let unflushed = !durable;
        *self.tail.lock() = Tail { offset: offset + len, sequence: sequence + 1, unflushed, broken: false };
        Ok(())
    }

    async fn flush_disk(&self) -> Result<()> {
        if self.is_broken() {
            return Err(BlockError::new(ErrorKind::ReadOnly, "tiny", "a flush failed"));
        }
        let result = self.disk.flush().await;
        self.tail.lock().broken |= result.is_err();
        result
    }

    /// True if nothing can be promised any more.
    pub(super) fn is_broken(&self) -> bool {
        self.tail.lock().broken
    }

    /// Makes all records durable.
    pub(super) async fn flush(&self) -> Result<()> {
        let _turn = self.turn().await;
        self.flush_disk().await?;
        self.tail.lock().unflushed = false;
        Ok(())
    }

    /// Reads all records, and makes them durable before anybody sees them.
    pub(super) async fn replay(&self, bug: Option<Bug>) -> Result<Vec<Record>> {
        let (mut records, mut offset) = (Vec::new(), 0);
        let trusting = bug == Some(Bug::TrustsTornRecords);
        while offset + BLOCK as u64 <= self.disk.info().size_bytes {
            let header = self.disk.read(offset, BLOCK).await?;
            let len = u64::from_le_bytes(header[72..80].try_into().unwrap_or_default());
            let whole = BLOCK as u64 + len;
            if len > 2 << 20 || len % BLOCK as u64 != 0 || offset + whole > self.disk.info().size_bytes {
                break;
            }
            let bytes = self.disk.read(offset, whole as usize).await?;
            let Some(record) = Record::decode(&bytes, records.len() as u64, trusting) else { break };
            records.push(record);
            offset += whole;
        }
        self.disk.flush().await?;
        let sequence = records.len() as u64;
        *self.tail.lock() = Tail { offset, sequence, unflushed: false, broken: false };
        Ok(records)
    }
}
