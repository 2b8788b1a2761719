//! PDUs: a header of 12 bytes and a payload (RFC 4171 §5.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Length of the header.
pub const HEADER_BYTES: usize = 12;

/// Longest payload: the largest multiple of 4 that its length field holds.
pub const PAYLOAD_BYTES_MAX: usize = 65_532;

/// The only version there is (§5.1.1).
const VERSION: u16 = 1;

/// What a PDU is (§5.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub u16);

impl Function {
    /// DevAttrReg (§5.6.5.1).
    pub const REGISTER: Self = Self(1);
    /// DevDereg (§5.6.5.4).
    pub const DEREGISTER: Self = Self(4);
    /// ESI, asked by servers (§5.6.5.13).
    pub const INQUIRY: Self = Self(0x0D);

    const RESPONSE: u16 = 0x8000;

    /// The response to it (§5.1.2).
    #[must_use]
    pub const fn response(self) -> Self {
        Self(self.0 | Self::RESPONSE)
    }

    /// It is the response to something.
    #[must_use]
    pub const fn is_response(self) -> bool {
        self.0 & Self::RESPONSE != 0
    }
}

/// Bits of the header's flags (§5.1.4).
pub mod flags {
    /// The sender is a client.
    pub const CLIENT: u16 = 0x8000;
    /// The sender is a server.
    pub const SERVER: u16 = 0x4000;
    /// What was registered is replaced (§5.6.5.1).
    pub const REPLACE: u16 = 0x1000;
    /// Last PDU of a message.
    pub const LAST: u16 = 0x0800;
    /// First PDU of a message.
    pub const FIRST: u16 = 0x0400;
}

/// Why bytes are no PDU. What follows them cannot be understood either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Another version of the protocol.
    Version(u16),
    /// A length that is no multiple of 4.
    Length(u16),
    /// An attribute does not fit its payload.
    Attribute,
    /// A response without a status.
    Status,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version} of the protocol, or no iSNS at all"),
            Self::Length(length) => write!(f, "a PDU of {length} bytes, which is no multiple of 4"),
            Self::Attribute => f.write_str("an attribute that does not fit its PDU"),
            Self::Status => f.write_str("a response without a status"),
        }
    }
}

impl std::error::Error for Malformed {}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// One PDU as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub function: Function,
    /// See [`flags`].
    pub flags: u16,
    /// Which request it belongs to.
    pub transaction: u16,
    /// Its place in the message, from 0.
    pub sequence: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes that it took.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// It has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }
}

/// The first PDU in `bytes`; none if it is not whole yet.
///
/// # Errors
/// If it is none.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let field = |index: usize| u16_at(bytes, index * 2);
    if let Some(version) = field(0).filter(|version| *version != VERSION) {
        return Err(Malformed::Version(version));
    }
    let (Some(function), Some(length), Some(flags), Some(transaction), Some(sequence)) =
        (field(1), field(2), field(3), field(4), field(5))
    else {
        return Ok(None);
    };
    if !length.is_multiple_of(4) {
        return Err(Malformed::Length(length));
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + usize::from(length));
    Ok(payload.map(|payload| Frame { function: Function(function), flags, transaction, sequence, payload }))
}

/// A message that is being written: one PDU.
#[derive(Debug, Clone)]
pub struct Message {
    function: Function,
    flags: u16,
    transaction: u16,
    payload: Vec<u8>,
}

impl Message {
    /// An empty message of a client.
    #[must_use]
    pub fn new(function: Function, flags: u16, transaction: u16) -> Self {
        Self { function, flags, transaction, payload: Vec::new() }
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    /// Adds an attribute, with padding (§5.3).
    #[must_use]
    pub fn attribute(self, tag: u32, value: &[u8]) -> Self {
        let padded = value.len().next_multiple_of(4);
        let length = u32::try_from(padded).unwrap_or(u32::MAX);
        let mut message = self.raw(&tag.to_be_bytes()).raw(&length.to_be_bytes()).raw(value);
        message.payload.resize(message.payload.len() + padded - value.len(), 0);
        message
    }

    /// Adds a text, which a NUL ends.
    #[must_use]
    pub fn text(self, tag: u32, text: &str) -> Self {
        self.attribute(tag, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number of four bytes.
    #[must_use]
    pub fn number(self, tag: u32, number: u32) -> Self {
        self.attribute(tag, &number.to_be_bytes())
    }

    /// Adds an address and a TCP port, the address as one of IPv6 (§6.3.1).
    #[must_use]
    pub fn portal(self, address_tag: u32, port_tag: u32, portal: SocketAddr) -> Self {
        let ip = match portal.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.attribute(address_tag, &ip.octets()).number(port_tag, u32::from(portal.port()))
    }

    /// The PDU; none if it is longer than PDUs can be.
    #[must_use]
    pub fn finish(self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.payload.len()).ok().filter(|length| length.is_multiple_of(4))?;
        let flags = self.flags | flags::CLIENT | flags::FIRST | flags::LAST;
        let fields = [VERSION, self.function.0, length, flags, self.transaction, 0];
        let header = fields.iter().flat_map(|field| field.to_be_bytes());
        Some(header.chain(self.payload).collect())
    }
}
