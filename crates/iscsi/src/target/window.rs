//! The command window of a session: CmdSN order, what is held until its turn, and MaxCmdSN.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{LinkId, TaskId};
use crate::CmdSn;
use crate::frame::size;
use crate::pdu::Bhs;

/// Something that carries a CmdSN and is carried out in its order.
pub(super) enum Unit {
    /// A SCSI command, already a task.
    Command(TaskId),
    /// Any other PDU, and the connection it came on.
    Pdu(LinkId, Bhs, Bytes),
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
        self.granted = first.plus(self.limit).plus(u32::MAX);
        self.told = self.granted;
    }

    /// Stays shut, with `next` the next CmdSN.
    pub(super) fn shut(&mut self, next: CmdSn) {
        *self = Self::new(0);
        self.expected = next;
        self.granted = next.plus(u32::MAX);
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
        let ahead = cmd_sn.since(self.expected);
        if ahead >= self.open() {
            return Order::Ignore;
        }
        match self.held.get(size(ahead)) {
            _ if ahead == 0 => Order::Now,
            Some(Some(_)) => Order::Ignore,
            _ => Order::Later,
        }
    }

    /// How many CmdSNs may come: 0 with the window shut, and never more than `limit_max`.
    ///
    /// A CmdSN is in the window when fewer than this many steps lie between the expected one and it.
    /// Comparing it with both ends as serial numbers would not do: half the number space away from
    /// an end, it neither comes before nor after it (RFC 1982 §3.2).
    fn open(&self) -> u32 {
        self.granted.next().since(self.expected)
    }

    /// True when `cmd_sn` is in the window and not received.
    pub(super) fn is_missing(&self, cmd_sn: CmdSn) -> bool {
        self.order(cmd_sn) != Order::Ignore
    }

    /// True when commands before `cmd_sn` are missing, and it is not beyond all that may come.
    pub(super) fn is_ahead(&self, cmd_sn: CmdSn) -> bool {
        (1..=self.open()).contains(&cmd_sn.since(self.expected))
    }

    /// Keeps `unit` until its turn; nothing beyond the largest window.
    pub(super) fn hold(&mut self, cmd_sn: CmdSn, unit: Unit) {
        let ahead = cmd_sn.since(self.expected);
        if ahead >= self.limit_max {
            return;
        }
        let place = size(ahead);
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

    /// Highest MaxCmdSN granted so far.
    pub(super) const fn granted(&self) -> CmdSn {
        self.granted
    }

    /// True when something is held for a later turn.
    pub(super) fn holds_any(&self) -> bool {
        self.held.iter().any(Option::is_some)
    }

    /// Forgets what is held and for which `lost` holds, as if it had never come.
    pub(super) fn forget(&mut self, lost: impl Fn(&Unit) -> bool) {
        for held in &mut self.held {
            held.take_if(|unit| lost(unit));
        }
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

    /// Incident: a NOP-In to a shut window was answered with a CmdSN half the space away, which the
    /// target held for later, in a list of two thousand million places.
    #[test]
    fn s4_2_2_1_half_the_number_space_away_is_outside_a_window_shut_or_open_by_one() {
        for expected in [CmdSn(0), CmdSn(100), CmdSn(u32::MAX)] {
            for open in [0, 1, 2] {
                let mut window = Window::new(4);
                window.start(expected.plus(open).plus(4_u32.wrapping_neg()));
                for _ in open..4 {
                    window.advance();
                }
                assert_eq!((window.expected(), window.open()), (expected, open));
                for far in [(1 << 31) - 1, 1 << 31, (1 << 31) + 1, u32::MAX, 4, 2] {
                    let cmd_sn = expected.plus(far);
                    assert_eq!(window.order(cmd_sn), Order::Ignore, "{far:#x} ahead, {open} open");
                    assert!(!window.is_missing(cmd_sn));
                    // A function may name the CmdSN behind the last.
                    assert_eq!(window.is_ahead(cmd_sn), far == 2 && open == 2);
                }
                assert_eq!(window.order(expected), if open > 0 { Order::Now } else { Order::Ignore });
            }
        }
    }

    #[test]
    fn s4_2_2_1_nothing_is_held_beyond_the_largest_window() {
        let mut window = Window::new(4);
        window.start(CmdSn(9));
        window.hold(CmdSn(9 + 4), Unit::Skip);
        window.hold(CmdSn(9 + (1 << 31)), Unit::Skip);
        window.hold(CmdSn(8), Unit::Skip);
        assert!(window.held.is_empty());
        window.hold(CmdSn(9 + 3), Unit::Skip);
        assert_eq!(window.held.len(), 4);
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

    /// What a lost connection sent ahead of its turn was never acknowledged: it may come again (RFC 7143 §7.2.1).
    #[test]
    fn s7_2_1_what_is_forgotten_may_come_again() {
        let mut window = Window::new(8);
        window.start(CmdSn(1));
        let unit = |link| Unit::Pdu(LinkId(link), [0; 48], Bytes::new());
        window.hold(CmdSn(2), unit(7));
        window.hold(CmdSn(3), unit(8));
        window.hold(CmdSn(4), Unit::Skip);
        window.forget(|unit| matches!(unit, Unit::Pdu(LinkId(7), ..)));
        assert_eq!([2, 3, 4].map(|sn| window.order(CmdSn(sn))), [Order::Later, Order::Ignore, Order::Ignore]);
        assert!(window.holds_any());
        window.forget(|_| true);
        assert!(!window.holds_any() && window.is_missing(CmdSn(4)));
    }

    /// The window of a session that is not known yet is not told to be open.
    #[test]
    fn s4_2_2_1_a_shut_window_takes_and_grants_nothing() {
        for next in [CmdSn(0), CmdSn(77), CmdSn(u32::MAX)] {
            let mut window = Window::new(8);
            window.shut(next);
            assert_eq!((window.tell(0), window.expected()), (next.plus(u32::MAX), next));
            assert_eq!(window.order(next), Order::Ignore);
            assert!(!window.reopened(0));
            window.start(next);
            assert_eq!(window.order(next), Order::Ignore, "no limit, no commands");
        }
    }

    #[test]
    fn held_units_come_back_in_order() {
        let mut window = Window::new(8);
        window.start(CmdSn(1));
        window.hold(CmdSn(3), Unit::Skip);
        window.hold(CmdSn(2), Unit::Pdu(LinkId::LEADING, [7; 48], Bytes::new()));
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
