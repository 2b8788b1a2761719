//! The login phase (RFC 7143 §6.3): stages, identity, the caller's decision, operational keys.
//!
//! Between [`Step::Ask`] and the first answer the caller says what has to be proven; how is in `security`.

use bytes::Bytes;

use super::connection::Connection;
use super::event::{
    CloseReason, Event, LoginAccept, LoginProven, LoginRequested, Redirect, SessionEstablished,
};
use super::link::{LinkId, Phase};
use super::output::Numbering;
use super::security::{Refusal, Security};
use super::window::Window;
use crate::chap;
use crate::frame::size;
use crate::negotiate::Negotiation;
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Offer, Parameters, SessionType};
use crate::pdu::{self, Bhs, Header, LoginStatus, Stage, flags};
use crate::{Cid, CmdSn, Isid, PayloadPool, PortalGroupTag, Tsih, text};

/// Most text of one login step, bytes, over all its PDUs.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Most requests of one login: a few steps, or some text in pieces.
const REQUESTS_MAX: u32 = 64;

/// What stays the same in all requests of a login.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Constant {
    isid: [u8; 6],
    tsih: u16,
    cid: u16,
    itt: u32,
}

/// What a login request leads to.
enum Step {
    /// The caller is asked whether to go on.
    Ask(LoginRequested),
    /// It has proven what it had to. The caller is asked again, before anything is said.
    Proven(LoginProven),
    Respond(pdu::LoginResponse, Bytes),
}

/// A login under way.
pub(super) struct Login {
    negotiation: Negotiation,
    stage: Option<Stage>,
    constant: Option<Constant>,
    requests: u32,
    /// Text of requests so far whose end is still to come.
    text: Vec<u8>,
    /// Answers not sent yet.
    out: Vec<u8>,
    /// Part of the answers was sent; empty requests ask for the rest.
    partial: bool,
    security: Security,
    /// The waiting request's keys have been answered.
    answered: bool,
    requested: Option<LoginRequested>,
    /// The request that waits for the caller's decision.
    waiting: Option<Bhs>,
    accepted: Option<LoginAccept>,
    declared: bool,
}

/// A login request's flags.
struct LoginFlags {
    transit: bool,
    more: bool,
    current: Stage,
    next: Stage,
}

impl LoginFlags {
    const fn of(request: &pdu::LoginRequest) -> Self {
        Self {
            transit: request.flags & flags::TRANSIT != 0,
            more: request.flags & flags::CONTINUE != 0,
            current: Stage((request.flags >> 2) & 3),
            next: Stage(request.flags & 3),
        }
    }

    /// True for stages that exist and go forward (RFC 7143 §11.12.3).
    fn is_valid(&self) -> bool {
        let current = matches!(self.current, Stage::Security | Stage::Operational);
        let next =
            matches!(self.next, Stage::Operational | Stage::FullFeature) && self.next.0 > self.current.0;
        current && (!self.transit || next) && !(self.transit && self.more)
    }
}

