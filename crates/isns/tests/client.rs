//! The client against a server made up here, in virtual time.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use isns::{
    Action, Attributes, Client, Config, Frame, Function, HEADER_BYTES, Message, Registration, State, flags,
    frame, tag,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PERIOD_S: u32 = 90;

/// A server: what it knows, and how it behaves.
#[derive(Default)]
struct Server {
    entity: Option<String>,
    nodes: BTreeMap<String, String>,
    portals: BTreeSet<u32>,
    /// Node, port and tag.
    groups: BTreeSet<(String, u32, u32)>,
    requests: Vec<(Function, bool)>,
    largest: usize,
    silent: bool,
    refuses: Option<u32>,
    period_s: Option<u32>,
}

impl Server {
    fn take(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let frame = frame(request).unwrap().unwrap();
        if frame.function.is_response() {
            return None;
        }
        let replace = frame.flags & flags::REPLACE != 0;
        self.requests.push((frame.function, replace));
        self.largest = self.largest.max(request.len());
        if self.silent {
            return None;
        }
        let status = self.refuses.unwrap_or(0);
        if status == 0 {
            self.learn(&frame, replace);
        }
        let mut answer =
            Message::new(frame.function.response(), 0, frame.transaction).raw(&status.to_be_bytes());
        if let Some(period_s) = self.period_s {
            answer = answer.number(tag::REGISTRATION_PERIOD, period_s);
        }
        answer.finish()
    }

    fn learn(&mut self, frame: &Frame<'_>, replace: bool) {
        let all: Vec<_> = Attributes::new(frame.payload).map(Result::unwrap).collect();
        assert_eq!(all[0].tag, tag::NODE_NAME, "5.6.1: the source comes first");
        let source = all[0].text().unwrap();
        let delimiter = all.iter().position(|one| one.tag == tag::DELIMITER).unwrap();
        let operating = &all[delimiter + 1..];
        let texts = |tag| {
            operating.iter().filter(move |one| one.tag == tag).map(|one| one.text().unwrap().to_owned())
        };
        let numbers =
            |tag| operating.iter().filter(move |one| one.tag == tag).map(|one| one.number().unwrap());
        if frame.function == Function::DEREGISTER {
            assert!(self.nodes.contains_key(source), "5.6.5.4: the source is a node of the entity");
            if texts(tag::ENTITY).next().is_some() {
                *self = Self { requests: std::mem::take(&mut self.requests), ..Self::default() };
            }
            texts(tag::NODE_NAME).for_each(|name| drop(self.nodes.remove(&name)));
            numbers(tag::PORTAL_PORT).for_each(|port| {
                self.portals.remove(&port);
            });
            self.groups
                .retain(|(node, port, _)| self.nodes.contains_key(node) && self.portals.contains(port));
            return;
        }
        if replace {
            self.nodes.clear();
            self.portals.clear();
            self.groups.clear();
        }
        self.entity = texts(tag::ENTITY).next();
        let aliases: Vec<_> = texts(tag::NODE_ALIAS).collect();
        self.nodes.extend(texts(tag::NODE_NAME).zip(aliases));
        assert!(self.nodes.contains_key(source), "5.6.1: the source is a node of the entity");
        self.portals.extend(numbers(tag::PORTAL_PORT));
        let ports = numbers(tag::GROUP_PORT).zip(numbers(tag::GROUP_TAG));
        self.groups.extend(texts(tag::GROUP_NODE).zip(ports).map(|(node, (port, tag))| (node, port, tag)));
    }
}

struct Pair {
    client: Client,
    server: Server,
    now: Duration,
    connected: bool,
    reachable: bool,
    connects: Vec<Duration>,
    done: bool,
}

impl Pair {
    fn new() -> Self {
        let config = Config { entity: "palisade-1".to_owned(), period_s: PERIOD_S, inquiry_port: Some(9) };
        Self {
            client: Client::new(config, Duration::ZERO),
            server: Server::default(),
            now: Duration::ZERO,
            connected: false,
            reachable: true,
            connects: Vec::new(),
            done: false,
        }
    }

