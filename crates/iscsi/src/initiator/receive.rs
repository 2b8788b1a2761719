//! Bytes in: responses, read data, and what the target says on its own.

use core::time::Duration;

use bytes::Bytes;

use super::TaskId;
use super::connection::{Connection, Phase};
use super::event::{
    AsyncMessage, CloseReason, Completion, DiscoveredTarget, Event, Residual, TaskManagementDone,
};
use super::task::{Kind, ScsiTask};
use crate::frame::{Frame, FrameError, length, size};
use crate::pdu::{
    self, AsyncEvent, BasicHeader, Bhs, Header, IMMEDIATE, LogoutResponse, Opcode, RejectReason,
    ScsiResponseCode, ScsiStatus, TaskManagementFunction, TaskManagementResponse, flags,
};
use crate::{CmdSn, InitiatorTaskTag, Lun, PayloadPool, StatSn, TargetTransferTag, text};

/// Longest answer to SendTargets, bytes.
const TARGETS_BYTES_MAX: usize = 16 << 20;

/// Longest data segment collected for anything but read data, bytes: the longest a PDU can have.
const COLLECT_BYTES_MAX: usize = 1 << 24;

/// Where the data segment of the current PDU goes.
pub(super) enum Sink {
    Discard,
    Collect,
    Task { id: TaskId, offset: u32 },
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> ScsiTask<B> {
    /// Where read data from `offset` on goes.
    fn room(&mut self, offset: u32) -> &mut [u8] {
        let buffer = self.buffer.as_mut().map(AsMut::as_mut).unwrap_or_default();
        buffer.get_mut(size(offset)..).unwrap_or_default()
    }
}

impl<P: PayloadPool> Connection<P> {
    /// Where the next bytes from the socket go. Empty only when the connection is closed.
    pub fn recv_space(&mut self) -> &mut [u8] {
        self.direct = false;
        if matches!(self.phase, Phase::Closed) {
            return &mut [];
        }
        let direct_len = self.reader.direct_len();
        if let (1.., Sink::Task { id, offset }) = (direct_len, &self.sink)
            && let Some(room) = self.tasks.scsi(*id).and_then(|task| task.room(*offset).get_mut(..direct_len))
        {
            self.direct = true;
            return room;
        }
        self.reader.space()
    }

    /// `count` bytes were put into [`Connection::recv_space`] at `now`.
    pub fn received(&mut self, count: usize, now: Duration) {
        if count == 0 || matches!(self.phase, Phase::Closed) {
            return;
        }
        self.heard(now);
        if !core::mem::take(&mut self.direct) {
            self.reader.filled(count);
        } else if let Sink::Task { id, offset } = &mut self.sink
            && let Some(bytes) = self.tasks.scsi(*id).and_then(|task| task.room(*offset).get(..count))
        {
            self.reader.direct_filled(bytes);
            *offset += length(count);
        }
        self.cut();
        self.leave_if_time();
    }

