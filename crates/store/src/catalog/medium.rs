//! The catalog's slabs as one address space for the database, a copy on each of some disks.
//!
//! The labels of all disks are kept here, too: they say where the copies are and which are current. A copy that cannot
//! be written is not current any more; the labels of the other disks say so before the database is told that what it
//! wrote is durable.

use super::legs::{self, Leg};
use crate::format::label::{Label, SlabExtent};
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, DiskIndex, SlabIndex, crc32c};
use block::{BufferPool, Disk};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Gives a free slab of a disk to the catalog, or none if there is none.
pub(crate) type SlabSource = Box<dyn Fn(DiskIndex) -> Option<SlabIndex> + Send + Sync>;

/// The first block holds the length of the database, durably: magic (8), checksum (4), zero (4), length (8).
const LENGTH_MAGIC: &[u8; 8] = b"PALCATLG";
const DATABASE_AT: u64 = BLOCK_BYTES;
/// Slabs the catalog takes at a time, in bytes at least.
const GROWTH_BYTES: u64 = 1 << 20;
/// Zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 16;
/// Bytes that are copied at a time from one copy to another.
const COPY_BYTES: u64 = 1 << 20;

/// The storage under the database. The labels, which say where it is, are kept here.
pub(crate) struct Medium {
    name: String,
    buffers: BufferPool,
    pub(super) state: Mutex<State>,
    source: SlabSource,
}

pub(super) struct State {
    pub(super) legs: Vec<Leg>,
    len: u64,
    /// False while the catalog is being made: a label on the disk would name a catalog that cannot be opened.
    pub(super) labelled: bool,
    /// A copy has failed, and the labels do not say so yet.
    pub(super) unsaid: bool,
    /// The highest generation that a label was to have, whether it came to that or not: some disk may have it.
    pub(super) tried: u64,
}

impl Medium {
    /// A medium for a new catalog on the slabs that the labels of `legs` name. Nothing is written yet.
    pub(crate) fn new(legs: Vec<Leg>, source: SlabSource) -> Self {
        let name = legs.first().map(|leg| leg.disk.info().name.clone()).unwrap_or_default();
        let state = State { legs, len: 0, labelled: false, unsaid: false, tried: 0 };
        Self { name, buffers: BufferPool::new(1 << 20), state: Mutex::new(state), source }
    }

