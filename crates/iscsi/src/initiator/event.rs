//! What an initiator connection tells its caller and is told.

use bytes::Bytes;

use crate::parameters::{Parameters, SessionType};
use crate::pdu::{
    AsyncEvent, LoginStatus, LogoutResponse, ScsiResponseCode, ScsiStatus, TaskAttribute,
    TaskManagementResponse,
};
use crate::{Lun, PortalGroupTag, Tsih};

/// A task on this connection; never used twice in the connection's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(crate) u64);

/// A SCSI command to send.
#[derive(Clone, Debug)]
pub struct Command {
    /// Logical unit number.
    pub lun: Lun,
    /// The CDB, zero filled.
    pub cdb: [u8; 16],
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// Data to send, if any.
    pub data_out: Bytes,
    /// Room for data to receive, bytes; not together with `data_out`.
    pub read_len: u32,
    /// Deliver ahead of CmdSN order.
    pub immediate: bool,
}

impl Command {
    /// A simple command without data.
    #[must_use]
    pub const fn new(lun: Lun, cdb: [u8; 16]) -> Self {
        Self {
            lun,
            cdb,
            attribute: TaskAttribute::Simple,
            data_out: Bytes::new(),
            read_len: 0,
            immediate: false,
        }
    }

    /// A simple command that receives up to `read_len` bytes.
    #[must_use]
    pub fn read(lun: Lun, cdb: [u8; 16], read_len: u32) -> Self {
        Self { read_len, ..Self::new(lun, cdb) }
    }

    /// A simple command that sends `data_out`.
    #[must_use]
    pub fn write(lun: Lun, cdb: [u8; 16], data_out: Bytes) -> Self {
        Self { data_out, ..Self::new(lun, cdb) }
    }
}

/// How the target's count of bytes differs from the expected one (RFC 7143 §11.4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Not at all.
    #[default]
    None,
    /// So many expected bytes were not transferred.
    Underflow(u32),
    /// So many bytes more would have been transferred.
    Overflow(u32),
}

/// What an initiator connection has to say.
#[derive(Debug)]
pub enum Event {
    /// The full feature phase has begun.
    LoggedIn(LoggedIn),
    /// The answer to SendTargets.
    Targets(Vec<DiscoveredTarget>),
    /// A command is complete.
    Completed(Completion),
    /// A task management function is complete.
    TaskManagementDone(TaskManagementDone),
    /// A NOP-Out of the caller's was answered.
    NopReply(Bytes),
    /// The target says something on its own. What it asks for is done without the caller: after a request for a
    /// logout no command is sent any more, and the logout goes out when those under way are complete, or half of
    /// the time is over; a request for a negotiation is answered.
    AsyncMessage(AsyncMessage),
    /// A command that was not sent: the target asked for a logout. To be submitted to the next connection.
    Returned {
        /// What `submit` returned.
        task: TaskId,
        /// The command.
        command: Command,
    },
    /// The target rejected a PDU.
    Rejected {
        /// Why.
        reason: crate::pdu::RejectReason,
        /// The command or request it ends, if any: no other answer comes.
        task: Option<TaskId>,
        /// Copy of the rejected header.
        header: Bytes,
    },
    /// The logout is complete. `Closed` follows.
    LoggedOut(LogoutResponse),
    /// The connection is over. Commands without completion never get one. The last event.
    Closed(CloseReason),
}

/// The full feature phase began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The session's handle.
    pub tsih: Tsih,
    /// SessionType.
    pub session_type: SessionType,
    /// What was negotiated.
    pub parameters: Parameters,
    /// TargetPortalGroupTag, if told.
    pub portal_group_tag: Option<PortalGroupTag>,
    /// TargetAlias, if told.
    pub target_alias: Option<String>,
}

/// A target that SendTargets found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredTarget {
    /// TargetName.
    pub name: String,
    /// TargetAddress values as told, each with its portal group tag after a comma.
    pub addresses: Vec<String>,
}

/// A command's outcome.
#[derive(Debug)]
pub struct Completion {
    /// The task.
    pub task: TaskId,
    /// Whether the command reached the SCSI layer at all.
    pub response: ScsiResponseCode,
    /// SCSI status.
    pub status: ScsiStatus,
    /// Sense data without the length field.
    pub sense: Bytes,
    /// The data read, as long as what came.
    pub data_in: Bytes,
    /// Residual.
    pub residual: Residual,
}

/// A task management function's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskManagementDone {
    /// What `task_management` returned.
    pub id: TaskId,
    /// The target's answer.
    pub response: TaskManagementResponse,
    /// Commands it ended: they get no completion.
    pub ended: Vec<TaskId>,
}

/// An asynchronous message (RFC 7143 §11.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncMessage {
    /// What happened.
    pub event: AsyncEvent,
    /// Logical unit number, for SCSI events.
    pub lun: Lun,
    /// Parameter1 to Parameter3.
    pub parameters: [u16; 3],
    /// Sense data without the length field, for SCSI events.
    pub sense: Bytes,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The logout is complete.
    #[error("logged out")]
    LoggedOut,
    /// The target asked for a logout, and it is complete: the caller may log in again.
    #[error("logged out, as the target asked for")]
    AskedToLeave,
    /// The target refused the login, or sent us elsewhere.
    #[error("login refused with {status:?}")]
    LoginRefused {
        /// Why.
        status: LoginStatus,
        /// TargetAddress of a redirection.
        address: Option<String>,
    },
    /// No full feature phase in time.
    #[error("the login took too long")]
    LoginTimeout,
    /// A NOP-Out went unanswered.
    #[error("a NOP-Out was not answered in time")]
    NopTimeout,
    /// A header or data digest did not fit.
    #[error("digest error")]
    Digest,
    /// The target did not prove itself, or broke the rules of the authentication.
    #[error("authentication: {0}")]
    Authentication(crate::chap::Failure),
    /// The target broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The target dropped the connection (asynchronous message).
    #[error("dropped by the target")]
    Dropped,
    /// The caller closed it.
    #[error("closed by this side")]
    Local,
}
