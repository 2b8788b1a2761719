//! A software iSCSI initiator over sockets, and the load generator on top of it.
//!
//! * [`Client`] logs in to one logical unit (or to a discovery session) and runs commands, many
//!   at a time, with one `writev` and one run of reads per wake-up.
//! * [`load`] drives many sessions as hard as asked, measures them, reconnects by itself, and
//!   with a [`verify`] file proves across any interruption that no acknowledged write was lost.
//!
//! *Invariant:* this crate sees a target only through its socket. It knows nothing of the
//! engine behind it, so what it proves holds for the host's side of the wire, and it runs
//! against foreign targets too.

mod buffers;
mod cdb;
mod client;
mod error;
mod exchange;
mod link;
pub mod load;
mod sense;
mod size;
mod url;
pub mod verify;

pub use cdb::{Capacity, CdbBytes};
pub use client::{Client, Started};
pub use error::ClientError;
pub use exchange::Answer;
pub use link::{Digests, LinkOptions};
pub use sense::SenseSummary;
pub use size::ByteSize;
pub use url::{Credentials, TargetUrl, UrlError};
