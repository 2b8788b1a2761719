//! Logical unit numbers (SAM-5 4.7).

/// The number of a logical unit behind a target, 0 to 16383.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lun(u16);

impl Lun {
    /// The largest number flat space addressing can carry.
    pub const MAX: u16 = 0x3fff;
    /// Numbers up to here are written with peripheral device addressing, as hosts expect.
    const PERIPHERAL_MAX: u16 = 0xff;
    const METHOD: u8 = 0xc0;
    const FLAT: u8 = 0x40;

    /// `None` above [`Lun::MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Reads the eight-byte form of a command or response.
    ///
    /// Peripheral device addressing on bus 0 and flat space addressing name the same units. Anything
    /// else (another bus, well-known or extended addressing, a second level) names none: `None`.
    pub const fn from_wire(wire: [u8; 8]) -> Option<Self> {
        let [first, second, deeper @ ..] = wire;
        if u64::from_be_bytes([0, 0, deeper[0], deeper[1], deeper[2], deeper[3], deeper[4], deeper[5]]) != 0 {
            return None;
        }
        match first & Self::METHOD {
            0 if first == 0 => Some(Self(u16::from_be_bytes([0, second]))),
            Self::FLAT => Some(Self(u16::from_be_bytes([first & !Self::METHOD, second]))),
            _ => None,
        }
    }

    /// The eight-byte form, as REPORT LUNS lists it.
    pub const fn to_wire(self) -> [u8; 8] {
        let [high, low] = self.0.to_be_bytes();
        if self.0 <= Self::PERIPHERAL_MAX {
            [0, low, 0, 0, 0, 0, 0, 0]
        } else {
            [high | Self::FLAT, low, 0, 0, 0, 0, 0, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_wire() {
        for number in 0..=Lun::MAX {
            let lun = Lun::new(number).unwrap();
            assert_eq!(Lun::from_wire(lun.to_wire()), Some(lun));
        }
        assert_eq!(Lun::new(Lun::MAX + 1), None);
    }

    #[test]
    fn small_numbers_may_come_in_flat_form_too() {
        assert_eq!(Lun::from_wire([0x40, 5, 0, 0, 0, 0, 0, 0]), Lun::new(5));
        assert_eq!(Lun::new(5).unwrap().to_wire(), [0, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Lun::new(256).unwrap().to_wire(), [0x41, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn other_addressing_names_no_unit() {
        // Well-known logical unit REPORT LUNS, logical unit addressing, another bus, a second level.
        for wire in [[0xc1, 1, 0, 0, 0, 0, 0, 0], [0x80, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Lun::from_wire(wire), None, "{wire:02x?}");
        }
        assert_eq!(Lun::from_wire([0, 1, 0, 1, 0, 0, 0, 0]), None);
        assert_eq!(Lun::from_wire([0, 1, 0, 0, 0, 0, 0, 1]), None);
    }
}
