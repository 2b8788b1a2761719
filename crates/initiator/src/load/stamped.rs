//! The workload of a verifying session: stamped writes, and reads that are judged.
//!
//! The volume is dealt out in zones, in turn to the sessions, and each session keeps to its own:
//! so no two commands in flight that overlap ever include a write, without any lock. A unit is
//! not read while it is being written, so every read has one right answer.

use core::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::config::{ConfigError, LoadConfig, Pattern};
use super::source::{Next, Op, Share, Source, Way, draw_length, draw_way};
use super::{LoadError, Random};
use crate::verify::inspector::Inspector;
use crate::verify::ledger::Entry;
use crate::verify::stamp::Stamp;

/// Reads in a hundred commands of a workload that asks for writes only: they check what was
/// written some time before.
const CHECK_READ_PERCENT: u8 = 10;
/// A zone is at least this long, in bytes, if the volume is large enough.
const ZONE_BYTES_MIN: u64 = 1 << 20;
/// Zones each session should have at least.
const ZONES_WANTED: u64 = 16;
/// How often another place is drawn when the first is being written.
const DRAWS_MAX: u32 = 8;
/// Buffers kept for the next writes.
const SPARE_BUFFERS_MAX: usize = 64;

/// How the volume is dealt to sessions. All numbers but `share` are in units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zones {
    share: Share,
    length: u64,
    own: u64,
}

impl Zones {
    /// Deals `units` units of `unit_bytes` to sessions whose longest command has `longest` bytes.
    pub(crate) fn new(units: u64, unit_bytes: u64, longest: u64, share: Share) -> Result<Self, ConfigError> {
        let shortest = longest.div_ceil(unit_bytes);
        let wanted = (ZONE_BYTES_MIN / unit_bytes).min(units / (share.of * ZONES_WANTED));
        let length = shortest.max(wanted).max(1);
        let own = units / length / share.of;
        if own == 0 {
            return Err(ConfigError::new(
                "the volume is too small for so many sessions and such block sizes",
            ));
        }
        Ok(Self { share, length, own })
    }

    /// The first unit of this session's `index`th zone.
    fn start(&self, index: u64) -> u64 {
        (index * self.share.of + self.share.index) * self.length
    }
}

/// The verifying source of one session.
pub(crate) struct Stamped {
    inspector: Arc<Inspector>,
    zones: Zones,
    config: Arc<LoadConfig>,
    read_percent: u8,
    random: Random,
    /// Sequential position: zone and unit in it.
    cursor: (u64, u64),
    reading: Vec<Range<u64>>,
    writing: Vec<Range<u64>>,
    entries: Vec<Entry>,
    spare: Vec<BytesMut>,
}

impl Stamped {
    pub(crate) fn new(config: Arc<LoadConfig>, inspector: Arc<Inspector>, zones: Zones, seed: u64) -> Self {
        let read_percent = match config.pattern.read_percent() {
            0 => CHECK_READ_PERCENT,
            percent => percent,
        };
        Self {
            inspector,
            zones,
            config,
            read_percent,
            random: Random::new(seed ^ zones.share.index.wrapping_mul(0x9FB2_1C65_1E98_DF25)),
            cursor: (0, 0),
            reading: Vec::new(),
            writing: Vec::new(),
            entries: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Gives the source another share of the volume.
    #[cfg(test)]
    pub(super) fn deal(&mut self, zones: Zones) {
        self.zones = zones;
    }

    /// Where a command of `units` units goes that does not meet a write in flight, nor as a
    /// write anything in flight.
    fn place(&mut self, way: Way, units: u64) -> Option<Range<u64>> {
        let sequential =
            matches!((self.config.pattern, way), (Pattern::Read, _) | (Pattern::Write, Way::Write));
        for _ in 0..DRAWS_MAX {
            let range = if sequential { self.following(units) } else { self.anywhere(units) };
            if !self.collides(way, &range) {
                if sequential {
                    self.cursor.1 += units;
                }
                return Some(range);
            }
            if sequential {
                return None;
            }
        }
        None
    }

    fn anywhere(&mut self, units: u64) -> Range<u64> {
        let zone = self.zones.start(self.random.below(self.zones.own));
        let first = zone + self.random.below(self.zones.length - units + 1);
        first..first + units
    }

    fn following(&mut self, units: u64) -> Range<u64> {
        if self.cursor.1 + units > self.zones.length {
            self.cursor = ((self.cursor.0 + 1) % self.zones.own, 0);
        }
        let first = self.zones.start(self.cursor.0) + self.cursor.1;
        first..first + units
    }

    fn collides(&self, way: Way, range: &Range<u64>) -> bool {
        let meets = |other: &Range<u64>| range.start < other.end && other.start < range.end;
        self.writing.iter().any(meets) || (way == Way::Write && self.reading.iter().any(meets))
    }

    /// Records the next generation of each unit as sent, and makes the data.
    fn prepare(&mut self, range: &Range<u64>) -> Result<Bytes, LoadError> {
        let count = usize::try_from(range.end - range.start).unwrap_or(0);
        self.inspector.ledger().begin(range.start, count, &mut self.entries)?;
        let unit = self.inspector.unit().length();
        let mut data = self.spare.pop().unwrap_or_default();
        data.resize(count * unit, 0);
        for ((chunk, entry), number) in data.chunks_exact_mut(unit).zip(&self.entries).zip(range.clone()) {
            let address = self.inspector.address(number);
            Stamp { run: self.inspector.run(), address, generation: entry.ceiling }.fill(chunk);
        }
        Ok(data.freeze())
    }

    fn units(&self, op: &Op) -> Range<u64> {
        let unit = u64::from(self.inspector.unit().bytes());
        let first = op.offset / unit;
        first..first + u64::from(op.length) / unit
    }

    /// Forgets that `op` is in flight and keeps its buffer.
    fn release(&mut self, op: Op) -> Range<u64> {
        let range = self.units(&op);
        let list = if op.way == Way::Read { &mut self.reading } else { &mut self.writing };
        if let Some(index) = list.iter().position(|other| *other == range) {
            list.swap_remove(index);
        }
        if op.way == Way::Write && self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.extend(op.data.try_into_mut().ok());
        }
        range
    }
}

impl Source for Stamped {
    fn next(&mut self) -> Result<Next, LoadError> {
        let unit = u64::from(self.inspector.unit().bytes());
        let length = draw_length(&mut self.random, &self.config.block_sizes);
        let way = draw_way(&mut self.random, self.read_percent);
        let Some(range) = self.place(way, length / unit) else { return Ok(Next::Wait) };
        let data = match way {
            Way::Write => self.prepare(&range)?,
            Way::Read => Bytes::new(),
        };
        let offset = self.inspector.address(range.start);
        if way == Way::Read {
            self.reading.push(range)
        } else {
            self.writing.push(range)
        }
        Ok(Next::Op(Op { way, offset, length: u32::try_from(length).unwrap_or(0), data }))
    }

    fn completed(&mut self, op: Op, data: &[u8]) -> Result<(), LoadError> {
        let way = op.way;
        let range = self.release(op);
        match way {
            Way::Read => self.inspector.inspect(range.start, data, &mut self.entries)?,
            Way::Write => {
                let count = usize::try_from(range.end - range.start).unwrap_or(0);
                self.inspector.ledger().acknowledge(range.start, count, &mut self.entries)?;
            }
        }
        Ok(())
    }

    fn failed(&mut self, op: Op, _: &str) -> Result<(), LoadError> {
        self.release(op);
        Ok(())
    }
}
