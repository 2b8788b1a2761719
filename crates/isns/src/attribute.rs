//! Attributes: tag, length, value (RFC 4171 §5.3 and §6).

use crate::pdu::{Malformed, u32_at};

/// Tags of attributes (RFC 4171 §6.1).
pub mod tag {
    /// Ends the message key (§5.3.1).
    pub const DELIMITER: u32 = 0;
    /// Entity Identifier: the name of everything that a client registers (§6.2.1).
    pub const ENTITY: u32 = 1;
    /// Entity Protocol (§6.2.2).
    pub const ENTITY_PROTOCOL: u32 = 2;
    /// Registration Period, in seconds (§6.2.6).
    pub const REGISTRATION_PERIOD: u32 = 6;
    /// Portal IP Address (§6.3.1).
    pub const PORTAL_ADDRESS: u32 = 16;
    /// Portal TCP/UDP Port (§6.3.2).
    pub const PORTAL_PORT: u32 = 17;
    /// Entity Status Inquiry Interval, in seconds (§6.3.4).
    pub const INQUIRY_INTERVAL: u32 = 19;
    /// ESI Port (§6.3.5).
    pub const INQUIRY_PORT: u32 = 20;
    /// iSCSI Name (§6.4.1).
    pub const NODE_NAME: u32 = 32;
    /// iSCSI Node Type (§6.4.2).
    pub const NODE_TYPE: u32 = 33;
    /// iSCSI Node Alias (§6.4.3).
    pub const NODE_ALIAS: u32 = 34;
    /// Portal Group iSCSI Name (§6.5.1).
    pub const GROUP_NODE: u32 = 48;
    /// PG Portal IP Addr (§6.5.2).
    pub const GROUP_ADDRESS: u32 = 49;
    /// PG Portal TCP/UDP Port (§6.5.3).
    pub const GROUP_PORT: u32 = 50;
    /// Portal Group Tag (§6.5.4).
    pub const GROUP_TAG: u32 = 51;
}

/// An attribute as received; its value is padded to a multiple of 4 bytes (§5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is.
    pub tag: u32,
    /// Its value with the padding; empty for NULL.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as a number of four bytes.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        u32_at(self.value, 0).filter(|_| self.value.len() == 4)
    }

    /// The value as text, without the NUL that ends it (§5.3).
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(self.value.get(..end)?).ok()
    }
}

/// The attributes of a payload, one after the other. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn split(&self) -> Option<(Attribute<'a>, &'a [u8])> {
        let tag = u32_at(self.0, 0)?;
        let length = usize::try_from(u32_at(self.0, 4)?).ok().filter(|length| length.is_multiple_of(4))?;
        let (value, rest) = self.0.get(8..)?.split_at_checked(length)?;
        Some((Attribute { tag, value }, rest))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.split();
        self.0 = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(attribute, _)| attribute).ok_or(Malformed::Attribute))
    }
}
