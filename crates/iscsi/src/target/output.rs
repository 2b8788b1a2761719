//! What is to be sent: short PDUs first in, first out, ahead of read data.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::TaskId;
use crate::frame::{Chunks, FrameWriter, length};
use crate::pdu::{Bhs, ScsiStatus, U24};
use crate::{CmdSn, InitiatorTaskTag, Lun, StatSn};

/// Queued bytes above which nothing more is read from the initiator: it is to take its answers first.
/// More than all responses of the largest window.
const CONTROL_BYTES_MAX: usize = 1 << 20;

/// How a PDU is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// It takes a StatSN.
    Status,
    /// It tells the next StatSN and takes none.
    Next,
    /// It has none.
    None,
}

/// A short PDU; sequence numbers are filled in when it goes out.
struct Outgoing {
    bhs: Bhs,
    data: Bytes,
    numbering: Numbering,
}

/// Read data on its way.
pub(super) struct ReadJob {
    pub(super) task: TaskId,
    pub(super) itt: InitiatorTaskTag,
    pub(super) lun: Lun,
    pub(super) chunks: Chunks,
    pub(super) offset: u32,
    pub(super) data_sn: u32,
    pub(super) burst_left: u32,
    /// The status fits the last Data-In PDU; it is GOOD.
    pub(super) collapse: bool,
    pub(super) status: ScsiStatus,
    pub(super) residual_flags: u8,
    pub(super) residual: u32,
    /// The SCSI Response that follows when the status does not collapse.
    pub(super) response: Option<(Bhs, Bytes)>,
}

/// Numbers that every PDU of a target carries.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) expected: CmdSn,
    pub(super) max: CmdSn,
}

/// See the module's description.
pub(super) struct Output {
    control: VecDeque<Outgoing>,
    control_bytes: usize,
    pub(super) reads: VecDeque<ReadJob>,
    pub(super) writer: FrameWriter,
    stat_sn: StatSn,
    /// Digests that begin behind the last PDU of the login.
    pub(super) digests_after_login: Option<(bool, bool)>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            control: VecDeque::new(),
            control_bytes: 0,
            reads: VecDeque::new(),
            writer: FrameWriter::new(),
            stat_sn: StatSn(1),
            digests_after_login: None,
        }
    }

    /// Queues a short PDU.
    pub(super) fn push(&mut self, mut bhs: Bhs, data: Bytes, numbering: Numbering) {
        set_data_length(&mut bhs, length(data.len()));
        self.control_bytes += bhs.len() + data.len();
        self.control.push_back(Outgoing { bhs, data, numbering });
    }

    /// The StatSN that comes next once all that is queued, read data apart, has gone out.
    pub(super) fn stat_sn_behind_queue(&self) -> StatSn {
        let queued = self.control.iter().filter(|outgoing| outgoing.numbering == Numbering::Status);
        self.stat_sn.plus(length(queued.count()))
    }

    /// The initiator does not take its answers.
    pub(super) const fn is_clogged(&self) -> bool {
        self.control_bytes > CONTROL_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.reads.is_empty()
    }

    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    pub(super) fn clear_reads(&mut self) {
        self.reads.clear();
    }

    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.control_bytes = 0;
        self.reads.clear();
    }

    /// Sends the next short PDU.
    pub(super) fn send_control(&mut self, numbers: Numbers, out: &mut VecDeque<Bytes>) {
        let Some(Outgoing { mut bhs, data, numbering }) = self.control.pop_front() else { return };
        self.control_bytes -= bhs.len() + data.len();
        self.number(&mut bhs, numbering, numbers);
        self.send(&bhs, data, out);
    }

    /// Sends one PDU with short data.
    pub(super) fn send(&mut self, bhs: &Bhs, data: Bytes, out: &mut VecDeque<Bytes>) {
        self.writer.header(bhs);
        if !data.is_empty() {
            self.writer.data(data, out);
        }
        self.writer.end();
    }

    /// Fills in StatSN, ExpCmdSN and MaxCmdSN, which stand at the same place in every PDU of a target.
    pub(super) fn number(&mut self, bhs: &mut Bhs, numbering: Numbering, numbers: Numbers) {
        let stat_sn = match numbering {
            Numbering::None => [0; 4],
            Numbering::Next => self.stat_sn.0.to_be_bytes(),
            Numbering::Status => {
                let stat_sn = self.stat_sn;
                self.stat_sn = stat_sn.next();
                stat_sn.0.to_be_bytes()
            }
        };
        let fields = [stat_sn, numbers.expected.0.to_be_bytes(), numbers.max.0.to_be_bytes()];
        if let Some(place) = bhs.get_mut(24..36) {
            place.copy_from_slice(fields.as_flattened());
        }
    }
}

/// Sets DataSegmentLength.
pub(super) fn set_data_length(bhs: &mut Bhs, data_len: u32) {
    if let Some(place) = bhs.get_mut(5..8) {
        place.copy_from_slice(zerocopy::IntoBytes::as_bytes(&U24::new(data_len.min(U24::MAX))));
    }
}

/// Sense data as a data segment: its length, then itself (RFC 7143 §11.4.7).
pub(super) fn sense_segment(sense: &[u8]) -> Bytes {
    if sense.is_empty() {
        return Bytes::new();
    }
    // Sense data is at most 252 bytes long (SPC-4 §4.5.1).
    let sense = sense.get(..252).unwrap_or(sense);
    let mut segment = BytesMut::with_capacity(sense.len() + 2);
    segment.put_u16(u16::try_from(sense.len()).unwrap_or_default());
    segment.put_slice(sense);
    segment.freeze()
}