    fn cut(&mut self) {
        while !matches!(self.phase, Phase::Closed) {
            if self.reader.in_data() {
                self.take_data();
                match self.reader.end_data() {
                    None => return,
                    Some(true) => self.end(),
                    Some(false) => self.close_with(CloseReason::Digest),
                }
                continue;
            }
            match self.reader.next_header() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    self.begin(&frame);
                    if frame.data_len == 0 {
                        self.end();
                    }
                }
                Err(FrameError::HeaderDigest) => self.close_with(CloseReason::Digest),
                Err(FrameError::SegmentTooLong) => self.violation("data segment longer than declared"),
            }
        }
    }

    fn take_data(&mut self) {
        let bytes = self.reader.take_data();
        match &mut self.sink {
            Sink::Discard => {}
            Sink::Collect => {
                let room = COLLECT_BYTES_MAX.saturating_sub(self.collected.len());
                self.collected.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Sink::Task { id, offset } => {
                if let Some(room) =
                    self.tasks.scsi(*id).and_then(|task| task.room(*offset).get_mut(..bytes.len()))
                {
                    room.copy_from_slice(bytes);
                }
                *offset += length(bytes.len());
            }
        }
    }

    pub(super) fn violation(&mut self, what: &'static str) {
        self.close_with(CloseReason::Protocol(what));
    }

    /// A header is there: decides where its data goes.
    fn begin(&mut self, frame: &Frame) {
        self.current = Some(frame.bhs);
        self.sink = Sink::Collect;
        self.collected.clear();
        let basic = BasicHeader::of(&frame.bhs);
        if basic.opcode() != Opcode::DataIn {
            return;
        }
        self.sink = Sink::Discard;
        let pdu = pdu::DataIn::of(&frame.bhs);
        let Some(id) = self.tasks.find(InitiatorTaskTag(pdu.itt.get())) else { return };
        let Some(task) = self.tasks.scsi(id) else { return };
        let offset = pdu.buffer_offset.get();
        let room = task.command.read_len.saturating_sub(offset);
        if offset != task.received || frame.data_len > room || pdu.data_sn.get() != task.data_sn {
            self.violation("read data out of place");
            return;
        }
        task.data_sn += 1;
        task.received += frame.data_len;
        if task.buffer.is_none() {
            task.buffer = Some(self.pool.take(size(task.command.read_len)));
        }
        self.sink = Sink::Task { id, offset };
    }

    /// A PDU is there whole.
    fn end(&mut self) {
        let Some(bhs) = self.current.take() else { return };
        self.sink = Sink::Discard;
        if matches!(self.phase, Phase::Closed) || !self.take_numbers(&bhs) {
            return;
        }
        let opcode = BasicHeader::of(&bhs).opcode();
        if matches!(self.phase, Phase::Login(_)) != (opcode == Opcode::LoginResponse) {
            self.violation("not the PDU of this phase");
            return;
        }
        match opcode {
            Opcode::DataIn => self.data_in(pdu::DataIn::of(&bhs)),
            Opcode::ScsiResponse => self.scsi_response(pdu::ScsiResponse::of(&bhs)),
            Opcode::ReadyToTransfer => self.ready_to_transfer(pdu::ReadyToTransfer::of(&bhs)),
            Opcode::NopIn => self.nop_in(pdu::NopIn::of(&bhs)),
            Opcode::LoginResponse => {
                let text = core::mem::take(&mut self.collected);
                self.login_response(&bhs, &text);
            }
            Opcode::TextResponse => self.text_response(pdu::TextResponse::of(&bhs)),
            Opcode::TaskManagementResponse => self.task_management_reply(pdu::TaskManagementReply::of(&bhs)),
            Opcode::LogoutResponse => self.logout_reply(pdu::LogoutReply::of(&bhs)),
            Opcode::AsyncMessage => self.async_message(pdu::AsyncMessage::of(&bhs)),
            Opcode::Reject => self.rejected(pdu::Reject::of(&bhs)),
            _ => self.violation("unknown opcode"),
        }
    }

    /// Takes StatSN and the window from a PDU; false when a StatSN is missing (RFC 7143 §4.2.2.2).
    fn take_numbers(&mut self, bhs: &Bhs) -> bool {
        let numbers = pdu::NopIn::of(bhs);
        let basic = BasicHeader::of(bhs);
        let counts = match basic.opcode() {
            Opcode::DataIn => basic.flags & flags::STATUS != 0,
            Opcode::ReadyToTransfer => false,
            Opcode::NopIn => basic.itt.get() != u32::MAX,
            _ => true,
        };
        if counts {
            let stat_sn = StatSn(numbers.stat_sn.get());
            if self.exp_stat_sn.is_some_and(|expected| expected != stat_sn) {
                self.violation("StatSN out of order");
                return false;
            }
            self.exp_stat_sn = Some(stat_sn.next());
        }
        let (expected, max) = (CmdSn(numbers.exp_cmd_sn.get()), CmdSn(numbers.max_cmd_sn.get()));
        let plausible = !max.next().before(expected);
        if plausible && self.max_cmd_sn.before(max) {
            self.max_cmd_sn = max;
        }
        true
    }

    fn find_scsi(&mut self, itt: u32) -> Option<TaskId> {
        let id = self.tasks.find(InitiatorTaskTag(itt))?;
        self.tasks.scsi(id).map(|_| id)
    }

    fn data_in(&mut self, pdu: &pdu::DataIn) {
        if pdu.flags & flags::STATUS == 0 {
            return;
        }
        let Some(id) = self.find_scsi(pdu.itt.get()) else { return };
        let residual = residual(pdu.flags, pdu.residual.get());
        let response = ScsiResponseCode::CommandCompleted;
        self.complete(id, response, ScsiStatus(pdu.status), Bytes::new(), residual);
    }

    fn scsi_response(&mut self, pdu: &pdu::ScsiResponse) {
        // A response to a task that was aborted meanwhile has nobody to go to.
        let Some(id) = self.find_scsi(pdu.itt.get()) else { return };
        let sense = self.take_sense();
        let residual = residual(pdu.flags, pdu.residual.get());
        self.complete(id, ScsiResponseCode(pdu.response), ScsiStatus(pdu.status), sense, residual);
    }

    /// Sense data of the collected segment: behind its length (RFC 7143 §11.4.7).
    fn take_sense(&self) -> Bytes {
        let Some(([high, low], sense)) = self.collected.split_first_chunk::<2>() else { return Bytes::new() };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        Bytes::copy_from_slice(sense.get(..len).unwrap_or(sense))
    }

    fn complete(
        &mut self,
        id: TaskId,
        response: ScsiResponseCode,
        status: ScsiStatus,
        sense: Bytes,
        residual: Residual,
    ) {
        let Some(Kind::Scsi(task)) = self.tasks.end(id) else { return };
        let received = size(task.received);
        let data_in =
            task.buffer.map_or_else(Bytes::new, |buffer| Bytes::from_owner(buffer).slice(..received));
        let completion = Completion { task: id, response, status, sense, data_in, residual };
        self.events.push_back(Event::Completed(completion));
    }

    fn ready_to_transfer(&mut self, r2t: &pdu::ReadyToTransfer) {
        let Some(id) = self.find_scsi(r2t.itt.get()) else { return };
        if !self.queue_data(id, r2t) {
            self.violation("R2T for data that is not there");
        }
    }

    /// NOP-In: a question is answered, an answer is told (RFC 7143 §11.19).
    fn nop_in(&mut self, nop: &pdu::NopIn) {
        if nop.itt.get() == u32::MAX {
            if nop.ttt.get() != u32::MAX {
                let reply = pdu::NopOut {
                    opcode: pdu::NopOut::OPCODE.0 | IMMEDIATE,
                    lun: nop.lun,
                    itt: u32::MAX.into(),
                    ttt: nop.ttt,
                    ..pdu::NopOut::blank()
                };
                self.push(*reply.bytes(), Bytes::new());
            }
            return;
        }
        let Some(id) = self.tasks.find(InitiatorTaskTag(nop.itt.get())) else { return };
        match self.tasks.get_mut(id) {
            Some(Kind::Ping) => {
                self.tasks.end(id);
                self.events.push_back(Event::NopReply(Bytes::copy_from_slice(&self.collected)));
            }
            Some(Kind::KeepAlive) => {
                self.tasks.end(id);
            }
            _ => self.violation("NOP-In for something that is no ping"),
        }
    }

    fn text_response(&mut self, response: &pdu::TextResponse) {
        let itt = response.itt.get();
        let Some(id) = self.tasks.find(InitiatorTaskTag(itt)) else { return };
        match self.tasks.get_mut(id) {
            Some(Kind::SendTargets) => {}
            Some(Kind::Negotiation) => {
                self.tasks.end(id);
                return;
            }
            _ => return,
        }
        self.targets.extend_from_slice(&self.collected);
        if self.targets.len() > TARGETS_BYTES_MAX {
            self.violation("endless list of targets");
            return;
        }
        if response.flags & flags::FINAL == 0 {
            self.send_text(itt, TargetTransferTag(response.ttt.get()), Bytes::new());
            return;
        }
        self.tasks.end(id);
        match discovered(&core::mem::take(&mut self.targets)) {
            Some(targets) => self.events.push_back(Event::Targets(targets)),
            None => self.violation("malformed list of targets"),
        }
    }

    fn task_management_reply(&mut self, reply: &pdu::TaskManagementReply) {
        let found = self.tasks.find(InitiatorTaskTag(reply.itt.get()));
        let Some(id) = found else { return };
        let Some(Kind::TaskManagement { function, lun, referenced, cmd_sn }) = self.tasks.get_mut(id) else {
            return;
        };
        let (function, lun, referenced, cmd_sn) = (*function, *lun, *referenced, *cmd_sn);
        self.tasks.end(id);
        let response = TaskManagementResponse(reply.response);
        let mut ended = Vec::new();
        if response == TaskManagementResponse::Complete {
            ended = self.ended_by(function, lun, referenced, cmd_sn);
        }
        ended.retain(|task| self.tasks.end(*task).is_some());
        self.events.push_back(Event::TaskManagementDone(TaskManagementDone { id, response, ended }));
    }

    /// Ends what a function ended that was asked for over another connection of the session.
    pub(super) fn end_affected(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        cmd_sn: CmdSn,
    ) -> Vec<TaskId> {
        let mut ended = self.ended_by(function, lun, None, cmd_sn);
        ended.retain(|task| self.tasks.end(*task).is_some());
        ended
    }

    /// The commands that a completed function ended: no responses come for them any more.
    fn ended_by(
        &self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
        cmd_sn: CmdSn,
    ) -> Vec<TaskId> {
        match function {
            TaskManagementFunction::AbortTask => referenced.into_iter().collect(),
            TaskManagementFunction::AbortTaskSet
            | TaskManagementFunction::ClearTaskSet
            | TaskManagementFunction::LogicalUnitReset => {
                self.tasks.sent_commands(|task_lun, sent| task_lun == lun && sent.before(cmd_sn))
            }
            TaskManagementFunction::TargetWarmReset | TaskManagementFunction::TargetColdReset => {
                self.tasks.sent_commands(|_, sent| sent.before(cmd_sn))
            }
            _ => Vec::new(),
        }
    }

    fn logout_reply(&mut self, reply: &pdu::LogoutReply) {
        let response = LogoutResponse(reply.response);
        let Some(id) = self.tasks.find(InitiatorTaskTag(reply.itt.get())) else { return };
        let Some(Kind::Logout { closes_this }) = self.tasks.get_mut(id) else { return };
        let closes_this = *closes_this;
        self.tasks.end(id);
        self.logging_out = false;
        self.events.push_back(Event::LoggedOut(response));
        if response == LogoutResponse::Closed && closes_this {
            let asked = self.leave_by.is_some();
            self.close_with(if asked { CloseReason::AskedToLeave } else { CloseReason::LoggedOut });
        }
    }

    fn async_message(&mut self, message: &pdu::AsyncMessage) {
        let event = AsyncEvent(message.event);
        let sense = if event == AsyncEvent::ScsiEvent { self.take_sense() } else { Bytes::new() };
        self.events.push_back(Event::AsyncMessage(AsyncMessage {
            event,
            lun: Lun(message.lun),
            parameters: [message.parameter1.get(), message.parameter2.get(), message.parameter3.get()],
            sense,
        }));
        match event {
            AsyncEvent::LogoutRequest => {
                self.asked_to_leave(Duration::from_secs(message.parameter3.get().into()));
            }
            AsyncEvent::NegotiationRequest => self.renegotiate(),
            _ => {}
        }
        let this = event == AsyncEvent::ConnectionDrop && message.parameter1.get() == self.config.cid.0;
        if this || event == AsyncEvent::SessionDrop {
            self.close_with(CloseReason::Dropped);
        }
    }

    /// A Reject: a command or request it names will get no other answer (RFC 7143 §11.17).
    fn rejected(&mut self, reject: &pdu::Reject) {
        let reason = RejectReason(reject.reason);
        let header = Bytes::copy_from_slice(&self.collected);
        let mut task = None;
        if let Some(bhs) = self.collected.first_chunk() {
            let basic = BasicHeader::of(bhs);
            // A task whose Data-Out was rejected still gets its response.
            if basic.opcode() != Opcode::DataOut {
                task = self.tasks.find(InitiatorTaskTag(basic.itt.get()));
            }
        }
        if let Some(id) = task {
            self.tasks.end(id);
        }
        self.events.push_back(Event::Rejected { reason, task, header });
    }
}

fn residual(bits: u8, count: u32) -> Residual {
    match (bits & flags::UNDERFLOW != 0, bits & flags::OVERFLOW != 0) {
        (true, _) => Residual::Underflow(count),
        (_, true) => Residual::Overflow(count),
        _ => Residual::None,
    }
}

/// The targets in an answer to SendTargets (RFC 7143 Appendix C).
fn discovered(answer: &[u8]) -> Option<Vec<DiscoveredTarget>> {
    let mut targets: Vec<DiscoveredTarget> = Vec::new();
    for pair in text::pairs(answer) {
        match pair.ok()? {
            ("TargetName", name) => {
                targets.push(DiscoveredTarget { name: name.to_owned(), addresses: Vec::new() });
            }
            ("TargetAddress", address) => targets.last_mut()?.addresses.push(address.to_owned()),
            _ => {}
        }
    }
    Some(targets)
}
