//! Units with sparse volumes in memory, a host, and shorthand to send what it sends.

use crate::copies::{Copies, CopyDirectory, Requester};
use crate::directory::UnitGrant;
use crate::unit::{LogicalUnitHandle, Started};
use block::{
    BlockError, BoxFuture, ByteRange, Comparison, Durability, ErrorKind, Extent, Provisioning, Result,
    Runtime, Task, Volume,
};
use bytes::Bytes;
use parking_lot::Mutex;
use scsi::{Cdb, Completion, DataOut, NexusId, NexusInfo, TargetPort};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(super) const HOST: &str = "iqn.2026-01.test:host";
pub(super) const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

type Hook = Box<dyn FnMut(u64) + Send>;

/// Blocks of 4 KiB; those that are not there read as zeroes.
pub(super) struct Sparse {
    size: u64,
    blocks: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// What happens before a read at an offset is answered.
    pub(super) before_read: Mutex<Option<Hook>>,
    /// Writes at and behind this offset fail, and reads.
    pub(super) fails: Mutex<Option<(u64, ErrorKind)>>,
    pub(super) reads: AtomicU64,
    /// Can take over blocks of its own kind.
    pub(super) shares: bool,
    pub(super) shared: AtomicU64,
}

impl Sparse {
    fn new(size: u64, shares: bool) -> Self {
        Self {
            size,
            blocks: Mutex::default(),
            before_read: Mutex::default(),
            fails: Mutex::default(),
            reads: AtomicU64::new(0),
            shares,
            shared: AtomicU64::new(0),
        }
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        assert!(
            offset.is_multiple_of(512) && len.is_multiple_of(512) && len > 0 && offset + len <= self.size
        );
        match *self.fails.lock() {
            Some((from, kind)) if offset + len > from => Err(BlockError::new(kind, "test", "told to fail")),
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self, offset: u64, len: u64) -> Vec<u8> {
        let blocks = self.blocks.lock();
        let mut all = Vec::with_capacity(usize::try_from(len).unwrap());
        for (number, part) in parts(offset, len) {
            match blocks.get(&number) {
                Some(block) => all.extend_from_slice(&block[part]),
                None => all.resize(all.len() + part.len(), 0),
            }
        }
        all
    }

    pub(super) fn put(&self, offset: u64, mut data: &[u8]) {
        let mut blocks = self.blocks.lock();
        for (number, part) in parts(offset, data.len() as u64) {
            let (now, rest) = data.split_at(part.len());
            blocks.entry(number).or_insert_with(|| vec![0; 4096])[part].copy_from_slice(now);
            data = rest;
        }
    }

    pub(super) fn is_mapped(&self, offset: u64) -> bool {
        self.blocks.lock().contains_key(&(offset / BLOCK))
    }

    fn zero(&self, range: ByteRange) {
        let mut blocks = self.blocks.lock();
        let (start, end) = (range.offset, range.offset + range.len);
        blocks.retain(|block, _| *block < start.div_ceil(BLOCK) || *block >= end / BLOCK);
        for (number, part) in parts(range.offset, range.len) {
            if let Some(block) = blocks.get_mut(&number) {
                block[part].fill(0);
            }
        }
    }
}

/// The parts of a range in each block.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + len;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let start = number * BLOCK;
        let within = |at: u64| usize::try_from(at.clamp(start, start + BLOCK) - start).unwrap();
        (number, within(offset)..within(end))
    })
}

