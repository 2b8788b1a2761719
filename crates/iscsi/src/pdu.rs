//! The wire format: every PDU both roles use (RFC 7143 §11).
//!
//! Types here mirror bytes and judge nothing. Codes are *open enums*: a value without a name is
//! kept as it came.

mod codes;
mod headers;
mod scsi;
mod session;

pub use codes::*;
pub use headers::*;
pub use scsi::*;
pub use session::*;
