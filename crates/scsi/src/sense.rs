//! Sense data: what went wrong, in fixed and descriptor format (SPC-4 4.5).

use bytes::Bytes;

/// The general class of a report (SPC-4 table 55).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The logical unit cannot be accessed now.
    NotReady = 0x2,
    /// The medium lost data.
    MediumError = 0x3,
    /// Something other than the medium failed for good.
    HardwareError = 0x4,
    /// The command or its parameters were wrong.
    IllegalRequest = 0x5,
    /// Something changed since this nexus last looked.
    UnitAttention = 0x6,
    /// The blocks are protected from this command.
    DataProtect = 0x7,
    /// A copy ended early, because of its source, its destination or a segment of its list.
    CopyAborted = 0xa,
    /// The command was given up; the host may retry it.
    AbortedCommand = 0xb,
    /// Data did not match the medium.
    Miscompare = 0xe,
}

impl SenseKey {
    /// The four-bit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::NoSense => 0x0,
            Self::NotReady => 0x2,
            Self::MediumError => 0x3,
            Self::HardwareError => 0x4,
            Self::IllegalRequest => 0x5,
            Self::UnitAttention => 0x6,
            Self::DataProtect => 0x7,
            Self::CopyAborted => 0xa,
            Self::AbortedCommand => 0xb,
            Self::Miscompare => 0xe,
        }
    }
}

/// The additional sense code and its qualifier (SPC-4 table 56).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdditionalSense {
    /// ADDITIONAL SENSE CODE.
    pub code: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub qualifier: u8,
}

macro_rules! additional_sense {
    ($($(#[$doc:meta])* $name:ident = $code:literal / $qualifier:literal;)*) => {
        impl AdditionalSense {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, qualifier: $qualifier };)*
        }
    };
}

