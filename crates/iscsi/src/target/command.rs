//! SCSI commands: from a header to a task, from a complete task to the caller, and back.

use bytes::Bytes;

use super::TaskId;
use super::connection::Connection;
use super::event::{Cdb, Command, CommandSizer, Event, Response};
use super::link::link_of;
use super::output::{Numbering, ReadJob, sense_segment};
use super::receive::{Current, Sink};
use super::task::{Condition, Stage, Task};
use super::window::Order;
use crate::frame::{Chunks, Frame, length, size};
use crate::parameters::Parameters;
use crate::pdu::{self, AhsType, BasicHeader, Header, RejectReason, ScsiStatus, TaskAttribute, flags};
use crate::{CmdSn, InitiatorTaskTag, Lun, PayloadPool};

/// Longest extended CDB, bytes: SPC's variable length CDBs end at 260.
const EXTENDED_CDB_BYTES_MAX: usize = 260;

/// What additional header segments say.
#[derive(Default)]
struct Additional {
    extended_cdb: Option<Vec<u8>>,
    bidirectional_read_len: u32,
}

/// Reads additional header segments; `None` when they are malformed (RFC 7143 §11.2.2).
fn parse_ahs(mut ahs: &[u8]) -> Option<Additional> {
    let mut found = Additional::default();
    while let Some((&[high, low, kind], rest)) = ahs.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        // Three bytes of length and type, then `len` bytes, filled up to a word.
        let whole = (len + 3).next_multiple_of(4) - 3;
        let content = rest.get(..len)?;
        match AhsType(kind) {
            // Its first byte is reserved.
            AhsType::ExtendedCdb => found.extended_cdb = Some(content.get(1..)?.to_vec()),
            AhsType::BidirectionalReadLength => {
                let bytes = content.get(1..)?.first_chunk::<4>()?;
                found.bidirectional_read_len = u32::from_be_bytes(*bytes);
            }
            _ => return None,
        }
        ahs = rest.get(whole..)?;
    }
    Some(found)
}

/// The whole CDB.
fn whole_cdb(fixed: [u8; 16], extended: Option<Vec<u8>>) -> Option<Cdb> {
    let Some(extended) = extended else { return Some(Cdb::Fixed(fixed)) };
    let whole: Vec<u8> = fixed.into_iter().chain(extended).collect();
    (whole.len() <= EXTENDED_CDB_BYTES_MAX + 4).then(|| Cdb::Extended(whole.into_boxed_slice()))
}

impl<P: PayloadPool> Connection<P> {
    /// A SCSI command's header: makes a task of it.
    pub(super) fn begin_command(&mut self, frame: &Frame, sizer: &dyn CommandSizer) -> Current {
        let bhs = frame.bhs;
        let basic = BasicHeader::of(&bhs);
        let command = pdu::ScsiCommand::of(&bhs);
        let cmd_sn = CmdSn(command.cmd_sn.get());
        if !basic.immediate() && self.session.window.order(cmd_sn) == Order::Ignore {
            return Current::Ignored;
        }
        if !self.takes_commands() {
            let reason = if self.is_leaving() {
                RejectReason::WaitingForLogout
            } else {
                RejectReason::CommandNotSupported
            };
            return Current::Rejected(bhs, reason);
        }
        if basic.immediate() && self.session.tasks.immediate >= self.config.immediate_commands {
            return Current::Rejected(bhs, RejectReason::TooManyImmediateCommands);
        }
        let itt = InitiatorTaskTag(command.itt.get());
        if itt.is_none() {
            return Current::Rejected(bhs, RejectReason::InvalidPduField);
        }
        if self.session.tasks.find(itt).is_some() {
            return Current::Rejected(bhs, RejectReason::TaskInProgress);
        }
        match self.make_task(frame, command, sizer) {
            Some(id) => Current::Command(bhs, id),
            None => Current::Rejected(bhs, RejectReason::InvalidPduField),
        }
    }

