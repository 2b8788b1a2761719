//! RFC 7143: PDUs, negotiation, and the target and initiator state machines, without I/O.
//!
//! Both roles are *sans-IO*: bytes go in through `recv_space`/`received`, bytes come out of
//! `poll_transmit`, decisions go in by method call, facts come out of `poll_event`, and time is a
//! [`core::time::Duration`] since an origin the caller chose. Nothing here opens a socket, reads a
//! clock, starts a thread or draws a random number, so the same code runs in a reactor, a test and
//! a simulation.
//!
//! Order of calls after anything happened: `poll_event` until `None`, then `poll_transmit` until it
//! yields nothing, then `poll_timeout`.
//!
//! The crate knows nothing of SCSI beyond the length of a CDB, the task attributes and the status
//! byte; what a command means is its caller's business.
#![deny(clippy::as_conversions)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod digest;
mod frame;
mod negotiate;
mod numbers;
mod text;

pub mod chap;
pub mod initiator;
pub mod pair;
pub mod parameters;
pub mod payload;
pub mod pdu;
pub mod target;

pub use numbers::{Cid, CmdSn, InitiatorTaskTag, Isid, Lun, PortalGroupTag, StatSn, TargetTransferTag, Tsih};
pub use payload::{HeapPool, PayloadPool};
