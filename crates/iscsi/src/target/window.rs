//! The command window of a session: CmdSN order, what is held until its turn, and MaxCmdSN.

use std::collections::VecDeque;

use bytes::Bytes;

use super::TaskId;
use crate::CmdSn;
use crate::frame::size;
use crate::pdu::Bhs;

/// Something that carries a CmdSN and is carried out in its order.
pub(super) enum Unit {
    /// A SCSI command, already a task.
    Command(TaskId),
    /// Any other PDU.
    Pdu(Bhs, Bytes),
    /// Nothing: rejected, or declared received by ABORT TASK (RFC 7143 §11.6.1).
    Skip,
}

/// What to do with a CmdSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is the next one.
    Now,
    /// Others come first.
    Later,
    /// Outside the window or seen before: ignored without a word (RFC 7143 §4.2.2.1).
    Ignore,
}

/// See the module's description.
pub(super) struct Window {
    expected: CmdSn,
    /// Highest MaxCmdSN granted; never goes back.
    granted: CmdSn,
    /// MaxCmdSN as last sent.
    told: CmdSn,
    limit: u32,
    limit_max: u32,
    /// Held by distance from `expected`.
    held: VecDeque<Option<Unit>>,
}

impl Window {
    pub(super) fn new(limit: u32) -> Self {
        let start = CmdSn(0);
        Self { expected: start, granted: start, told: start, limit, limit_max: limit, held: VecDeque::new() }
    }

    /// Starts at the initiator's first CmdSN.
    pub(super) fn start(&mut self, first: CmdSn) {
        self.expected = first;
        self.granted = first.plus(self.limit - 1);
        self.told = self.granted;
    }

    pub(super) const fn expected(&self) -> CmdSn {
        self.expected
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit.clamp(1, self.limit_max);
    }

    /// MaxCmdSN with `in_use` commands under way.
    fn grant(&mut self, in_use: u32) -> CmdSn {
        let last = self.expected.plus(self.limit.saturating_sub(in_use)).plus(u32::MAX);
        if self.granted.before(last) {
            self.granted = last;
        }
        self.granted
    }

    /// MaxCmdSN to be sent.
    pub(super) fn tell(&mut self, in_use: u32) -> CmdSn {
        self.told = self.grant(in_use);
        self.told
    }

    /// True when the initiator believes the window shut and it is not: someone should tell it.
    pub(super) fn reopened(&mut self, in_use: u32) -> bool {
        self.told.before(self.expected) && self.told.before(self.grant(in_use))
    }

    /// What to do with a PDU of `cmd_sn`.
    pub(super) fn order(&self, cmd_sn: CmdSn) -> Order {
        if cmd_sn == self.expected && !self.granted.before(cmd_sn) {
            return Order::Now;
        }
        if cmd_sn.before(self.expected) || self.granted.before(cmd_sn) {
            return Order::Ignore;
        }
        let place = self.held.get(size(cmd_sn.since(self.expected)));
        if place.is_some_and(Option::is_some) { Order::Ignore } else { Order::Later }
    }

    /// True when `cmd_sn` is in the window and not received.
    pub(super) fn is_missing(&self, cmd_sn: CmdSn) -> bool {
        self.order(cmd_sn) != Order::Ignore
    }

    /// True when commands before `cmd_sn` are missing, and it is not beyond all that may come.
    pub(super) fn is_ahead(&self, cmd_sn: CmdSn) -> bool {
        self.expected.before(cmd_sn) && !self.granted.next().before(cmd_sn)
    }

    /// Keeps `unit` until its turn.
    pub(super) fn hold(&mut self, cmd_sn: CmdSn, unit: Unit) {
        let place = size(cmd_sn.since(self.expected));
        if self.held.len() <= place {
            self.held.resize_with(place + 1, || None);
        }
        if let Some(held) = self.held.get_mut(place) {
            *held = Some(unit);
        }
    }

    /// Moves past the CmdSN that was the next one.
    pub(super) fn advance(&mut self) {
        self.expected = self.expected.next();
        self.held.pop_front();
    }

    /// What is held for the CmdSN that is the next one now.
    pub(super) fn take_next(&mut self) -> Option<Unit> {
        self.held.front_mut()?.take()
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_2_2_1_commands_outside_the_window_are_ignored() {
        let mut window = Window::new(4);
        window.start(CmdSn(u32::MAX));
        assert_eq!(window.order(CmdSn(u32::MAX)), Order::Now);
        assert_eq!(window.order(CmdSn(2)), Order::Later);
        assert_eq!(window.order(CmdSn(3)), Order::Ignore);
        assert_eq!(window.order(CmdSn(0xffff_fffe)), Order::Ignore);
        window.hold(CmdSn(2), Unit::Skip);
        assert_eq!(window.order(CmdSn(2)), Order::Ignore);
    }

    #[test]
    fn s4_2_2_1_max_cmd_sn_never_goes_back() {
        let mut window = Window::new(8);
        window.start(CmdSn(10));
        assert_eq!(window.tell(0), CmdSn(17));
        window.set_limit(2);
        assert_eq!(window.tell(0), CmdSn(17));
        for _ in 0..8 {
            window.advance();
        }
        // Eight under way, two allowed: shut.
        assert_eq!(window.tell(8), CmdSn(17));
        assert_eq!(window.order(CmdSn(18)), Order::Ignore);
        assert!(!window.reopened(8));
        assert!(window.reopened(1));
        assert_eq!(window.tell(1), CmdSn(18));
        assert_eq!(window.order(CmdSn(18)), Order::Now);
    }

    #[test]
    fn held_units_come_back_in_order() {
        let mut window = Window::new(8);
        window.start(CmdSn(1));
        window.hold(CmdSn(3), Unit::Skip);
        window.hold(CmdSn(2), Unit::Pdu([7; 48], Bytes::new()));
        assert!(window.take_next().is_none());
        window.advance();
        assert!(matches!(window.take_next(), Some(Unit::Pdu(..))));
        window.advance();
        assert!(matches!(window.take_next(), Some(Unit::Skip)));
        window.advance();
        assert!(window.take_next().is_none());
        assert_eq!(window.expected(), CmdSn(4));
    }
}
