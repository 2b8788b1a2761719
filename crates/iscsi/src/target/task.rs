//! The tasks of a session: what arrived of each, and where its data goes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;

use super::{Cdb, LinkId, TaskId};
use crate::frame::size;
use crate::pdu::TaskAttribute;
use crate::{CmdSn, InitiatorTaskTag, Lun, PayloadPool, TargetTransferTag};

/// Bits of a [`TaskId`] that say which slot; a transfer tag has as many for it.
const SLOT_BITS: u32 = 16;

/// Most slots: below what makes a transfer tag of FFFFFFFFh.
pub(super) const SLOTS_MAX: usize = 0xfff0;

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its CmdSN is not the next one yet.
    Held,
    /// Waiting for data.
    Collecting,
    /// All data is there; an ordered task ahead of it, or it itself being one, makes it wait.
    Ready,
    /// Out of the line, about to go to the caller.
    Leaving,
    /// With the caller.
    Delivered,
    /// Its Data-In is being sent.
    Answering,
    /// Ended by a task management function; data that was asked for is still coming.
    Aborting,
}

/// Why a task ends without reaching the caller, as an iSCSI condition (RFC 7143 §11.4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    UnexpectedUnsolicitedData,
    IncorrectAmountOfData,
    ProtocolServiceCrcError,
}

impl Condition {
    /// ADDITIONAL SENSE CODE and its qualifier; the sense key is ABORTED COMMAND.
    pub(super) const fn additional_sense(self) -> [u8; 2] {
        match self {
            Self::UnexpectedUnsolicitedData => [0x0c, 0x0c],
            Self::IncorrectAmountOfData => [0x0c, 0x0d],
            Self::ProtocolServiceCrcError => [0x47, 0x05],
        }
    }
}

/// Data asked for and not all there.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenTransfer {
    pub(super) ttt: TargetTransferTag,
    /// Where the next byte belongs.
    pub(super) offset: u32,
    /// Bytes still to come.
    pub(super) left: u32,
    pub(super) data_sn: u32,
}

/// A SCSI task.
pub(super) struct Task<B> {
    pub(super) id: TaskId,
    /// The connection it came on, to which it is allegiant (RFC 7143 §4.2.5.1).
    pub(super) link: LinkId,
    pub(super) itt: InitiatorTaskTag,
    pub(super) cmd_sn: CmdSn,
    pub(super) lun: Lun,
    pub(super) immediate: bool,
    pub(super) attribute: TaskAttribute,
    pub(super) cdb: Cdb,
    pub(super) stage: Stage,
    /// Bytes the initiator wants to send, and has room for.
    pub(super) expected_out: u32,
    pub(super) expected_in: u32,
    pub(super) write: bool,
    pub(super) read: bool,
    /// Bytes of Data-Out the CDB takes; 0 when there is no room for them.
    pub(super) takes: u32,
    pub(super) stamp: u64,
    pub(super) starved: bool,
    /// Unsolicited Data-Out PDUs are still to come.
    pub(super) unsolicited: bool,
    pub(super) unsolicited_data_sn: u32,
    /// Bytes that came unsolicited, immediate data included; may be more than is kept.
    pub(super) unsolicited_len: u32,
    /// Bytes kept.
    pub(super) received: u32,
    /// Bytes asked for with R2T end here.
    pub(super) asked: u32,
    pub(super) r2t_sn: u32,
    pub(super) transfers: VecDeque<OpenTransfer>,
    pub(super) condition: Option<Condition>,
    /// Bytes taken out of the budget for solicited data.
    pub(super) reserved: usize,
    /// What the data lands in: the first `head_len` bytes, then the rest.
    pub(super) head: Option<B>,
    pub(super) head_len: u32,
    pub(super) tail: Option<B>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]> + Send + 'static> Task<B> {
    /// Bytes of data this task gets at most: what the CDB takes and the initiator has.
    pub(super) fn wanted(&self) -> u32 {
        self.takes.min(self.expected_out)
    }

    /// Where data belongs that starts at `offset`, up to `len` bytes of it; empty where none is kept.
    pub(super) fn room(&mut self, offset: u32, len: u32) -> &mut [u8] {
        let (buffer, start) = if offset < self.head_len {
            (self.head.as_mut(), offset)
        } else {
            (self.tail.as_mut(), offset - self.head_len)
        };
        let Some(space) = buffer.and_then(|buffer| buffer.as_mut().get_mut(size(start)..)) else {
            return &mut [];
        };
        let len = space.len().min(size(len));
        space.get_mut(..len).unwrap_or_default()
    }

    /// Keeps `bytes`, which start at `offset`; what has no room is dropped.
    pub(super) fn put(&mut self, mut offset: u32, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room(offset, crate::frame::length(bytes.len()));
            let Some((now, rest)) = bytes.split_at_checked(room.len()).filter(|(now, _)| !now.is_empty())
            else {
                return;
            };
            room.copy_from_slice(now);
            offset += crate::frame::length(now.len());
            bytes = rest;
        }
    }

    /// Makes room for what the head does not hold.
    pub(super) fn take_tail(&mut self, pool: &impl PayloadPool<Buf = B>) {
        let len = self.wanted() - self.head_len;
        if self.tail.is_none() && len > 0 {
            self.tail = Some(pool.take(size(len)));
        }
    }

    /// The data, all of it.
    pub(super) fn take_data(&mut self) -> Vec<Bytes> {
        [self.head.take(), self.tail.take()].into_iter().flatten().map(Bytes::from_owner).collect()
    }
}

