//! When a task whose data is there goes to the caller.
//!
//! Commands enter the task set in CmdSN order. A simple one goes out as soon as its data is there,
//! so a write that waits for the network never stalls the read behind it. An ordered one waits for
//! all before it, and all behind it wait for it (SAM-5 §8.7).

use std::collections::VecDeque;

use super::TaskId;
use super::task::{Stage, Tasks};
use crate::pdu::TaskAttribute;

/// See the module's description.
pub(super) struct Delivery {
    /// Tasks that wait for their data with no ordered task ahead of them.
    unordered: usize,
    /// The first ordered task not gone out, and everything behind it.
    line: VecDeque<TaskId>,
    /// Tasks that may go out.
    out: VecDeque<TaskId>,
}

impl Delivery {
    pub(super) const fn new() -> Self {
        Self { unordered: 0, line: VecDeque::new(), out: VecDeque::new() }
    }

    /// A task enters the task set.
    pub(super) fn enter(&mut self, id: TaskId, attribute: TaskAttribute) {
        if attribute == TaskAttribute::Ordered || !self.line.is_empty() {
            self.line.push_back(id);
        } else {
            self.unordered += 1;
        }
    }

    /// A task's data is there.
    pub(super) fn ready<B>(&mut self, id: TaskId, tasks: &mut Tasks<B>) {
        if self.in_line(id) {
            if let Some(task) = tasks.get_mut(id) {
                task.stage = Stage::Ready;
            }
        } else {
            self.unordered = self.unordered.saturating_sub(1);
            if let Some(task) = tasks.get_mut(id) {
                task.stage = Stage::Leaving;
                self.out.push_back(id);
            }
        }
        self.move_up(tasks);
    }

    /// A task that is collecting or ready is over without having been delivered.
    pub(super) fn leave<B>(&mut self, id: TaskId, tasks: &mut Tasks<B>) {
        if self.in_line(id) {
            self.line.retain(|other| *other != id);
        } else {
            self.unordered = self.unordered.saturating_sub(1);
        }
        self.move_up(tasks);
    }

    fn in_line(&self, id: TaskId) -> bool {
        !self.line.is_empty() && self.line.contains(&id)
    }

    /// True when tasks stand in line that cannot go out before task `id` did: nobody is ahead of it.
    pub(super) fn is_waited_for(&self, id: TaskId) -> bool {
        self.line.front().is_some_and(|first| *first == id || !self.line.contains(&id))
    }

    /// Lets out of the line what no longer has to stand in it.
    fn move_up<B>(&mut self, tasks: &mut Tasks<B>) {
        while let Some(task) = self.line.front().and_then(|id| tasks.get_mut(*id)) {
            let ordered = task.attribute == TaskAttribute::Ordered;
            if ordered && (self.unordered > 0 || task.stage != Stage::Ready) {
                return;
            }
            self.line.pop_front();
            if task.stage == Stage::Ready {
                // Nothing may take it out of the line, or out of `unordered`, a second time.
                task.stage = Stage::Leaving;
                self.out.push_back(task.id);
            } else {
                self.unordered += 1;
            }
        }
    }

    /// The next task to go to the caller.
    pub(super) fn next(&mut self) -> Option<TaskId> {
        self.out.pop_front()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}
