//! What belongs to a session rather than to a connection. For now a session has one connection.

use core::time::Duration;
use std::collections::VecDeque;

use super::delivery::Delivery;
use super::task::Tasks;
use super::window::Window;
use super::{TaskId, TaskManagementId};
use crate::parameters::SessionType;
use crate::pdu::TaskManagementFunction;
use crate::{Cid, CmdSn, InitiatorTaskTag, Isid, Lun, Tsih};

/// How far a task management function has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Commands that come before it are still missing (RFC 7143 §4.2.3.3 b).
    Ordering,
    /// Data asked for from these tasks is still coming; not longer than until then (§4.2.3.3 a).
    Draining(Vec<TaskId>, Duration),
    /// With the caller.
    Delivered,
}

/// A task management function under way.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) id: TaskManagementId,
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
    pub(super) cid: Cid,
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
            cid: Cid::default(),
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
    }
}
