//! Task management functions: whom they end, and when they may be carried out.

use core::time::Duration;

use super::connection::Connection;
use super::event::{Event, TaskManagement};
use super::link::link_of;
use super::output::Numbering;
use super::session::{Function, Progress};
use super::task::{Stage, Task};
use super::window::Unit;
use super::{TaskId, TaskManagementId};
use crate::parameters::SessionType;
use crate::pdu::{
    self, BasicHeader, Bhs, Header, RejectReason, TaskManagementFunction, TaskManagementResponse, flags,
};
use crate::{CmdSn, InitiatorTaskTag, Lun, PayloadPool};

impl<P: PayloadPool> Connection<P> {
    /// A task management request whose CmdSN is up, or that is immediate.
    pub(super) fn task_management(&mut self, bhs: &Bhs) {
        if !self.takes_commands() {
            self.reject(bhs, RejectReason::CommandNotSupported);
            return;
        }
        let functions_max = usize::try_from(self.config.immediate_commands).unwrap_or(usize::MAX);
        if self.session.functions.len() >= functions_max {
            self.reject(bhs, RejectReason::TooManyImmediateCommands);
            return;
        }
        let request = pdu::TaskManagementRequest::of(bhs);
        self.session.functions_started += 1;
        let function = Function {
            id: TaskManagementId(self.session.functions_started),
            link: self.link.id,
            itt: InitiatorTaskTag(request.itt.get()),
            cmd_sn: CmdSn(request.cmd_sn.get()),
            function: TaskManagementFunction(request.flags & flags::CODE_MASK),
            lun: Lun(request.lun),
            progress: Progress::Ordering,
            aborted: Vec::new(),
        };
        match function.function {
            TaskManagementFunction::AbortTask => self.abort_one(function, request),
            TaskManagementFunction::TaskReassign => {
                self.answer_function(&function, TaskManagementResponse::ReassignmentNotSupported);
            }
            TaskManagementFunction::AbortTaskSet
            | TaskManagementFunction::ClearTaskSet
            | TaskManagementFunction::LogicalUnitReset
            | TaskManagementFunction::TargetWarmReset
            | TaskManagementFunction::TargetColdReset => {
                // An immediate function waits for the commands before it (RFC 7143 §4.2.3.3 b).
                if BasicHeader::of(bhs).immediate() && self.commands_missing_before(function.cmd_sn) {
                    self.session.functions.push(function);
                } else {
                    self.abort_many(function);
                }
            }
            _ => self.answer_function(&function, TaskManagementResponse::NotSupported),
        }
    }

    /// True when a command before `cmd_sn` can still come.
    fn commands_missing_before(&self, cmd_sn: CmdSn) -> bool {
        self.session.window.is_ahead(cmd_sn)
    }

    /// ABORT TASK (RFC 7143 §11.5.1, §11.6.1).
    fn abort_one(&mut self, mut function: Function, request: &pdu::TaskManagementRequest) {
        let found = self.session.tasks.find(InitiatorTaskTag(request.referenced_tag.get()));
        let Some(task) = found.and_then(|id| self.session.tasks.get(id)) else {
            let ref_cmd_sn = CmdSn(request.ref_cmd_sn.get());
            let missing = ref_cmd_sn.before(function.cmd_sn) && self.session.window.is_missing(ref_cmd_sn);
            if missing {
                // Considered received: should it still come, it is a duplicate.
                self.answer_function(&function, TaskManagementResponse::Complete);
                self.skip(ref_cmd_sn);
            } else {
                self.answer_function(&function, TaskManagementResponse::TaskDoesNotExist);
            }
            return;
        };
        let (id, delivered) = (task.id, task.stage == Stage::Delivered);
        self.leave_task_set(id);
        self.end_task(id);
        self.deliver_ready();
        if delivered {
            function.aborted.push(id);
            self.hand_over(function);
        } else {
            self.answer_function(&function, TaskManagementResponse::Complete);
        }
    }

    fn skip(&mut self, cmd_sn: CmdSn) {
        self.in_turn(cmd_sn, Unit::Skip);
    }

