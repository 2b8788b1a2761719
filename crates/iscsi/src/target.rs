//! The target role: the connections of a session as a state machine, from login to logout.

mod command;
mod config;
mod connection;
mod data_out;
mod delivery;
mod event;
mod fence;
mod link;
mod links;
mod login;
mod logout;
mod output;
mod receive;
mod security;
mod session;
mod task;
mod task_management;
mod text;
mod transmit;
mod window;

pub use config::{COMMAND_WINDOW_MAX, Config, IMMEDIATE_COMMANDS_MAX};
pub use connection::Connection;
pub use event::{
    AsyncMessage, Cdb, CloseReason, Command, CommandSizer, Event, LoginAccept, LoginProven, LoginRequested,
    LogoutRequested, Redirect, Response, SendTargets, SessionEstablished, TargetAddress, TargetRecord,
    TaskId, TaskManagement, TaskManagementId,
};
pub use link::{JoinError, Joining, LinkId};
