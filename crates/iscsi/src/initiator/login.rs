//! The login phase, as an initiator goes through it (RFC 7143 §6.3).

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::{CloseReason, Config, Event, LoggedIn};
use crate::chap::{Answerer, Failure, Keys};
use crate::negotiate::Negotiation;
use crate::parameters::SessionType;
use crate::pdu::{self, Bhs, Header, IMMEDIATE, LoginStatus, Stage, flags};
use crate::{CmdSn, PayloadPool, PortalGroupTag, Tsih, text};

/// Most requests of a login.
const REQUESTS_MAX: u32 = 32;

/// Most text of the target's in one step, bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A login under way.
pub(super) struct Login {
    negotiation: Negotiation,
    stage: Stage,
    /// The way through the security stage; none for no authentication.
    chap: Option<Answerer>,
    requests: u32,
    proposed: bool,
    identified: bool,
    /// Answers so far whose end is still to come.
    text: Vec<u8>,
    /// What goes into the next request.
    out: Vec<u8>,
    /// The target's answer goes on: ask for the rest.
    more: bool,
    portal_group_tag: Option<PortalGroupTag>,
    target_alias: Option<String>,
    target_address: Option<String>,
}

impl Login {
    pub(super) fn new(config: &Config) -> Self {
        let mut negotiation = Negotiation::new(config.offer.clone());
        negotiation.set_session_type(config.session_type());
        if let Some(session) = config.session {
            negotiation.join(session);
        }
        Self {
            negotiation,
            stage: match config.security_stage || config.chap.is_some() {
                true => Stage::Security,
                false => Stage::Operational,
            },
            chap: config.chap.clone().map(Answerer::new),
            requests: 0,
            proposed: false,
            identified: false,
            text: Vec::new(),
            out: Vec::new(),
            more: false,
            portal_group_tag: None,
            target_alias: None,
            target_address: None,
        }
    }

    /// The text of the next request.
    fn next_text(&mut self, config: &Config) -> Vec<u8> {
        let mut out = core::mem::take(&mut self.out);
        if self.more {
            return out;
        }
        if !core::mem::replace(&mut self.identified, true) {
            text::put(&mut out, "InitiatorName", &config.initiator_name);
            if let Some(alias) = &config.initiator_alias {
                text::put(&mut out, "InitiatorAlias", alias);
            }
            match &config.target_name {
                Some(name) => {
                    text::put(&mut out, "SessionType", "Normal");
                    text::put(&mut out, "TargetName", name);
                }
                None => text::put(&mut out, "SessionType", "Discovery"),
            }
            if self.stage == Stage::Security {
                let methods = self.chap.as_ref().map_or("None", Answerer::methods);
                text::put(&mut out, "AuthMethod", methods);
            }
        }
        if self.stage == Stage::Operational && !core::mem::replace(&mut self.proposed, true) {
            self.negotiation.propose(&mut out);
        }
        out
    }

    /// The next request may ask for the next stage.
    fn may_transit(&self) -> bool {
        let held =
            self.stage == Stage::Security && self.chap.as_ref().is_some_and(|chap| !chap.may_transit());
        !self.more && !held
    }

    /// Takes the security keys of a whole answer; `leaves` the security stage.
    fn security_keys(&mut self, leaves: bool) -> Result<(), Failure> {
        let Some(chap) = self.chap.as_mut().filter(|_| self.stage == Stage::Security) else { return Ok(()) };
        let mut keys = Keys::default();
        for (key, value) in text::pairs(&self.text).filter_map(Result::ok) {
            keys.add(key, value)?;
        }
        chap.step(&keys, &mut self.out)?;
        if leaves { chap.leave() } else { Ok(()) }
    }

