//! Bytes in: from the stream to PDUs, and from PDUs to what handles them.

use core::time::Duration;

use bytes::Bytes;

use super::connection::Connection;
use super::link::Phase;
use super::output::Numbering;
use super::window::{Order, Unit};
use super::{CloseReason, CommandSizer, TaskId};
use crate::frame::{Frame, FrameError, length, size};
use crate::parameters::SessionType;
use crate::pdu::{self, BasicHeader, Bhs, Header, Opcode, RejectReason};
use crate::{CmdSn, InitiatorTaskTag, PayloadPool, StatSn, TargetTransferTag};

/// Longest ping data and text taken in one PDU, bytes; the rest of longer ping data is not returned.
const COLLECT_BYTES_MAX: usize = 64 << 10;

/// Where the data segment of the current PDU goes.
pub(super) enum Sink {
    Discard,
    Collect,
    /// Into a task's buffer, which keeps nothing from `end` on.
    Task {
        id: TaskId,
        offset: u32,
        end: u32,
    },
}

/// What the PDU being received is.
pub(super) enum Current {
    /// Its data goes nowhere and nothing follows from it.
    Ignored,
    Login(Bhs),
    /// A PDU that is handled when its CmdSN is up.
    Numbered(Bhs),
    /// A SCSI command that became a task.
    Command(Bhs, TaskId),
    DataOut(Bhs, TaskId),
    Rejected(Bhs, RejectReason),
}

impl<P: PayloadPool> Connection<P> {
    /// Where the next bytes from the socket go. Empty when nothing more may be read for now: the
    /// initiator does not take what was sent to it, or the connection is closed. Transmit, then ask again.
    pub fn recv_space(&mut self) -> &mut [u8] {
        self.link.direct = false;
        if matches!(self.link.phase, Phase::Closed) || self.link.output.is_clogged() {
            return &mut [];
        }
        let direct_len = self.link.reader.direct_len();
        if let (1.., Sink::Task { id, offset, end }) = (direct_len, &self.link.sink) {
            let len = length(direct_len).min(end.saturating_sub(*offset));
            let task = self.session.tasks.get_mut(*id);
            let room = task.map_or(0, |task| task.room(*offset, len).len());
            if room > 0 {
                self.link.direct = true;
                let task = self.session.tasks.get_mut(*id);
                return task.map(|task| task.room(*offset, len)).unwrap_or_default();
            }
        }
        self.link.reader.space()
    }

    /// `count` bytes were put into [`Connection::recv_space`] at `now`.
    pub fn received(&mut self, count: usize, now: Duration, sizer: &dyn CommandSizer) {
        self.now = now;
        if count == 0 || matches!(self.link.phase, Phase::Closed) {
            return;
        }
        // Any sign of life answers a NOP-In.
        self.link.keep_alive.last_received = now;
        self.link.keep_alive.asked_at = None;
        if core::mem::take(&mut self.link.direct) {
            self.received_direct(count);
        } else {
            self.link.reader.filled(count);
        }
        self.cut(sizer);
    }

    fn received_direct(&mut self, count: usize) {
        let Sink::Task { id, offset, .. } = &mut self.link.sink else { return };
        let Some(task) = self.session.tasks.get_mut(*id) else {
            // Aborted meanwhile: the bytes went with it.
            self.link.reader.direct_lost(count);
            self.link.current = Current::Ignored;
            self.link.sink = Sink::Discard;
            return;
        };
        let bytes = task.room(*offset, length(count));
        self.link.reader.direct_filled(bytes);
        *offset += length(bytes.len());
    }

