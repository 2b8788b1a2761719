//! A session of several connections between the two roles, in virtual time: bytes move in an order and in pieces that
//! a seed decides, and connections are cut wherever they are.

use core::time::Duration;
use std::collections::VecDeque;

use super::{ROUNDS_MAX, drain, fill};
use crate::payload::HeapPool;
use crate::target::{CommandSizer, Joining, LinkId, LoginAccept};
use crate::{Cid, PortalGroupTag, Tsih, initiator, target};

/// Longest piece of bytes that moves at once, when a seed decides.
const PIECE_BYTES_MAX: u64 = 5000;

/// Bytes either side hands over in one write.
const WRITE_BYTES_MAX: usize = 8 << 10;

/// The target's end of a connection.
enum Far {
    /// In its login; not known yet to belong to the session.
    Alone(Box<target::Connection<HeapPool>>),
    Of(LinkId),
}

/// One connection and the pipes of it.
struct Wire {
    cid: Cid,
    far: Far,
    to_target: VecDeque<u8>,
    to_initiator: VecDeque<u8>,
}

/// The two ends of a session and the connections between them.
pub struct Several {
    /// The target's session: its first connection's, which others join.
    pub target: target::Connection<HeapPool>,
    /// The initiator's session.
    pub initiator: initiator::Session<HeapPool>,
    /// Events of the target not yet looked at.
    pub target_events: VecDeque<(LinkId, target::Event)>,
    /// Events of the initiator not yet looked at.
    pub initiator_events: VecDeque<(Cid, initiator::Event)>,
    /// Connections that could not join, and why.
    pub refused: Vec<(Cid, target::JoinError)>,
    /// Let connections that joined into the full feature phase at once.
    pub accept_joins: bool,
    wires: Vec<Wire>,
    config: target::Config,
    sizer: Box<dyn CommandSizer>,
    now: Duration,
    seed: u64,
}

