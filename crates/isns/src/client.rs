//! One server's side of the client: when to connect, what to send next, what is known to be registered.

use crate::attribute::{Attributes, tag};
use crate::goal::{self, PORTALS_MAX, Registration};
use crate::inquiry;
use crate::pdu::{Frame, Function, Malformed, flags, frame, u32_at};
use crate::status::Status;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connection may take to be made, and an answer to come.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long to wait after a failure: doubled each time up to the maximum.
const RETRY_TIME_MIN: Duration = Duration::from_secs(1);
const RETRY_TIME_MAX: Duration = Duration::from_secs(30);

/// Within which limits registrations are renewed, whatever period a server grants. It is a third of that period, so that
/// two renewals may be lost.
const RENEWAL_TIME_MIN: Duration = Duration::from_secs(2);
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(300);
const RENEWALS_A_PERIOD: u32 = 3;

/// Most answers to a server's own requests that wait to be sent.
const ANSWERS_MAX: usize = 16;

/// Most targets that one message deregisters: it stays far below a PDU's length.
const DEREGISTERED_MAX: usize = 64;

/// Who registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Entity Identifier: unique, the same for life (RFC 4171 §6.2.1), at most 255 bytes.
    pub entity: String,
    /// Registration Period that is asked for, in seconds (§6.2.6).
    pub period_s: u32,
    /// UDP port for the server's inquiries whether a portal is still there (§6.3.5); none for no inquiries.
    pub inquiry_port: Option<u16>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to the server; then [`Client::connected`] or [`Client::lost`].
    Connect,
    /// Send this.
    Send(Vec<u8>),
    /// Close the connection, or give up making one.
    Close,
    /// Nothing until that time, or until something comes.
    Wait(Duration),
    /// Nothing ever again: [`Client::end`] has been done.
    Done,
}

/// How things stand with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No answer yet.
    Connecting,
    /// It knows all that it is to know.
    Registered,
    /// It cannot be reached, or does not answer.
    Unreachable,
    /// It refuses what it is to know.
    Refused,
}

/// How things stand with the server, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Duration,
    /// How many targets the server knows.
    pub targets: usize,
    /// What went wrong last; none while registered.
    pub error: Option<String>,
}

enum Link {
    Down { until: Duration },
    Connecting { until: Duration },
    Up,
}

/// A target that the server knows.
struct Known {
    alias: String,
    /// It is so since the last renewal.
    fresh: bool,
}

enum Request {
    Register(Registration),
    Deregister(Registration),
}

struct InFlight {
    function: Function,
    transaction: u16,
    request: Request,
    until: Duration,
    /// Of the first PDU of the response.
    status: Option<Status>,
    period_s: Option<u32>,
}

/// The client of one server.
///
/// Ask [`Client::poll`] after each event and whenever the time it named has come, until it says to wait.
pub struct Client {
    config: Config,
    goal: Registration,
    ending: bool,
    /// Connections that may still be tried while ending.
    last_try: bool,
    link: Link,
    /// The connection is to be closed.
    closing: bool,
    failures: u32,
    transaction: u16,
    in_flight: Option<InFlight>,
    answers: VecDeque<Vec<u8>>,
    received: Vec<u8>,
    targets: BTreeMap<String, Known>,
    portals: BTreeMap<SocketAddr, u16>,
    /// What the server knows is to be replaced by what it is told.
    replace: bool,
    renew_at: Duration,
    renewal: Duration,
    progress: Progress,
}

impl Client {
    /// A client that registers nothing yet. It connects at once.
    #[must_use]
    pub fn new(config: Config, now: Duration) -> Self {
        let renewal = renewal(config.period_s);
        Self {
            config,
            goal: Registration::default(),
            ending: false,
            last_try: true,
            link: Link::Down { until: now },
            closing: false,
            failures: 0,
            transaction: 0,
            in_flight: None,
            answers: VecDeque::new(),
            received: Vec::new(),
            targets: BTreeMap::new(),
            portals: BTreeMap::new(),
            replace: true,
            renew_at: now + renewal,
            renewal,
            progress: Progress { state: State::Connecting, since: now, targets: 0, error: None },
        }
    }

    /// From now on the server is to know this.
    pub fn set_goal(&mut self, mut goal: Registration) {
        while goal.portals.len() > PORTALS_MAX {
            goal.portals.pop_last();
        }
        if !self.ending {
            self.goal = goal;
        }
    }

    /// The server is to know nothing; then it is over. A server that is not reached is tried once.
    pub fn end(&mut self, now: Duration) {
        self.ending = true;
        self.goal = Registration::default();
        if let Link::Down { until } = &mut self.link {
            *until = now;
        }
    }

    /// How things stand.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The connection is made. What is registered on it starts anew.
    pub fn connected(&mut self, now: Duration) {
        self.link = Link::Up;
        self.replace = true;
        self.renew_at = now + self.renewal;
    }