    /// Drives both until `seconds` later.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..100_000 {
            match self.client.poll(self.now) {
                Action::Connect => {
                    self.connects.push(self.now);
                    self.connected = self.reachable;
                    match self.reachable {
                        true => self.client.connected(self.now),
                        false => self.client.lost(self.now, "connection refused"),
                    }
                }
                Action::Send(bytes) => {
                    assert!(self.connected);
                    if let Some(answer) = self.server.take(&bytes) {
                        // In two pieces, as networks do.
                        let (one, other) = answer.split_at(5);
                        self.client.receive(self.now, one);
                        self.client.receive(self.now, other);
                    }
                }
                Action::Close => self.connected = false,
                Action::Wait(until) if until > end => break,
                Action::Wait(until) => self.now = self.now.max(until),
                Action::Done => {
                    self.done = true;
                    break;
                }
            }
        }
        self.now = end;
    }

    fn cut(&mut self) {
        self.connected = false;
        self.client.lost(self.now, "the connection was reset");
    }

    fn requests(&mut self) -> Vec<(Function, bool)> {
        std::mem::take(&mut self.server.requests)
    }

    fn in_step(&self, goal: &Registration) {
        assert_eq!(self.server.nodes, goal.targets);
        let portals: BTreeSet<_> = goal.portals.keys().map(|portal| u32::from(portal.port())).collect();
        assert_eq!(self.server.portals, portals);
        let pairs = goal.targets.keys().flat_map(|name| {
            goal.portals.iter().map(|(portal, group)| (name.clone(), portal.port().into(), (*group).into()))
        });
        assert_eq!(self.server.groups, pairs.collect());
        let progress = self.client.progress();
        assert_eq!((progress.state, progress.targets), (State::Registered, goal.targets.len()));
    }
}

fn goal(targets: &[&str], portals: &[(u16, u16)]) -> Registration {
    let target = |name: &&str| (format!("iqn.2024-01.lab:{name}"), (*name).to_owned());
    let portal = |(port, tag): &(u16, u16)| (([192, 0, 2, 1], *port).into(), *tag);
    Registration {
        portals: portals.iter().map(portal).collect(),
        targets: targets.iter().map(target).collect(),
    }
}

/// A pair that has registered `goal`.
fn registered(goal: &Registration) -> Pair {
    let mut pair = Pair::new();
    pair.client.set_goal(goal.clone());
    pair.run(1);
    pair.in_step(goal);
    pair
}

const REGISTER: (Function, bool) = (Function::REGISTER, false);
const REPLACE: (Function, bool) = (Function::REGISTER, true);
const DEREGISTER: (Function, bool) = (Function::DEREGISTER, false);

#[test]
fn clause_5_6_5_1_what_a_server_knew_before_is_replaced_at_first() {
    let mut pair = Pair::new();
    pair.server.nodes.insert("iqn.2024-01.lab:deleted-while-away".to_owned(), "x".to_owned());
    let goal = goal(&["a", "b"], &[(3260, 1), (3261, 2)]);
    pair.client.set_goal(goal.clone());
    pair.run(1);
    pair.in_step(&goal);
    assert_eq!(pair.server.entity.as_deref(), Some("palisade-1"));
    assert_eq!(pair.requests(), [REPLACE]);
}

#[test]
fn targets_and_portals_that_come_and_go_are_followed() {
    let mut pair = registered(&goal(&["a", "b"], &[(3260, 1)]));
    pair.requests();
    for (targets, portals, requests) in [
        (&["a", "b", "c"][..], &[(3260, 1)][..], &[REGISTER][..]),
        (&["b", "c"], &[(3260, 1)], &[DEREGISTER]),
        (&["b", "c"], &[(3260, 1), (3261, 2)], &[REGISTER]),
        (&["b", "c"], &[(3261, 2)], &[DEREGISTER]),
        (&["d"], &[(3261, 2)], &[REGISTER, DEREGISTER]),
        (&["d"], &[(3261, 2)], &[]),
        (&[], &[(3261, 2)], &[DEREGISTER]),
        (&["e"], &[(3261, 2)], &[REPLACE]),
        (&["e"], &[], &[DEREGISTER]),
    ] {
        let goal = goal(targets, portals);
        pair.client.set_goal(goal.clone());
        pair.run(1);
        assert_eq!(pair.requests(), requests, "{goal:?}");
        if !targets.is_empty() && !portals.is_empty() {
            pair.in_step(&goal);
        } else {
            assert!(pair.server.nodes.is_empty() && pair.server.entity.is_none());
        }
    }
}

#[test]
fn a_renamed_target_and_a_portal_in_another_group_are_registered_anew() {
    let mut pair = registered(&goal(&["a", "b"], &[(3260, 1)]));
    let mut renamed = goal(&["a", "b"], &[(3260, 1)]);
    renamed.targets.insert("iqn.2024-01.lab:a".to_owned(), "another".to_owned());
    pair.client.set_goal(renamed.clone());
    pair.run(1);
    pair.in_step(&renamed);
    pair.server.groups.clear(); // The model keeps old tags; a server has one a pair.
    pair.client.set_goal(goal(&["a", "b"], &[(3260, 7)]));
    pair.run(1);
    pair.in_step(&goal(&["a", "b"], &[(3260, 7)]));
}