additional_sense! {
    /// NO ADDITIONAL SENSE INFORMATION.
    NONE = 0x00/0x00;
    /// OPERATION IN PROGRESS.
    OPERATION_IN_PROGRESS = 0x00/0x16;
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
    NOT_READY = 0x04/0x00;
    /// LOGICAL UNIT IS IN PROCESS OF BECOMING READY.
    BECOMING_READY = 0x04/0x01;
    /// LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED.
    MANUAL_INTERVENTION_REQUIRED = 0x04/0x03;
    /// LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION.
    ACCESS_STATE_TRANSITION = 0x04/0x0a;
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE.
    PORT_IN_STANDBY = 0x04/0x0b;
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE.
    PORT_UNAVAILABLE = 0x04/0x0c;
    /// LOGICAL UNIT NOT READY, OFFLINE.
    NOT_READY_OFFLINE = 0x04/0x12;
    /// LOGICAL UNIT NOT READY, SPACE ALLOCATION IN PROGRESS.
    SPACE_ALLOCATION_IN_PROGRESS = 0x04/0x14;
    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS.
    SANITIZE_IN_PROGRESS = 0x04/0x1b;
    /// WRITE ERROR.
    WRITE_ERROR = 0x0c/0x00;
    /// THIRD PARTY DEVICE FAILURE.
    THIRD_PARTY_DEVICE_FAILURE = 0x0d/0x01;
    /// COPY TARGET DEVICE NOT REACHABLE.
    COPY_TARGET_NOT_REACHABLE = 0x0d/0x02;
    /// INCORRECT COPY TARGET DEVICE TYPE.
    INCORRECT_COPY_TARGET_TYPE = 0x0d/0x03;
    /// COPY TARGET DEVICE DATA UNDERRUN.
    COPY_TARGET_DATA_UNDERRUN = 0x0d/0x04;
    /// INVALID FIELD IN COMMAND INFORMATION UNIT.
    INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT = 0x0e/0x03;
    /// UNRECOVERED READ ERROR.
    UNRECOVERED_READ_ERROR = 0x11/0x00;
    /// PARAMETER LIST LENGTH ERROR.
    PARAMETER_LIST_LENGTH_ERROR = 0x1a/0x00;
    /// MISCOMPARE DURING VERIFY OPERATION.
    MISCOMPARE_DURING_VERIFY = 0x1d/0x00;
    /// INVALID COMMAND OPERATION CODE.
    INVALID_OPERATION_CODE = 0x20/0x00;
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    LBA_OUT_OF_RANGE = 0x21/0x00;
    /// INVALID TOKEN OPERATION, UNSUPPORTED TOKEN TYPE.
    TOKEN_TYPE_UNSUPPORTED = 0x23/0x01;
    /// INVALID TOKEN OPERATION, TOKEN UNKNOWN.
    TOKEN_UNKNOWN = 0x23/0x04;
    /// INVALID TOKEN OPERATION, TOKEN CORRUPT.
    TOKEN_CORRUPT = 0x23/0x05;
    /// INVALID TOKEN OPERATION, TOKEN REVOKED.
    TOKEN_REVOKED = 0x23/0x06;
    /// INVALID TOKEN OPERATION, TOKEN EXPIRED.
    TOKEN_EXPIRED = 0x23/0x07;
    /// INVALID TOKEN OPERATION, TOKEN CANCELLED.
    TOKEN_CANCELLED = 0x23/0x08;
    /// INVALID TOKEN OPERATION, TOKEN DELETED.
    TOKEN_DELETED = 0x23/0x09;
    /// INVALID TOKEN OPERATION, INVALID TOKEN LENGTH.
    TOKEN_LENGTH_INVALID = 0x23/0x0a;
    /// INVALID FIELD IN CDB.
    INVALID_FIELD_IN_CDB = 0x24/0x00;
    /// LOGICAL UNIT NOT SUPPORTED.
    LOGICAL_UNIT_NOT_SUPPORTED = 0x25/0x00;
    /// INVALID FIELD IN PARAMETER LIST.
    INVALID_FIELD_IN_PARAMETER_LIST = 0x26/0x00;
    /// INVALID RELEASE OF PERSISTENT RESERVATION.
    INVALID_RELEASE_OF_PERSISTENT_RESERVATION = 0x26/0x04;
    /// TOO MANY TARGET DESCRIPTORS.
    TOO_MANY_TARGET_DESCRIPTORS = 0x26/0x06;
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    UNSUPPORTED_TARGET_DESCRIPTOR = 0x26/0x07;
    /// TOO MANY SEGMENT DESCRIPTORS.
    TOO_MANY_SEGMENT_DESCRIPTORS = 0x26/0x08;
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    UNSUPPORTED_SEGMENT_DESCRIPTOR = 0x26/0x09;
    /// UNEXPECTED INEXACT SEGMENT.
    UNEXPECTED_INEXACT_SEGMENT = 0x26/0x0a;
    /// INLINE DATA LENGTH EXCEEDED.
    INLINE_DATA_LENGTH_EXCEEDED = 0x26/0x0b;
    /// COPY SEGMENT GRANULARITY VIOLATION.
    COPY_SEGMENT_GRANULARITY_VIOLATION = 0x26/0x0d;
    /// WRITE PROTECTED.
    WRITE_PROTECTED = 0x27/0x00;
    /// LOGICAL UNIT SOFTWARE WRITE PROTECTED.
    SOFTWARE_WRITE_PROTECTED = 0x27/0x02;
    /// SPACE ALLOCATION FAILED WRITE PROTECT.
    SPACE_ALLOCATION_FAILED = 0x27/0x07;
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    POWER_ON_OR_RESET = 0x29/0x00;
    /// BUS DEVICE RESET FUNCTION OCCURRED.
    BUS_DEVICE_RESET = 0x29/0x03;
    /// I_T NEXUS LOSS OCCURRED.
    NEXUS_LOSS = 0x29/0x07;
    /// MODE PARAMETERS CHANGED.
    MODE_PARAMETERS_CHANGED = 0x2a/0x01;
    /// RESERVATIONS PREEMPTED.
    RESERVATIONS_PREEMPTED = 0x2a/0x03;
    /// RESERVATIONS RELEASED.
    RESERVATIONS_RELEASED = 0x2a/0x04;
    /// REGISTRATIONS PREEMPTED.
    REGISTRATIONS_PREEMPTED = 0x2a/0x05;
    /// ASYMMETRIC ACCESS STATE CHANGED.
    ACCESS_STATE_CHANGED = 0x2a/0x06;
    /// CAPACITY DATA HAS CHANGED.
    CAPACITY_CHANGED = 0x2a/0x09;
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    COMMANDS_CLEARED = 0x2f/0x00;
    /// SANITIZE COMMAND FAILED.
    SANITIZE_FAILED = 0x31/0x03;
    /// THIN PROVISIONING SOFT THRESHOLD REACHED.
    SOFT_THRESHOLD_REACHED = 0x38/0x07;
    /// SAVING PARAMETERS NOT SUPPORTED.
    SAVING_NOT_SUPPORTED = 0x39/0x00;
    /// INQUIRY DATA HAS CHANGED.
    INQUIRY_DATA_CHANGED = 0x3f/0x03;
    /// REPORTED LUNS DATA HAS CHANGED.
    REPORTED_LUNS_CHANGED = 0x3f/0x0e;
    /// INTERNAL TARGET FAILURE.
    INTERNAL_TARGET_FAILURE = 0x44/0x00;
    /// INSUFFICIENT REGISTRATION RESOURCES.
    INSUFFICIENT_REGISTRATION_RESOURCES = 0x55/0x04;
    /// INSUFFICIENT RESOURCES TO CREATE ROD TOKEN.
    NO_ROOM_FOR_ROD_TOKEN = 0x55/0x0d;
    /// SET TARGET PORT GROUPS COMMAND FAILED.
    SET_PORT_GROUPS_FAILED = 0x67/0x0a;
}