impl Several {
    /// A session with one fresh connection; nothing has been sent. Moves of bytes follow from `seed`.
    pub fn new(
        target: target::Config,
        initiator: initiator::Config,
        sizer: impl CommandSizer + 'static,
        seed: u64,
    ) -> Self {
        let now = Duration::ZERO;
        let wire = Wire {
            cid: initiator.cid,
            far: Far::Of(LinkId::LEADING),
            to_target: VecDeque::new(),
            to_initiator: VecDeque::new(),
        };
        Self {
            target: target::Connection::new(target.clone(), HeapPool, now),
            initiator: initiator::Session::new(initiator, HeapPool, now),
            target_events: VecDeque::new(),
            initiator_events: VecDeque::new(),
            refused: Vec::new(),
            accept_joins: true,
            wires: vec![wire],
            config: target,
            sizer: Box::new(sizer),
            now,
            seed: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Makes another connection; false when the initiator cannot.
    pub fn connect(&mut self, cid: Cid) -> bool {
        if !self.initiator.connect(cid, self.now) {
            return false;
        }
        self.wires.retain(|wire| wire.cid != cid);
        let alone = target::Connection::new(self.config.clone(), HeapPool, self.now);
        self.wires.push(Wire {
            cid,
            far: Far::Alone(Box::new(alone)),
            to_target: VecDeque::new(),
            to_initiator: VecDeque::new(),
        });
        true
    }

    /// The target's name of a connection that has joined.
    pub fn link(&self, cid: Cid) -> Option<LinkId> {
        self.wires.iter().find(|wire| wire.cid == cid).and_then(|wire| match wire.far {
            Far::Of(link) => Some(link),
            Far::Alone(_) => None,
        })
    }

    /// Cuts a connection: what is on the way is lost, and both ends notice.
    pub fn cut(&mut self, cid: Cid) {
        self.cut_at_initiator(cid);
        self.cut_at_target(cid);
    }

    /// The initiator loses a connection; its target has not noticed.
    pub fn cut_at_initiator(&mut self, cid: Cid) {
        self.initiator.remove(cid);
        if let Some(wire) = self.wires.iter_mut().find(|wire| wire.cid == cid) {
            wire.to_target.clear();
            wire.to_initiator.clear();
        }
    }

    /// The target notices that a connection is lost.
    pub fn cut_at_target(&mut self, cid: Cid) {
        if let Some(link) = self.link(cid)
            && let Some(target) = self.target.on(link)
        {
            target.close();
            self.collect();
            self.target.release(link);
        }
        self.wires.retain(|wire| wire.cid != cid);
    }

    /// Puts all that the initiator has to send on a connection on its way: commands have their numbers then.
    pub fn send(&mut self, cid: Cid) {
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.cid == cid) else { return };
        let mut chunks = VecDeque::new();
        while self.initiator.poll_transmit(cid, &mut chunks, WRITE_BYTES_MAX) > 0 {}
        drain(&mut chunks, &mut wire.to_target);
    }

    /// Moves bytes until nothing moves any more.
    ///
    /// # Panics
    /// When that never comes.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }

    /// Moves bytes `count` times, here and there.
    pub fn run_some(&mut self, count: u32) {
        for _ in 0..count {
            let wire = self.draw(self.wires.len());
            self.step(wire);
        }
    }

    /// Every connection in turn, beginning with one drawn. False when nothing moved.
    fn round(&mut self) -> bool {
        let count = self.wires.len();
        let first = self.draw(count);
        (0..count).fold(false, |moved, at| self.step((first + at) % count.max(1)) | moved)
    }

    /// A number below `bound`, from the seed.
    fn draw(&mut self, bound: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = usize::try_from(self.seed >> 33).unwrap_or_default();
        drawn.checked_rem(bound).unwrap_or_default()
    }

    fn step(&mut self, at: usize) -> bool {
        let piece = self.draw(usize::try_from(PIECE_BYTES_MAX).unwrap_or(1)) + 1;
        let Some(wire) = self.wires.get_mut(at) else { return false };
        let mut chunks = VecDeque::new();
        self.initiator.poll_transmit(wire.cid, &mut chunks, WRITE_BYTES_MAX);
        let mut moved = drain(&mut chunks, &mut wire.to_target);
        let target = match &mut wire.far {
            Far::Alone(target) => Some(&mut **target),
            Far::Of(link) => self.target.on(*link),
        };
        if let Some(target) = target {
            target.poll_transmit(&mut chunks, WRITE_BYTES_MAX);
            moved |= drain(&mut chunks, &mut wire.to_initiator);
            let taken = fill(&mut wire.to_target, target.recv_space(), piece);
            target.received(taken, self.now, &*self.sizer);
            moved |= taken > 0;
        }
        let taken = fill(&mut wire.to_initiator, self.initiator.recv_space(wire.cid), piece);
        self.initiator.received(wire.cid, taken, self.now);
        moved |= taken > 0;
        self.join(at);
        self.collect();
        moved
    }

    /// A connection whose login waits for a decision joins the session.
    fn join(&mut self, at: usize) {
        let Some(wire) = self.wires.get_mut(at) else { return };
        let Far::Alone(alone) = &mut wire.far else { return };
        if !matches!(alone.poll_event(), Some(target::Event::LoginRequested(_))) {
            return;
        }
        let fresh = Box::new(target::Connection::new(self.config.clone(), HeapPool, self.now));
        let joining: Option<Joining> = core::mem::replace(alone, fresh).into_joining();
        let Some(joining) = joining else { return };
        match self.target.join(joining, self.now) {
            Ok(link) => {
                wire.far = Far::Of(link);
                if self.accept_joins {
                    self.accept(link);
                }
            }
            Err((error, _)) => self.refused.push((wire.cid, error)),
        }
    }

    /// Lets a connection that joined go on.
    pub fn accept(&mut self, link: LinkId) {
        if let Some(target) = self.target.on(link) {
            let portal_group_tag = PortalGroupTag(1);
            target.login_accept(LoginAccept { tsih: Tsih(1), portal_group_tag, target_alias: None });
        }
    }

    fn collect(&mut self) {
        while let Some((link, event)) = self.target.poll_event_of() {
            if matches!(event, target::Event::LoginRequested(_)) {
                self.accept(link);
            }
            self.target_events.push_back((link, event));
        }
        self.initiator_events.extend(core::iter::from_fn(|| self.initiator.poll_event()));
    }

    /// Lets `time` pass, with what falls due on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        loop {
            let due = [self.target.poll_timeout(), self.initiator.poll_timeout()];
            let next = due.into_iter().flatten().min().filter(|due| *due <= end);
            self.now = next.unwrap_or(end).max(self.now);
            self.target.handle_timeout(self.now);
            self.initiator.handle_timeout(self.now);
            self.collect();
            self.run();
            if next.is_none() {
                return;
            }
        }
    }
}
