//! Sense data as an initiator needs it: key, code and qualifier, from either format.

use core::fmt;

/// The decoded heart of sense data (SPC-4 §4.5), from fixed or descriptor format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseSummary {
    /// The sense key, 0 to 15 (SPC-4 table 48).
    pub key: u8,
    /// The additional sense code.
    pub code: u8,
    /// The additional sense code qualifier.
    pub qualifier: u8,
    /// The INFORMATION field if it is marked valid; usually the first logical block in error.
    pub information: Option<u64>,
}

impl SenseSummary {
    /// UNIT ATTENTION: news about the logical unit; the command did not run and may be repeated.
    pub const UNIT_ATTENTION: u8 = 0x6;

    /// Decodes sense data without the two length bytes iSCSI puts in front of it.
    /// `None` if it is too short or of no known format.
    pub fn parse(sense: &[u8]) -> Option<Self> {
        match sense.first()? & 0x7F {
            0x70 | 0x71 => parse_fixed(sense),
            0x72 | 0x73 => parse_descriptor(sense),
            _ => None,
        }
    }

    /// The name of the sense key as the standard writes it.
    pub fn key_name(&self) -> &'static str {
        const NAMES: [&str; 16] = [
            "NO SENSE",
            "RECOVERED ERROR",
            "NOT READY",
            "MEDIUM ERROR",
            "HARDWARE ERROR",
            "ILLEGAL REQUEST",
            "UNIT ATTENTION",
            "DATA PROTECT",
            "BLANK CHECK",
            "VENDOR SPECIFIC",
            "COPY ABORTED",
            "ABORTED COMMAND",
            "RESERVED",
            "VOLUME OVERFLOW",
            "MISCOMPARE",
            "COMPLETED",
        ];
        NAMES.get(usize::from(self.key)).copied().unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for SenseSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02X}h/{:02X}h", self.key_name(), self.code, self.qualifier)?;
        match self.information {
            Some(information) => write!(f, " at {information}"),
            None => Ok(()),
        }
    }
}

/// Fixed format (SPC-4 §4.5.3): byte 2 key, 3..7 information if VALID, 12 and 13 the code.
fn parse_fixed(sense: &[u8]) -> Option<SenseSummary> {
    let valid = sense.first()? & 0x80 != 0;
    let information: Option<[u8; 4]> = sense.get(3..7).and_then(|bytes| bytes.try_into().ok());
    Some(SenseSummary {
        key: sense.get(2)? & 0x0F,
        code: sense.get(12).copied().unwrap_or(0),
        qualifier: sense.get(13).copied().unwrap_or(0),
        information: information.filter(|_| valid).map(|bytes| u64::from(u32::from_be_bytes(bytes))),
    })
}

/// Descriptor format (SPC-4 §4.5.2): bytes 1 to 3, then descriptors from byte 8 on.
fn parse_descriptor(sense: &[u8]) -> Option<SenseSummary> {
    Some(SenseSummary {
        key: sense.get(1)? & 0x0F,
        code: *sense.get(2)?,
        qualifier: *sense.get(3)?,
        information: information_descriptor(sense.get(8..).unwrap_or_default()),
    })
}

/// The information descriptor (type 00h, SPC-4 §4.5.2.2), if it is there and valid.
fn information_descriptor(mut descriptors: &[u8]) -> Option<u64> {
    loop {
        let (kind, length) = (*descriptors.first()?, usize::from(*descriptors.get(1)?));
        if kind == 0 && length >= 10 && descriptors.get(2)? & 0x80 != 0 {
            return descriptors.get(4..12)?.try_into().ok().map(u64::from_be_bytes);
        }
        descriptors = descriptors.get(length + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_is_decoded() {
        let mut sense = [0u8; 18];
        sense[0] = 0xF0;
        sense[2] = 0x03;
        sense[3..7].copy_from_slice(&77u32.to_be_bytes());
        sense[12] = 0x11;
        sense[13] = 0x01;
        let summary = SenseSummary::parse(&sense).expect("sense");
        assert_eq!(summary, SenseSummary { key: 3, code: 0x11, qualifier: 1, information: Some(77) });
        assert_eq!(summary.to_string(), "MEDIUM ERROR 11h/01h at 77");
    }

    #[test]
    fn information_counts_only_when_marked_valid() {
        let mut sense = [0u8; 18];
        sense[0] = 0x70;
        sense[3] = 9;
        assert_eq!(SenseSummary::parse(&sense).expect("sense").information, None);
    }

    #[test]
    fn descriptor_format_is_decoded_past_other_descriptors() {
        let mut sense = vec![0x72, 0x06, 0x2A, 0x09, 0, 0, 0, 20];
        sense.extend([0x02, 6, 0, 0, 0, 0, 0, 0]);
        sense.extend([0x00, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        let summary = SenseSummary::parse(&sense).expect("sense");
        assert_eq!((summary.key, summary.code, summary.qualifier), (6, 0x2A, 9));
        assert_eq!(summary.information, Some((1 << 32) + 2));
    }

    #[test]
    fn truncated_or_unknown_sense_is_none_never_a_panic() {
        for sense in [&[][..], &[0x70], &[0x72, 5], &[0x00, 1, 2, 3], &[0x7F; 18]] {
            assert_eq!(SenseSummary::parse(sense), None, "{sense:?}");
        }
        let cut = [0x72, 5, 0x24, 0, 0, 0, 0, 12, 0, 10, 0x80];
        assert_eq!(SenseSummary::parse(&cut).expect("head is whole").information, None);
    }
}