/// Spreads tags over buckets; whoever picks them to collide meets at most a window's worth.
#[derive(Default)]
struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        let mixed = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

struct Slot<B> {
    task: Option<Task<B>>,
    /// Transfers started in this slot so far; makes stale transfer tags known as such.
    transfers: u16,
}

/// All tasks of a session.
pub(super) struct Tasks<B> {
    slots: Vec<Slot<B>>,
    free: Vec<u16>,
    by_tag: HashMap<u32, u16, BuildHasherDefault<TagHasher>>,
    started: u64,
    /// Tasks started in CmdSN order that are not over: they take up the window.
    pub(super) in_window: u32,
    /// Tasks started at once that are not over.
    pub(super) immediate: u32,
}

impl<B> Tasks<B> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_tag: HashMap::default(),
            started: 0,
            in_window: 0,
            immediate: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Starts a task; `make` builds it with its identity. `None` when there is no slot left.
    pub(super) fn start(&mut self, make: impl FnOnce(TaskId) -> Task<B>) -> Option<TaskId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u16::try_from(self.slots.len()).ok().filter(|_| self.slots.len() < SLOTS_MAX)?;
                self.slots.push(Slot { task: None, transfers: 0 });
                slot
            }
        };
        self.started += 1;
        let id = TaskId(self.started << SLOT_BITS | u64::from(slot));
        let task = make(id);
        self.by_tag.insert(task.itt.0, slot);
        if task.immediate {
            self.immediate += 1;
        }
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            place.task = Some(task);
        }
        Some(id)
    }

    /// Ends a task.
    pub(super) fn end(&mut self, id: TaskId) -> Option<Task<B>> {
        let slot = slot_of(id);
        let place = self.slots.get_mut(usize::from(slot))?;
        let task = place.task.take_if(|task| task.id == id)?;
        self.by_tag.remove(&task.itt.0);
        self.free.push(slot);
        if task.immediate {
            self.immediate -= 1;
        } else if task.stage != Stage::Held {
            self.in_window -= 1;
        }
        Some(task)
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task<B>> {
        self.slots.get(usize::from(slot_of(id)))?.task.as_ref().filter(|task| task.id == id)
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task<B>> {
        self.slots.get_mut(usize::from(slot_of(id)))?.task.as_mut().filter(|task| task.id == id)
    }

    pub(super) fn find(&self, itt: InitiatorTaskTag) -> Option<TaskId> {
        let slot = self.by_tag.get(&itt.0)?;
        self.slots.get(usize::from(*slot))?.task.as_ref().map(|task| task.id)
    }

    /// The task that started the transfer `ttt`, if it is the one called `itt`.
    pub(super) fn find_transfer(&self, ttt: TargetTransferTag, itt: InitiatorTaskTag) -> Option<TaskId> {
        let [high, low, ..] = ttt.0.to_be_bytes();
        let slot = self.slots.get(usize::from(u16::from_be_bytes([high, low])))?;
        let task = slot.task.as_ref().filter(|task| task.itt == itt)?;
        task.transfers.iter().any(|transfer| transfer.ttt == ttt).then_some(task.id)
    }

    /// A tag for a new transfer of task `id`.
    pub(super) fn transfer_tag(&mut self, id: TaskId) -> TargetTransferTag {
        let slot = slot_of(id);
        let count = self.slots.get_mut(usize::from(slot)).map_or(0, |slot| {
            slot.transfers = slot.transfers.wrapping_add(1);
            slot.transfers
        });
        TargetTransferTag(u32::from(slot) << SLOT_BITS | u32::from(count))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Task<B>> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref())
    }
}

fn slot_of(id: TaskId) -> u16 {
    let [.., high, low] = id.0.to_be_bytes();
    u16::from_be_bytes([high, low])
}
