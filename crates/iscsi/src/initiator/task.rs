//! What an initiator has under way: commands, and the few other requests that are answered.

use core::ops::Range;

use bytes::Bytes;

use super::{Command, TaskId};
use crate::pdu::TaskManagementFunction;
use crate::{CmdSn, InitiatorTaskTag, Lun};

/// Bits of a [`TaskId`] and of an Initiator Task Tag that say which slot.
const SLOT_BITS: u32 = 16;

/// A command and what came back of it so far.
pub(super) struct ScsiTask<B> {
    pub(super) command: Command,
    /// Its CmdSN once sent.
    pub(super) sent: Option<CmdSn>,
    pub(super) buffer: Option<B>,
    /// Bytes read.
    pub(super) received: u32,
    /// DataSN or R2TSN that comes next; they share one numbering (RFC 7143 §11.7.5).
    pub(super) data_sn: u32,
}

/// What a tag stands for.
pub(super) enum Kind<B> {
    Scsi(ScsiTask<B>),
    TaskManagement {
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
        cmd_sn: CmdSn,
    },
    Ping,
    /// The connection's own ping.
    KeepAlive,
    SendTargets,
    /// An empty text request, because the target asked for one.
    Negotiation,
    Logout {
        /// Not only another connection.
        closes_this: bool,
    },
}

struct Slot<B> {
    id: Option<TaskId>,
    kind: Option<Kind<B>>,
}

/// All requests under way.
pub(super) struct Tasks<B> {
    slots: Vec<Slot<B>>,
    free: Vec<u16>,
    /// The first slot's number, and one past the last's.
    numbers: Range<u16>,
    pub(super) started: u64,
    pub(super) commands: usize,
}

impl<B> Tasks<B> {
    /// None; the next has the number behind `started`. Slots are numbered within `numbers`.
    pub(super) const fn new(numbers: Range<u16>, started: u64) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), numbers, started, commands: 0 }
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.numbers.clone(), self.started);
    }

    fn place(&self, slot: u16) -> usize {
        usize::from(slot).wrapping_sub(usize::from(self.numbers.start))
    }

    /// Starts a request; an id that names none when there are too many.
    pub(super) fn start(&mut self, kind: Kind<B>) -> TaskId {
        self.started += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.numbers.len() => {
                self.slots.push(Slot { id: None, kind: None });
                u16::try_from(self.slots.len() - 1).map_or(u16::MAX, |slot| slot + self.numbers.start)
            }
            None => u16::MAX,
        };
        let id = TaskId(self.started << SLOT_BITS | u64::from(slot));
        let place = self.place(slot);
        if let Some(place) = self.slots.get_mut(place) {
            self.commands += usize::from(matches!(kind, Kind::Scsi(_)));
            *place = Slot { id: Some(id), kind: Some(kind) };
        }
        id
    }

    pub(super) fn end(&mut self, id: TaskId) -> Option<Kind<B>> {
        let slot = slot_of(id);
        let place = self.place(slot);
        let place = self.slots.get_mut(place).filter(|place| place.id == Some(id))?;
        place.id = None;
        let kind = place.kind.take()?;
        self.commands -= usize::from(matches!(kind, Kind::Scsi(_)));
        self.free.push(slot);
        Some(kind)
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Kind<B>> {
        let place = self.place(slot_of(id));
        let place = self.slots.get_mut(place).filter(|place| place.id == Some(id))?;
        place.kind.as_mut()
    }

    pub(super) fn scsi(&mut self, id: TaskId) -> Option<&mut ScsiTask<B>> {
        match self.get_mut(id)? {
            Kind::Scsi(task) => Some(task),
            _ => None,
        }
    }

    /// The request called `itt`.
    pub(super) fn find(&self, itt: InitiatorTaskTag) -> Option<TaskId> {
        let [.., high, low] = itt.0.to_be_bytes();
        let id = self.slots.get(self.place(u16::from_be_bytes([high, low])))?.id?;
        (tag_of(id) == itt).then_some(id)
    }

    /// Commands that were sent and for which `ends` holds.
    pub(super) fn sent_commands(&self, ends: impl Fn(Lun, CmdSn) -> bool) -> Vec<TaskId> {
        let ended = |slot: &Slot<B>| match &slot.kind {
            Some(Kind::Scsi(task)) if ends(task.command.lun, task.sent?) => slot.id,
            _ => None,
        };
        self.slots.iter().filter_map(ended).collect()
    }
}

pub(super) fn slot_of(id: TaskId) -> u16 {
    let [.., high, low] = id.0.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The tag for a request: its slot, and above it a piece of its number to tell it from the slot's last one.
pub(super) fn tag_of(id: TaskId) -> InitiatorTaskTag {
    let [.., a, b, c, d] = id.0.to_be_bytes();
    InitiatorTaskTag(u32::from_be_bytes([a, b, c, d]))
}

/// Data on its way to the target: unsolicited, or an R2T's.
pub(super) struct DataJob {
    pub(super) task: TaskId,
    pub(super) ttt: u32,
    pub(super) lun: Lun,
    pub(super) data: Bytes,
    pub(super) offset: u32,
    pub(super) data_sn: u32,
}
