//! An iSNS client (RFC 4171): how iSCSI targets are made known to a name server that hosts ask for them.
//!
//! *Invariant:* no socket, no clock. Bytes, connections and the time (since any fixed moment) come in, what to do comes
//! out of [`Client::poll`]. Nothing a server sends makes it panic, or keep more than one PDU of it.

#![deny(clippy::indexing_slicing, clippy::as_conversions)]

mod attribute;
mod client;
mod goal;
mod inquiry;
mod pdu;
mod status;

pub use attribute::{Attribute, Attributes, tag};
pub use client::{Action, Client, Config, Progress, State};
pub use goal::{PORTALS_MAX, Registration};
pub use inquiry::answer;
pub use pdu::{Frame, Function, HEADER_BYTES, Malformed, Message, PAYLOAD_BYTES_MAX, flags, frame};
pub use status::Status;

/// The TCP and UDP port of iSNS servers (RFC 4171 §2.9).
pub const PORT: u16 = 3205;
