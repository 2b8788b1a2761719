//! The daemon: joins disks, pools, targets and the API, starts and stops them in order.
//!
//! *Invariant:* this is the only crate that names concrete disks, pools and sockets together. What may be decided
//! without them is decided in `control`.

mod config;
mod convert;
mod daemon;
mod data_dir;
mod demo;
mod engine;
mod keys;
mod listen;
mod logs;
mod luns;
mod name_service;
mod notify;
mod paths;
mod pool;
mod reservations;
mod rest;
mod schedules;
mod space;
mod space_watch;
mod survey;
mod targets;
mod warnings;

pub use block::{format_size, parse_size};
pub use config::{LogFormat, PORT, ServeConfig};
pub use daemon::serve;
pub use rest::{DaemonFacts, router};
