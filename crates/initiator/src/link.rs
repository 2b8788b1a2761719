//! One TCP connection to a target.

/// The iSCSI name used unless another is given.
pub const DEFAULT_INITIATOR_NAME: &str = "iqn.2026-01.io.palisade:initiator";

/// Which digests to ask for at login (RFC 7143 §13.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC32C over every header.
    pub header: bool,
    /// CRC32C over every data segment.
    pub data: bool,
}

/// How to log in.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// The initiator's iSCSI name.
    pub initiator_name: String,
}