    /// The medium of the catalog of which `primary` has a current copy. The other copies take part from
    /// [`Medium::mirror`] on.
    ///
    /// # Errors
    /// `InvalidData` if its first block is damaged; the disk's errors.
    pub(crate) fn open(mut legs: Vec<Leg>, primary: DiskIndex, source: SlabSource) -> io::Result<Self> {
        legs.iter_mut().for_each(|leg| leg.active = leg.index() == primary);
        let medium = Self::new(legs, source);
        let mut state = medium.state.lock();
        let mut block = medium.buffers.take(BLOCK_SIZE);
        for leg in state.legs.iter().filter(|leg| leg.active) {
            transfer(&leg.label, 0, BLOCK_SIZE, |offset, at, len| {
                leg.disk.read_blocking(offset, &mut block[at..at + len]).map_err(io::Error::other)
            })?;
        }
        state.labelled = true;
        state.len = decode_length(&block).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the catalog's first block is damaged")
        })?;
        drop(state);
        Ok(medium)
    }

    /// The disks, with their labels as they are now.
    pub(crate) fn into_legs(self) -> Vec<Leg> {
        self.state.into_inner().legs
    }

    /// The label of the first disk as it is now.
    pub(crate) fn label(&self) -> Label {
        self.state.lock().legs.first().map(|leg| leg.label.clone()).expect("a pool has a disk")
    }

    /// The labels of all disks as they are now.
    pub(crate) fn labels(&self) -> Vec<Label> {
        self.state.lock().legs.iter().map(|leg| leg.label.clone()).collect()
    }

    /// Changes the labels and writes them, durably.
    ///
    /// # Errors
    /// The disk's, if no copy of the catalog is left; the labels are then as before.
    pub(crate) fn update_labels(&self, change: impl Fn(&mut Label)) -> block::Result<()> {
        let mut state = self.state.lock();
        legs::write_labels(&mut state, change)?;
        state.labelled = true;
        Ok(())
    }

    /// Reads the blocks that hold `start..start + len`; the second value is where the range starts in them.
    fn read_blocks(&self, state: &State, start: u64, len: usize) -> io::Result<(block::PageBuf, usize, u64)> {
        let unit = state.unit();
        let first = start - start % unit;
        let end = (start + to_u64(len)).next_multiple_of(unit);
        let mut buffer = self.buffers.take(to_usize(end - first));
        let mut outcome = Err(io::Error::other("no copy of the catalog is left"));
        for leg in state.legs.iter().filter(|leg| leg.active) {
            outcome = transfer(&leg.label, first, to_usize(end - first), |offset, at, len| {
                leg.disk.read_blocking(offset, &mut buffer[at..at + len]).map_err(io::Error::other)
            });
            if outcome.is_ok() {
                break;
            }
        }
        outcome?;
        Ok((buffer, to_usize(start - first), first))
    }

    /// Writes `data` at `start` of the address space; units that it covers in part keep their rest.
    fn put(&self, state: &mut State, start: u64, data: &[u8]) -> io::Result<()> {
        let unit = state.unit();
        let whole = start.is_multiple_of(unit) && to_u64(data.len()).is_multiple_of(unit);
        let (mut buffer, at, first) = if whole {
            (self.buffers.take(data.len()), 0, start)
        } else {
            self.read_blocks(state, start, data.len())?
        };
        buffer[at..at + data.len()].copy_from_slice(data);
        state.on_each(|leg| {
            transfer(&leg.label, first, buffer.len(), |offset, at, len| {
                leg.disk.write_blocking(offset, &buffer[at..at + len]).map_err(io::Error::other)
            })
        })
    }

    /// Makes all that was written durable, and that copies have failed, if some have.
    fn sync(&self) -> io::Result<()> {
        let disks = self.state.lock().active();
        let results: Vec<_> = disks.into_iter().map(|(index, disk)| (index, disk.flush_blocking())).collect();
        let mut state = self.state.lock();
        state.on_each(|leg| {
            let result = results.iter().find(|(index, _)| *index == leg.index());
            result.map_or(Ok(()), |(_, result)| result.clone().map_err(io::Error::other))
        })?;
        if std::mem::take(&mut state.unsaid) && state.labelled {
            legs::write_labels(&mut state, |_| {}).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Slabs that are wanting on each disk for the database to become twice as long and `bytes` longer.
    pub(crate) fn spare_missing(&self, bytes: u64) -> u64 {
        let state = self.state.lock();
        let missing = Self::with_spare(&state, bytes).saturating_sub(state.capacity());
        state.legs.first().map_or(0, |leg| missing.div_ceil(leg.label.slab_bytes()))
    }

    /// Takes slabs for that ahead.
    ///
    /// # Errors
    /// `StorageFull` if there are not enough; the disk's.
    pub(crate) fn take_spare(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let wanted = Self::with_spare(&state, bytes);
        self.ensure_capacity(&mut state, wanted)
    }

    /// Writes zeros to all of the slabs that the database does not reach.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn wipe_spare(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut work = Vec::new();
        for leg in state.legs.iter().filter(|leg| leg.active) {
            work.push((leg.index(), capacity(&leg.label)));
        }
        let start = DATABASE_AT + state.len;
        state.on_each(|leg| {
            let end = work.iter().find(|(index, _)| *index == leg.index()).map_or(start, |(_, end)| *end);
            let zeros = vec![0; ZEROS_BYTES];
            let mut at = start;
            while at < end {
                let part = (end - at).min(to_u64(zeros.len()));
                transfer(&leg.label, at, to_usize(part), |offset, _, len| {
                    leg.disk.write_blocking(offset, &zeros[..len]).map_err(io::Error::other)
                })?;
                at += part;
            }
            Ok(())
        })
    }

    /// Writes zeros from `start` to `end` of the address space.
    fn put_zeros(&self, state: &mut State, start: u64, end: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = start;
        while at < end {
            let part = (end - at).min(to_u64(zeros.len()));
            self.put(state, at, &zeros[..to_usize(part)])?;
            at += part;
        }
        Ok(())
    }

    fn with_spare(state: &State, bytes: u64) -> u64 {
        DATABASE_AT + 2 * state.len.saturating_add(bytes)
    }

    /// Takes slabs until the address space has `bytes` in each copy, and says so in the labels.
    fn ensure_capacity(&self, state: &mut State, bytes: u64) -> io::Result<()> {
        if state.capacity() >= bytes {
            return Ok(());
        }
        let mut extents = Vec::new();
        for leg in state.legs.iter().filter(|leg| leg.active) {
            extents.push((leg.index(), self.more_extents(&leg.label, bytes)));
        }
        let change = |label: &mut Label| {
            if let Some((_, extents)) = extents.iter().find(|(index, _)| *index == label.disk_index) {
                label.catalog.clone_from(extents);
            }
        };
        // Also if they do not suffice: slabs that were taken are the catalog's.
        if state.labelled {
            legs::write_labels(state, change).map_err(io::Error::other)?;
        } else {
            state.legs.iter_mut().for_each(|leg| change(&mut leg.label));
        }
        if state.capacity() < bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no slab is free for the catalog"));
        }
        Ok(())
    }

    /// The extents of a copy that is to have `bytes`, with slabs that are taken for it.
    fn more_extents(&self, label: &Label, bytes: u64) -> Vec<SlabExtent> {
        let mut extents = label.catalog.clone();
        let mut capacity = capacity(label);
        let wanted = bytes.max(capacity + GROWTH_BYTES);
        while capacity < wanted
            && extents.len() < label.extents_max()
            && let Some(slab) = (self.source)(label.disk_index)
        {
            add_slab(&mut extents, slab);
            capacity += label.slab_bytes();
        }
        extents
    }

    /// Makes the copies on `disks` like the one that is open, as far as they are not; from then on they take part. The
    /// labels say so if they did not before.
    ///
    /// # Errors
    /// The disk's whose copy is open. Others that fail do not take part.
    pub(crate) fn mirror(&self, disks: &[DiskIndex]) -> io::Result<()> {
        for index in disks {
            let mut state = self.state.lock();
            let copied = self.copy_to(&mut state, *index);
            let Some(leg) = state.legs.iter_mut().find(|leg| leg.index() == *index) else { continue };
            match copied {
                Ok(()) => leg.active = true,
                Err(error) => {
                    tracing::error!(disk = index.0, %error, "a copy of the catalog cannot be made");
                    leg.failed |= error.kind() != io::ErrorKind::StorageFull;
                }
            }
        }
        let mut state = self.state.lock();
        let said =
            |leg: &Leg| leg.label.member(leg.index()).is_some_and(|member| member.catalog) == leg.active;
        if state.legs.iter().all(said) {
            return Ok(());
        }
        legs::write_labels(&mut state, |_| {}).map_err(io::Error::other)
    }

    fn copy_to(&self, state: &mut State, index: DiskIndex) -> io::Result<()> {
        let end = DATABASE_AT + state.len;
        let Some(leg) = state.legs.iter().find(|leg| leg.index() == index) else { return Ok(()) };
        if capacity(&leg.label) < end {
            let extents = self.more_extents(&leg.label, end);
            let change = |label: &mut Label| {
                if label.disk_index == index {
                    label.catalog.clone_from(&extents);
                }
            };
            legs::write_labels(state, change).map_err(io::Error::other)?;
        }
        let mut at = 0;
        while at < end {
            let len = to_usize((end - at).min(COPY_BYTES).next_multiple_of(BLOCK_BYTES));
            let (current, ..) = self.read_blocks(state, at, len)?;
            let Some(leg) = state.legs.iter().find(|leg| leg.index() == index) else { return Ok(()) };
            let mut there = self.buffers.take(len);
            let read = transfer(&leg.label, at, len, |offset, at, len| {
                leg.disk.read_blocking(offset, &mut there[at..at + len]).map_err(io::Error::other)
            });
            if read.is_err() || there[..] != current[..] {
                transfer(&leg.label, at, len, |offset, at, len| {
                    leg.disk.write_blocking(offset, &current[at..at + len]).map_err(io::Error::other)
                })?;
            }
            at += to_u64(len);
        }
        let Some(leg) = state.legs.iter().find(|leg| leg.index() == index) else { return Ok(()) };
        leg.disk.flush_blocking().map_err(io::Error::other)
    }
}

