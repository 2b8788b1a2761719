//! Data from the initiator: unsolicited, and asked for with R2T (RFC 7143 §11.7, §11.8).

use super::TaskId;
use super::connection::Connection;
use super::link::link_of;
use super::output::Numbering;
use super::receive::{Current, Sink};
use super::task::{Condition, OpenTransfer, Stage};
use crate::frame::size;
use crate::pdu::{self, Bhs, Header, RejectReason, flags};
use crate::{InitiatorTaskTag, PayloadPool, TargetTransferTag};

impl<P: PayloadPool> Connection<P> {
    /// A Data-Out header: finds out where its data goes.
    ///
    /// Data for a task that is gone is dropped without a word: it was on its way when the task
    /// was aborted or failed.
    pub(super) fn begin_data_out(&mut self, bhs: &Bhs) -> Current {
        let pdu = pdu::DataOut::of(bhs);
        let itt = InitiatorTaskTag(pdu.itt.get());
        let ttt = TargetTransferTag(pdu.ttt.get());
        let found = if ttt.is_none() {
            self.session.tasks.find(itt)
        } else {
            self.session.tasks.find_transfer(ttt, itt)
        };
        let Some(id) = found else { return Current::Ignored };
        // Data comes on the connection of its command (RFC 7143 §4.2.5.1).
        if self.session.tasks.get(id).is_some_and(|task| task.link != self.link.id) {
            return Current::Rejected(*bhs, RejectReason::ProtocolError);
        }
        let placed =
            if ttt.is_none() { self.place_unsolicited(id, pdu) } else { self.place_solicited(id, pdu) };
        let Some(task) = self.session.tasks.get_mut(id) else { return Current::Ignored };
        match placed {
            Ok(()) if task.condition.is_none() && task.stage != Stage::Aborting => {
                let (offset, end) = (pdu.buffer_offset.get(), task.wanted());
                self.link.sink = Sink::Task { id, offset, end };
            }
            Ok(()) => {}
            Err(condition) => {
                task.condition.get_or_insert(condition);
            }
        }
        Current::DataOut(*bhs, id)
    }

    /// Checks an unsolicited Data-Out against what the task may send.
    fn place_unsolicited(&mut self, id: TaskId, pdu: &pdu::DataOut) -> Result<(), Condition> {
        let Some(task) = self.session.tasks.get_mut(id) else { return Ok(()) };
        if !task.unsolicited {
            return Err(Condition::UnexpectedUnsolicitedData);
        }
        let len = pdu.data_length.get();
        let limit = task.expected_out.min(self.link.parameters.first_burst_length);
        if len > limit.saturating_sub(task.unsolicited_len) {
            return Err(Condition::IncorrectAmountOfData);
        }
        if pdu.data_sn.get() != task.unsolicited_data_sn || pdu.buffer_offset.get() != task.unsolicited_len {
            return Err(Condition::ProtocolServiceCrcError);
        }
        // A PDU may be empty, so there is no end to them.
        task.unsolicited_data_sn = task.unsolicited_data_sn.wrapping_add(1);
        Ok(())
    }

    /// Checks a solicited Data-Out against what was asked for.
    fn place_solicited(&mut self, id: TaskId, pdu: &pdu::DataOut) -> Result<(), Condition> {
        let Some(task) = self.session.tasks.get_mut(id) else { return Ok(()) };
        let ttt = TargetTransferTag(pdu.ttt.get());
        let Some(transfer) = task.transfers.iter_mut().find(|transfer| transfer.ttt == ttt) else {
            return Ok(());
        };
        if pdu.data_length.get() > transfer.left {
            return Err(Condition::IncorrectAmountOfData);
        }
        if pdu.data_sn.get() != transfer.data_sn || pdu.buffer_offset.get() != transfer.offset {
            return Err(Condition::ProtocolServiceCrcError);
        }
        transfer.data_sn = transfer.data_sn.wrapping_add(1);
        Ok(())
    }

    /// A Data-Out is there whole.
    pub(super) fn end_data_out(&mut self, bhs: &Bhs, id: TaskId) {
        let pdu = pdu::DataOut::of(bhs);
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        let (len, ttt) = (pdu.data_length.get(), TargetTransferTag(pdu.ttt.get()));
        let last = pdu.flags & flags::FINAL != 0;
        let fine = task.condition.is_none();
        if ttt.is_none() {
            if fine {
                let kept = len.min(task.wanted().saturating_sub(task.unsolicited_len));
                task.received += kept;
                task.unsolicited_len += len;
            }
            let full = task.unsolicited_len >= task.expected_out.min(self.link.parameters.first_burst_length);
            task.unsolicited &= !(last || fine && full);
        } else if let Some(place) = task.transfers.iter().position(|transfer| transfer.ttt == ttt) {
            if let Some(transfer) = task.transfers.get_mut(place).filter(|_| fine) {
                task.received += len;
                transfer.offset += len;
                transfer.left -= len;
                if last && transfer.left > 0 {
                    task.condition = Some(Condition::IncorrectAmountOfData);
                }
            }
            let done = task.transfers.get(place).is_some_and(|transfer| transfer.left == 0);
            if last || done {
                task.transfers.remove(place);
            }
        }
        self.advance(id);
    }