#[test]
fn clause_6_2_6_a_registration_is_renewed_well_before_its_period_ends() {
    let mut pair = registered(&goal(&["a"], &[(3260, 1)]));
    pair.requests();
    pair.run(u64::from(PERIOD_S));
    assert_eq!(pair.requests(), [REGISTER; 3]);
    // The server grants less than was asked for.
    pair.server.period_s = Some(30);
    pair.run(40);
    pair.requests();
    pair.run(60);
    assert_eq!(pair.requests().len(), 6);
    // Or a period so short that it would be all that is done: bounded.
    pair.server.period_s = Some(1);
    pair.run(20);
    pair.requests();
    pair.run(20);
    assert_eq!(pair.requests().len(), 10);
    // Or one that never ends.
    pair.server.period_s = Some(0);
    pair.run(20);
    pair.requests();
    pair.run(600);
    assert_eq!(pair.requests().len(), 2);
}

#[test]
fn a_renewal_heals_what_the_server_forgot() {
    let goal = goal(&["a", "b"], &[(3260, 1)]);
    let mut pair = registered(&goal);
    pair.server = Server::default();
    pair.run(u64::from(PERIOD_S / 3 + 1));
    pair.in_step(&goal);
}

#[test]
fn a_server_that_restarts_empty_is_told_all_again() {
    let goal = goal(&["a", "b"], &[(3260, 1)]);
    let mut pair = registered(&goal);
    pair.server = Server::default();
    pair.cut();
    assert_eq!(pair.client.progress().state, State::Unreachable);
    assert_eq!(pair.client.progress().error.as_deref(), Some("the connection was reset"));
    pair.run(2);
    pair.in_step(&goal);
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_less_and_less_often() {
    let mut pair = Pair::new();
    pair.reachable = false;
    pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
    pair.run(120);
    let seconds: Vec<_> = pair.connects.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 61, 91]);
    assert_eq!(
        (pair.client.progress().state, pair.client.progress().since),
        (State::Unreachable, Duration::ZERO)
    );
    pair.reachable = true;
    pair.run(30);
    pair.in_step(&goal(&["a"], &[(3260, 1)]));
    // After a success it is tried at once again.
    pair.cut();
    pair.run(2);
    pair.in_step(&goal(&["a"], &[(3260, 1)]));
}

#[test]
fn a_server_that_does_not_answer_is_left_and_tried_again() {
    let mut pair = Pair::new();
    pair.server.silent = true;
    pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
    pair.run(10);
    assert_eq!(pair.client.progress().state, State::Unreachable);
    assert!(pair.client.progress().error.as_ref().unwrap().contains("did not answer"));
    assert!(!pair.connected);
    pair.server.silent = false;
    pair.run(5);
    pair.in_step(&goal(&["a"], &[(3260, 1)]));
}

#[test]
fn clause_5_4_a_refusal_is_told_and_tried_again() {
    let mut pair = Pair::new();
    pair.server.refuses = Some(8);
    pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
    pair.run(10);
    let progress = pair.client.progress().clone();
    assert_eq!((progress.state, progress.since, progress.targets), (State::Refused, Duration::ZERO, 0));
    assert_eq!(progress.error.unwrap(), "it refuses the registration: source unauthorized (8)");
    assert!(pair.requests().len() <= 5, "not at once again");
    pair.server.refuses = None;
    pair.run(30);
    pair.in_step(&goal(&["a"], &[(3260, 1)]));
}

