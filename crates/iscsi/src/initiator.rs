//! The initiator role: the mirror of the target, lean enough to generate load.

mod config;
mod connection;
mod event;
mod login;
mod receive;
mod session;
mod task;
mod transmit;

pub use config::Config;
pub use connection::Connection;
pub use event::{
    AsyncMessage, CloseReason, Command, Completion, DiscoveredTarget, Event, LoggedIn, Residual, TaskId,
    TaskManagementDone,
};
pub use session::{CONNECTIONS_MAX, Session};
