//! The verdict on a unit that was read: is this what the ledger allows?

use core::fmt;

use serde::Serialize;

use super::ledger::Entry;
use super::stamp::{self, Generation, RunId, Stamp};

/// Content is compared in pieces this long to find the seams of a torn unit, in bytes.
const PIECE_BYTES: usize = 64;
/// Up to so many differing bits are reported as flipped bits rather than as other content.
const FLIPPED_BITS_MAX: u32 = 8;
/// How many generations a damaged unit is compared with to find out what happened to it.
const CANDIDATES_MAX: u32 = 8;

/// What a good unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No write of this unit was ever acknowledged or seen, and it holds none of ours.
    Untouched,
    /// A whole stamp of this generation, which the ledger allows.
    Generation(Generation),
}

/// How a unit differs from everything the ledger allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A write was acknowledged, but the unit holds no stamp of this run.
    Missing {
        /// Whether the unit is all zeroes.
        zeroes: bool,
    },
    /// A whole stamp that is older than the newest acknowledged or already seen one: a later
    /// write was lost, or was there and is gone.
    Stale {
        /// What the unit holds.
        found: Generation,
    },
    /// A whole stamp that is newer than anything ever sent: the ledger and volume do not belong
    /// together.
    FromNowhere {
        /// What the unit holds.
        found: Generation,
    },
    /// A whole stamp that belongs elsewhere on the volume.
    Misplaced {
        /// The address it belongs at, in bytes.
        belongs_at: u64,
        /// What it is there.
        generation: Generation,
    },
    /// Part of the unit is one generation, part is another or something else.
    Torn {
        /// The generations that were recognized.
        generations: Vec<Generation>,
    },
    /// A stamp with a few bits changed.
    FlippedBits {
        /// The generation it was.
        generation: Generation,
        /// The first changed byte, from the unit's start.
        first_byte: usize,
        /// How many bits are changed.
        bits: u32,
    },
    /// A stamp of this run whose content is something else altogether.
    Corrupt,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { zeroes: true } => f.write_str("missing: zeroes"),
            Self::Missing { zeroes: false } => f.write_str("missing: foreign data"),
            Self::Stale { found } => write!(f, "stale: generation {}", found.0),
            Self::FromNowhere { found } => write!(f, "never sent: generation {}", found.0),
            Self::Misplaced { belongs_at, generation } => {
                write!(f, "misplaced: generation {} of address {belongs_at}", generation.0)
            }
            Self::Torn { generations } => {
                f.write_str("torn: parts of generation")?;
                generations.iter().try_for_each(|generation| write!(f, " {}", generation.0))
            }
            Self::FlippedBits { generation, first_byte, bits } => write!(
                f,
                "damaged: generation {} with {bits} flipped bit(s) from byte {first_byte}",
                generation.0
            ),
            Self::Corrupt => f.write_str("corrupt: a stamp with a wrong checksum"),
        }
    }
}

/// A fault with its place, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Where, in bytes from the volume's start.
    pub address: u64,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl FaultReport {
    /// Words for `fault` at `address` bytes where `entry` is what the ledger allows.
    pub fn new(address: u64, entry: Entry, fault: &Fault) -> Self {
        let (floor, ceiling) = (entry.floor.0, entry.ceiling.0);
        let expected = match (floor, ceiling) {
            (0, 0) => "nothing of this run".to_owned(),
            (0, sent) => format!("untouched, or unacknowledged generation up to {sent}"),
            (floor, ceiling) if floor == ceiling => format!("generation {floor}"),
            (floor, ceiling) => format!("generation {floor}, or unacknowledged up to {ceiling}"),
        };
        Self { address, expected, found: fault.to_string() }
    }
}

