//! An I_T nexus under a name, with its log, and the judging of single answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use initiator::{Answer, ClientError, SenseSummary};
use tokio::time::{Instant, timeout};

use crate::exchange::{Exchange, Log, sense_text};
use crate::fabric::{Fabric, NexusSpec, Peer};
use crate::names;
use crate::outcome::{Outcome, Stop, failed, not_supported};
use crate::request::{self, Request};

/// How long a command may take: what Windows and ESXi grant at least.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Unit attentions in a row that are taken before a nexus counts as stuck.
const ATTENTIONS_MAX: usize = 16;
/// How often a command is sent again after BUSY or TASK SET FULL.
const BUSY_MAX: usize = 50;
/// How long to wait after BUSY.
const BUSY_WAIT: Duration = Duration::from_millis(100);
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;
pub(crate) const GOOD: u8 = 0x00;
pub(crate) const CHECK_CONDITION: u8 = 0x02;
pub(crate) const CONFLICT: u8 = 0x18;

/// A session with the logical unit, its name, and where its exchanges are kept.
pub(crate) struct Nexus {
    /// For people: number, path.
    pub(crate) label: String,
    pub(crate) spec: NexusSpec,
    fabric: Rc<dyn Fabric>,
    peer: RefCell<Option<Rc<dyn Peer>>>,
    log: Rc<Log>,
}

/// An answer together with what it answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) nexus: String,
    pub(crate) command: String,
    pub(crate) answer: Answer,
    pub(crate) time: Duration,
}

impl Nexus {
    /// Logs in.
    pub(crate) async fn open(
        label: String,
        spec: NexusSpec,
        fabric: Rc<dyn Fabric>,
        log: Rc<Log>,
    ) -> Result<Self, ClientError> {
        let peer = fabric.connect(&spec).await?;
        Ok(Self { label, spec, fabric, peer: RefCell::new(Some(peer)), log })
    }

    /// Logs in again as the same initiator port; the old session, if it is still there, is replaced.
    pub(crate) async fn reopen(&self) -> Outcome {
        self.peer.take();
        match self.fabric.connect(&self.spec).await {
            Ok(peer) => {
                self.peer.replace(Some(peer));
                Ok(())
            }
            Err(error) => failed(format!("cannot log in again: {error}")),
        }
    }

    /// Ends the session in good order.
    pub(crate) async fn log_out(&self) {
        let peer = self.peer.take();
        if let Some(peer) = peer {
            peer.log_out().await;
        }
    }

    /// Runs a command once, whatever the status.
    pub(crate) async fn raw(&self, request: Request) -> Outcome<Reply> {
        let peer = self.peer.borrow().clone();
        let Some(peer) = peer else { return failed("no session any more") };
        let begun = Instant::now();
        let result = timeout(COMMAND_LIMIT, peer.send(request.clone())).await;
        let time = begun.elapsed();
        let result = match result {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", COMMAND_LIMIT.as_secs())),
        };
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let shown = result.as_ref().map_err(String::clone);
        self.log.push(Exchange::new(&self.label, &request, shown, microseconds));
        match result {
            Ok(answer) => Ok(Reply { nexus: self.label.clone(), command: request.name, answer, time }),
            Err(error) => failed(format!("{}: {} was not answered: {error}", self.label, request.name)),
        }
    }

    /// Runs a command, again if the target is busy, whatever the status then.
    pub(crate) async fn patient(&self, request: Request) -> Outcome<Reply> {
        for _ in 0..BUSY_MAX {
            let reply = self.raw(request.clone()).await?;
            if !matches!(reply.answer.status, BUSY | TASK_SET_FULL) {
                return Ok(reply);
            }
            tokio::time::sleep(BUSY_WAIT).await;
        }
        failed(format!("{}: {} is answered BUSY again and again", self.label, request.name))
    }

    /// Runs a command past unit attentions, whatever the status then.
    pub(crate) async fn ask(&self, request: Request) -> Outcome<Reply> {
        for _ in 0..ATTENTIONS_MAX {
            let reply = self.patient(request.clone()).await?;
            if !reply.is_attention() {
                return Ok(reply);
            }
        }
        failed(format!("{}: unit attentions do not end", self.label))
    }

