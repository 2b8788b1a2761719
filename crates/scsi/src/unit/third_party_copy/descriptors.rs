//! CSCD descriptors and segment descriptors (SPC-4 6.4.5 and 6.4.6).

use std::ops::Range;

use super::{
    BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_WITH_OFFSET, COPY_MANAGER_UNIT, IDENTIFICATION, SEGMENTS_MAX, TARGETS_MAX,
    array, be16, be32, be64, byte,
};
use crate::copy::{CopyEnd, CopyLength, CopySegment, UnitReference};
use crate::sense::{AdditionalSense, Sense};

/// Bytes of a CSCD descriptor.
const TARGET: usize = 32;
const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// A copy source or copy destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    unit: UnitReference,
    is_disk: bool,
    block_bytes: u32,
    described_at: Option<u16>,
}

/// The CSCD descriptors of `list`, which are at `range`; `own` is the unit's NAA identifier.
pub(super) fn targets(list: &[u8], range: Range<usize>, own: &[u8; 16]) -> Result<Vec<Target>, Sense> {
    let start = range.start;
    let bytes = list.get(range).ok_or(LENGTH_ERROR)?;
    if bytes.len() / TARGET > usize::from(TARGETS_MAX) {
        return Err(Sense::illegal(AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS));
    }
    if !bytes.len().is_multiple_of(TARGET) {
        return Err(LENGTH_ERROR);
    }
    let descriptors = bytes.chunks_exact(TARGET).zip((start..).step_by(TARGET));
    descriptors.map(|(descriptor, at)| target(descriptor, at, own)).collect()
}

/// An identification descriptor. LU ID TYPE, NUL and the initiator port are obsolete or for copy managers that
/// reach their units over a network.
fn target(descriptor: &[u8], at: usize, own: &[u8; 16]) -> Result<Target, Sense> {
    const DESIGNATOR_MAX: u8 = 20;
    let at = u16::try_from(at).unwrap_or(u16::MAX);
    if byte(descriptor, 0) != IDENTIFICATION {
        return Err(Sense::illegal(AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR));
    }
    if byte(descriptor, 7) > DESIGNATOR_MAX {
        return Err(Sense::invalid_parameter(at.saturating_add(7), None));
    }
    let [_, high, middle, low] = array(descriptor, 28);
    Ok(Target {
        unit: unit(descriptor, own),
        is_disk: byte(descriptor, 1) & 0x1f == 0,
        block_bytes: u32::from_be_bytes([0, high, middle, low]),
        described_at: Some(at),
    })
}

/// Units here have one identifier that fits: NAA, binary, of the unit, 16 bytes. Others name none of them.
fn unit(descriptor: &[u8], own: &[u8; 16]) -> UnitReference {
    const BINARY: u8 = 0x01;
    const UNIT_NAA: u8 = 0x03;
    const ASSOCIATION_AND_TYPE: u8 = 0x3f;
    let header =
        [byte(descriptor, 4) & 0x0f, byte(descriptor, 5) & ASSOCIATION_AND_TYPE, byte(descriptor, 7)];
    let naa: [u8; 16] = array(descriptor, 8);
    match header {
        [BINARY, UNIT_NAA, 16] if naa == *own => UnitReference::Own,
        [BINARY, UNIT_NAA, 16] => UnitReference::Naa(naa),
        _ => UnitReference::Unknown,
    }
}

/// The segment descriptors of `list`, which are at `range`.
pub(super) fn segments(
    list: &[u8],
    range: Range<usize>,
    targets: &[Target],
) -> Result<Vec<CopySegment>, Sense> {
    let mut rest = list.get(range.clone()).ok_or(LENGTH_ERROR)?;
    let mut at = range.start;
    let mut segments = Vec::new();
    while !rest.is_empty() {
        if segments.len() == usize::from(SEGMENTS_MAX) {
            return Err(Sense::illegal(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        let len = segment_len(rest, at)?;
        let (descriptor, behind) = rest.split_at_checked(len).ok_or(LENGTH_ERROR)?;
        segments.push(segment(descriptor, targets));
        rest = behind;
        at = at.saturating_add(len);
    }
    Ok(segments)
}

/// Bytes of the segment descriptor at the start of `rest`, which is `at` in the list. DESCRIPTOR LENGTH has to be that
/// of its type.
fn segment_len(rest: &[u8], at: usize) -> Result<usize, Sense> {
    let len: u16 = match byte(rest, 0) {
        BLOCK_TO_BLOCK => 0x18,
        BLOCK_TO_BLOCK_WITH_OFFSET => 0x1c,
        _ => return Err(Sense::illegal(AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR)),
    };
    if rest.len() < 4 {
        return Err(LENGTH_ERROR);
    }
    if be16(rest, 2) != len {
        return Err(Sense::invalid_parameter(u16::try_from(at).unwrap_or(u16::MAX).saturating_add(2), None));
    }
    Ok(usize::from(len) + 4)
}

/// SPC-4 6.4.6.5 and 6.4.6.12. CAT says what becomes of a part of a block that is left over, of which there is none.
fn segment(descriptor: &[u8], targets: &[Target]) -> CopySegment {
    const DC: u8 = 0x02;
    let with_offset = byte(descriptor, 0) == BLOCK_TO_BLOCK_WITH_OFFSET;
    let blocks = be16(descriptor, 10);
    let length = match (with_offset, byte(descriptor, 1) & DC != 0) {
        (true, _) => CopyLength::Bytes(be32(descriptor, 8)),
        (false, true) => CopyLength::DestinationBlocks(blocks),
        (false, false) => CopyLength::SourceBlocks(blocks),
    };
    // Past the end of the shorter descriptor, and 0 then.
    let (source_offset, destination_offset) = (be16(descriptor, 28), be16(descriptor, 30));
    CopySegment {
        source: end(targets, be16(descriptor, 4), be64(descriptor, 12), source_offset),
        destination: end(targets, be16(descriptor, 6), be64(descriptor, 20), destination_offset),
        length,
    }
}

fn end(targets: &[Target], index: u16, lba: u64, byte_offset: u16) -> CopyEnd {
    const NO_DESCRIPTOR: Target =
        Target { unit: UnitReference::Unknown, is_disk: true, block_bytes: 0, described_at: None };
    let target = match index {
        COPY_MANAGER_UNIT => Target { unit: UnitReference::Own, ..NO_DESCRIPTOR },
        index => targets.get(usize::from(index)).copied().unwrap_or(NO_DESCRIPTOR),
    };
    let Target { unit, is_disk, block_bytes, described_at } = target;
    CopyEnd { unit, lba, byte_offset, block_bytes, is_disk, described_at }
}
