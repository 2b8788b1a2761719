//! Task management (SAM-5 §7): a function is answered when nothing it ended touches the medium any more.

use crate::execution::Execution;
use crate::session::Session;
use crate::unit::{LogicalUnitHandle, Reset};
use iscsi::pdu::{TaskManagementFunction as Function, TaskManagementResponse as Outcome};
use iscsi::target::{TaskId, TaskManagement, TaskManagementId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// What has to end before something is answered.
#[derive(Default)]
pub(crate) struct Quiet {
    /// Of this session.
    tasks: Vec<TaskId>,
    /// Of everybody, on units that were reset.
    units: Vec<oneshot::Receiver<()>>,
}

impl Quiet {
    /// Ends `tasks`: those that have not started are dropped, the others waited for.
    pub(crate) fn after(execution: &mut Execution, tasks: &[TaskId]) -> Self {
        execution.forget_waiting(tasks);
        execution.stop_long(tasks);
        Self { tasks: execution.running_of(tasks), units: Vec::new() }
    }

    pub(crate) fn ended(&mut self, task: TaskId) {
        self.tasks.retain(|other| *other != task);
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.units.retain_mut(|unit| Pin::new(unit).poll(context).is_pending());
        if self.tasks.is_empty() && self.units.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A function that is carried out.
pub(crate) struct RunningFunction {
    pub(crate) id: TaskManagementId,
    pub(crate) outcome: Outcome,
    pub(crate) quiet: Quiet,
    /// TARGET COLD RESET: every session of the target ends afterwards (RFC 7143 §11.5.1).
    pub(crate) ends_sessions: bool,
}

/// Starts a function.
pub(crate) fn start(
    session: &Session,
    execution: &mut Execution,
    request: &TaskManagement,
) -> RunningFunction {
    let mut quiet = Quiet::after(execution, &request.aborted);
    let mut reset = |unit: Option<&Arc<LogicalUnitHandle>>, how: &dyn Fn(&LogicalUnitHandle) -> Reset| {
        let Some(unit) = unit else { return Outcome::LunDoesNotExist };
        let Reset { quiet: receiver, stamp } = how(unit);
        session.has_reset(unit, stamp);
        quiet.units.push(receiver);
        Outcome::Complete
    };
    let unit = session.unit(request.lun);
    let outcome = match request.function {
        Function::AbortTask => Outcome::Complete,
        Function::AbortTaskSet if unit.is_some() => Outcome::Complete,
        Function::AbortTaskSet => Outcome::LunDoesNotExist,
        Function::ClearTaskSet => reset(unit, &|unit| unit.clear_task_set(session.nexus)),
        Function::LogicalUnitReset => reset(unit, &LogicalUnitHandle::reset),
        Function::TargetWarmReset | Function::TargetColdReset => {
            session.units().for_each(|unit| {
                reset(Some(unit), &LogicalUnitHandle::reset);
            });
            Outcome::Complete
        }
        Function::TaskReassign => Outcome::ReassignmentNotSupported,
        _ => Outcome::NotSupported,
    };
    tracing::info!(
        initiator = %session.entry.initiator, function = ?request.function, lun = %request.lun, ?outcome,
        aborted = request.aborted.len(), "task management"
    );
    let ends_sessions = request.function == Function::TargetColdReset;
    RunningFunction { id: request.id, outcome, quiet, ends_sessions }
}