    /// Runs a command past unit attentions and wants GOOD.
    pub(crate) async fn good(&self, request: Request) -> Outcome<Bytes> {
        self.ask(request).await?.good()
    }

    /// Takes all unit attentions that are pending.
    pub(crate) async fn settle(&self) -> Outcome {
        self.ask(request::test_unit_ready()).await.map(drop)
    }

    /// The next unit attention, by TEST UNIT READY: code and qualifier.
    pub(crate) async fn attention(&self) -> Outcome<Option<(u8, u8)>> {
        let reply = self.raw(request::test_unit_ready()).await?;
        let sense = reply.sense().filter(|_| reply.is_attention());
        Ok(sense.map(|sense| (sense.code, sense.qualifier)))
    }
}

impl Reply {
    /// Decoded sense data.
    pub(crate) fn sense(&self) -> Option<SenseSummary> {
        SenseSummary::parse(&self.answer.sense)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.answer.status == GOOD
    }

    pub(crate) fn is_conflict(&self) -> bool {
        self.answer.status == CONFLICT
    }

    pub(crate) fn is_attention(&self) -> bool {
        self.has_sense(|sense| sense.key == SenseSummary::UNIT_ATTENTION)
    }

    fn has_sense(&self, holds: impl Fn(SenseSummary) -> bool) -> bool {
        self.answer.status == CHECK_CONDITION && self.sense().is_some_and(holds)
    }

    /// CHECK CONDITION with this key, code and qualifier.
    pub(crate) fn is_sense(&self, key: u8, code: u8, qualifier: u8) -> bool {
        self.has_sense(|sense| (sense.key, sense.code, sense.qualifier) == (key, code, qualifier))
    }

    /// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE: the array has no such command.
    pub(crate) fn is_unknown_command(&self) -> bool {
        self.is_sense(5, 0x20, 0x00)
    }

    /// The data if the status is GOOD. A command that the array has not got is not supported;
    /// anything else has failed.
    pub(crate) fn good(&self) -> Outcome<Bytes> {
        match self.answer.status {
            GOOD => Ok(self.answer.data.clone()),
            _ if self.is_unknown_command() => not_supported(self.text()),
            _ => failed(format!("{}; GOOD is expected", self.text())),
        }
    }

    /// As [`Reply::good`], where INVALID FIELD IN CDB says as well that there is no such thing.
    pub(crate) fn good_if_there(&self) -> Outcome<Bytes> {
        match self.is_sense(5, 0x24, 0x00) {
            true => not_supported(self.text()),
            false => self.good(),
        }
    }

    /// Wants RESERVATION CONFLICT.
    pub(crate) fn conflict(&self) -> Outcome {
        match self.is_conflict() {
            true => Ok(()),
            false => failed(format!("{}; RESERVATION CONFLICT is expected", self.text())),
        }
    }

    /// Wants ILLEGAL REQUEST with this code.
    pub(crate) fn illegal(&self, code: u8, qualifier: u8) -> Outcome {
        match self.is_sense(5, code, qualifier) {
            true => Ok(()),
            false => failed(format!(
                "{}; ILLEGAL REQUEST {code:02X}h/{qualifier:02X}h, {}, is expected",
                self.text(),
                names::sense(code, qualifier)
            )),
        }
    }

    /// What happened, in words.
    pub(crate) fn text(&self) -> String {
        let sense = sense_text(&self.answer.sense);
        let dash = if sense.is_empty() { "" } else { ": " };
        let status = names::status(self.answer.status);
        format!("{} through {} ended with {status}{dash}{sense}", self.command, self.nexus)
    }
}

/// A step's failure told with what it was about.
pub(crate) fn about<T>(what: &str, result: Outcome<T>) -> Outcome<T> {
    result.map_err(|stop| match stop {
        Stop::Failed(message) => Stop::Failed(format!("{what}: {message}")),
        other => other,
    })
}
