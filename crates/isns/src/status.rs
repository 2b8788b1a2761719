//! What a server says to a request.

use std::fmt;

/// Status code of a response (RFC 4171 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// It is done.
    pub const SUCCESSFUL: Self = Self(0);
    /// The server does not know who asks: its registration has ended.
    pub const SOURCE_UNKNOWN: Self = Self(6);
    /// The receiver does not take this message.
    pub const MESSAGE_NOT_SUPPORTED: Self = Self(15);

    fn name(self) -> &'static str {
        match self.0 {
            0 => "successful",
            1 => "unknown error",
            2 => "message format error",
            3 => "invalid registration",
            5 => "invalid query",
            6 => "source unknown",
            7 => "source absent",
            8 => "source unauthorized",
            9 => "no such entry",
            10 => "version not supported",
            11 => "internal error",
            12 => "busy",
            13 => "option not understood",
            14 => "invalid update",
            15 => "message not supported",
            16 => "SCN event rejected",
            17 => "SCN registration rejected",
            18 => "attribute not implemented",
            21 => "ESI not available",
            22 => "invalid deregistration",
            23 => "registration feature not supported",
            _ => "unknown status",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}
