//! The response fence: a function that ended many tasks is answered behind every response that went out before it,
//! on whichever connection (RFC 7143 §4.2.2.3.3, §4.2.3.3 e).
//!
//! On the function's own connection the order of bytes sees to it. On others the initiator is asked to acknowledge
//! what was sent; a connection that does not answer dies of that question, and with it the wait for it.

use super::LinkId;
use super::connection::Connection;
use super::session::{Function, Progress};
use crate::pdu::{TaskManagementFunction, TaskManagementResponse};
use crate::{PayloadPool, StatSn};

impl<P: PayloadPool> Connection<P> {
    /// Answers a function, as soon as it may be.
    pub(super) fn answer_behind_fence(&mut self, mut function: Function, response: TaskManagementResponse) {
        let fence = if function.function == TaskManagementFunction::AbortTask {
            Vec::new()
        } else {
            self.raise_fence(function.link)
        };
        if fence.is_empty() {
            self.answer_function(&function, response);
        } else {
            function.progress = Progress::Fenced(response, fence);
            self.session.functions.push(function);
        }
    }

    /// What other connections than `own` have still to acknowledge; asks them to.
    fn raise_fence(&mut self, own: LinkId) -> Vec<(LinkId, StatSn)> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let links = core::iter::once(&self.link).chain(&self.others);
        let others = links.filter(|link| link.id != own && link.is_full_feature());
        let fence: Vec<(LinkId, StatSn)> = others
            .map(|link| (link.id, link.output.stat_sn_behind_queue(), link.acknowledged))
            .filter(|(_, behind, acknowledged)| acknowledged.before(*behind))
            .map(|(link, behind, _)| (link, behind))
            .collect();
        for (link, _) in &fence {
            self.at(*link, Self::ask_if_there);
        }
        fence
    }

    /// Answers functions whose fence is down.
    pub(super) fn run_fenced_functions(&mut self) {
        while let Some(place) = self.session.functions.iter().position(|function| self.is_unfenced(function))
        {
            let function = self.session.functions.remove(place);
            if let Progress::Fenced(response, _) = &function.progress {
                self.answer_function(&function, *response);
            }
        }
    }

    fn is_unfenced(&self, function: &Function) -> bool {
        let Progress::Fenced(_, fence) = &function.progress else { return false };
        let mut links = core::iter::once(&self.link).chain(&self.others);
        !links.any(|link| {
            link.is_full_feature()
                && fence.iter().any(|(id, behind)| *id == link.id && link.acknowledged.before(*behind))
        })
    }
}