impl State {
    /// What all disks write whole.
    fn unit(&self) -> u64 {
        let units = self.legs.iter().map(|leg| u64::from(leg.disk.info().alignment_bytes));
        units.max().unwrap_or(BLOCK_BYTES)
    }

    /// Bytes that each copy has room for.
    fn capacity(&self) -> u64 {
        self.legs.iter().filter(|leg| leg.active).map(|leg| capacity(&leg.label)).min().unwrap_or(0)
    }

    fn active(&self) -> Vec<(DiskIndex, Arc<dyn Disk>)> {
        let active = self.legs.iter().filter(|leg| leg.active);
        active.map(|leg| (leg.index(), Arc::clone(&leg.disk))).collect()
    }

    /// Does something to each copy. One that fails takes no part any more, unless it is the last.
    fn on_each(&mut self, work: impl Fn(&Leg) -> io::Result<()>) -> io::Result<()> {
        let mut results = Vec::new();
        for leg in self.legs.iter().filter(|leg| leg.active) {
            results.push((leg.index(), work(leg)));
        }
        if results.iter().all(|(_, result)| result.is_err()) {
            let error = results.into_iter().find_map(|(_, result)| result.err());
            return Err(error.unwrap_or_else(|| io::Error::other("no copy of the catalog is left")));
        }
        for (index, error) in results.into_iter().filter_map(|(index, result)| Some((index, result.err()?))) {
            tracing::error!(disk = index.0, %error, "a copy of the catalog cannot be written");
            for leg in self.legs.iter_mut().filter(|leg| leg.index() == index) {
                (leg.active, leg.failed) = (false, true);
            }
            self.unsaid = true;
        }
        Ok(())
    }
}