/// Judges the content of the unit at `address` bytes.
///
/// # Errors
/// The [`Fault`], if the ledger's entry does not allow this content.
pub fn judge(run: RunId, address: u64, entry: Entry, unit: &[u8]) -> Result<Content, Fault> {
    let stamp = Stamp::read(unit).filter(|stamp| stamp.run == run);
    match stamp {
        Some(stamp) if stamp::is_whole(unit) => judge_whole(address, entry, stamp),
        Some(stamp) => Err(diagnose(run, address, entry, unit, Some(stamp.generation))),
        None if entry.floor == Generation(0) => judge_foreign(run, address, entry, unit),
        None => Err(diagnose(run, address, entry, unit, None)),
    }
}

fn judge_whole(address: u64, entry: Entry, stamp: Stamp) -> Result<Content, Fault> {
    let found = stamp.generation;
    if stamp.address != address {
        return Err(Fault::Misplaced { belongs_at: stamp.address, generation: found });
    }
    if found < entry.floor {
        return Err(Fault::Stale { found });
    }
    if found > entry.ceiling {
        return Err(Fault::FromNowhere { found });
    }
    Ok(Content::Generation(found))
}

/// A unit without our header that may rightly be so. If a write was in flight it must have left
/// nothing at all, not its tail without its head.
fn judge_foreign(run: RunId, address: u64, entry: Entry, unit: &[u8]) -> Result<Content, Fault> {
    let seen: Vec<Generation> = candidates(entry, None)
        .filter(|generation| matching_pieces(&content(run, address, *generation, unit.len()), unit) > 0)
        .collect();
    if seen.is_empty() { Ok(Content::Untouched) } else { Err(Fault::Torn { generations: seen }) }
}

/// Finds out what happened to a unit that is certainly wrong.
fn diagnose(run: RunId, address: u64, entry: Entry, unit: &[u8], header: Option<Generation>) -> Fault {
    let mut recognized = Vec::new();
    for generation in candidates(entry, header) {
        let wanted = content(run, address, generation, unit.len());
        let bits = differing_bits(&wanted, unit);
        if bits <= FLIPPED_BITS_MAX {
            let first_byte = wanted.iter().zip(unit).position(|(a, b)| a != b).unwrap_or(0);
            return Fault::FlippedBits { generation, first_byte, bits };
        }
        if matching_pieces(&wanted, unit) > 0 {
            recognized.push(generation);
        }
    }
    match (recognized.is_empty(), header) {
        (false, _) => Fault::Torn { generations: recognized },
        (true, Some(_)) => Fault::Corrupt,
        (true, None) => Fault::Missing { zeroes: unit.iter().all(|byte| *byte == 0) },
    }
}

/// Generations the unit may hold parts of: the one before the floor, the newest that were sent,
/// and the one its header names.
fn candidates(entry: Entry, header: Option<Generation>) -> impl Iterator<Item = Generation> {
    let low = entry.floor.0.saturating_sub(1).max(entry.ceiling.0.saturating_sub(CANDIDATES_MAX)).max(1);
    let range = low..=entry.ceiling.0;
    let extra = header.filter(|generation| !range.contains(&generation.0));
    range.map(Generation).chain(extra)
}

fn content(run: RunId, address: u64, generation: Generation, len: usize) -> Vec<u8> {
    let mut unit = vec![0; len];
    Stamp { run, address, generation }.fill(&mut unit);
    unit
}

fn matching_pieces(a: &[u8], b: &[u8]) -> usize {
    a.chunks(PIECE_BYTES).zip(b.chunks(PIECE_BYTES)).filter(|(a, b)| a == b).count()
}

