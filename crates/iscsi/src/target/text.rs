//! Text in the full feature phase: SendTargets and declarations (RFC 7143 §11.10, Appendix C).

use super::connection::Connection;
use super::event::{Event, SendTargets, TargetRecord};
use super::output::Numbering;
use crate::frame::size;
use crate::negotiate;
use crate::parameters::SEGMENT_LENGTH_RANGE;
use crate::pdu::{self, Bhs, Header, RejectReason, flags};
use crate::text;
use crate::{PayloadPool, TargetTransferTag};

/// Most text of one request, bytes, over all its PDUs.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The one exchange of text that can be under way.
#[derive(Default)]
pub(super) struct TextExchange {
    /// Initiator Task Tag and Target Transfer Tag by which it goes on.
    open: Option<(u32, u32)>,
    /// Requests so far whose end is still to come.
    input: Vec<u8>,
    /// Answers not sent yet.
    out: Vec<u8>,
    /// The request that waits for the caller's list of targets.
    waiting: Option<Bhs>,
    started: u32,
}

/// What a request's keys lead to.
enum Outcome {
    Respond,
    Ask(SendTargets),
    Reject(RejectReason),
}

impl<P: PayloadPool> Connection<P> {
    /// A Text Request whose turn has come.
    pub(super) fn text_request(&mut self, bhs: &Bhs, data: &[u8]) {
        let request = pdu::TextRequest::of(bhs);
        let (last, more) = (request.flags & flags::FINAL != 0, request.flags & flags::CONTINUE != 0);
        let ttt = TargetTransferTag(request.ttt.get());
        // One exchange at a time: the caller still owes the answer to the last one.
        if self.link.text.waiting.is_some() {
            self.reject(bhs, RejectReason::ProtocolError);
            return;
        }
        if ttt.is_none() {
            // A new exchange; one that was under way is forgotten (RFC 7143 §11.10.4).
            self.link.text = TextExchange { started: self.link.text.started, ..TextExchange::default() };
        }
        let continues = self.link.text.open == Some((request.itt.get(), ttt.0));
        let too_long = self.link.text.input.len() + data.len() > TEXT_BYTES_MAX;
        if last && more || !ttt.is_none() && !continues || too_long || self.is_leaving() {
            self.link.text.input.clear();
            self.reject(bhs, RejectReason::ProtocolError);
            return;
        }
        self.link.text.input.extend_from_slice(data);
        if more {
            self.respond_text(bhs);
            return;
        }
        let input = core::mem::take(&mut self.link.text.input);
        match self.text_keys(&input) {
            Outcome::Respond => self.respond_text(bhs),
            Outcome::Ask(which) => {
                self.link.text.waiting = Some(*bhs);
                self.tell(Event::SendTargets(which));
            }
            Outcome::Reject(reason) => {
                self.link.text.out.clear();
                self.reject(bhs, reason);
            }
        }
    }

    fn text_keys(&mut self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::Respond;
        let (mut known, mut unknown) = (0, 0);
        for pair in text::pairs(input) {
            let Ok((key, value)) = pair else { return Outcome::Reject(RejectReason::InvalidPduField) };
            match key {
                "SendTargets" => match self.which_targets(value) {
                    Some(which) => outcome = Outcome::Ask(which),
                    None => return Outcome::Reject(RejectReason::InvalidPduField),
                },
                "MaxRecvDataSegmentLength" => {
                    match text::number(value).filter(|len| SEGMENT_LENGTH_RANGE.contains(len)) {
                        Some(len) => self.link.parameters.peer_max_recv_data_segment_length = len,
                        None => return Outcome::Reject(RejectReason::InvalidPduField),
                    }
                }
                "InitiatorAlias" => {}
                _ if negotiate::is_operational(key) => text::put(&mut self.link.text.out, key, "Reject"),
                _ => {
                    unknown += u32::from(!key.starts_with("X-") && !key.starts_with("X#"));
                    text::put(&mut self.link.text.out, key, "NotUnderstood");
                    continue;
                }
            }
            known += 1;
        }
        // NotUnderstood is for keys beside others. A request of nothing but unknown standard keys
        // is a mistake, and initiators look for SendTargets only: they get an error they notice.
        if known == 0 && unknown > 0 { Outcome::Reject(RejectReason::ProtocolError) } else { outcome }
    }

    /// The meaning of a SendTargets value; `None` for one that has none here.
    fn which_targets(&self, value: &str) -> Option<SendTargets> {
        match value {
            "All" if self.is_discovery() => Some(SendTargets::All),
            // Hosts ask for All in normal sessions too; there it means the target they are at.
            "" | "All" if !self.is_discovery() => Some(SendTargets::Current),
            name => text::is_name(name).then(|| SendTargets::Named(name.to_owned())),
        }
    }

    /// Answers SendTargets. Ignored when none is waiting.
    pub fn send_targets(&mut self, targets: &[TargetRecord]) {
        let Some(bhs) = self.link.text.waiting.take() else { return };
        for target in targets {
            text::put(&mut self.link.text.out, "TargetName", &target.name);
            for portal in &target.addresses {
                let address = format!("{},{}", portal.address, portal.portal_group_tag.0);
                text::put(&mut self.link.text.out, "TargetAddress", &address);
            }
        }
        self.respond_text(&bhs);
    }

    /// Sends the next piece of the answers.
    fn respond_text(&mut self, bhs: &Bhs) {
        let request = pdu::TextRequest::of(bhs);
        let exchange = &mut self.link.text;
        let sent = exchange.out.len().min(size(self.link.parameters.peer_max_recv_data_segment_length));
        let data: Vec<u8> = exchange.out.drain(..sent).collect();
        let more = !exchange.out.is_empty();
        let last = !more && request.flags & flags::FINAL != 0;
        let ttt = if last {
            exchange.open = None;
            TargetTransferTag::NONE.0
        } else {
            exchange.started = exchange.started.wrapping_add(1) & 0x7fff_ffff;
            exchange.open = Some((request.itt.get(), exchange.started));
            exchange.started
        };
        let header = pdu::TextResponse {
            flags: if last { flags::FINAL } else { 0 } | if more { flags::CONTINUE } else { 0 },
            lun: request.lun,
            itt: request.itt,
            ttt: ttt.into(),
            ..pdu::TextResponse::blank()
        };
        self.link.output.push(*header.bytes(), data.into(), Numbering::Status);
    }
}