    /// A Data-Out whose digest did not fit: the task fails once its data stops coming (RFC 7143 §7.8 b).
    pub(super) fn damaged_data_out(&mut self, bhs: &Bhs, id: TaskId) {
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        task.condition.get_or_insert(Condition::ProtocolServiceCrcError);
        self.end_data_out(bhs, id);
    }

    /// Asks for the data that is missing, as far as the limits allow.
    pub(super) fn ask_for_data(&mut self, id: TaskId) {
        let outstanding_max = usize::from(self.link.parameters.max_outstanding_r2t);
        loop {
            let Some(task) = self.session.tasks.get_mut(id) else { return };
            if task.r2t_sn == 0 {
                task.asked = task.received;
            }
            let missing = task.wanted().saturating_sub(task.asked);
            if missing == 0 || task.transfers.len() >= outstanding_max || task.condition.is_some() {
                return;
            }
            if !self.has_buffer(id) {
                return;
            }
            self.ask(id, missing.min(self.link.parameters.max_burst_length));
        }
    }

    /// Sees to it that what the task still wants has a place; false when it has to wait for one.
    fn has_buffer(&mut self, id: TaskId) -> bool {
        let Some(task) = self.session.tasks.get(id) else { return false };
        if task.tail.is_some() || task.head_len >= task.wanted() {
            return true;
        }
        let need = size(task.wanted() - task.head_len);
        let first = self.session.waiting.front().is_none_or(|first| *first == id);
        if !(first && self.budget_allows(need) || self.budget_is_held_up_by(id)) {
            if !self.session.waiting.contains(&id) {
                self.session.waiting.push_back(id);
            }
            return false;
        }
        self.session.waiting.retain(|other| *other != id);
        self.session.reserved += need;
        if let Some(task) = self.session.tasks.get_mut(id) {
            task.reserved += need;
            task.take_tail(&self.pool);
        }
        true
    }

    /// True when all of the budget is with tasks whose data is there and that stand in line behind `id`:
    /// no buffer comes free before this task has had one.
    fn budget_is_held_up_by(&self, id: TaskId) -> bool {
        self.session.delivery.is_waited_for(id)
            && self.session.tasks.iter().all(|task| task.reserved == 0 || task.stage == Stage::Ready)
    }

    /// Room for data has come free, or the line for delivery has moved: those that wait ask now.
    pub(super) fn ask_for_waiting_data(&mut self) {
        self.ask_in_turn();
        let delivery = &self.session.delivery;
        if let Some(id) = self.session.waiting.iter().copied().find(|id| delivery.is_waited_for(*id)) {
            self.ask_for_data(id);
        }
    }

    fn ask_in_turn(&mut self) {
        while let Some(id) = self.session.waiting.front().copied() {
            let waits = self.session.tasks.get(id).is_some_and(|task| task.stage == Stage::Collecting);
            if !waits {
                self.session.waiting.pop_front();
                continue;
            }
            self.ask_for_data(id);
            if self.session.waiting.front() == Some(&id) {
                return;
            }
        }
    }

    /// Sends one R2T for the next `len` bytes.
    fn ask(&mut self, id: TaskId, len: u32) {
        let ttt = self.session.tasks.transfer_tag(id);
        let Some(task) = self.session.tasks.get_mut(id) else { return };
        let Some(link) = link_of(&mut self.link, &mut self.others, task.link) else { return };
        let header = pdu::ReadyToTransfer {
            lun: task.lun.0,
            itt: task.itt.0.into(),
            ttt: ttt.0.into(),
            r2t_sn: task.r2t_sn.into(),
            buffer_offset: task.asked.into(),
            desired_length: len.into(),
            ..pdu::ReadyToTransfer::blank()
        };
        task.transfers.push_back(OpenTransfer { ttt, offset: task.asked, left: len, data_sn: 0 });
        task.r2t_sn += 1;
        task.asked += len;
        link.output.push(*header.bytes(), Default::default(), Numbering::Next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{Pair, SimpleSizer};
    use crate::{Lun, initiator, target};

    /// Incident: after 2³² empty PDUs the count of them went past the end of its type.
    #[test]
    fn s11_7_5_data_sn_wraps() {
        let config = initiator::Config::normal("iqn.2026-11.test:host", "iqn.2026-11.test:disk");
        let mut pair = Pair::new(target::Config::default(), config, SimpleSizer);
        pair.initiator.submit(initiator::Command::new(Lun([0; 8]), [0; 16]));
        pair.run();
        let id = pair.target.session.tasks.iter().next().unwrap().id;
        for (ttt, solicited) in [(TargetTransferTag::NONE, false), (TargetTransferTag(5), true)] {
            let task = pair.target.session.tasks.get_mut(id).unwrap();
            task.unsolicited = true;
            task.unsolicited_data_sn = u32::MAX;
            task.transfers.clear();
            task.transfers.push_back(OpenTransfer { ttt, offset: 0, left: 512, data_sn: u32::MAX });
            for data_sn in [u32::MAX, 0, 1] {
                let numbers = pdu::DataOut { data_sn: data_sn.into(), ..pdu::DataOut::blank() };
                let pdu = pdu::DataOut { ttt: ttt.0.into(), ..numbers };
                let placed = if solicited {
                    pair.target.place_solicited(id, &pdu)
                } else {
                    pair.target.place_unsolicited(id, &pdu)
                };
                assert_eq!(placed, Ok(()), "{data_sn:#x}, solicited: {solicited}");
            }
        }
    }
}