fn capacity(label: &Label) -> u64 {
    label.catalog.iter().map(|extent| u64::from(extent.count) * label.slab_bytes()).sum()
}

/// Calls `each` with (offset on the disk, position in the request, length) for each part of the range
/// `start..start + len` of the address space.
fn transfer(
    label: &Label,
    start: u64,
    len: usize,
    mut each: impl FnMut(u64, usize, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut extent_start = 0;
    let end = start + to_u64(len);
    let mut done = start;
    for extent in &label.catalog {
        let extent_end = extent_start + u64::from(extent.count) * label.slab_bytes();
        if done < extent_end && done < end {
            let part = extent_end.min(end) - done;
            let offset = label.slab_offset(extent.first) + (done - extent_start);
            each(offset, to_usize(done - start), to_usize(part))?;
            done += part;
        }
        extent_start = extent_end;
    }
    if done < end {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the catalog's slabs"));
    }
    Ok(())
}

fn add_slab(extents: &mut Vec<SlabExtent>, slab: SlabIndex) {
    match extents.last_mut() {
        Some(last) if last.first.0 + last.count == slab.0 => last.count += 1,
        _ => extents.push(SlabExtent { first: slab, count: 1 }),
    }
}

fn encode_length(len: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_SIZE];
    block[..8].copy_from_slice(LENGTH_MAGIC);
    block[16..24].copy_from_slice(&len.to_le_bytes());
    let checksum = crc32c(&block);
    block[8..12].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn decode_length(block: &[u8]) -> Option<u64> {
    let len = u64::from_le_bytes(block[16..24].try_into().ok()?);
    (encode_length(len)[..24] == block[..24]).then_some(len)
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog on {}", self.name)
    }
}

impl redb::StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset + to_u64(out.len()) > state.len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the catalog"));
        }
        let (buffer, at, _) = self.read_blocks(&state, DATABASE_AT + offset, out.len())?;
        out.copy_from_slice(&buffer[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.ensure_capacity(&mut state, DATABASE_AT + len)?;
        // Zeros are really written: the space then exists also under a sparse file, so that a full file
        // system below cannot break a commit.
        let start = state.len;
        self.put_zeros(&mut state, DATABASE_AT + start, DATABASE_AT + len)?;
        self.put(&mut state, 0, &encode_length(len))?;
        drop(state);
        self.sync()?;
        self.state.lock().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if offset + to_u64(data.len()) > state.len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the catalog"));
        }
        self.put(&mut state, DATABASE_AT + offset, data)
    }
}
