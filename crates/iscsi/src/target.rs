//! The target role: one TCP connection as a state machine, from login to logout.

mod config;
mod connection;
mod event;

pub use config::Config;
pub use connection::Connection;
pub use event::{
    AsyncMessage, Cdb, CloseReason, Command, CommandSizer, Event, LoginAccept, LoginRequested,
    LogoutRequested, Response, SendTargets, SessionEstablished, TargetAddress, TargetRecord, TaskId,
    TaskManagement, TaskManagementId,
};