    /// A function that ends many tasks, all of which have been received.
    fn abort_many(&mut self, mut function: Function) {
        let affected: Vec<TaskId> = self
            .session
            .tasks
            .iter()
            .filter(|task| is_affected(task, &function))
            .map(|task| task.id)
            .collect();
        let mut draining = Vec::new();
        for id in affected {
            self.leave_task_set(id);
            let Some(task) = self.session.tasks.get_mut(id) else { continue };
            if task.stage == Stage::Delivered {
                function.aborted.push(id);
            }
            if task.transfers.is_empty() {
                self.end_task(id);
            } else {
                task.stage = Stage::Aborting;
                task.unsolicited = false;
                draining.push(id);
            }
        }
        self.deliver_ready();
        if draining.is_empty() {
            self.hand_over(function);
        } else {
            function.progress = Progress::Draining(draining, self.now + self.config.abort_data_wait);
            self.session.functions.push(function);
        }
    }

    /// Gives a function to the caller.
    fn hand_over(&mut self, mut function: Function) {
        let event = TaskManagement {
            id: function.id,
            function: function.function,
            lun: function.lun,
            aborted: core::mem::take(&mut function.aborted),
        };
        function.progress = Progress::Delivered;
        let link = function.link;
        self.session.functions.push(function);
        self.events.push_back((link, Event::TaskManagement(event)));
    }

    /// Commands have arrived: functions that waited for them go on.
    pub(super) fn run_ordered_functions(&mut self) {
        while let Some(place) = self.session.functions.iter().position(|function| {
            function.progress == Progress::Ordering && !self.commands_missing_before(function.cmd_sn)
        }) {
            let function = self.session.functions.remove(place);
            self.abort_many(function);
        }
    }

    /// Data that was asked for has come: functions that waited for it go on.
    pub(super) fn run_drained_functions(&mut self) {
        while let Some(place) = self.session.functions.iter().position(|function| match &function.progress {
            Progress::Draining(tasks, _) => tasks.iter().all(|id| self.session.tasks.get(*id).is_none()),
            _ => false,
        }) {
            let function = self.session.functions.remove(place);
            self.hand_over(function);
        }
    }

    /// When waiting for data nobody wants any more ends.
    pub(super) fn drain_deadline(&self) -> Option<Duration> {
        let deadlines = self.session.functions.iter().filter_map(|function| match function.progress {
            Progress::Draining(_, until) => Some(until),
            _ => None,
        });
        deadlines.min()
    }

    /// Ends that wait once it is over.
    pub(super) fn check_drain_deadline(&mut self) {
        let mut late = Vec::new();
        for function in &self.session.functions {
            match &function.progress {
                Progress::Draining(tasks, until) if *until <= self.now => late.extend_from_slice(tasks),
                _ => {}
            }
        }
        for id in late {
            self.end_task(id);
        }
        self.run_drained_functions();
    }

    /// Answers a task management function. Ignored when it is gone.
    pub fn task_management_response(&mut self, id: TaskManagementId, response: TaskManagementResponse) {
        let place = self
            .session
            .functions
            .iter()
            .position(|function| function.id == id && function.progress == Progress::Delivered);
        if let Some(place) = place {
            let function = self.session.functions.remove(place);
            self.answer_behind_fence(function, response);
        }
    }

    pub(super) fn answer_function(&mut self, function: &Function, response: TaskManagementResponse) {
        let header = pdu::TaskManagementReply {
            response: response.0,
            itt: function.itt.0.into(),
            ..pdu::TaskManagementReply::blank()
        };
        if let Some(link) = link_of(&mut self.link, &mut self.others, function.link) {
            link.output.push(*header.bytes(), Default::default(), Numbering::Status);
        }
    }

    /// True in a discovery session.
    pub(super) fn is_discovery(&self) -> bool {
        self.session.session_type == SessionType::Discovery
    }
}

/// True when `function` ends `task`: it came before, and is on the logical unit meant.
fn is_affected<B>(task: &Task<B>, function: &Function) -> bool {
    let meant = match function.function {
        TaskManagementFunction::TargetWarmReset | TaskManagementFunction::TargetColdReset => true,
        _ => task.lun.is_same_unit(function.lun),
    };
    meant && task.stage != Stage::Aborting && (task.immediate || task.cmd_sn.before(function.cmd_sn))
}
