//! What belongs to a session rather than to one of its connections.

use core::time::Duration;
use std::collections::VecDeque;

use super::delivery::Delivery;
use super::task::Tasks;
use super::window::Window;
use super::{LinkId, TaskId, TaskManagementId};
use crate::parameters::{Parameters, SessionType};
use crate::pdu::{TaskManagementFunction, TaskManagementResponse};
use crate::{CmdSn, InitiatorTaskTag, Isid, Lun, StatSn, Tsih};

/// How far a task management function has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Commands that come before it are still missing (RFC 7143 §4.2.3.3 b).
    Ordering,
    /// Data asked for from these tasks is still coming; not longer than until then (§4.2.3.3 a).
    Draining(Vec<TaskId>, Duration),
    /// With the caller.
    Delivered,
    /// Answered by the caller. Responses that went out before on other connections have to arrive first
    /// (§4.2.3.3 e, §4.2.2.3.3): there are these StatSNs to be acknowledged.
    Fenced(TaskManagementResponse, Vec<(LinkId, StatSn)>),
}

/// A task management function under way.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) id: TaskManagementId,
    pub(super) link: LinkId,
    pub(super) itt: InitiatorTaskTag,
    pub(super) cmd_sn: CmdSn,
    pub(super) function: TaskManagementFunction,
    pub(super) lun: Lun,
    pub(super) progress: Progress,
    /// Delivered tasks that it ended.
    pub(super) aborted: Vec<TaskId>,
}

/// A session's own state.
pub(super) struct Session<B> {
    pub(super) session_type: SessionType,
    pub(super) isid: Isid,
    pub(super) tsih: Tsih,
    /// What its first connection negotiated; none before its full feature phase.
    pub(super) parameters: Option<Parameters>,
    /// Connections that joined so far.
    pub(super) links_made: u32,
    /// A logout closes it: no commands are taken any more.
    pub(super) closing: bool,
    /// A connection was lost, and with it maybe commands up to this one.
    pub(super) lost_up_to: Option<CmdSn>,
    /// This command is missing, was maybe lost, and others wait for it, since then.
    pub(super) gap: Option<(CmdSn, Duration)>,
    pub(super) window: Window,
    pub(super) tasks: Tasks<B>,
    pub(super) delivery: Delivery,
    pub(super) functions: Vec<Function>,
    pub(super) functions_started: u64,
    /// Bytes of buffers for solicited data in use.
    pub(super) reserved: usize,
    /// Tasks that wait for such a buffer.
    pub(super) waiting: VecDeque<TaskId>,
}

impl<B> Session<B> {
    pub(super) fn new(command_window: u32) -> Self {
        Self {
            session_type: SessionType::Normal,
            isid: Isid::default(),
            tsih: Tsih::NEW,
            parameters: None,
            links_made: 0,
            closing: false,
            lost_up_to: None,
            gap: None,
            window: Window::new(command_window),
            tasks: Tasks::new(),
            delivery: Delivery::new(),
            functions: Vec::new(),
            functions_started: 0,
            reserved: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Forgets all that is under way.
    pub(super) fn clear(&mut self) {
        self.window.clear();
        self.tasks = Tasks::new();
        self.delivery.clear();
        self.functions.clear();
        self.reserved = 0;
        self.waiting.clear();
        self.gap = None;
    }
}