/// Which field was wrong (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldPointer {
    /// In the CDB, or else in the parameter data sent with it.
    pub in_cdb: bool,
    /// The field's most significant byte.
    pub byte: u16,
    /// The most significant bit of the field, when it is part of a byte.
    pub bit: Option<u8>,
}

impl FieldPointer {
    const VALID: u8 = 0x80;
    const COMMAND: u8 = 0x40;
    const BIT_POINTER_VALID: u8 = 0x08;

    fn encode(self) -> [u8; 3] {
        let [high, low] = self.byte.to_be_bytes();
        let command = if self.in_cdb { Self::COMMAND } else { 0 };
        let bit = self.bit.map_or(0, |bit| Self::BIT_POINTER_VALID | (bit & 7));
        [Self::VALID | command | bit, high, low]
    }
}

/// Where in the list of an EXTENDED COPY a copy ended (SPC-4 5.17.7.4 and 4.5.2.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentPointer {
    /// Number of the segment descriptor, from 0.
    pub segment: u16,
    /// What was wrong, if the list says where it is.
    pub place: Option<ListPlace>,
}

/// A byte of an EXTENDED COPY parameter list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListPlace {
    /// Counted from the start of the parameter list: the descriptor of a copy source or destination.
    List(u16),
    /// Counted from the start of the segment descriptor.
    Segment(u16),
}

impl SegmentPointer {
    const VALID: u8 = 0x80;
    const SEGMENT_DESCRIPTOR: u8 = 0x20;

    /// The COMMAND-SPECIFIC INFORMATION: the segment's number in the third and fourth byte.
    fn command_specific(self) -> [u8; 4] {
        let [high, low] = self.segment.to_be_bytes();
        [0, 0, high, low]
    }

    fn key_specific(self) -> Option<[u8; 3]> {
        let (flag, byte) = match self.place? {
            ListPlace::List(byte) => (0, byte),
            ListPlace::Segment(byte) => (Self::SEGMENT_DESCRIPTOR, byte),
        };
        let [high, low] = byte.to_be_bytes();
        Some([Self::VALID | flag, high, low])
    }
}

/// How sense data is laid out (the D_SENSE bit of the control mode page, or DESC of REQUEST SENSE).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SenseFormat {
    /// Response code 70h: 18 bytes, addresses up to 32 bits.
    #[default]
    Fixed,
    /// Response code 72h: descriptors, addresses of 64 bits.
    Descriptor,
}

/// One report, independent of its layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    /// The class.
    pub key: SenseKey,
    /// The code within the class.
    pub additional: AdditionalSense,
    /// INFORMATION: the LBA of a medium error, the byte offset of a miscompare.
    pub information: Option<u64>,
    /// The wrong field of an ILLEGAL REQUEST.
    pub field: Option<FieldPointer>,
    /// The segment at which a copy ended.
    pub segment: Option<SegmentPointer>,
    /// PROGRESS INDICATION of a NOT READY, in 65536ths (SPC-4 4.5.2.4.4).
    pub progress: Option<u16>,
}