impl Login {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            negotiation: Negotiation::new(offer),
            stage: None,
            constant: None,
            requests: 0,
            text: Vec::new(),
            out: Vec::new(),
            partial: false,
            security: Security::default(),
            answered: false,
            requested: None,
            waiting: None,
            accepted: None,
            declared: false,
        }
    }

    /// Takes a login request with its text.
    fn request(&mut self, bhs: &Bhs, text: &[u8]) -> Result<Step, Refusal> {
        let request = pdu::LoginRequest::of(bhs);
        let flags = LoginFlags::of(request);
        self.check(request, &flags)?;
        self.text.extend_from_slice(text);
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(LoginStatus::InitiatorError.into());
        }
        if flags.more {
            return Ok(Step::Respond(respond_to(request), Bytes::new()));
        }
        if self.requested.is_none() {
            let requested = self.identify(request)?;
            self.requested = Some(requested.clone());
            self.waiting = Some(*bhs);
            return Ok(Step::Ask(requested));
        }
        self.answer(bhs)
    }

    /// What the header of a request may say, given those before it.
    fn check(&mut self, request: &pdu::LoginRequest, flags: &LoginFlags) -> Result<(), LoginStatus> {
        if request.version_min > 0 {
            return Err(LoginStatus::UnsupportedVersion);
        }
        let constant = Constant {
            isid: request.isid,
            tsih: request.tsih.get(),
            cid: request.cid.get(),
            itt: request.itt.get(),
        };
        let same = *self.constant.get_or_insert(constant) == constant;
        let stage = *self.stage.get_or_insert(flags.current);
        self.requests += 1;
        let in_order = self.waiting.is_none() && self.requests <= REQUESTS_MAX;
        if flags.is_valid() && same && stage == flags.current && in_order {
            Ok(())
        } else {
            Err(LoginStatus::InitiatorError)
        }
    }

    /// Who wants what, from the first keys (RFC 7143 §6.3.1).
    fn identify(&mut self, request: &pdu::LoginRequest) -> Result<LoginRequested, LoginStatus> {
        let mut requested = LoginRequested {
            initiator_name: String::new(),
            initiator_alias: None,
            target_name: None,
            session_type: SessionType::Normal,
            isid: Isid(request.isid),
            tsih: Tsih(request.tsih.get()),
            cid: Cid(request.cid.get()),
        };
        for pair in text::pairs(&self.text) {
            let (key, value) = pair.map_err(|_| LoginStatus::InitiatorError)?;
            match (key, value) {
                ("InitiatorName", name) if text::is_name(name) => {
                    name.clone_into(&mut requested.initiator_name)
                }
                ("InitiatorName", _) => return Err(LoginStatus::InitiatorError),
                ("InitiatorAlias", alias) => requested.initiator_alias = Some(alias.to_owned()),
                ("TargetName", name) => requested.target_name = Some(name.to_owned()),
                ("SessionType", "Discovery") => requested.session_type = SessionType::Discovery,
                ("SessionType", "Normal") => requested.session_type = SessionType::Normal,
                ("SessionType", _) => return Err(LoginStatus::SessionTypeNotSupported),
                _ => {}
            }
        }
        let named = requested.target_name.is_some() || requested.session_type == SessionType::Discovery;
        if requested.initiator_name.is_empty() || !named {
            return Err(LoginStatus::MissingParameter);
        }
        self.negotiation.set_session_type(requested.session_type);
        Ok(requested)
    }

    /// The caller wants proof first. The portal group tag belongs into the first answer (RFC 7143 §13.9).
    fn authenticate(
        &mut self,
        demand: chap::Demand,
        portal_group_tag: PortalGroupTag,
    ) -> Option<Result<Step, Refusal>> {
        let bhs = self.waiting.filter(|_| self.security.has_no_demand())?;
        self.waiting = None;
        self.security.demand(demand);
        self.tell_portal_group(portal_group_tag);
        Some(self.answer(&bhs))
    }

    /// The caller lets the login go on.
    fn accept(&mut self, accept: LoginAccept) -> Option<Result<Step, Refusal>> {
        if !self.security.is_done() {
            return None;
        }
        let bhs = self.waiting.take()?;
        if self.security.has_no_demand() {
            self.tell_portal_group(accept.portal_group_tag);
        }
        if let Some(alias) = accept.target_alias.as_ref().filter(|_| self.negotiation_is_normal()) {
            text::put(&mut self.out, "TargetAlias", alias);
        }
        self.accepted = Some(accept);
        Some(match core::mem::take(&mut self.answered) {
            true => Ok(self.respond(&bhs)),
            false => self.answer(&bhs),
        })
    }

    fn tell_portal_group(&mut self, tag: PortalGroupTag) {
        if self.negotiation_is_normal() {
            text::put(&mut self.out, "TargetPortalGroupTag", &tag.0.to_string());
        }
    }

    fn negotiation_is_normal(&self) -> bool {
        self.requested.as_ref().is_some_and(|requested| requested.session_type == SessionType::Normal)
    }

    /// Answers the keys that have come and moves on to the next stage if asked to.
    fn answer(&mut self, bhs: &Bhs) -> Result<Step, Refusal> {
        let flags = LoginFlags::of(pdu::LoginRequest::of(bhs));
        let text = core::mem::take(&mut self.text);
        if self.partial && text.is_empty() {
            return Ok(self.respond(bhs));
        }
        let mut security = chap::Keys::default();
        for pair in text::pairs(&text) {
            let (key, value) = pair.map_err(|_| LoginStatus::InitiatorError)?;
            if flags.current == Stage::Security {
                security.add(key, value)?;
            } else if chap::Keys::knows(key) {
                return Err(LoginStatus::InitiatorError.into());
            }
        }
        let leaves = flags.transit || flags.current != Stage::Security;
        let proof = self.security.step(&security, leaves, &mut self.out)?;
        if flags.current == Stage::Operational && !self.declared {
            self.declared = true;
            self.negotiation.declare(&mut self.out);
        }
        for pair in text::pairs(&text) {
            let (key, value) = pair.map_err(|_| LoginStatus::InitiatorError)?;
            self.key(key, value)?;
        }
        if let (Some(proof), Some(requested)) = (proof, &self.requested) {
            self.waiting = Some(*bhs);
            self.answered = true;
            return Ok(Step::Proven(LoginProven { requested: requested.clone(), proof }));
        }
        Ok(self.respond(bhs))
    }

    /// Sends what there is to say, and moves on to the next stage if asked to and nothing keeps it.
    fn respond(&mut self, bhs: &Bhs) -> Step {
        let request = pdu::LoginRequest::of(bhs);
        let flags = LoginFlags::of(request);
        let mut response = respond_to(request);
        let sent = self.out.len().min(size(DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH));
        let data: Vec<u8> = self.out.drain(..sent).collect();
        self.partial = !self.out.is_empty();
        if self.partial {
            response.flags |= flags::CONTINUE;
        } else if flags.transit && self.security.is_done() {
            response.flags |= flags::TRANSIT | flags.next.0;
            self.stage = Some(flags.next);
            if flags.next == Stage::FullFeature {
                response.tsih = self.tsih().0.into();
            }
        }
        Step::Respond(response, data.into())
    }

    fn key(&mut self, key: &str, value: &str) -> Result<(), LoginStatus> {
        match key {
            // Read when the login was identified.
            "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" => Ok(()),
            // Answered by the security stage.
            key if chap::Keys::knows(key) => Ok(()),
            "SendTargets" | "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => {
                text::put(&mut self.out, key, "Reject");
                Ok(())
            }
            _ => {
                let answered = self.negotiation.answer(key, value, &mut self.out);
                answered.map_err(|_| LoginStatus::InitiatorError)
            }
        }
    }

    /// True when it waits for the caller.
    pub(super) const fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// The connection joins a session that has agreed on `parameters`.
    pub(super) fn join(&mut self, parameters: Parameters) {
        self.negotiation.join(parameters);
    }

    fn tsih(&self) -> Tsih {
        self.accepted.as_ref().map_or(Tsih::NEW, |accepted| accepted.tsih)
    }
}

