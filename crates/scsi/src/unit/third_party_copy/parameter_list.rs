//! The parameter lists of EXTENDED COPY: their headers, and where their descriptors are (SPC-4 6.4.2 and 6.5).

use std::ops::Range;

use super::{DESCRIPTORS_LEN_MAX, Header, be16, be32, byte};
use crate::sense::{AdditionalSense, Sense};

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// What a header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lists {
    pub(super) header: Header,
    /// Where the CSCD descriptors are.
    pub(super) targets: Range<usize>,
    /// Where the segment descriptors are.
    pub(super) segments: Range<usize>,
}

/// Lengths as the header has them.
struct Lengths {
    header: usize,
    targets: u32,
    segments: u32,
    inline: u32,
}

/// The list of EXTENDED COPY(LID1): a header of 16 bytes.
pub(super) fn lid1(list: &[u8]) -> Result<Lists, Sense> {
    const HEADER: usize = 16;
    if list.len() < HEADER {
        return Err(LENGTH_ERROR);
    }
    let identifier = list_identifier(byte(list, 1), u32::from(byte(list, 0)), 0)?;
    let lengths = Lengths {
        header: HEADER,
        targets: u32::from(be16(list, 2)),
        segments: be32(list, 8),
        inline: be32(list, 12),
    };
    lists(list, &lengths, Header { list: identifier, immediate: false })
}

/// The list of EXTENDED COPY(LID4): a header of 48 bytes.
pub(super) fn lid4(list: &[u8]) -> Result<Lists, Sense> {
    const HEADER: usize = 48;
    const FORMAT: u8 = 0x01;
    const IMMED: u8 = 0x01;
    const G_SENSE: u8 = 0x02;
    if list.len() < HEADER {
        return Err(LENGTH_ERROR);
    }
    // Fixed values, by which SPC-3 copy managers refuse the list.
    for (at, value) in [(0, FORMAT), (2, 0x00), (3, 0x20), (16, 0xff)] {
        if byte(list, usize::from(at)) != value {
            return Err(Sense::invalid_parameter(at, None));
        }
    }
    if byte(list, 15) & G_SENSE != 0 {
        // Sense data with GOOD: not kept.
        return Err(Sense::invalid_parameter(15, Some(1)));
    }
    let immediate = byte(list, 15) & IMMED != 0;
    let identifier = list_identifier(byte(list, 1), be32(list, 20), 20)?;
    if immediate && identifier.is_none() {
        return Err(Sense::invalid_parameter(15, Some(0)));
    }
    let lengths = Lengths {
        header: HEADER,
        targets: u32::from(be16(list, 42)),
        segments: u32::from(be16(list, 44)),
        inline: u32::from(be16(list, 46)),
    };
    lists(list, &lengths, Header { list: identifier, immediate })
}

/// LIST ID USAGE (SPC-4 6.4.3.2): 00b and 10b use the identifier, 11b has none and wants zero there.
fn list_identifier(flags: u8, identifier: u32, at: u16) -> Result<Option<u32>, Sense> {
    match (flags >> 3) & 0x03 {
        0b00 | 0b10 => Ok(Some(identifier)),
        0b11 if identifier == 0 => Ok(None),
        0b11 => Err(Sense::invalid_parameter(at, None)),
        _ => Err(Sense::invalid_parameter(1, Some(4))),
    }
}

fn lists(list: &[u8], lengths: &Lengths, header: Header) -> Result<Lists, Sense> {
    if lengths.inline != 0 {
        return Err(Sense::illegal(AdditionalSense::INLINE_DATA_LENGTH_EXCEEDED));
    }
    if lengths.targets.saturating_add(lengths.segments) > DESCRIPTORS_LEN_MAX {
        return Err(LENGTH_ERROR);
    }
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let targets = lengths.header..lengths.header.saturating_add(size(lengths.targets));
    let segments = targets.end..targets.end.saturating_add(size(lengths.segments));
    if segments.end > list.len() {
        return Err(LENGTH_ERROR);
    }
    Ok(Lists { header, targets, segments })
}