    /// Makes a task of a command; `None` when a field of it is invalid.
    fn make_task(
        &mut self,
        frame: &Frame,
        command: &pdu::ScsiCommand,
        sizer: &dyn CommandSizer,
    ) -> Option<TaskId> {
        let additional = if frame.ahs.is_empty() { Additional::default() } else { parse_ahs(&frame.ahs)? };
        let cdb = whole_cdb(command.cdb, additional.extended_cdb)?;
        let (read, write) = (command.flags & flags::READ != 0, command.flags & flags::WRITE != 0);
        let more = command.flags & flags::FINAL == 0;
        if !write && (more || frame.data_len > 0) {
            return None;
        }
        let expected_len = command.expected_length.get();
        let expected_out = if write { expected_len } else { 0 };
        let expected_in = match (read, write) {
            (true, true) => additional.bidirectional_read_len,
            (true, false) => expected_len,
            _ => 0,
        };
        let lun = Lun(command.lun);
        let takes = sizer.data_out_len(lun, cdb.bytes());
        let too_much = takes.min(expected_out) > self.config.data_out_bytes_max;
        let wanted = takes.min(expected_out);
        let starved = !too_much && wanted > 0 && !sizer.has_room(wanted);
        let takes = if too_much || starved { 0 } else { takes };
        let limit = expected_out.min(self.link.parameters.first_burst_length);
        // Data that comes without being asked for.
        let unsolicited_max =
            if more && !self.link.parameters.initial_r2t { limit } else { frame.data_len.min(limit) };
        let (head_len, reserved) = self.plan_buffers(takes.min(expected_out), unsolicited_max);
        let condition = self.condition_of(more, frame.data_len, limit);
        let head = (head_len > 0).then(|| self.pool.take(size(head_len)));
        self.session.reserved += reserved;
        let link = self.link.id;
        let id = self.session.tasks.start(|id| Task {
            id,
            link,
            itt: InitiatorTaskTag(command.itt.get()),
            cmd_sn: CmdSn(command.cmd_sn.get()),
            lun,
            immediate: command.opcode & pdu::IMMEDIATE != 0,
            attribute: TaskAttribute(command.flags & flags::ATTRIBUTE_MASK),
            cdb,
            stage: Stage::Held,
            expected_out,
            expected_in,
            write,
            read,
            takes,
            stamp: sizer.stamp(lun),
            starved,
            unsolicited: more,
            unsolicited_data_sn: 0,
            unsolicited_len: frame.data_len,
            received: frame.data_len.min(takes).min(expected_out),
            asked: 0,
            r2t_sn: 0,
            transfers: Default::default(),
            condition,
            reserved,
            head,
            head_len,
            tail: None,
        })?;
        self.link.sink = Sink::Task { id, offset: 0, end: head_len };
        Some(id)
    }

    /// What is wrong with the data that comes with a command, `limit` bytes at most, or is announced by it.
    fn condition_of(&self, more: bool, data_len: u32, limit: u32) -> Option<Condition> {
        let Parameters { initial_r2t, immediate_data, .. } = self.link.parameters;
        if more && initial_r2t || data_len > 0 && !immediate_data {
            return Some(Condition::UnexpectedUnsolicitedData);
        }
        (data_len > limit).then_some(Condition::IncorrectAmountOfData)
    }

    /// How long the first buffer is, and how much of it counts against the budget for solicited data.
    /// One buffer for all if the budget allows, else one for what comes anyway.
    fn plan_buffers(&self, wanted: u32, unsolicited_max: u32) -> (u32, usize) {
        let solicited = size(wanted.saturating_sub(unsolicited_max));
        if solicited == 0 {
            return (wanted, 0);
        }
        if self.session.waiting.is_empty() && self.budget_allows(solicited) {
            return (wanted, solicited);
        }
        (unsolicited_max, 0)
    }

    /// True when `bytes` more of solicited data may be held; alone, a command may have any length.
    pub(super) fn budget_allows(&self, bytes: usize) -> bool {
        self.session.reserved == 0 || self.session.reserved + bytes <= self.config.write_buffer_bytes
    }

    /// A task's turn has come: it enters the task set.
    pub(super) fn admit(&mut self, id: TaskId) {
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        task.stage = Stage::Collecting;
        if !task.immediate {
            let attribute = task.attribute;
            self.session.tasks.in_window += 1;
            self.session.delivery.enter(id, attribute);
        }
        self.advance(id);
    }

    /// Moves a collecting task on: to the caller, to its next R2T, or to its end.
    pub(super) fn advance(&mut self, id: TaskId) {
        let Some(task) = self.session.tasks.get(id) else { return };
        let settled = !task.unsolicited && task.transfers.is_empty();
        match task.stage {
            Stage::Aborting if settled => {
                self.end_task(id);
                self.run_drained_functions();
            }
            Stage::Collecting if task.unsolicited => {}
            Stage::Collecting => match task.condition {
                Some(condition) if settled => self.fail_task(id, condition),
                Some(_) => {}
                None if settled && task.received == task.wanted() => self.data_complete(id),
                None => self.ask_for_data(id),
            },
            _ => {}
        }
    }

    fn data_complete(&mut self, id: TaskId) {
        let session = &mut self.session;
        if session.tasks.get(id).is_some_and(|task| task.immediate) {
            self.deliver(id);
            return;
        }
        session.delivery.ready(id, &mut session.tasks);
        self.deliver_ready();
    }

    pub(super) fn deliver_ready(&mut self) {
        while let Some(id) = self.session.delivery.next() {
            self.deliver(id);
        }
        // The line moved: who is at its head now may have to have its data whatever the budget says.
        self.ask_for_waiting_data();
    }

    fn deliver(&mut self, id: TaskId) {
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        task.stage = Stage::Delivered;
        let command = Command {
            task: id,
            initiator_task_tag: task.itt,
            lun: task.lun,
            cdb: core::mem::replace(&mut task.cdb, Cdb::Fixed([0; 16])),
            attribute: task.attribute,
            immediate: task.immediate,
            data_out: task.take_data(),
            expected_data_out: task.expected_out,
            expected_data_in: task.expected_in,
            stamp: task.stamp,
            starved: task.starved,
        };
        self.events.push_back((task.link, Event::Command(command)));
    }

