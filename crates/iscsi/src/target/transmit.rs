//! Bytes out: short PDUs first, then read data, a PDU at a time so that nothing waits behind it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::Connection;
use super::link::Phase;
use super::output::{Numbering, Numbers, set_data_length};
use crate::pdu::{self, Header, flags};
use crate::{InitiatorTaskTag, PayloadPool, TargetTransferTag};

impl<P: PayloadPool> Connection<P> {
    /// True when [`Connection::poll_transmit`] would yield something.
    pub fn has_transmit(&mut self) -> bool {
        !self.link.output.is_empty() || self.window_reopened()
    }

    /// Appends what is to be sent next to `out`, in order, until about `bytes_max` bytes are
    /// appended or there is no more. Returns the bytes appended.
    ///
    /// What is appended is final. Hand over what one write takes, not all there is: only then can
    /// a NOP-In overtake read data.
    pub fn poll_transmit(&mut self, out: &mut VecDeque<Bytes>, bytes_max: usize) -> usize {
        if self.window_reopened() {
            self.send_nop_in(InitiatorTaskTag::NONE, TargetTransferTag::NONE);
        }
        while self.link.output.writer.written() < bytes_max {
            if self.link.output.has_control() {
                let numbers = self.numbers();
                let before_full_feature = self.link.output.digests_after_login.is_some();
                self.link.output.send_control(numbers, out);
                if before_full_feature && !self.link.output.has_control() {
                    self.start_digests();
                }
            } else if !self.send_data_in(out) {
                break;
            }
        }
        self.link.output.writer.flush(out);
        self.link.output.writer.take_written()
    }

    /// The initiator believes the window shut, and nothing is under way that would tell it otherwise.
    fn window_reopened(&mut self) -> bool {
        matches!(self.link.phase, Phase::FullFeature)
            && self.link.output.is_empty()
            && self.session.window.reopened(self.session.tasks.in_window)
    }

    /// The last PDU of the login is out: digests begin.
    fn start_digests(&mut self) {
        if let Some((header, data)) = self.link.output.digests_after_login.take() {
            self.link.output.writer.set_digests(header, data);
        }
    }

    fn numbers(&mut self) -> Numbers {
        let max = self.session.window.tell(self.session.tasks.in_window);
        Numbers { expected: self.session.window.expected(), max }
    }

    /// Sends one Data-In PDU of the read that is up, and its response if that was the last.
    /// False when there is no read.
    fn send_data_in(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        let Some(mut job) = self.link.output.reads.pop_front() else { return false };
        if self.session.tasks.get(job.task).is_none() {
            // Aborted.
            return true;
        }
        let len =
            job.chunks.len().min(job.burst_left).min(self.link.parameters.peer_max_recv_data_segment_length);
        let last = len == job.chunks.len();
        let burst_ends = len == job.burst_left;
        let mut header = pdu::DataIn {
            flags: if last || burst_ends { flags::FINAL } else { 0 },
            lun: job.lun.0,
            itt: job.itt.0.into(),
            ttt: TargetTransferTag::NONE.0.into(),
            data_sn: job.data_sn.into(),
            buffer_offset: job.offset.into(),
            ..pdu::DataIn::blank()
        };
        let mut numbering = Numbering::None;
        if last {
            self.end_task(job.task);
            if job.collapse {
                header.flags |= flags::STATUS | job.residual_flags;
                header.status = job.status.0;
                header.residual = job.residual.into();
                numbering = Numbering::Status;
            }
        }
        let mut bhs = *header.bytes();
        set_data_length(&mut bhs, len);
        let numbers = self.numbers();
        self.link.output.number(&mut bhs, numbering, numbers);
        self.link.output.writer.header(&bhs);
        job.chunks.write(len, &mut self.link.output.writer, out);
        self.link.output.writer.end();
        if last {
            if let Some((mut bhs, sense)) = job.response {
                set_data_length(&mut bhs, crate::frame::length(sense.len()));
                self.link.output.number(&mut bhs, Numbering::Status, numbers);
                self.link.output.send(&bhs, sense, out);
            }
            return true;
        }
        job.offset += len;
        job.data_sn = job.data_sn.wrapping_add(1);
        if burst_ends {
            // Others get their turn between bursts.
            job.burst_left = self.link.parameters.max_burst_length;
            self.link.output.reads.push_back(job);
        } else {
            job.burst_left -= len;
            self.link.output.reads.push_front(job);
        }
        true
    }
}