    /// Takes the keys of a whole answer.
    fn keys(&mut self) -> Result<(), &'static str> {
        let text = core::mem::take(&mut self.text);
        for pair in text::pairs(&text) {
            let (key, value) = pair.map_err(|_| "malformed text in a login response")?;
            match key {
                "TargetPortalGroupTag" => {
                    let tag = text::number(value).and_then(|tag| u16::try_from(tag).ok());
                    self.portal_group_tag = Some(PortalGroupTag(tag.ok_or("bad TargetPortalGroupTag")?));
                }
                "TargetAlias" => self.target_alias = Some(value.to_owned()),
                "TargetAddress" => self.target_address = Some(value.to_owned()),
                "AuthMethod" if value == "None" => {}
                // Taken by the security stage.
                key if self.chap.is_some() && self.stage == Stage::Security && Keys::knows(key) => {}
                "AuthMethod" => return Err("the target wants an authentication we do not offer"),
                _ if self.negotiation.accept(key, value).is_ok() => {}
                // Not an answer to an offer of ours: an offer of the target's.
                _ => {
                    let answered = self.negotiation.answer(key, value, &mut self.out);
                    answered.map_err(|_| "bad value in a login response")?;
                }
            }
        }
        Ok(())
    }
}

impl Config {
    pub(super) fn session_type(&self) -> SessionType {
        if self.target_name.is_some() { SessionType::Normal } else { SessionType::Discovery }
    }
}

impl<P: PayloadPool> Connection<P> {
    pub(super) fn send_login_request(&mut self) {
        let Phase::Login(login) = &mut self.phase else { return };
        login.requests += 1;
        if login.requests > REQUESTS_MAX {
            self.close_with(CloseReason::Protocol("the login does not come to an end"));
            return;
        }
        let text = login.next_text(&self.config);
        let next = if login.stage == Stage::Security { Stage::Operational } else { Stage::FullFeature };
        let transit = if login.may_transit() { flags::TRANSIT | next.0 } else { 0 };
        let header = pdu::LoginRequest {
            opcode: pdu::LoginRequest::OPCODE.0 | IMMEDIATE,
            flags: transit | login.stage.0 << 2,
            isid: self.config.isid.0,
            tsih: self.config.tsih.0.into(),
            cid: self.config.cid.0.into(),
            ..pdu::LoginRequest::blank()
        };
        self.push(*header.bytes(), Bytes::from(text));
    }

    /// A login response is there whole.
    pub(super) fn login_response(&mut self, bhs: &Bhs, data: &[u8]) {
        let response = pdu::LoginResponse::of(bhs);
        let Phase::Login(login) = &mut self.phase else {
            self.close_with(CloseReason::Protocol("login response after the login"));
            return;
        };
        login.text.extend_from_slice(data);
        if login.text.len() > TEXT_BYTES_MAX {
            self.close_with(CloseReason::Protocol("too much text in a login"));
            return;
        }
        login.more = response.flags & flags::CONTINUE != 0;
        let status = LoginStatus(response.status.get());
        let leaves = response.flags & flags::TRANSIT != 0;
        let refused = status.class() != 0;
        let proof = if login.more || refused { Ok(()) } else { login.security_keys(leaves) };
        let keys = if login.more { Ok(()) } else { login.keys() };
        if status.class() != 0 {
            let address = login.target_address.take();
            self.close_with(CloseReason::LoginRefused { status, address });
            return;
        }
        if let Err(failure) = proof {
            self.close_with(CloseReason::Authentication(failure));
            return;
        }
        if let Err(problem) = keys {
            self.close_with(CloseReason::Protocol(problem));
            return;
        }
        if response.flags & flags::TRANSIT != 0 {
            login.stage = Stage(response.flags & 3);
        }
        match login.stage {
            Stage::Security | Stage::Operational => self.send_login_request(),
            Stage::FullFeature => self.enter_full_feature(Tsih(response.tsih.get())),
            _ => self.close_with(CloseReason::Protocol("no such login stage")),
        }
        // In a session that is there already the window only moves on, as any PDU moves it.
        if self.config.tsih == Tsih::NEW {
            self.max_cmd_sn = CmdSn(response.max_cmd_sn.get());
        }
    }

    fn enter_full_feature(&mut self, tsih: Tsih) {
        let Phase::Login(login) = core::mem::replace(&mut self.phase, Phase::FullFeature) else { return };
        let parameters = login.negotiation.finish();
        self.parameters = parameters;
        self.reader.enter_full_feature(
            parameters.header_digest,
            parameters.data_digest,
            parameters.own_max_recv_data_segment_length,
        );
        self.writer.set_digests(parameters.header_digest, parameters.data_digest);
        self.events.push_back(Event::LoggedIn(LoggedIn {
            tsih,
            session_type: self.config.session_type(),
            parameters,
            portal_group_tag: login.portal_group_tag,
            target_alias: login.target_alias,
        }));
    }
}
