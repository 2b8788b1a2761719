//! Reservation keys and the types of persistent reservations (SPC-4 6.15.3.4).

use std::fmt;

/// RESERVATION KEY: what a host registers under. 0 stands for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReservationKey(pub u64);

impl ReservationKey {
    /// No key: unregisters, or names every registrant.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// TYPE: what others may not do, and who is not meant by that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReservationType {
    /// 1h: only the holder may write.
    WriteExclusive,
    /// 3h: only the holder may read or write.
    ExclusiveAccess,
    /// 5h: only registrants may write; one of them holds the reservation.
    WriteExclusiveRegistrantsOnly,
    /// 6h: only registrants may read or write; one of them holds the reservation.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: only registrants may write; all of them hold the reservation.
    WriteExclusiveAllRegistrants,
    /// 8h: only registrants may read or write; all of them hold the reservation.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// All six, by code.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// PERSISTENT RESERVATION TYPE MASK, naming all six (SPC-4 table 213).
    pub(super) const MASK: [u8; 2] = [0xea, 0x01];

    /// The four-bit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 0x1,
            Self::ExclusiveAccess => 0x3,
            Self::WriteExclusiveRegistrantsOnly => 0x5,
            Self::ExclusiveAccessRegistrantsOnly => 0x6,
            Self::WriteExclusiveAllRegistrants => 0x7,
            Self::ExclusiveAccessAllRegistrants => 0x8,
        }
    }

    /// The type of a code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The standard's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteExclusive => "Write Exclusive",
            Self::ExclusiveAccess => "Exclusive Access",
            Self::WriteExclusiveRegistrantsOnly => "Write Exclusive - Registrants Only",
            Self::ExclusiveAccessRegistrantsOnly => "Exclusive Access - Registrants Only",
            Self::WriteExclusiveAllRegistrants => "Write Exclusive - All Registrants",
            Self::ExclusiveAccessAllRegistrants => "Exclusive Access - All Registrants",
        }
    }

    /// Others may not even read.
    pub const fn excludes_readers(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Every registrant holds it.
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Registrants may do what the holder may: registrants only and all registrants.
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPC-4 table 212: six codes, the others reserved or obsolete.
    #[test]
    fn codes_are_those_of_spc_4() {
        let codes: Vec<_> = ReservationType::ALL.into_iter().map(ReservationType::code).collect();
        assert_eq!(codes, [1, 3, 5, 6, 7, 8]);
        for code in 0..=255 {
            let found = ReservationType::from_code(code);
            assert_eq!(found.is_some(), codes.contains(&code), "{code:x}");
            assert!(found.is_none_or(|kind| kind.code() == code));
        }
    }

    /// SPC-4 table 213: bit n of the mask stands for type n, the first byte for the low ones.
    #[test]
    fn the_mask_names_the_supported_types() {
        let mask = u16::from_le_bytes(ReservationType::MASK);
        for code in 0..16 {
            assert_eq!(mask >> code & 1 == 1, ReservationType::from_code(code).is_some(), "type {code:x}");
        }
    }

    #[test]
    fn keys_are_written_in_full() {
        assert_eq!(ReservationKey(0xabc).to_string(), "0x0000000000000abc");
    }
}