/// A response in the stage of its request, with nothing decided (RFC 7143 §11.13).
fn respond_to(request: &pdu::LoginRequest) -> pdu::LoginResponse {
    pdu::LoginResponse {
        flags: request.flags & 0x0c,
        isid: request.isid,
        tsih: request.tsih,
        itt: request.itt,
        ..pdu::LoginResponse::blank()
    }
}

impl<P: PayloadPool> Connection<P> {
    /// A login request is there whole.
    pub(super) fn login_request(&mut self, bhs: &Bhs, text: &[u8]) {
        let Phase::Login(login) = &mut self.link.phase else { return };
        let step = login.request(bhs, text);
        // Login requests are immediate: the first command has the CmdSN of the last of them. Those of a connection
        // that joins a session have a CmdSN of a numbering that runs already.
        let request = pdu::LoginRequest::of(bhs);
        let first = CmdSn(request.cmd_sn.get());
        match (self.link.id, Tsih(request.tsih.get())) {
            (LinkId::LEADING, Tsih::NEW) => self.session.window.start(first),
            // Another session's window is not this one's to tell.
            (LinkId::LEADING, _) => self.session.window.shut(first),
            _ => {}
        }
        self.login_step(step);
    }

    /// Has a login that was requested prove something first: `LoginProven` follows, or `AuthenticationFailed` and the
    /// end. Ignored when none is waiting.
    pub fn login_authenticate(&mut self, demand: chap::Demand, portal_group_tag: PortalGroupTag) {
        let Phase::Login(login) = &mut self.link.phase else { return };
        if let Some(step) = login.authenticate(demand, portal_group_tag) {
            self.login_step(step);
        }
    }

