//! The catalog's slabs as one address space for the database.

use crate::format::label::{Label, SlabExtent};
use crate::format::{BLOCK_BYTES, BLOCK_SIZE, SlabIndex, crc32c};
use block::{BufferPool, Disk};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Gives a free slab to the catalog, or none if there is none.
pub(crate) type SlabSource = Box<dyn Fn() -> Option<SlabIndex> + Send + Sync>;

/// The first block holds the length of the database, durably: magic (8), checksum (4), zero (4), length (8).
const LENGTH_MAGIC: &[u8; 8] = b"PALCATLG";
const DATABASE_AT: u64 = BLOCK_BYTES;
/// Slabs the catalog takes at a time, in bytes at least.
const GROWTH_BYTES: u64 = 1 << 20;
/// Zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 16;

/// The storage under the database. The label, which says where it is, is kept here.
pub(crate) struct Medium {
    disk: Arc<dyn Disk>,
    buffers: BufferPool,
    state: Mutex<State>,
    source: SlabSource,
}

struct State {
    label: Label,
    len: u64,
    /// False while the catalog is being made: a label on the disk would name a catalog that cannot be opened.
    labelled: bool,
}

impl Medium {
    /// A medium for a new catalog on the slabs that `label` names. Nothing is written yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, label: Label, source: SlabSource) -> Self {
        Self {
            disk,
            buffers: BufferPool::new(1 << 20),
            state: Mutex::new(State { label, len: 0, labelled: false }),
            source,
        }
    }

    /// The medium of the catalog that `label` names.
    ///
    /// # Errors
    /// `InvalidData` if its first block is damaged; the disk's errors.
    pub(crate) fn open(disk: Arc<dyn Disk>, label: Label, source: SlabSource) -> io::Result<Self> {
        let medium = Self::new(disk, label, source);
        let mut state = medium.state.lock();
        let mut block = medium.buffers.take(BLOCK_SIZE);
        medium.transfer(&state.label, 0, BLOCK_SIZE, |offset, at, len| {
            medium.disk.read_blocking(offset, &mut block[at..at + len]).map_err(io::Error::other)
        })?;
        state.labelled = true;
        state.len = decode_length(&block).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the catalog's first block is damaged")
        })?;
        drop(state);
        Ok(medium)
    }

    /// The disk's label as it is now.
    pub(crate) fn label(&self) -> Label {
        self.state.lock().label.clone()
    }

    /// Changes the label and writes it, durably.
    ///
    /// # Errors
    /// The disk's; the label is then as before.
    pub(crate) fn update_label(&self, change: impl FnOnce(&mut Label)) -> block::Result<()> {
        let mut state = self.state.lock();
        let mut label = state.label.clone();
        change(&mut label);
        label.generation += 1;
        label.write(&*self.disk)?;
        *state = State { label, len: state.len, labelled: true };
        Ok(())
    }

    /// Calls `each` with (offset on the disk, position in the request, length) for each part of the range
    /// `start..start + len` of the address space.
    fn transfer(
        &self,
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

    /// Reads the blocks that hold `start..start + len`; the second value is where the range starts in them.
    fn read_blocks(&self, label: &Label, start: u64, len: usize) -> io::Result<(block::PageBuf, usize, u64)> {
        let unit = u64::from(self.disk.info().alignment_bytes);
        let first = start - start % unit;
        let end = (start + to_u64(len)).next_multiple_of(unit);
        let mut buffer = self.buffers.take(to_usize(end - first));
        self.transfer(label, first, to_usize(end - first), |offset, at, len| {
            self.disk.read_blocking(offset, &mut buffer[at..at + len]).map_err(io::Error::other)
        })?;
        Ok((buffer, to_usize(start - first), first))
    }

    /// Writes `data` at `start` of the address space; units that it covers in part keep their rest.
    fn put(&self, label: &Label, start: u64, data: &[u8]) -> io::Result<()> {
        let unit = u64::from(self.disk.info().alignment_bytes);
        let whole = start.is_multiple_of(unit) && to_u64(data.len()).is_multiple_of(unit);
        let (mut buffer, at, first) = if whole {
            (self.buffers.take(data.len()), 0, start)
        } else {
            self.read_blocks(label, start, data.len())?
        };
        buffer[at..at + data.len()].copy_from_slice(data);
        self.transfer(label, first, buffer.len(), |offset, at, len| {
            self.disk.write_blocking(offset, &buffer[at..at + len]).map_err(io::Error::other)
        })
    }

    fn capacity(label: &Label) -> u64 {
        label.catalog.iter().map(|extent| u64::from(extent.count) * label.slab_bytes()).sum()
    }

    /// Slabs that are wanting for the database to become twice as long and `bytes` longer.
    pub(crate) fn spare_missing(&self, bytes: u64) -> u64 {
        let state = self.state.lock();
        let missing = Self::with_spare(&state, bytes).saturating_sub(Self::capacity(&state.label));
        missing.div_ceil(state.label.slab_bytes())
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
        let state = self.state.lock();
        self.put_zeros(&state.label, DATABASE_AT + state.len, Self::capacity(&state.label))
    }

    /// Writes zeros from `start` to `end` of the address space.
    fn put_zeros(&self, label: &Label, start: u64, end: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = start;
        while at < end {
            let part = (end - at).min(to_u64(zeros.len()));
            self.put(label, at, &zeros[..to_usize(part)])?;
            at += part;
        }
        Ok(())
    }

    fn with_spare(state: &State, bytes: u64) -> u64 {
        DATABASE_AT + 2 * state.len.saturating_add(bytes)
    }

    /// Takes slabs until the address space has `bytes`, and says so in the label.
    fn ensure_capacity(&self, state: &mut State, bytes: u64) -> io::Result<()> {
        if Self::capacity(&state.label) >= bytes {
            return Ok(());
        }
        let mut label = state.label.clone();
        let wanted = bytes.max(Self::capacity(&label) + GROWTH_BYTES);
        while Self::capacity(&label) < wanted
            && let Some(slab) = (self.source)()
        {
            add_slab(&mut label.catalog, slab);
        }
        // Also if they do not suffice: slabs that were taken are the catalog's.
        if state.labelled {
            label.generation += 1;
            label.write(&*self.disk).map_err(io::Error::other)?;
        }
        state.label = label;
        if Self::capacity(&state.label) < bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no slab is free for the catalog"));
        }
        Ok(())
    }
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
        write!(f, "catalog on {}", self.disk.info().name)
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
        let (buffer, at, _) = self.read_blocks(&state.label, DATABASE_AT + offset, out.len())?;
        out.copy_from_slice(&buffer[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.ensure_capacity(&mut state, DATABASE_AT + len)?;
        // Zeros are really written: the space then exists also under a sparse file, so that a full file
        // system below cannot break a commit.
        self.put_zeros(&state.label, DATABASE_AT + state.len, DATABASE_AT + len)?;
        self.put(&state.label, 0, &encode_length(len))?;
        self.disk.flush_blocking().map_err(io::Error::other)?;
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.flush_blocking().map_err(io::Error::other)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let state = self.state.lock();
        if offset + to_u64(data.len()) > state.len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the catalog"));
        }
        self.put(&state.label, DATABASE_AT + offset, data)
    }
}