impl Volume for Sparse {
    fn size_bytes(&self) -> u64 {
        self.size
    }
    fn granularity_bytes(&self) -> u32 {
        4096
    }
    fn read(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            self.check(offset, len)?;
            self.reads.fetch_add(1, Ordering::SeqCst);
            let data = self.bytes(offset, len);
            if let Some(hook) = &mut *self.before_read.lock() {
                hook(offset);
            }
            tokio::task::yield_now().await;
            Ok(vec![Bytes::from(data)])
        })
    }
    fn write(&self, offset: u64, data: Vec<Bytes>, _: Durability) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let data = data.concat();
            self.check(offset, data.len() as u64)?;
            tokio::task::yield_now().await;
            self.put(offset, &data);
            Ok(())
        })
    }
    fn unmap(&self, ranges: Vec<ByteRange>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            for range in ranges {
                self.check(range.offset, range.len)?;
                self.zero(range);
            }
            Ok(())
        })
    }
    fn compare_and_write(
        &self,
        _: u64,
        _: Vec<Bytes>,
        _: Vec<Bytes>,
        _: Durability,
    ) -> BoxFuture<'_, Result<Comparison>> {
        unreachable!("no copy compares")
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn extents(&self, offset: u64, len: u64, extents_max: usize) -> BoxFuture<'_, Result<Vec<Extent>>> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let next = ((at / BLOCK + 1) * BLOCK).min(offset + len);
            let provisioning =
                if self.is_mapped(at) { Provisioning::Mapped } else { Provisioning::Deallocated };
            let full = extents.len() == extents_max;
            match extents.last_mut() {
                Some(last) if last.provisioning == provisioning => last.range.len += next - at,
                _ if full => break,
                _ => extents.push(Extent { range: ByteRange { offset: at, len: next - at }, provisioning }),
            }
            at = next;
        }
        Box::pin(std::future::ready(Ok(extents)))
    }
    fn copy_from<'a>(
        &'a self,
        offset: u64,
        len: u64,
        source: &'a dyn Volume,
        source_offset: u64,
    ) -> Option<BoxFuture<'a, Result<Vec<ByteRange>>>> {
        let source = (source as &dyn std::any::Any).downcast_ref::<Self>().filter(|_| self.shares)?;
        Some(Box::pin(async move {
            // Whole blocks only: the rest is the caller's.
            let (first, end) = (offset.next_multiple_of(BLOCK), (offset + len) / BLOCK * BLOCK);
            let (head, whole) = (first - offset, end.saturating_sub(first));
            self.shared.fetch_add(whole, Ordering::SeqCst);
            self.put(first, &source.bytes(source_offset + head, whole));
            let parts = [(0, head), (head + whole, len - head - whole)];
            Ok(parts
                .into_iter()
                .filter(|part| part.1 > 0)
                .map(|(offset, len)| ByteRange { offset, len })
                .collect())
        }))
    }
}

/// Time by hand, and numbers that only look random.
#[derive(Default)]
pub(super) struct Clock {
    seconds: AtomicU64,
    random: AtomicU64,
}

impl Runtime for Clock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
    fn unix_time_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("copies do not sleep")
    }
    fn spawn(&self, _: Task) {
        unreachable!("copies belong to sessions")
    }
    fn run_blocking(&self, _: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'static, ()> {
        unreachable!("copies do not block")
    }
    fn random_id(&self) -> [u8; 16] {
        let number = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        u128::from(number).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9).to_be_bytes()
    }
}

/// Which units the host may use, and whether it may only read.
#[derive(Default)]
pub(super) struct Grants(pub(super) Mutex<HashMap<[u8; 16], Grant>>);

type Grant = (Arc<LogicalUnitHandle>, bool);

impl CopyDirectory for Grants {
    fn unit_for_copy(&self, requester: &Requester, naa: &[u8; 16]) -> Option<UnitGrant> {
        assert_eq!(requester.initiator, HOST);
        let (unit, read_only) = self.0.lock().get(naa)?.clone();
        Some(UnitGrant { lun: scsi::Lun::default(), unit, read_only })
    }
}

/// A unit with its volume; the host's nexus there is its number.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) number: u8,
    pub(super) unit: Arc<LogicalUnitHandle>,
    pub(super) volume: Arc<Sparse>,
}

pub(super) struct World {
    pub(super) clock: Arc<Clock>,
    pub(super) grants: Arc<Grants>,
    copies: Arc<Copies>,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, grants) = (Arc::new(Clock::default()), Arc::new(Grants::default()));
        let copies = Arc::new(Copies::new(Arc::clone(&clock) as Arc<dyn Runtime>));
        let directory: Weak<dyn CopyDirectory> =
            Arc::downgrade(&(Arc::clone(&grants) as Arc<dyn CopyDirectory>));
        copies.follow(directory);
        Self { clock, grants, copies }
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) fn disk(&self, number: u8) -> Disk {
        self.disk_of(number, scsi::BlockSize::B512, false)
    }

    /// A disk of 128 MiB that the host may use.
    pub(super) fn disk_of(&self, number: u8, block_size: scsi::BlockSize, shares: bool) -> Disk {
        let identity = scsi::Identity {
            naa: naa(number),
            serial: format!("{number:08}"),
            vendor: "PALISADE".to_owned(),
            product: "VOLUME".to_owned(),
            revision: "1".to_owned(),
        };
        let volume = Arc::new(Sparse::new(128 * MIB, shares));
        let blocks = volume.size / u64::from(block_size.bytes());
        let config = scsi::LogicalUnitConfig::new(identity, block_size, blocks);
        let unit = LogicalUnitHandle::new(config, Arc::clone(&volume) as Arc<dyn Volume>).unwrap();
        let unit = Arc::new(unit.with_copies(Arc::clone(&self.copies), true));
        self.grants.0.lock().insert(naa(number), (Arc::clone(&unit), false));
        let disk = Disk { number, unit, volume };
        disk.attach(disk.nexus(), HOST);
        disk
    }
}