impl Sense {
    /// NO SENSE, as REQUEST SENSE answers when all is well.
    pub const NONE: Self = Self::new(SenseKey::NoSense, AdditionalSense::NONE);

    /// A report without information or field pointer.
    pub const fn new(key: SenseKey, additional: AdditionalSense) -> Self {
        Self { key, additional, information: None, field: None, segment: None, progress: None }
    }

    /// An ILLEGAL REQUEST.
    pub const fn illegal(additional: AdditionalSense) -> Self {
        Self::new(SenseKey::IllegalRequest, additional)
    }

    /// INVALID FIELD IN CDB, pointing to a field that starts at a byte's boundary.
    pub const fn invalid_cdb_byte(byte: u16) -> Self {
        Self::invalid_field(AdditionalSense::INVALID_FIELD_IN_CDB, true, byte, None)
    }

    /// INVALID FIELD IN CDB, pointing to a bit.
    pub const fn invalid_cdb_bit(byte: u16, bit: u8) -> Self {
        Self::invalid_field(AdditionalSense::INVALID_FIELD_IN_CDB, true, byte, Some(bit))
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing to a byte, and a bit in it if given.
    pub const fn invalid_parameter(byte: u16, bit: Option<u8>) -> Self {
        Self::invalid_field(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, false, byte, bit)
    }

    const fn invalid_field(additional: AdditionalSense, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        let field = Some(FieldPointer { in_cdb, byte, bit });
        let mut sense = Self::new(SenseKey::IllegalRequest, additional);
        sense.field = field;
        sense
    }

    /// The same with an INFORMATION field.
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// The same, naming the segment at which a copy ended.
    pub const fn with_segment(mut self, segment: SegmentPointer) -> Self {
        self.segment = Some(segment);
        self
    }

    /// The same with a PROGRESS INDICATION.
    pub const fn with_progress(mut self, progress: u16) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The SENSE KEY SPECIFIC field, all zeroes if there is nothing to say in it.
    fn key_specific(&self) -> [u8; 3] {
        let segment = self.segment.and_then(SegmentPointer::key_specific);
        let field = self.field.map(FieldPointer::encode);
        segment.or(field).or(self.progress.map(progress_indication)).unwrap_or_default()
    }

    /// The bytes, for autosense or REQUEST SENSE.
    pub fn encode(&self, format: SenseFormat) -> Bytes {
        match format {
            SenseFormat::Fixed => self.encode_fixed(),
            SenseFormat::Descriptor => self.encode_descriptor(),
        }
    }

    /// SPC-4 4.5.3. An address above 32 bits cannot be said, so VALID stays clear.
    fn encode_fixed(&self) -> Bytes {
        const ADDITIONAL_LENGTH: u8 = 10;
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let code = if information.is_some() { 0xf0 } else { 0x70 };
        let [i0, i1, i2, i3] = information.unwrap_or(0).to_be_bytes();
        let [f0, f1, f2] = self.key_specific();
        let [c0, c1, c2, c3] = self.segment.map_or([0; 4], SegmentPointer::command_specific);
        let AdditionalSense { code: asc, qualifier: ascq } = self.additional;
        let key = self.key.code();
        Bytes::copy_from_slice(&[
            code,
            0,
            key,
            i0,
            i1,
            i2,
            i3,
            ADDITIONAL_LENGTH,
            c0,
            c1,
            c2,
            c3,
            asc,
            ascq,
            0,
            f0,
            f1,
            f2,
        ])
    }

    /// SPC-4 4.5.2: descriptors for information (00h), command specific information (01h) and sense key specific
    /// information (02h) as needed.
    fn encode_descriptor(&self) -> Bytes {
        let mut descriptors = Vec::with_capacity(32);
        if let Some(information) = self.information {
            descriptors.extend_from_slice(&[0x00, 0x0a, 0x80, 0]);
            descriptors.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(segment) = self.segment {
            descriptors.extend_from_slice(&[0x01, 0x0a, 0, 0]);
            descriptors.extend_from_slice(&segment.command_specific());
            descriptors.extend_from_slice(&[0; 4]);
        }
        let [f0, f1, f2] = self.key_specific();
        if f0 != 0 {
            descriptors.extend_from_slice(&[0x02, 0x06, 0, 0, f0, f1, f2, 0]);
        }
        let length = u8::try_from(descriptors.len()).unwrap_or(0);
        let AdditionalSense { code, qualifier } = self.additional;
        let mut sense = vec![0x72, self.key.code(), code, qualifier, 0, 0, 0, length];
        sense.append(&mut descriptors);
        sense.into()
    }
}

/// SKSV and the number (SPC-4 4.5.2.4.4).
fn progress_indication(progress: u16) -> [u8; 3] {
    let [high, low] = progress.to_be_bytes();
    [0x80, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_carries_key_code_and_field_pointer() {
        let sense = Sense::invalid_cdb_bit(1, 4).encode(SenseFormat::Fixed);
        assert_eq!(sense.len(), 18);
        assert_eq!((sense[0], sense[2], sense[7]), (0x70, 0x05, 10));
        assert_eq!((sense[12], sense[13]), (0x24, 0x00));
        // SKSV, C/D, BPV, bit 4; byte 1.
        assert_eq!(&sense[15..18], &[0x80 | 0x40 | 0x08 | 4, 0, 1]);
    }

    #[test]
    fn parameter_pointer_clears_command_bit() {
        let sense = Sense::invalid_parameter(0x0102, None).encode(SenseFormat::Fixed);
        assert_eq!((sense[12], &sense[15..18]), (0x26, &[0x80, 1, 2][..]));
    }

    #[test]
    fn fixed_information_is_valid_only_when_it_fits() {
        let medium = Sense::new(SenseKey::MediumError, AdditionalSense::UNRECOVERED_READ_ERROR);
        let small = medium.with_information(0x1234_5678).encode(SenseFormat::Fixed);
        assert_eq!((small[0], &small[3..7]), (0xf0, &[0x12, 0x34, 0x56, 0x78][..]));
        let large = medium.with_information(1 << 32).encode(SenseFormat::Fixed);
        assert_eq!((large[0], &large[3..7]), (0x70, &[0; 4][..]));
    }

    #[test]
    fn descriptor_format_carries_64_bits() {
        let sense = Sense::new(SenseKey::Miscompare, AdditionalSense::MISCOMPARE_DURING_VERIFY)
            .with_information(0x0102_0304_0506_0708)
            .encode(SenseFormat::Descriptor);
        assert_eq!(&sense[..8], &[0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12]);
        assert_eq!(&sense[8..], &[0, 0x0a, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    /// SPC-4 5.17.7.4: the segment in the third and fourth byte, the place with or without SD.
    #[test]
    fn a_segment_is_named_in_both_formats() {
        let aborted = Sense::new(SenseKey::CopyAborted, AdditionalSense::COPY_TARGET_NOT_REACHABLE);
        let place = Some(ListPlace::List(0x0110));
        let sense = aborted.with_segment(SegmentPointer { segment: 0x0203, place });
        let fixed = sense.encode(SenseFormat::Fixed);
        assert_eq!((fixed[2], &fixed[8..12], &fixed[15..]), (0x0a, &[0, 0, 2, 3][..], &[0x80, 1, 0x10][..]));
        let descriptors = sense.encode(SenseFormat::Descriptor);
        assert_eq!(&descriptors[8..20], &[1, 0x0a, 0, 0, 0, 0, 2, 3, 0, 0, 0, 0]);
        assert_eq!(&descriptors[20..], &[2, 6, 0, 0, 0x80, 1, 0x10, 0]);
        let place = Some(ListPlace::Segment(20));
        let fixed = aborted.with_segment(SegmentPointer { segment: 0, place }).encode(SenseFormat::Fixed);
        assert_eq!(&fixed[15..], &[0xa0, 0, 20]);
        let nowhere = aborted.with_segment(SegmentPointer { segment: 1, place: None });
        assert_eq!(&nowhere.encode(SenseFormat::Fixed)[15..], &[0; 3]);
    }

    #[test]
    fn descriptor_format_carries_field_pointer() {
        let sense = Sense::invalid_cdb_byte(7).encode(SenseFormat::Descriptor);
        assert_eq!(&sense[..8], &[0x72, 5, 0x24, 0, 0, 0, 0, 8]);
        assert_eq!(&sense[8..], &[2, 6, 0, 0, 0xc0, 0, 7, 0]);
        assert_eq!(Sense::NONE.encode(SenseFormat::Descriptor)[..], [0x72, 0, 0, 0, 0, 0, 0, 0]);
    }
}
