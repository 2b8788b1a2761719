//! Newtypes for the numbers of RFC 7143 that are easily confused.

use core::fmt;

/// Half of the serial number space (RFC 1982 with SERIAL_BITS = 32, as RFC 7143 §4.2.2 asks).
const SERIAL_HALF: u32 = 1 << 31;

/// True when serial number `a` comes before `b` (RFC 1982).
const fn serial_before(a: u32, b: u32) -> bool {
    let distance = b.wrapping_sub(a);
    distance != 0 && distance < SERIAL_HALF
}

macro_rules! serial_number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one; wraps.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }

            /// This number moved on by `count`; wraps.
            #[must_use]
            pub const fn plus(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// True when this number comes before `other` in serial arithmetic (RFC 1982).
            #[must_use]
            pub const fn before(self, other: Self) -> bool {
                serial_before(self.0, other.0)
            }

            /// How many steps lie between `earlier` and this number; wraps.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

serial_number! {
    /// Command sequence number of a session (RFC 7143 §4.2.2.1).
    CmdSn
}
serial_number! {
    /// Status sequence number of a connection (RFC 7143 §4.2.2.2).
    StatSn
}

macro_rules! tag {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The reserved value FFFFFFFFh: no task, no transfer.
            pub const NONE: Self = Self(u32::MAX);

            /// True for the reserved value FFFFFFFFh.
            #[must_use]
            pub const fn is_none(self) -> bool {
                self.0 == u32::MAX
            }
        }
    };
}

tag! {
    /// Names a task; chosen by the initiator (RFC 7143 §11.2.1.8).
    InitiatorTaskTag
}
tag! {
    /// Names a data transfer or an exchange; chosen by the target (RFC 7143 §11.7.4).
    TargetTransferTag
}

/// Session identifier chosen by the initiator (RFC 7143 §11.12.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isid(pub [u8; 6]);

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Session identifying handle chosen by the target; 0 asks for a new session (RFC 7143 §11.12.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tsih(pub u16);

impl Tsih {
    /// The value with which an initiator asks for a new session.
    pub const NEW: Self = Self(0);
}

/// Connection identifier within a session, chosen by the initiator (RFC 7143 §11.12.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(pub u16);

/// Target portal group tag (RFC 7143 §13.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalGroupTag(pub u16);

/// The eight bytes of a logical unit number as they stand in a PDU (SAM-5 §4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// Largest number [`Lun::from_number`] can express: flat space addressing has 14 bits.
    pub const NUMBER_MAX: u16 = 0x3fff;

    /// The single-level LUN for `number`: peripheral device addressing below 256, flat space
    /// addressing above (SAM-5 §4.7.7). `None` above [`Lun::NUMBER_MAX`].
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        match number {
            0..=0xff => Some(Self([0, low, 0, 0, 0, 0, 0, 0])),
            0x100..=Self::NUMBER_MAX => Some(Self([0x40 | high, low, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }

    /// The number of a single-level LUN in either form of [`Lun::from_number`]; `None` for any other.
    /// Small numbers may come in flat space form, too.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self.0 {
            [0, low, 0, 0, 0, 0, 0, 0] => Some(u16::from_be_bytes([0, low])),
            [high @ 0x40..=0x7f, low, 0, 0, 0, 0, 0, 0] => Some(u16::from_be_bytes([high & 0x3f, low])),
            _ => None,
        }
    }

    /// True when both name the same logical unit, in whatever form.
    #[must_use]
    pub fn is_same_unit(self, other: Self) -> bool {
        self == other || self.number().is_some_and(|number| other.number() == Some(number))
    }

    /// The LUN's eight bytes as one big-endian number, as management tools print them.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.to_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_wrap_as_rfc_1982_says() {
        assert!(CmdSn(0xffff_fffe).before(CmdSn(1)));
        assert!(!CmdSn(1).before(CmdSn(0xffff_fffe)));
        assert!(!CmdSn(7).before(CmdSn(7)));
        assert_eq!(CmdSn(u32::MAX).next(), CmdSn(0));
        assert_eq!(CmdSn(2).since(CmdSn(u32::MAX)), 3);
        // Exactly half the space apart, neither comes first.
        assert!(!StatSn(0).before(StatSn(1 << 31)));
    }

    #[test]
    fn the_same_unit_may_be_named_in_two_forms() {
        let (peripheral, flat) = (Lun([0, 5, 0, 0, 0, 0, 0, 0]), Lun([0x40, 5, 0, 0, 0, 0, 0, 0]));
        assert!(peripheral.is_same_unit(flat) && flat.is_same_unit(peripheral));
        assert!(!flat.is_same_unit(Lun([0x41, 5, 0, 0, 0, 0, 0, 0])));
        // A well-known unit, another bus, a second level: no numbers, and the same only as themselves.
        for other in [[0xc1, 1, 0, 0, 0, 0, 0, 0], [1, 5, 0, 0, 0, 0, 0, 0], [0, 5, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(Lun(other).number(), None);
            assert!(!Lun(other).is_same_unit(peripheral) && Lun(other).is_same_unit(Lun(other)));
        }
    }

    #[test]
    fn luns_use_peripheral_then_flat_addressing() {
        assert_eq!(Lun::from_number(5), Some(Lun([0, 5, 0, 0, 0, 0, 0, 0])));
        assert_eq!(Lun::from_number(0x123), Some(Lun([0x41, 0x23, 0, 0, 0, 0, 0, 0])));
        assert_eq!(Lun::from_number(0x4000), None);
        for number in 0..=Lun::NUMBER_MAX {
            assert_eq!(Lun::from_number(number).and_then(Lun::number), Some(number));
        }
        assert_eq!(Lun::from_number(5).map(|lun| lun.to_string()), Some("0005000000000000".to_owned()));
    }
}