    /// The connection could not be made, or is lost.
    pub fn lost(&mut self, now: Duration, why: &str) {
        self.fail(now, State::Unreachable, why.to_owned());
        self.closing = false;
    }

    /// Bytes came.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) {
        let mut received = std::mem::take(&mut self.received);
        received.extend_from_slice(bytes);
        let mut rest = received.as_slice();
        while matches!(self.link, Link::Up) {
            let used = match frame(rest) {
                Ok(Some(frame)) => {
                    let used = frame.len();
                    self.handle(now, &frame).map(|()| used)
                }
                Ok(None) => break,
                Err(malformed) => Err(malformed),
            };
            match used {
                Ok(used) => rest = rest.get(used..).unwrap_or_default(),
                Err(malformed) => {
                    self.fail(now, State::Unreachable, format!("it sent {malformed}"));
                    self.closing = true;
                }
            }
        }
        // Of a connection that is going nothing is kept.
        if matches!(self.link, Link::Up) {
            self.received = rest.to_vec();
        }
    }

    /// What to do next.
    pub fn poll(&mut self, now: Duration) -> Action {
        if std::mem::take(&mut self.closing) {
            return Action::Close;
        }
        match self.link {
            Link::Down { .. } if self.is_over() => Action::Done,
            Link::Down { until } if now < until => Action::Wait(until),
            Link::Down { .. } => {
                self.last_try &= !self.ending;
                self.link = Link::Connecting { until: now + CONNECT_TIME_MAX };
                Action::Connect
            }
            Link::Connecting { until } if now < until => Action::Wait(until),
            Link::Connecting { .. } => self.give_up(now, "no connection within 10 s"),
            Link::Up => self.poll_connected(now),
        }
    }

    /// While ending: the server knows nothing, or cannot be told.
    fn is_over(&self) -> bool {
        self.ending && (self.targets.is_empty() || !self.last_try)
    }

    fn poll_connected(&mut self, now: Duration) -> Action {
        if let Some(answer) = self.answers.pop_front() {
            return Action::Send(answer);
        }
        match &self.in_flight {
            Some(in_flight) if now < in_flight.until => return Action::Wait(in_flight.until),
            Some(_) => return self.give_up(now, "it did not answer within 10 s"),
            None => {}
        }
        if now >= self.renew_at {
            self.targets.values_mut().for_each(|known| known.fresh = false);
            self.renew_at = now + self.renewal;
        }
        match self.next_request() {
            Some(request) => self.send(now, request),
            None if self.ending => {
                self.link = Link::Down { until: now };
                self.last_try = false;
                Action::Close
            }
            None => {
                self.settle(now, State::Registered, None);
                Action::Wait(self.renew_at)
            }
        }
    }

    fn give_up(&mut self, now: Duration, why: &str) -> Action {
        self.fail(now, State::Unreachable, why.to_owned());
        Action::Close
    }

    /// The next step from what the server knows to what it is to know. What is new comes before what goes, as a server
    /// forgets an entity that has no node left.
    fn next_request(&self) -> Option<Request> {
        if self.goal.is_nothing() {
            let known = !self.targets.is_empty();
            return known.then(|| Request::Deregister(Registration::default()));
        }
        let all = self.replace || self.portals_differ();
        let missing = |(name, alias): &(&String, &String)| {
            let known = self.targets.get(*name);
            all || !known.is_some_and(|known| known.fresh && known.alias == **alias)
        };
        let portals = self.goal.portals.clone();
        let targets = goal::batch(self.goal.targets.iter().filter(missing), portals.len());
        if !targets.is_empty() {
            return Some(Request::Register(Registration { portals, targets }));
        }
        let gone = self.targets.iter().filter(|(name, _)| !self.goal.targets.contains_key(*name));
        let gone = gone.take(DEREGISTERED_MAX).map(|(name, known)| (name.clone(), known.alias.clone()));
        let targets: BTreeMap<_, _> = gone.collect();
        let portals = self.portals.iter().filter(|(portal, _)| !self.goal.portals.contains_key(*portal));
        let portals: BTreeMap<_, _> = portals.map(|(portal, group)| (*portal, *group)).collect();
        let gone = Registration { portals, targets };
        (!gone.portals.is_empty() || !gone.targets.is_empty()).then_some(Request::Deregister(gone))
    }

    /// A portal is new or in another group: every target has something to say of it.
    fn portals_differ(&self) -> bool {
        self.goal.portals.iter().any(|(portal, group)| self.portals.get(portal) != Some(group))
    }

    fn send(&mut self, now: Duration, request: Request) -> Action {
        self.transaction = self.transaction.wrapping_add(1);
        // The source is a node of the entity: one the server knows, or one that it gets to know (§5.6.1).
        let stays = |name: &&String| self.goal.targets.contains_key(*name);
        let known = self.targets.keys().find(stays).or_else(|| self.targets.keys().next());
        let known = known.filter(|_| !self.replace || matches!(request, Request::Deregister(_)));
        let message = match &request {
            Request::Register(what) => {
                let source = known.or_else(|| what.targets.keys().next()).map_or("", String::as_str);
                goal::register(&self.config, source, what, self.replace, self.transaction)
            }
            Request::Deregister(what) => {
                goal::deregister(&self.config, known.map_or("", String::as_str), what, self.transaction)
            }
        };
        let function = match request {
            Request::Register(_) => Function::REGISTER,
            Request::Deregister(_) => Function::DEREGISTER,
        };
        let Some(bytes) = message.finish() else {
            return self.give_up(now, "what is to be registered makes a message that is too long");
        };
        let (transaction, until) = (self.transaction, now + ANSWER_TIME_MAX);
        self.in_flight =
            Some(InFlight { function, transaction, request, until, status: None, period_s: None });
        Action::Send(bytes)
    }

    fn handle(&mut self, now: Duration, frame: &Frame<'_>) -> Result<(), Malformed> {
        if let Some(answer) = inquiry::answer(frame) {
            self.answers.push_back(answer);
            if self.answers.len() > ANSWERS_MAX {
                self.fail(now, State::Unreachable, "it asks more than can be answered".to_owned());
                self.closing = true;
            }
            return Ok(());
        }
        let ours = |it: &&mut InFlight| {
            it.transaction == frame.transaction && it.function.response() == frame.function
        };
        // What comes too late, or was never asked for, says nothing.
        let Some(in_flight) = self.in_flight.as_mut().filter(ours) else { return Ok(()) };
        if in_flight.status.is_none() {
            in_flight.status = Some(Status(u32_at(frame.payload, 0).ok_or(Malformed::Status)?));
            let attributes = Attributes::new(frame.payload.get(4..).unwrap_or_default());
            let mut period = attributes.flatten().filter(|one| one.tag == tag::REGISTRATION_PERIOD);
            in_flight.period_s = period.next().and_then(|attribute| attribute.number());
        }
        if frame.flags & flags::LAST != 0 {
            self.answered(now);
        }
        Ok(())
    }

    fn answered(&mut self, now: Duration) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match in_flight.status {
            Some(Status::SUCCESSFUL) => {}
            status => {
                let what = match in_flight.request {
                    Request::Register(_) => "registration",
                    Request::Deregister(_) => "deregistration",
                };
                let status = status.unwrap_or(Status(1));
                self.fail(now, State::Refused, format!("it refuses the {what}: {status}"));
                self.closing = true;
                return;
            }
        }
        self.failures = 0;
        if let Some(period_s) = in_flight.period_s {
            self.renewal = renewal(period_s);
        }
        self.renew_at = self.renew_at.min(now + self.renewal);
        match in_flight.request {
            Request::Register(what) => self.is_registered(what),
            Request::Deregister(what) => self.is_deregistered(&what),
        }
        self.progress.targets = self.targets.len();
    }

    fn is_registered(&mut self, what: Registration) {
        if std::mem::take(&mut self.replace) {
            self.targets.clear();
            self.portals.clear();
        }
        if self.portals_in(&what) {
            // The other targets have not been told of these portals.
            self.targets.values_mut().for_each(|known| known.fresh = false);
        }
        self.portals.extend(what.portals);
        let known = |(name, alias)| (name, Known { alias, fresh: true });
        self.targets.extend(what.targets.into_iter().map(known));
    }

    fn portals_in(&self, what: &Registration) -> bool {
        what.portals.iter().any(|(portal, group)| self.portals.get(portal) != Some(group))
    }

    fn is_deregistered(&mut self, what: &Registration) {
        if what.targets.is_empty() && what.portals.is_empty() {
            self.targets.clear();
            self.portals.clear();
            self.replace = true;
        }
        self.targets.retain(|name, _| !what.targets.contains_key(name));
        self.portals.retain(|portal, _| !what.portals.contains_key(portal));
    }

    /// The connection is no good any more.
    fn fail(&mut self, now: Duration, state: State, why: String) {
        let wait = RETRY_TIME_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_TIME_MAX);
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Down { until: now + wait };
        self.in_flight = None;
        self.answers.clear();
        self.received.clear();
        self.settle(now, state, Some(why));
    }

    fn settle(&mut self, now: Duration, state: State, error: Option<String>) {
        if self.progress.state != state {
            self.progress.since = now;
        }
        self.progress = Progress { state, error, ..self.progress };
    }
}

/// How long after one message the next is to keep the registration alive; a period of 0 never ends (§6.2.6).
fn renewal(period_s: u32) -> Duration {
    match period_s {
        0 => RENEWAL_TIME_MAX,
        seconds => {
            let third = Duration::from_secs(u64::from(seconds)) / RENEWALS_A_PERIOD;
            third.clamp(RENEWAL_TIME_MIN, RENEWAL_TIME_MAX)
        }
    }
}
