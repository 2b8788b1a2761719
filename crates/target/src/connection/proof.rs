//! What a login has to prove, and the decision on it: nothing is taken from anyone for a name that is only claimed.

use super::Connection;
use crate::directory::Authentication;
use crate::execution::Execution;
use crate::login::{self, Decision, Refusal};
use crate::memory::Budget;
use iscsi::chap::{Demand, Failure};
use iscsi::pdu::LoginStatus;
use iscsi::target::{LoginProven, LoginRequested};
use std::sync::Arc;

impl Connection {
    /// Challenges a login that has to prove something; decides at once on one that has not.
    pub(super) fn login_requested(&mut self, request: &LoginRequested) {
        let demanded = login::demanded(&self.shared, &self.place, request);
        match demanded.and_then(|demanded| self.demand(request, demanded)) {
            Ok(Some(demand)) => self.protocol.login_authenticate(demand, self.place.group),
            Ok(None) => self.login(request),
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    fn demand(
        &mut self,
        request: &LoginRequested,
        demanded: Authentication,
    ) -> Result<Option<Demand>, Refusal> {
        let Authentication::Chap { accounts, optional } = &demanded else { return Ok(None) };
        let guard = &self.shared.guard;
        guard.admit(self.place.peer.ip(), &request.initiator_name, self.shared.now())?;
        let nonce = guard.nonce().ok_or(LoginStatus::TargetError)?;
        let demand = Demand { accounts: accounts.clone(), optional: *optional, nonce };
        self.demanded = Some((request.clone(), demanded));
        Ok(Some(demand))
    }

    /// A login has proven what it had to. One that has this side's own challenge answered is an attack on another
    /// connection (RFC 7143 §12.1.3).
    pub(super) fn login_proven(&mut self, proven: &LoginProven) {
        if proven.proof.challenge.as_ref().is_some_and(|challenge| self.shared.guard.made(challenge)) {
            self.login_failed(Failure::Reflected);
            return self.protocol.login_reject(LoginStatus::AuthenticationFailure);
        }
        if proven.proof.user.is_some() {
            self.shared.guard.succeeded(self.place.peer.ip(), &proven.requested.initiator_name);
        }
        self.login(&proven.requested);
    }

    /// A login has not proven it. The protocol has refused it, and told nothing of why.
    pub(super) fn login_failed(&mut self, why: Failure) {
        let demanded = self.demanded.take();
        let request = demanded.as_ref().map(|(request, _)| request);
        let entry = self.session.as_ref().map(|session| &session.entry);
        let (initiator, target) = match (request, entry) {
            (Some(request), _) => (request.initiator_name.as_str(), request.target_name.as_deref()),
            (None, Some(entry)) => {
                (entry.initiator.as_str(), entry.port.as_ref().map(|port| port.target.as_str()))
            }
            (None, None) => ("?", None),
        };
        let peer = self.place.peer;
        self.shared.guard.failed(peer.ip(), initiator, why, self.shared.now());
        if let Some(left_out) = self.shared.log_limit.admit() {
            tracing::warn!(%peer, initiator, target, %why, left_out, "login refused: authentication failed");
        }
    }

    /// Decides on a login that has proven what was demanded of it, if anything was.
    pub(super) fn login(&mut self, request: &LoginRequested) {
        let proven = self.demanded.take().map(|(_, demanded)| demanded).unwrap_or_default();
        let reach = (&self.mailbox, &self.arrivals.0);
        match login::decide(&self.shared, &self.place, reach, request, &proven) {
            Ok(Decision::Join(entry, accept)) => self.move_to(&entry, accept),
            Ok(Decision::Start(mut session, accept)) => {
                self.predecessor = session.take_predecessors();
                let limits = &self.shared.config.limits;
                let budget = Budget::new(Arc::clone(&self.shared.gauge), limits.session_bytes_max);
                self.execution = Execution::new(budget, self.predecessor.is_some());
                self.session = Some(*session);
                // Rights taken away after they were asked for, but before the session was there to be told.
                self.reauthorize();
                self.protocol.login_accept(accept);
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// Turns a login down.
    pub(super) fn refuse(&mut self, request: &LoginRequested, refusal: Refusal) {
        let (initiator, target) = (&request.initiator_name, &request.target_name);
        if let Some(left_out) = self.shared.log_limit.admit() {
            let peer = self.place.peer;
            tracing::info!(%peer, initiator, ?target, ?refusal, left_out, "login refused");
        }
        match refusal {
            Refusal::Status(status) => self.protocol.login_reject(status),
            Refusal::Moved(redirect) => self.protocol.login_redirect(&redirect),
        }
    }
}
