//! Identities: given once, never changed, never used again.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The identity made of these 16 bytes, of which six bits are replaced to say "random UUID"
            /// (RFC 9562 §5.4).
            #[must_use]
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The identity with exactly these 16 bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The identity of that text form.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

identity!(
    /// Identity of a pool.
    PoolId
);
identity!(
    /// Identity of a volume, under which its pool knows it.
    VolumeId
);
identity!(
    /// Identity of a host.
    HostId
);
identity!(
    /// Identity of a schedule.
    ScheduleId
);
identity!(
    /// Identity of snapshots that were made at one instant.
    SnapshotSetId
);

/// Company identifier in our NAA names. Palisade has none of the IEEE's; this one has the bit set that marks it as
/// locally administered, so it is nobody else's.
const COMPANY: u128 = 0x02_50_41;

/// An NAA IEEE Registered Extended identifier (SPC-4 §7.8.6.6.6): how hosts recognise a volume on every path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Naa([u8; 16]);

impl Naa {
    /// The identifier of a new volume: type 6, company, then 100 bits of the volume's identity.
    #[must_use]
    pub fn of(volume: VolumeId) -> Self {
        let unique = u128::from_be_bytes(volume.bytes()) & ((1 << 100) - 1);
        Self(((6 << 124) | (COMPANY << 100) | unique).to_be_bytes())
    }

    /// Its 16 bytes, as in VPD page 83h.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The unit serial number that goes with it (VPD page 80h): its 25 vendor-specific hexadecimal digits.
    #[must_use]
    pub fn serial(self) -> String {
        self.to_string().chars().skip(7).collect()
    }

    /// Reads the 32 hexadecimal digits that `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32 && number >> 124 == 6).then(|| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Naa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for Naa {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Naa {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an NAA identifier of type 6"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_naa_identifier_is_of_type_6_and_follows_the_volume() {
        let volume = VolumeId::from_random([0xff; 16]);
        let naa = Naa::of(volume);
        assert_eq!(naa.bytes()[0] >> 4, 6, "SPC-4 table 612: NAA field");
        assert_eq!(naa, Naa::of(volume));
        assert_ne!(naa, Naa::of(VolumeId::from_random([0xfe; 16])));
        assert_eq!(Naa::parse(&naa.to_string()), Some(naa));
        assert!(naa.to_string().starts_with("6025041"));
        assert_eq!(naa.serial().len(), 25);
        assert!(naa.to_string().ends_with(&naa.serial()));
    }

    #[test]
    fn other_texts_are_no_naa_identifiers() {
        for text in ["", "6", "50250410000000000000000000000000", "602504100000000000000000000000zz"] {
            assert_eq!(Naa::parse(text), None, "{text}");
        }
    }
}
