//! What a target connection tells its caller and is told.

use core::time::Duration;

use bytes::Bytes;

use crate::chap;
use crate::parameters::{Parameters, SessionType};
use crate::pdu::{LogoutReason, RejectReason, ScsiStatus, TaskAttribute, TaskManagementFunction};
use crate::{Cid, InitiatorTaskTag, Isid, Lun, PortalGroupTag, Tsih};

/// A task of this session; never used twice in the session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(crate) u64);

/// A task management function under way in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskManagementId(pub(crate) u64);

/// What the connection has to know of a SCSI command when its header is there. Each is asked at most
/// once for every command.
pub trait CommandSizer {
    /// Bytes of Data-Out that `cdb` takes on `lun`; 0 for a command that takes none or is unknown.
    /// The answer bounds what the connection will ask for and hold, so cap it.
    fn data_out_len(&self, lun: Lun, cdb: &[u8]) -> u32;

    /// What the command's [`Command::stamp`] is to be: a mark of the moment its header came, by which
    /// the caller knows later whether `lun` was reset while the data was still coming.
    fn stamp(&self, lun: Lun) -> u64 {
        let _ = lun;
        0
    }

    /// False when there is no memory for `bytes` of Data-Out, asked before any is taken and not for 0.
    /// The command is then delivered with [`Command::starved`].
    fn has_room(&self, bytes: u32) -> bool {
        let _ = bytes;
        true
    }
}

/// A command descriptor block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cdb {
    /// At most 16 bytes, zero filled.
    Fixed([u8; 16]),
    /// Longer: came with an extended CDB header segment (RFC 7143 §11.2.2.3).
    Extended(Box<[u8]>),
}

impl Cdb {
    /// The CDB's bytes: 16, or all of an extended CDB.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Extended(bytes) => bytes,
        }
    }
}

/// What a target connection has to say.
#[derive(Debug)]
pub enum Event {
    /// Someone wants in. Answer with `login_accept`, `login_authenticate`, `login_reject` or `login_redirect`.
    LoginRequested(LoginRequested),
    /// A login has proven what `login_authenticate` demanded. Answer with `login_accept`, `login_reject` or
    /// `login_redirect`.
    LoginProven(LoginProven),
    /// A login could not prove it, or did not follow the rules; it was refused. `Closed` follows.
    AuthenticationFailed(chap::Failure),
    /// The full feature phase of a connection has begun, and with the first one that of the session.
    SessionEstablished(SessionEstablished),
    /// The initiator asks which targets there are. Answer with `send_targets`.
    SendTargets(SendTargets),
    /// A command with all its data. Answer with `respond`.
    Command(Command),
    /// A task management function whose ordering rules are met. Answer with `task_management_response`.
    TaskManagement(TaskManagement),
    /// The initiator logs out. Answer with `logout_accept` once nothing of it is running any more.
    LogoutRequested(LogoutRequested),
    /// A connection ended and others of the session go on: these of its tasks were delivered, and get no response any
    /// more, whatever the caller does with them (RFC 7143 §7.5).
    Ended(Vec<TaskId>),
    /// The connection is over: send what `poll_transmit` still yields, then close the socket. Its last event.
    Closed(CloseReason),
}

/// A login that passed the syntax checks and waits for a decision.
///
/// With TSIH 0, a session of the same initiator name, ISID and portal group that exists already is
/// to be closed by the caller before it accepts: session reinstatement (RFC 7143 §6.3.5). With
/// another TSIH the initiator asks to join or continue a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequested {
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName; always there in a normal session.
    pub target_name: Option<String>,
    /// SessionType.
    pub session_type: SessionType,
    /// ISID.
    pub isid: Isid,
    /// TSIH asked for; [`Tsih::NEW`] for a new session.
    pub tsih: Tsih,
    /// CID.
    pub cid: Cid,
}

/// A login that has proven what was demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProven {
    /// The login as it was requested.
    pub requested: LoginRequested,
    /// What it has proven. Its challenge, if there is one, may not be one of this side's on another connection.
    pub proof: chap::Proof,
}

/// What an accepted login is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginAccept {
    /// The session's handle; not 0.
    pub tsih: Tsih,
    /// TargetPortalGroupTag of the portal, told in normal sessions.
    pub portal_group_tag: PortalGroupTag,
    /// TargetAlias, told in normal sessions if present.
    pub target_alias: Option<String>,
}

/// Where a login is sent that is not for this portal (RFC 7143 §11.13.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The target moved for good; an initiator may forget this portal.
    pub permanent: bool,
    /// `192.0.2.1:3260`, `[2001:db8::1]:3260` or `disk.example:3260`; at most
    /// [`Redirect::ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
}

impl Redirect {
    /// Longest address: a domain name of 253 bytes, its port and the colon between them.
    pub const ADDRESS_BYTES_MAX: usize = 259;
}

/// The full feature phase began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEstablished {
    /// The session's handle.
    pub tsih: Tsih,
    /// SessionType.
    pub session_type: SessionType,
    /// What was negotiated.
    pub parameters: Parameters,
}

/// Which targets an initiator asks for (RFC 7143 Appendix C).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendTargets {
    /// Every target it may see. Only in discovery sessions.
    All,
    /// The one it is logged in to.
    Current,
    /// The named one.
    Named(String),
}