    /// Handles all that is there whole.
    fn cut(&mut self, sizer: &dyn CommandSizer) {
        while !matches!(self.link.phase, Phase::Closed) {
            if self.link.reader.in_data() {
                self.take_data();
                let Some(digest_fits) = self.link.reader.end_data() else { return };
                self.end(digest_fits);
                continue;
            }
            match self.link.reader.next_header() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    self.begin(&frame, sizer);
                    if frame.data_len == 0 {
                        self.end(true);
                    }
                }
                Err(FrameError::HeaderDigest) => self.close_with(CloseReason::HeaderDigest),
                Err(FrameError::SegmentTooLong) => {
                    let reason = RejectReason::ProtocolError;
                    self.close_with(CloseReason::Protocol(reason, "data segment longer than declared"));
                }
            }
        }
    }

    fn take_data(&mut self) {
        let bytes = self.link.reader.take_data();
        match &mut self.link.sink {
            Sink::Discard => {}
            Sink::Collect => {
                let room = COLLECT_BYTES_MAX.saturating_sub(self.link.collected.len());
                self.link.collected.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Sink::Task { id, offset, end } => {
                let kept = bytes.get(..size(end.saturating_sub(*offset))).unwrap_or(bytes);
                if let Some(task) = self.session.tasks.get_mut(*id) {
                    task.put(*offset, kept);
                }
                *offset += length(bytes.len());
            }
        }
    }

    /// A header is there: decides where its data goes.
    fn begin(&mut self, frame: &Frame, sizer: &dyn CommandSizer) {
        self.link.sink = Sink::Discard;
        let bhs = frame.bhs;
        let basic = BasicHeader::of(&bhs);
        let opcode = basic.opcode();
        self.take_acknowledgement(&bhs);
        self.link.current = match (&self.link.phase, opcode) {
            (Phase::Login(_), Opcode::LoginRequest) => self.collect(Current::Login(bhs)),
            (Phase::Login(_), _) => {
                self.refuse_in_login();
                Current::Ignored
            }
            (_, Opcode::DataOut) => self.begin_data_out(&bhs),
            (_, Opcode::ScsiCommand) => self.begin_command(frame, sizer),
            (_, Opcode::NopOut | Opcode::TextRequest) => self.collect(Current::Numbered(bhs)),
            (_, Opcode::TaskManagementRequest | Opcode::LogoutRequest) => Current::Numbered(bhs),
            (_, Opcode::SnackRequest) => Current::Rejected(bhs, RejectReason::SnackReject),
            (_, Opcode::LoginRequest) => Current::Rejected(bhs, RejectReason::ProtocolError),
            _ => Current::Rejected(bhs, RejectReason::CommandNotSupported),
        };
    }

    /// Every request tells which responses have arrived, at the same place (RFC 7143 §4.2.2.2).
    fn take_acknowledgement(&mut self, bhs: &Bhs) {
        self.link.acknowledged = StatSn(pdu::NopOut::of(bhs).exp_stat_sn.get());
        if !self.session.functions.is_empty() {
            self.run_fenced_functions();
        }
    }

    fn collect(&mut self, current: Current) -> Current {
        self.link.sink = Sink::Collect;
        self.link.collected.clear();
        current
    }

    /// A PDU is there whole.
    fn end(&mut self, digest_fits: bool) {
        let current = core::mem::replace(&mut self.link.current, Current::Ignored);
        self.link.sink = Sink::Discard;
        if !digest_fits {
            self.end_damaged(current);
            return;
        }
        match current {
            Current::Ignored => {}
            Current::Login(bhs) => {
                let text = core::mem::take(&mut self.link.collected);
                self.login_request(&bhs, &text);
            }
            Current::Numbered(bhs) => {
                let data = Bytes::copy_from_slice(&self.link.collected);
                self.link.collected.clear();
                self.numbered(bhs, data);
            }
            Current::Command(bhs, id) => {
                if BasicHeader::of(&bhs).immediate() {
                    self.admit(id);
                } else {
                    self.in_turn(CmdSn(pdu::ScsiCommand::of(&bhs).cmd_sn.get()), Unit::Command(id));
                }
            }
            Current::DataOut(bhs, id) => self.end_data_out(&bhs, id),
            Current::Rejected(bhs, reason) => self.reject_numbered(&bhs, reason),
        }
    }

    /// A data digest did not fit: the PDU is discarded and rejected (RFC 7143 §7.8).
    fn end_damaged(&mut self, current: Current) {
        let bhs = match current {
            Current::Ignored => return,
            Current::DataOut(bhs, id) => {
                self.reject(&bhs, RejectReason::DataDigestError);
                self.damaged_data_out(&bhs, id);
                return;
            }
            Current::Command(bhs, id) => {
                // As if it had never come: its CmdSN stays open for a retry.
                self.end_task(id);
                bhs
            }
            Current::Login(bhs) | Current::Numbered(bhs) | Current::Rejected(bhs, _) => bhs,
        };
        self.reject(&bhs, RejectReason::DataDigestError);
    }

    /// A PDU other than a SCSI command that carries a CmdSN.
    fn numbered(&mut self, bhs: Bhs, data: Bytes) {
        let basic = BasicHeader::of(&bhs);
        if basic.immediate() {
            self.carry_out(&bhs, data);
            return;
        }
        // An answer to a NOP-In takes no CmdSN, whatever its I bit (RFC 7143 §11.18).
        if basic.opcode() == Opcode::NopOut && basic.itt.get() == u32::MAX {
            return;
        }
        self.in_turn(CmdSn(pdu::NopOut::of(&bhs).cmd_sn.get()), Unit::Pdu(self.link.id, bhs, data));
    }

    /// Carries `unit` out when its CmdSN is up, and then what waited for it.
    pub(super) fn in_turn(&mut self, cmd_sn: CmdSn, unit: Unit) {
        match self.session.window.order(cmd_sn) {
            Order::Ignore => {
                if let Unit::Command(id) = unit {
                    self.end_task(id);
                }
            }
            Order::Later => self.hold(cmd_sn, unit),
            Order::Now => {
                self.session.window.advance();
                self.take_turn(unit);
                while let Some(next) = self.session.window.take_next() {
                    self.session.window.advance();
                    self.take_turn(next);
                }
                self.run_ordered_functions();
            }
        }
        if self.session.lost_up_to.is_some() {
            self.check_gap();
        }
    }

    /// Keeps a unit until its turn; what would take too much memory ends the connection.
    fn hold(&mut self, cmd_sn: CmdSn, unit: Unit) {
        if let Unit::Pdu(_, _, data) = &unit {
            self.link.held_bytes += data.len();
            if self.link.held_bytes > COLLECT_BYTES_MAX {
                let reason = RejectReason::ProtocolError;
                self.close_with(CloseReason::Protocol(reason, "too much data ahead of its turn"));
                return;
            }
        }
        self.session.window.hold(cmd_sn, unit);
    }

    fn take_turn(&mut self, unit: Unit) {
        match unit {
            Unit::Command(id) => self.admit(id),
            Unit::Pdu(link, bhs, data) => self.at(link, |session| {
                session.link.held_bytes = session.link.held_bytes.saturating_sub(data.len());
                session.carry_out(&bhs, data);
            }),
            Unit::Skip => {}
        }
    }

    fn carry_out(&mut self, bhs: &Bhs, data: Bytes) {
        match BasicHeader::of(bhs).opcode() {
            Opcode::NopOut => self.nop_out(pdu::NopOut::of(bhs), data),
            Opcode::TextRequest => self.text_request(bhs, &data),
            Opcode::TaskManagementRequest => self.task_management(bhs),
            Opcode::LogoutRequest => self.logout_request(bhs),
            _ => {}
        }
    }

    /// NOP-Out: a ping is answered at once, an answer was already noted (RFC 7143 §11.18).
    fn nop_out(&mut self, nop: &pdu::NopOut, data: Bytes) {
        if nop.itt.get() == u32::MAX {
            return;
        }
        let len = size(self.link.parameters.peer_max_recv_data_segment_length).min(data.len());
        let reply = pdu::NopIn {
            lun: nop.lun,
            itt: nop.itt,
            ttt: TargetTransferTag::NONE.0.into(),
            ..pdu::NopIn::blank()
        };
        self.link.output.push(*reply.bytes(), data.slice(..len), Numbering::Status);
    }

    /// Rejects a PDU that is not known to carry a CmdSN, or that does and is to count.
    fn reject_numbered(&mut self, bhs: &Bhs, reason: RejectReason) {
        let basic = BasicHeader::of(bhs);
        if basic.opcode() == Opcode::ScsiCommand && !basic.immediate() {
            let cmd_sn = CmdSn(pdu::ScsiCommand::of(bhs).cmd_sn.get());
            if self.session.window.order(cmd_sn) == Order::Ignore {
                return;
            }
            self.reject(bhs, reason);
            self.in_turn(cmd_sn, Unit::Skip);
            return;
        }
        self.reject(bhs, reason);
        if basic.opcode() == Opcode::LoginRequest {
            self.close_with(CloseReason::Protocol(reason, "login request in the full feature phase"));
        }
    }

    /// Sends a Reject with a copy of the header (RFC 7143 §11.17).
    pub(super) fn reject(&mut self, bhs: &Bhs, reason: RejectReason) {
        let header =
            pdu::Reject { reason: reason.0, itt: InitiatorTaskTag::NONE.0.into(), ..pdu::Reject::blank() };
        self.link.output.push(*header.bytes(), Bytes::copy_from_slice(bhs), Numbering::Status);
    }

    /// True in the full feature phase of a session that carries SCSI commands.
    pub(super) fn takes_commands(&self) -> bool {
        matches!(self.link.phase, Phase::FullFeature)
            && self.session.session_type == SessionType::Normal
            && !self.is_leaving()
    }

    /// True when a logout is under way that closes this connection.
    pub(super) const fn is_leaving(&self) -> bool {
        self.link.leaving || self.session.closing
    }
}