pub(super) fn naa(number: u8) -> [u8; 16] {
    let mut naa = [0x60; 16];
    naa[15] = number;
    naa
}

impl Disk {
    pub(super) fn nexus(&self) -> NexusId {
        NexusId(u64::from(self.number))
    }

    pub(super) fn attach(&self, nexus: NexusId, initiator: &str) {
        let target_port = TargetPort {
            target_name: format!("iqn.2026-01.test:{}", self.number),
            portal_group_tag: 1,
            relative_id: 1,
        };
        let initiator_port = format!("{initiator},i,0x{:012x}", nexus.0);
        let info = NexusInfo { initiator_port, target_port, read_only: false, returned: false };
        self.unit.attach(nexus, info);
        // What greets a new nexus.
        let _ = self.unit.execute(nexus, 0, &Cdb::new(&[0; 6]), DataOut::none());
    }

    pub(super) fn start(&self, nexus: NexusId, cdb: &[u8], data: &[u8]) -> Started {
        let len = u32::try_from(data.len()).unwrap();
        let data_out = DataOut::new(vec![Bytes::copy_from_slice(data)], len);
        self.unit.execute(nexus, self.unit.stamp(), &Cdb::new(cdb), data_out)
    }

    /// Runs a command of the host to its end. None if it was aborted.
    pub(super) async fn run(&self, cdb: &[u8], data: &[u8]) -> Option<Completion> {
        let address = "127.0.0.1:1".parse().unwrap();
        let target = "iqn.2026-01.test:1".to_owned();
        let requester = || Requester { initiator: HOST.to_owned(), target, peer: address, local: address };
        match self.start(self.nexus(), cdb, data) {
            Started::Done(completion) => Some(completion),
            Started::Media(work, operation) => {
                let outcome = self.unit.run(self.nexus(), requester, work).await;
                self.unit.finish(operation, outcome)
            }
            _ => panic!("{cdb:02x?}"),
        }
    }

    /// The Data-In of a command that has to succeed.
    pub(super) async fn good(&self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let completion = self.run(cdb, data).await.expect("not aborted");
        assert_eq!(completion.status, scsi::Status::Good, "{cdb:02x?}: {:02x?}", completion.sense);
        completion.data_in.concat()
    }

    /// Key, code and qualifier of a command that has to fail.
    pub(super) async fn bad(&self, cdb: &[u8], data: &[u8]) -> (u8, u8, u8) {
        let completion = self.run(cdb, data).await.expect("not aborted");
        assert_eq!(completion.status, scsi::Status::CheckCondition, "{cdb:02x?}");
        (completion.sense[2], completion.sense[12], completion.sense[13])
    }

    /// A write of `len` bytes by the host, as far as the unit is concerned: it begins and ends at once.
    pub(super) fn writes(&self, offset: u64, len: u64) {
        let mut cdb = vec![0x8a, 0];
        cdb.extend_from_slice(&(offset / 512).to_be_bytes());
        cdb.extend_from_slice(&u32::try_from(len / 512).unwrap().to_be_bytes());
        let data = vec![0xee; usize::try_from(len).unwrap()];
        let Started::Media(_, operation) = self.start(self.nexus(), &cdb, &data) else { panic!() };
        self.volume.put(offset, &data);
        let _ = self.unit.finish(operation, scsi::MediaOutcome::Done);
    }
}

/// Bytes in which no two blocks look the same.
pub(super) fn pattern(seed: u64, len: u64) -> Vec<u8> {
    (0..len)
        .map(|at| ((at / 512).wrapping_mul(31).wrapping_add(at + seed * 7) % 251 + 1).to_le_bytes()[0])
        .collect()
}
