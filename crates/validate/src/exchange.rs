//! What was sent and what came back, kept for the report.

use std::cell::RefCell;

use initiator::{Answer, SenseSummary};
use serde::Serialize;

use crate::names;
use crate::request::Request;

/// Exchanges kept of one check; more are counted only.
const KEPT_MAX: usize = 400;
/// Bytes shown of data sent or received.
const EXCERPT_BYTES: usize = 64;

/// One command and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// Which nexus it went through.
    pub nexus: String,
    /// The command's name in the standards.
    pub command: String,
    /// The CDB in hexadecimal.
    pub cdb: String,
    /// The beginning of the data sent, in hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_out: String,
    /// Bytes sent.
    pub data_out_bytes: usize,
    /// Status, or what happened to the session.
    pub status: String,
    /// Decoded sense data.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sense: String,
    /// The beginning of the data received, in hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_in: String,
    /// Bytes received.
    pub data_in_bytes: usize,
    /// Time from sending to the answer, microseconds.
    pub microseconds: u64,
    /// Something was found wrong right after it.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub suspect: bool,
}

impl Exchange {
    pub(crate) fn new(
        nexus: &str,
        request: &Request,
        answer: Result<&Answer, String>,
        microseconds: u64,
    ) -> Self {
        let (status, sense, data) = match answer {
            Ok(answer) => (names::status(answer.status), sense_text(&answer.sense), &answer.data[..]),
            Err(error) => (error, String::new(), &[][..]),
        };
        Self {
            nexus: nexus.to_owned(),
            command: request.name.clone(),
            cdb: hex(request.cdb()),
            data_out: excerpt(&request.data_out),
            data_out_bytes: request.data_out.len(),
            status,
            sense,
            data_in: excerpt(data),
            data_in_bytes: data.len(),
            microseconds,
            suspect: false,
        }
    }
}

/// Sense data in words; empty if there is none.
pub(crate) fn sense_text(sense: &[u8]) -> String {
    match SenseSummary::parse(sense) {
        Some(summary) => {
            let text = names::sense(summary.code, summary.qualifier);
            format!("{summary}{}{text}", if text.is_empty() { "" } else { ", " })
        }
        None if sense.is_empty() => String::new(),
        None => format!("unreadable sense data {}", excerpt(sense)),
    }
}

/// Bytes in hexadecimal, a blank between each two.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

fn excerpt(bytes: &[u8]) -> String {
    match bytes.get(..EXCERPT_BYTES) {
        Some(head) if bytes.len() > EXCERPT_BYTES => format!("{} …", hex(head)),
        _ => hex(bytes),
    }
}

/// The exchanges of the check that runs.
#[derive(Debug, Default)]
pub(crate) struct Log(RefCell<(Vec<Exchange>, u64)>);

impl Log {
    pub(crate) fn push(&self, exchange: Exchange) {
        let mut kept = self.0.borrow_mut();
        if kept.0.len() < KEPT_MAX {
            kept.0.push(exchange);
        } else {
            kept.1 += 1;
        }
    }

    /// Something was found wrong after the latest exchange.
    pub(crate) fn suspect(&self) {
        if let Some(latest) = self.0.borrow_mut().0.last_mut() {
            latest.suspect = true;
        }
    }

    /// What was kept, and how many were not; begins anew.
    pub(crate) fn take(&self) -> (Vec<Exchange>, u64) {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_tells_command_answer_and_sense() {
        let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0];
        let answer = Answer { status: 2, sense: sense.to_vec().into(), data: vec![7; 100].into() };
        let exchange = Exchange::new("nexus 1", &crate::request::inquiry(Some(0x83)), Ok(&answer), 5);
        assert_eq!((exchange.command.as_str(), exchange.cdb.as_str()), ("INQUIRY", "12 01 83 10 00 00"));
        assert_eq!(exchange.status, "CHECK CONDITION");
        assert_eq!(exchange.sense, "ILLEGAL REQUEST 24h/00h, INVALID FIELD IN CDB");
        assert!(exchange.data_in.ends_with("07 …") && exchange.data_in_bytes == 100);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_counted() {
        let log = Log::default();
        for _ in 0..KEPT_MAX + 3 {
            let request = crate::request::test_unit_ready();
            log.push(Exchange::new("n", &request, Err("lost".to_owned()), 1));
        }
        let (kept, more) = log.take();
        assert_eq!((kept.len(), more), (KEPT_MAX, 3));
        assert_eq!(log.take().0.len(), 0);
    }
}