    /// Lets a login go on. Ignored when none is waiting, or when it has not proven what it has to.
    pub fn login_accept(&mut self, accept: LoginAccept) {
        let Phase::Login(login) = &mut self.link.phase else { return };
        if let Some(step) = login.accept(accept) {
            self.login_step(step);
        }
    }

    /// Refuses a login; the connection closes. Ignored when none is waiting.
    pub fn login_reject(&mut self, status: LoginStatus) {
        if matches!(&self.link.phase, Phase::Login(login) if login.waiting.is_some()) {
            self.refuse_login(status);
        }
    }

    /// Sends a login elsewhere: `TargetAddress` goes with the status, and the connection closes (RFC 7143
    /// §11.13.5). Ignored when no login is waiting.
    pub fn login_redirect(&mut self, redirect: &Redirect) {
        let Phase::Login(login) = &self.link.phase else { return };
        if login.waiting.is_none() {
            return;
        }
        let status =
            if redirect.permanent { LoginStatus::MovedPermanently } else { LoginStatus::MovedTemporarily };
        let mut text = Vec::new();
        // Without a portal group tag: with a redirection it must not be told (RFC 7143 §13.8).
        text::put(&mut text, "TargetAddress", &redirect.address);
        self.refuse_login_with(status, text.into());
    }

    fn login_step(&mut self, step: Result<Step, Refusal>) {
        match step {
            Ok(Step::Ask(requested)) => {
                self.link.cid = requested.cid;
                self.tell(Event::LoginRequested(requested));
            }
            Ok(Step::Proven(proven)) => self.tell(Event::LoginProven(proven)),
            Ok(Step::Respond(response, data)) => {
                self.link.output.push(*response.bytes(), data, Numbering::Status);
                let done = flags::TRANSIT | Stage::FullFeature.0;
                if response.flags & done == done {
                    self.enter_full_feature();
                }
            }
            Err(Refusal { status, failure }) => {
                self.refuse_login(status);
                let link = self.link.id;
                failure
                    .into_iter()
                    .for_each(|why| self.events.push_front((link, Event::AuthenticationFailed(why))));
            }
        }
    }

    fn enter_full_feature(&mut self) {
        let Phase::Login(login) = core::mem::replace(&mut self.link.phase, Phase::FullFeature) else {
            return;
        };
        let parameters = login.negotiation.finish();
        self.link.parameters = parameters;
        if let Some(requested) = login.requested.as_ref().filter(|_| self.link.id == LinkId::LEADING) {
            self.session.session_type = requested.session_type;
            self.session.isid = requested.isid;
            self.session.tsih = login.tsih();
            self.session.parameters = Some(parameters);
            if requested.tsih != Tsih::NEW {
                // The caller makes a session of its own of it after all.
                let next = self.session.window.expected();
                self.session.window = Window::new(self.config.command_window);
                self.session.window.start(next);
            }
        }
        self.link.reader.enter_full_feature(
            parameters.header_digest,
            parameters.data_digest,
            parameters.own_max_recv_data_segment_length,
        );
        self.link.output.digests_after_login = Some((parameters.header_digest, parameters.data_digest));
        self.tell(Event::SessionEstablished(SessionEstablished {
            tsih: self.session.tsih,
            session_type: self.session.session_type,
            parameters,
        }));
    }

    /// Anything but a login request during login (RFC 7143 §6.3, §11.13.5).
    pub(super) fn refuse_in_login(&mut self) {
        self.refuse_login(LoginStatus::InvalidDuringLogin);
    }

    fn refuse_login(&mut self, status: LoginStatus) {
        self.refuse_login_with(status, Bytes::new());
    }

    fn refuse_login_with(&mut self, status: LoginStatus, text: Bytes) {
        let mut response =
            pdu::LoginResponse { flags: 0, status: status.0.into(), ..pdu::LoginResponse::blank() };
        if let Phase::Login(login) = &self.link.phase
            && let Some(constant) = login.constant
        {
            response.isid = constant.isid;
            response.tsih = constant.tsih.into();
            response.itt = constant.itt.into();
        }
        self.link.output.push(*response.bytes(), text, Numbering::Status);
        self.close_with(CloseReason::LoginRefused(status));
    }
}