/// One target in an answer to SendTargets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// TargetName.
    pub name: String,
    /// Where it is found. May be empty: at the address the question came to.
    pub addresses: Vec<TargetAddress>,
}

/// A portal in an answer to SendTargets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAddress {
    /// `192.0.2.1:3260` or `[2001:db8::1]:3260`, without the portal group tag.
    pub address: String,
    /// Portal group tag.
    pub portal_group_tag: PortalGroupTag,
}

/// A SCSI command, all its Data-Out received.
#[derive(Clone, Debug)]
pub struct Command {
    /// Names the task to `respond` and `abort_task`.
    pub task: TaskId,
    /// The initiator's name for it, for logs.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Logical unit number.
    pub lun: Lun,
    /// The CDB.
    pub cdb: Cdb,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// Delivered ahead of CmdSN order.
    pub immediate: bool,
    /// The data, in order; in all min(what the CDB takes, what the initiator announced) bytes.
    pub data_out: Vec<Bytes>,
    /// Bytes the initiator announced to send.
    pub expected_data_out: u32,
    /// Bytes the initiator has room for.
    pub expected_data_in: u32,
    /// What [`CommandSizer::stamp`] said when the header came.
    pub stamp: u64,
    /// [`CommandSizer::has_room`] refused memory for its data: none was asked for, what came unasked
    /// was discarded, `data_out` is empty. To be answered with BUSY or TASK SET FULL.
    pub starved: bool,
}

/// A command's outcome.
#[derive(Clone, Debug)]
pub struct Response {
    /// SCSI status.
    pub status: ScsiStatus,
    /// Sense data without the length field; empty for none.
    pub sense: Bytes,
    /// Data-In, in order. What the initiator has no room for becomes residual overflow.
    pub data_in: Vec<Bytes>,
}

impl Response {
    /// GOOD, with data.
    #[must_use]
    pub const fn good(data_in: Vec<Bytes>) -> Self {
        Self { status: ScsiStatus::Good, sense: Bytes::new(), data_in }
    }

    /// CHECK CONDITION with `sense`.
    #[must_use]
    pub const fn check_condition(sense: Bytes) -> Self {
        Self { status: ScsiStatus::CheckCondition, sense, data_in: Vec::new() }
    }

    /// A status without sense or data.
    #[must_use]
    pub const fn status(status: ScsiStatus) -> Self {
        Self { status, sense: Bytes::new(), data_in: Vec::new() }
    }
}

/// A task management function to carry out.
///
/// Tasks in `aborted` were delivered before and get no response any more, whatever the caller does
/// with them; it must not answer before they have stopped touching the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskManagement {
    /// Names the function to `task_management_response`.
    pub id: TaskManagementId,
    /// What to do. ABORT TASK comes only with exactly one task in `aborted`: the rest is answered within.
    pub function: TaskManagementFunction,
    /// Logical unit number.
    pub lun: Lun,
    /// The delivered tasks of this session, on whichever connection, that the function ends.
    pub aborted: Vec<TaskId>,
}

/// The initiator logs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutRequested {
    /// Why.
    pub reason: LogoutReason,
    /// The delivered tasks it leaves behind; they get no response any more.
    pub aborted: Vec<TaskId>,
}

/// A message to the initiator that answers nothing (RFC 7143 §11.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsyncMessage {
    /// Sense data of a SCSI asynchronous event.
    ScsiEvent {
        /// Logical unit number.
        lun: Lun,
        /// Sense data without the length field.
        sense: Bytes,
    },
    /// Negotiate parameters with a Text Request within `within` (RFC 7143 §11.9.1).
    NegotiationRequest {
        /// Time to do it in; told in whole seconds.
        within: Duration,
    },
    /// The target drops this connection.
    ConnectionDrop {
        /// Time before a new login makes sense; told in whole seconds.
        time2wait: Duration,
        /// Time tasks are kept after that; told in whole seconds.
        time2retain: Duration,
    },
    /// The target drops all connections of the session.
    SessionDrop {
        /// Time before a new login makes sense; told in whole seconds.
        time2wait: Duration,
        /// Time tasks are kept after that; told in whole seconds.
        time2retain: Duration,
    },
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The initiator logged out.
    #[error("the initiator logged out")]
    LoggedOut,
    /// The login was refused; the status was sent.
    #[error("the login was refused with {0:?}")]
    LoginRefused(crate::pdu::LoginStatus),
    /// No full feature phase in time.
    #[error("the login took too long")]
    LoginTimeout,
    /// A NOP-In went unanswered.
    #[error("a NOP-In was not answered in time")]
    NopTimeout,
    /// A header digest did not fit: at ErrorRecoveryLevel 0 the connection ends (RFC 7143 §7.7).
    #[error("header digest error")]
    HeaderDigest,
    /// The other side broke the protocol; where RFC 7143 asks for one, a Reject was sent.
    #[error("protocol error: {0:?}, {1}")]
    Protocol(RejectReason, &'static str),
    /// The initiator was asked to log out and did not, within the time it was given.
    #[error("the initiator did not log out when asked to")]
    LogoutOverdue,
    /// The initiator made another connection in its place (RFC 7143 §6.3.4).
    #[error("another connection took its place")]
    Reinstated,
    /// Commands were lost with another connection, and not sent again in time.
    #[error("commands lost with a connection were not sent again")]
    CommandsMissing,
    /// The caller closed it.
    #[error("closed by this side")]
    Local,
}