fn differing_bits(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(42);
    const AT: u64 = 1 << 20;

    fn entry(floor: u32, ceiling: u32) -> Entry {
        Entry { floor: Generation(floor), ceiling: Generation(ceiling) }
    }

    fn unit(generation: u32) -> Vec<u8> {
        content(RUN, AT, Generation(generation), 4096)
    }

    fn verdict(floor: u32, ceiling: u32, unit: &[u8]) -> Result<Content, Fault> {
        judge(RUN, AT, entry(floor, ceiling), unit)
    }

    #[test]
    fn an_acknowledged_or_newer_sent_generation_is_right() {
        for (floor, ceiling, held) in [(5, 5, 5), (5, 6, 5), (5, 6, 6), (0, 1, 1)] {
            assert_eq!(verdict(floor, ceiling, &unit(held)), Ok(Content::Generation(Generation(held))));
        }
    }

    #[test]
    fn never_written_units_may_hold_anything_but_our_stamps() {
        for foreign in [vec![0; 4096], vec![0xA5; 4096], content(RunId(1), AT, Generation(3), 4096)] {
            assert_eq!(verdict(0, 0, &foreign), Ok(Content::Untouched));
            assert_eq!(verdict(0, 1, &foreign), Ok(Content::Untouched), "in flight, did not land");
        }
    }

    #[test]
    fn a_lost_write_is_found_whether_old_data_or_none_remains() {
        assert_eq!(verdict(6, 6, &unit(5)), Err(Fault::Stale { found: Generation(5) }));
        assert_eq!(verdict(1, 1, &[0; 4096]), Err(Fault::Missing { zeroes: true }));
        assert_eq!(verdict(1, 2, &[9; 4096]), Err(Fault::Missing { zeroes: false }));
    }

    #[test]
    fn a_generation_never_sent_is_found() {
        assert_eq!(verdict(2, 3, &unit(4)), Err(Fault::FromNowhere { found: Generation(4) }));
        assert_eq!(verdict(0, 0, &unit(1)), Err(Fault::FromNowhere { found: Generation(1) }));
    }

    #[test]
    fn a_misplaced_unit_is_found_even_where_nothing_was_written() {
        let elsewhere = content(RUN, 8192, Generation(1), 4096);
        for (floor, ceiling) in [(1, 1), (0, 0)] {
            let fault = Fault::Misplaced { belongs_at: 8192, generation: Generation(1) };
            assert_eq!(verdict(floor, ceiling, &elsewhere), Err(fault));
        }
    }

    #[test]
    fn a_torn_unit_is_found_at_every_sector_seam() {
        for seam in (512..4096).step_by(512) {
            for (head, tail) in [(5, 6), (6, 5)] {
                let mut mixed = unit(head);
                mixed[seam..].copy_from_slice(&unit(tail)[seam..]);
                let fault = verdict(5, 6, &mixed).expect_err("torn");
                let both = vec![Generation(5), Generation(6)];
                assert_eq!(fault, Fault::Torn { generations: both }, "seam {seam}");
            }
        }
    }

    #[test]
    fn a_first_write_that_left_only_its_tail_is_torn() {
        let mut mixed = vec![0; 4096];
        mixed[512..].copy_from_slice(&unit(1)[512..]);
        assert_eq!(verdict(0, 1, &mixed), Err(Fault::Torn { generations: vec![Generation(1)] }));
        let mut mixed = unit(1);
        mixed[512..].fill(0);
        assert_eq!(verdict(0, 1, &mixed), Err(Fault::Torn { generations: vec![Generation(1)] }));
    }

    #[test]
    fn a_flipped_bit_is_found_anywhere_and_named() {
        for byte in [0, 9, 17, 25, 33, 40, 2000, 4095] {
            let mut damaged = unit(5);
            damaged[byte] ^= 0x10;
            let fault = verdict(5, 5, &damaged).expect_err("flipped");
            let named = Fault::FlippedBits { generation: Generation(5), first_byte: byte, bits: 1 };
            assert_eq!(fault, named);
        }
    }

    #[test]
    fn a_header_over_other_content_is_corrupt() {
        let mut damaged = unit(5);
        for byte in &mut damaged[32..] {
            *byte = byte.wrapping_add(1);
        }
        assert_eq!(verdict(5, 5, &damaged), Err(Fault::Corrupt));
    }

    #[test]
    fn reports_say_what_was_expected_and_found() {
        let report = FaultReport::new(AT, entry(5, 6), &Fault::Stale { found: Generation(4) });
        assert_eq!(report.address, AT);
        assert_eq!(report.expected, "generation 5, or unacknowledged up to 6");
        assert_eq!(report.found, "stale: generation 4");
    }
}
