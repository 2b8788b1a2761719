//! A target and an initiator joined by two byte pipes, in virtual time: for tests and simulations.

mod several;

pub use several::Several;

use core::time::Duration;
use std::collections::VecDeque;
use std::io::Read;

use bytes::Bytes;

use crate::chap::Demand;
use crate::payload::HeapPool;
use crate::target::{CommandSizer, LoginAccept};
use crate::{Lun, PortalGroupTag, Tsih, initiator, target};

/// Rounds of [`Pair::run`] after which two connections that keep each other busy are a bug.
const ROUNDS_MAX: u32 = 1_000_000;

/// Two connections and the pipes between them.
pub struct Pair {
    /// The target.
    pub target: target::Connection<HeapPool>,
    /// The initiator.
    pub initiator: initiator::Connection<HeapPool>,
    /// Events of the target not yet looked at.
    pub target_events: VecDeque<target::Event>,
    /// Events of the initiator not yet looked at.
    pub initiator_events: VecDeque<initiator::Event>,
    /// Bytes on their way to the target.
    pub to_target: VecDeque<u8>,
    /// Bytes on their way to the initiator.
    pub to_initiator: VecDeque<u8>,
    /// Sizes of the pieces in which bytes arrive, used in turn; empty for as much as fits.
    pub fragments: Vec<usize>,
    /// Bytes either side hands over in one write.
    pub write_bytes_max: usize,
    /// Accept every login with TSIH 1 and portal group 1.
    pub accept_logins: bool,
    /// What these logins have to prove first.
    pub demand: Option<Demand>,
    now: Duration,
    next_fragment: usize,
    sizer: Box<dyn CommandSizer>,
}

impl Pair {
    /// A fresh connection between the two; nothing has been sent.
    pub fn new(
        target: target::Config,
        initiator: initiator::Config,
        sizer: impl CommandSizer + 'static,
    ) -> Self {
        let now = Duration::ZERO;
        Self {
            target: target::Connection::new(target, HeapPool, now),
            initiator: initiator::Connection::new(initiator, HeapPool, now),
            target_events: VecDeque::new(),
            initiator_events: VecDeque::new(),
            to_target: VecDeque::new(),
            to_initiator: VecDeque::new(),
            fragments: Vec::new(),
            write_bytes_max: 1 << 20,
            accept_logins: true,
            demand: None,
            now,
            next_fragment: 0,
            sizer: Box::new(sizer),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Moves bytes until both sides are quiet.
    ///
    /// # Panics
    /// When they never are.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("the two connections never come to rest");
    }

    /// One write of either side, and one read of either side. False when nothing moved.
    pub fn step(&mut self) -> bool {
        let mut chunks = VecDeque::new();
        self.target.poll_transmit(&mut chunks, self.write_bytes_max);
        let mut moved = drain(&mut chunks, &mut self.to_initiator);
        self.initiator.poll_transmit(&mut chunks, self.write_bytes_max);
        moved |= drain(&mut chunks, &mut self.to_target);
        let limit = self.fragment();
        let taken = fill(&mut self.to_target, self.target.recv_space(), limit);
        self.target.received(taken, self.now, &*self.sizer);
        moved |= taken > 0;
        let limit = self.fragment();
        let taken = fill(&mut self.to_initiator, self.initiator.recv_space(), limit);
        self.initiator.received(taken, self.now);
        moved |= taken > 0;
        self.collect_events();
        moved
    }

    fn collect_events(&mut self) {
        while let Some(event) = self.target.poll_event() {
            if self.accept_logins {
                self.let_in(&event);
            }
            self.target_events.push_back(event);
        }
        self.initiator_events.extend(core::iter::from_fn(|| self.initiator.poll_event()));
    }

    fn let_in(&mut self, event: &target::Event) {
        let portal_group_tag = PortalGroupTag(1);
        match (event, &self.demand) {
            (target::Event::LoginRequested(_), Some(demand)) => {
                self.target.login_authenticate(demand.clone(), portal_group_tag);
            }
            (target::Event::LoginRequested(_) | target::Event::LoginProven(_), _) => {
                let accept = LoginAccept { tsih: Tsih(1), portal_group_tag, target_alias: None };
                self.target.login_accept(accept);
            }
            _ => {}
        }
    }

    fn fragment(&mut self) -> usize {
        let Some(count) = self.next_fragment.checked_rem(self.fragments.len()) else { return usize::MAX };
        self.next_fragment += 1;
        self.fragments.get(count).map_or(usize::MAX, |size| (*size).max(1))
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
            self.collect_events();
            self.run();
            if next.is_none() {
                return;
            }
        }
    }
}

/// A command sizer that knows READ, WRITE and nothing else: enough to move data in tests.
///
/// WRITE(10) and WRITE(16) take their block count times [`SimpleSizer::BLOCK_BYTES`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SimpleSizer;

impl SimpleSizer {
    /// Bytes of a block.
    pub const BLOCK_BYTES: u32 = 512;
}

impl CommandSizer for SimpleSizer {
    fn data_out_len(&self, _: Lun, cdb: &[u8]) -> u32 {
        let blocks = match cdb {
            [0x2a, _, _, _, _, _, _, high, low, ..] => u32::from(u16::from_be_bytes([*high, *low])),
            [0x8a, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0,
        };
        blocks.saturating_mul(Self::BLOCK_BYTES)
    }
}

/// Moves all of `chunks` into the pipe; true if there was anything.
fn drain(chunks: &mut VecDeque<Bytes>, pipe: &mut VecDeque<u8>) -> bool {
    let any = !chunks.is_empty();
    for chunk in chunks.drain(..) {
        pipe.extend(chunk.iter());
    }
    any
}

/// Moves bytes out of the pipe into `space`, at most `limit`; returns how many.
fn fill(pipe: &mut VecDeque<u8>, space: &mut [u8], limit: usize) -> usize {
    let count = pipe.len().min(space.len()).min(limit);
    let mut filled = 0;
    while let Some(room) = space.get_mut(filled..count).filter(|room| !room.is_empty()) {
        // Reading from a `VecDeque` cannot fail; it yields one of its two halves at a time.
        filled += pipe.read(room).unwrap_or_default();
    }
    count
}
