//! Bytes out: requests other than commands, data that was asked for, then commands as the window allows.

use std::collections::VecDeque;

use bytes::Bytes;

use super::TaskId;
use super::connection::{Connection, Phase};
use super::task::{DataJob, tag_of};
use crate::frame::{length, size};
use crate::pdu::{self, Bhs, Header, IMMEDIATE, U24, flags};
use crate::{PayloadPool, TargetTransferTag};

impl<P: PayloadPool> Connection<P> {
    /// True when [`Connection::poll_transmit`] would yield something.
    pub fn has_transmit(&self) -> bool {
        let may_send = matches!(self.phase, Phase::FullFeature) && !self.max_cmd_sn.before(self.cmd_sn);
        !self.control.is_empty() || !self.jobs.is_empty() || may_send && !self.queued.is_empty()
    }

    /// Appends what is to be sent next to `out`, in order, until about `bytes_max` bytes are
    /// appended or there is no more. Returns the bytes appended.
    pub fn poll_transmit(&mut self, out: &mut VecDeque<Bytes>, bytes_max: usize) -> usize {
        while self.writer.written() < bytes_max {
            if let Some((mut bhs, data)) = self.control.pop_front() {
                self.stamp(&mut bhs);
                self.send(&bhs, data, out);
            } else if let Some(job) = self.jobs.pop_front() {
                self.send_data_out(job, out);
            } else if !self.send_command(out) {
                break;
            }
        }
        self.writer.flush(out);
        self.writer.take_written()
    }

    /// Fills in CmdSN and ExpStatSN, which stand at the same place in all requests but Data-Out.
    fn stamp(&self, bhs: &mut Bhs) {
        let exp_stat_sn = self.exp_stat_sn.map_or(0, |stat_sn| stat_sn.0);
        let fields = [self.cmd_sn.0.to_be_bytes(), exp_stat_sn.to_be_bytes()];
        if let Some(place) = bhs.get_mut(24..32) {
            place.copy_from_slice(fields.as_flattened());
        }
    }

    fn send(&mut self, bhs: &Bhs, data: Bytes, out: &mut VecDeque<Bytes>) {
        self.writer.header(bhs);
        if !data.is_empty() {
            self.writer.data(data, out);
        }
        self.writer.end();
    }

    /// Sends the next queued command with its immediate data; false when none may go.
    fn send_command(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        if !matches!(self.phase, Phase::FullFeature) {
            return false;
        }
        let Some(id) = self.queued.front().copied() else { return false };
        let Some(task) = self.tasks.scsi(id) else {
            self.queued.pop_front();
            return true;
        };
        let command = &task.command;
        if !command.immediate && self.max_cmd_sn.before(self.cmd_sn) {
            return false;
        }
        self.queued.pop_front();
        let write_len = length(command.data_out.len());
        let first_burst = write_len.min(self.parameters.first_burst_length);
        let now = if self.parameters.immediate_data {
            first_burst.min(self.parameters.peer_max_recv_data_segment_length)
        } else {
            0
        };
        let unsolicited = if self.parameters.initial_r2t { now } else { first_burst };
        let last = if unsolicited > now { 0 } else { flags::FINAL };
        let write = if write_len > 0 { flags::WRITE } else { 0 };
        let read = if command.read_len > 0 { flags::READ } else { 0 };
        let mut header = pdu::ScsiCommand {
            flags: last | write | read | (command.attribute.0 & flags::ATTRIBUTE_MASK),
            data_length: U24::new(now),
            lun: command.lun.0,
            itt: tag_of(id).0.into(),
            expected_length: if write_len > 0 { write_len } else { command.read_len }.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.map_or(0, |stat_sn| stat_sn.0).into(),
            cdb: command.cdb,
            ..pdu::ScsiCommand::blank()
        };
        let data = command.data_out.slice(..size(now));
        if unsolicited > now {
            self.jobs.push_front(DataJob {
                task: id,
                ttt: TargetTransferTag::NONE.0,
                lun: command.lun,
                data: command.data_out.slice(size(now)..size(unsolicited)),
                offset: now,
                data_sn: 0,
            });
        }
        task.sent = Some(self.cmd_sn);
        if command.immediate {
            header.opcode |= IMMEDIATE;
        } else {
            self.cmd_sn = self.cmd_sn.next();
        }
        self.send(header.bytes(), data, out);
        true
    }

    /// Sends one Data-Out PDU; the rest of the job stays first in line.
    fn send_data_out(&mut self, mut job: DataJob, out: &mut VecDeque<Bytes>) {
        if self.tasks.scsi(job.task).is_none() {
            return;
        }
        let len = job.data.len().min(size(self.parameters.peer_max_recv_data_segment_length));
        let data = job.data.split_to(len);
        let header = pdu::DataOut {
            flags: if job.data.is_empty() { flags::FINAL } else { 0 },
            data_length: U24::new(length(len)),
            lun: job.lun.0,
            itt: tag_of(job.task).0.into(),
            ttt: job.ttt.into(),
            exp_stat_sn: self.exp_stat_sn.map_or(0, |stat_sn| stat_sn.0).into(),
            data_sn: job.data_sn.into(),
            buffer_offset: job.offset.into(),
            ..pdu::DataOut::blank()
        };
        self.send(header.bytes(), data, out);
        job.offset += length(len);
        job.data_sn += 1;
        if !job.data.is_empty() {
            self.jobs.push_front(job);
        }
    }

    /// Queues what an R2T asks for; false when it asks for what is not there.
    pub(super) fn queue_data(&mut self, id: TaskId, r2t: &pdu::ReadyToTransfer) -> bool {
        let Some(task) = self.tasks.scsi(id) else { return false };
        let (offset, len) = (r2t.buffer_offset.get(), r2t.desired_length.get());
        let end = u64::from(offset) + u64::from(len);
        let data = &task.command.data_out;
        let fits = usize::try_from(end).is_ok_and(|end| end <= data.len());
        if !fits || len == 0 || len > self.parameters.max_burst_length || r2t.r2t_sn.get() != task.data_sn {
            return false;
        }
        task.data_sn += 1;
        self.jobs.push_back(DataJob {
            task: id,
            ttt: r2t.ttt.get(),
            lun: task.command.lun,
            data: data.slice(size(offset)..size(offset) + size(len)),
            offset,
            data_sn: 0,
        });
        true
    }
}