#[test]
fn ten_thousand_targets_go_in_messages_of_a_bounded_size() {
    let names: Vec<String> = (0..10_000).map(|number| format!("volume-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let portals: Vec<(u16, u16)> = (0..80).map(|number| (1000 + number, 1)).collect();
    let mut pair = registered(&goal(&names, &portals[..4]));
    assert!(pair.server.largest < 20 << 10, "{}", pair.server.largest);
    pair.client.set_goal(goal(&names[..5000], &portals[..4]));
    pair.run(1);
    pair.in_step(&goal(&names[..5000], &portals[..4]));
    // Portals are bounded, and the longest names with the most portals still fit.
    let long = "x".repeat(200);
    let mut pair = Pair::new();
    pair.client.set_goal(goal(&[&long, "b"], &portals));
    pair.run(1);
    pair.in_step(&goal(&[&long, "b"], &portals[..isns::PORTALS_MAX]));
    assert!(pair.server.largest < 32 << 10, "{}", pair.server.largest);
}

#[test]
fn at_the_end_everything_is_deregistered() {
    let mut pair = registered(&goal(&["a", "b"], &[(3260, 1)]));
    pair.requests();
    pair.client.end(pair.now);
    pair.client.set_goal(goal(&["late"], &[(3260, 1)]));
    pair.run(1);
    assert!(pair.done && !pair.connected && pair.server.nodes.is_empty());
    assert_eq!(pair.requests(), [DEREGISTER]);
}

#[test]
fn the_end_does_not_wait_for_a_server_that_is_away_and_tries_it_once() {
    let mut pair = Pair::new();
    pair.reachable = false;
    pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
    pair.run(20);
    pair.connects.clear();
    pair.client.end(pair.now);
    pair.run(1);
    assert!(pair.done && pair.connects.is_empty(), "it was never told anything");

    let mut pair = registered(&goal(&["a"], &[(3260, 1)]));
    pair.reachable = false;
    pair.cut();
    pair.connects.clear();
    pair.client.end(pair.now);
    pair.run(20);
    assert!(pair.done);
    assert_eq!(pair.connects.len(), 1);

    let mut pair = registered(&goal(&["a"], &[(3260, 1)]));
    pair.cut();
    pair.client.end(pair.now);
    pair.run(20);
    assert!(pair.done && pair.server.nodes.is_empty(), "it came back in time");
}

#[test]
fn clause_5_6_5_13_inquiries_on_the_connection_are_answered_before_anything_else() {
    let mut pair = registered(&goal(&["a"], &[(3260, 1)]));
    let inquiry = Message::new(Function::INQUIRY, 0, 77).text(tag::ENTITY, "palisade-1").finish().unwrap();
    pair.client.set_goal(goal(&["a", "b"], &[(3260, 1)]));
    pair.client.receive(pair.now, &inquiry);
    let Action::Send(bytes) = pair.client.poll(pair.now) else { panic!("nothing is sent") };
    let read = frame(&bytes).unwrap().unwrap();
    assert_eq!((read.function, read.transaction), (Function::INQUIRY.response(), 77));
    assert_eq!(read.payload[4..], inquiry[HEADER_BYTES..]);
    // More of them than can be sent are an attack.
    pair.client.receive(pair.now, &inquiry.repeat(17));
    assert_eq!(pair.client.poll(pair.now), Action::Close);
}

#[test]
fn answers_to_other_requests_and_answers_of_several_pdus() {
    let mut pair = Pair::new();
    pair.server.silent = true;
    pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
    pair.run(0);
    let answer = |function: Function, transaction, status: u32, last: bool| {
        let message = Message::new(function, 0, transaction).raw(&status.to_be_bytes());
        let mut bytes = message.number(tag::REGISTRATION_PERIOD, 60).finish().unwrap();
        bytes[6] = if last { 0x48 } else { 0x44 };
        bytes
    };
    let mut send = |bytes: Vec<u8>| {
        pair.client.receive(pair.now, &bytes);
        pair.client.poll(pair.now);
        pair.client.progress().state
    };
    assert_eq!(send(answer(Function::DEREGISTER.response(), 1, 0, true)), State::Connecting);
    assert_eq!(send(answer(Function::REGISTER.response(), 9, 8, true)), State::Connecting);
    assert_eq!(send(answer(Function::REGISTER.response(), 1, 0, false)), State::Connecting);
    assert_eq!(
        send(answer(Function::REGISTER.response(), 1, 8, true)),
        State::Registered,
        "the first PDU has the status"
    );
}

#[test]
fn a_server_that_talks_nonsense_is_left() {
    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[0, 1, 0x80, 1, 0, 0, 0x4C, 0, 0, 1, 0, 0]] {
        let mut pair = Pair::new();
        pair.server.silent = true;
        pair.client.set_goal(goal(&["a"], &[(3260, 1)]));
        pair.run(0);
        pair.client.receive(pair.now, nonsense);
        assert_eq!(pair.client.poll(pair.now), Action::Close);
        assert!(pair.client.progress().error.as_ref().unwrap().starts_with("it sent "));
        assert!(matches!(pair.client.poll(pair.now), Action::Wait(_)));
    }
}

#[test]
fn mutated_answers_neither_panic_nor_stop_the_client() {
    let goal = goal(&["a"], &[(3260, 1)]);
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    for _ in 0..1000 {
        let mut pair = Pair::new();
        pair.server.silent = true;
        pair.client.set_goal(goal.clone());
        pair.run(0);
        let mut bytes =
            Message::new(Function::REGISTER.response(), 0, 1).raw(&[0; 4]).number(6, 60).finish().unwrap();
        for _ in 0..3 {
            let [place, value, ..] = next();
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        pair.client.receive(pair.now, &bytes);
        pair.server.silent = false;
        pair.run(400);
        pair.in_step(&goal);
    }
}