    /// Ends a task for an iSCSI condition: CHECK CONDITION, ABORTED COMMAND (RFC 7143 §11.4.7.2).
    fn fail_task(&mut self, id: TaskId, condition: Condition) {
        self.leave_task_set(id);
        let [code, qualifier] = condition.additional_sense();
        let sense = [0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
        self.answer(id, Response::check_condition(Bytes::copy_from_slice(&sense)));
        self.deliver_ready();
    }

    /// Takes a task out of the line for delivery, if it stands in it.
    pub(super) fn leave_task_set(&mut self, id: TaskId) {
        let Some(task) = self.session.tasks.get(id) else { return };
        if !task.immediate && matches!(task.stage, Stage::Collecting | Stage::Ready) {
            self.session.delivery.leave(id, &mut self.session.tasks);
        }
    }

    /// Answers a command. Ignored when the task is gone.
    pub fn respond(&mut self, task: TaskId, response: Response) {
        let delivered = self.session.tasks.get(task).is_some_and(|task| task.stage == Stage::Delivered);
        if delivered {
            self.answer(task, response);
        }
    }

    /// Ends a task without a response, for a function another connection asked for. False when it is gone.
    pub fn abort_task(&mut self, task: TaskId) -> bool {
        let gone = self.session.tasks.get(task).is_none_or(|task| task.stage == Stage::Aborting);
        if !gone {
            self.leave_task_set(task);
            self.end_task(task);
            self.deliver_ready();
        }
        !gone
    }

    fn answer(&mut self, id: TaskId, response: Response) {
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        let Some(link) = link_of(&mut self.link, &mut self.others, task.link) else { return };
        let available = length(response.data_in.iter().map(Bytes::len).sum());
        let (residual_flags, residual) = residual(task, available);
        let (bidi_flags, bidi_residual) = bidi_residual(task, available);
        let chunks = Chunks::new(response.data_in, task.expected_in);
        let has_data = chunks.len() > 0;
        let collapse = response.status == ScsiStatus::Good && response.sense.is_empty() && bidi_flags == 0;
        let follow_up = (!has_data || !collapse).then(|| {
            let burst = link.parameters.peer_max_recv_data_segment_length;
            let data_pdus = data_pdus(chunks.len(), burst, link.parameters.max_burst_length);
            let header = pdu::ScsiResponse {
                flags: flags::FINAL | residual_flags | bidi_flags,
                status: response.status.0,
                itt: task.itt.0.into(),
                exp_data_sn: (data_pdus + if task.read && task.write { task.r2t_sn } else { 0 }).into(),
                bidi_residual: bidi_residual.into(),
                residual: residual.into(),
                ..pdu::ScsiResponse::blank()
            };
            (*header.bytes(), sense_segment(&response.sense))
        });
        if !has_data {
            if let Some((bhs, data)) = follow_up {
                link.output.push(bhs, data, Numbering::Status);
            }
            self.end_task(id);
            return;
        }
        task.stage = Stage::Answering;
        link.output.reads.push_back(ReadJob {
            task: id,
            itt: task.itt,
            lun: task.lun,
            chunks,
            offset: 0,
            data_sn: if task.write { task.r2t_sn } else { 0 },
            burst_left: link.parameters.max_burst_length,
            collapse,
            status: response.status,
            residual_flags,
            residual,
            response: follow_up,
        });
    }

    /// Forgets a task: its slot, its share of the budget, its place in the window.
    pub(super) fn end_task(&mut self, id: TaskId) {
        let Some(task) = self.session.tasks.end(id) else { return };
        if task.reserved > 0 {
            self.session.reserved -= task.reserved;
            self.ask_for_waiting_data();
        }
    }
}

/// Residual flags and count for the main direction of a task (RFC 7143 §11.4.5).
fn residual<B: AsRef<[u8]> + AsMut<[u8]> + Send + 'static>(task: &Task<B>, available: u32) -> (u8, u32) {
    let (expected, actual) = match (task.write, task.read) {
        (true, _) => (task.expected_out, task.takes),
        (false, true) => (task.expected_in, available),
        (false, false) => (0, available.max(task.takes)),
    };
    difference(expected, actual, flags::UNDERFLOW, flags::OVERFLOW)
}

/// The same for the read direction of a bidirectional task.
fn bidi_residual<B>(task: &Task<B>, available: u32) -> (u8, u32) {
    if !(task.read && task.write) {
        return (0, 0);
    }
    difference(task.expected_in, available, flags::BIDI_UNDERFLOW, flags::BIDI_OVERFLOW)
}

fn difference(expected: u32, actual: u32, underflow: u8, overflow: u8) -> (u8, u32) {
    match actual.cmp(&expected) {
        core::cmp::Ordering::Less => (underflow, expected - actual),
        core::cmp::Ordering::Equal => (0, 0),
        core::cmp::Ordering::Greater => (overflow, actual - expected),
    }
}

/// How many Data-In PDUs `len` bytes make: each at most a segment, none across the end of a burst.
fn data_pdus(len: u32, segment: u32, burst: u32) -> u32 {
    let whole = len / burst * burst.div_ceil(segment);
    whole + (len % burst).div_ceil(segment)
}
