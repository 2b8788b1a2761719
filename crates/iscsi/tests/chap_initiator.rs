//! CHAP as an initiator: against our target, and against a hand-made one that breaks the rules (RFC 7143 §12.1.3).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::HeapPool;
use iscsi::chap::{Account, Answers, Credential, Demand, Failure, NONCE_BYTES, Nonce, Secret};
use iscsi::initiator::{CloseReason, Config, Connection, Event};
use iscsi::pair::{Pair, SimpleSizer};
use iscsi::pdu::{self, BasicHeader, Header, LoginStatus};
use std::collections::VecDeque;
use std::time::Duration;

const SECRET: &str = "twelve bytes at least";
const OWN_SECRET: &str = "another secret, of the target";

fn credential(name: &str, secret: &str) -> Credential {
    Credential { name: name.to_owned(), secret: Secret::new(secret) }
}

fn demand(target: Option<Credential>) -> Demand {
    let account = Account { initiator: credential("host", SECRET), target };
    Demand { accounts: vec![account], optional: false, nonce: Nonce::new([1; NONCE_BYTES]) }
}

fn answers(secret: &str, target: Option<Credential>) -> Answers {
    Answers { own: credential("host", secret), target, nonce: Nonce::new([2; NONCE_BYTES]) }
}

fn config(chap: Option<Answers>) -> Config {
    Config { chap, ..Config::normal(INITIATOR, TARGET) }
}

/// Logs in; the reason if it comes to an end.
fn log_in(demand: Option<Demand>, config: Config) -> Result<(), CloseReason> {
    let mut pair = Pair::new(iscsi::target::Config::default(), config, SimpleSizer);
    pair.demand = demand;
    pair.run();
    pair.initiator_events
        .into_iter()
        .find_map(|event| match event {
            Event::LoggedIn(_) => Some(Ok(())),
            Event::Closed(reason) => Some(Err(reason)),
            _ => None,
        })
        .unwrap()
}

fn refused() -> Result<(), CloseReason> {
    Err(CloseReason::LoginRefused { status: LoginStatus::AuthenticationFailure, address: None })
}

#[test]
fn one_way_and_mutual_with_our_own_target() {
    let own = || Some(credential("san", OWN_SECRET));
    for discovery in [false, true] {
        let config =
            |chap| Config { target_name: (!discovery).then(|| TARGET.to_owned()), ..config(Some(chap)) };
        assert_eq!(log_in(Some(demand(None)), config(answers(SECRET, None))), Ok(()));
        assert_eq!(log_in(Some(demand(own())), config(answers(SECRET, None))), Ok(()));
        assert_eq!(log_in(Some(demand(own())), config(answers(SECRET, own()))), Ok(()));
        assert_eq!(log_in(Some(demand(own())), config(answers("wrong", own()))), refused());
        assert_eq!(log_in(Some(demand(None)), config(answers(SECRET, own()))), refused());
    }
}

#[test]
fn without_a_secret_there_is_no_way_into_a_target_that_wants_one() {
    assert_eq!(log_in(Some(demand(None)), config(None)), refused());
    let skips = Config { security_stage: false, ..config(None) };
    assert_eq!(log_in(Some(demand(None)), skips), refused());
}

#[test]
fn s12_1_none_is_fine_for_who_wants_no_proof_of_the_target_only() {
    assert_eq!(log_in(None, config(Some(answers(SECRET, None)))), Ok(()));
    assert_eq!(log_in(None, config(Some(answers(SECRET, Some(credential("san", OWN_SECRET)))))), refused());
}

#[test]
fn mutual_a_target_that_knows_another_secret_or_has_another_name_is_left() {
    for (name, secret) in [("san", "something else entirely"), ("nas", OWN_SECRET)] {
        let login = log_in(Some(demand(Some(credential("san", OWN_SECRET)))), {
            config(Some(answers(SECRET, Some(credential(name, secret)))))
        });
        assert_eq!(login, Err(CloseReason::Authentication(Failure::WrongResponse)));
    }
}

/// §9.2.1: nothing is answered with a secret that is good for both directions.
#[test]
fn mutual_the_same_secret_both_ways_is_refused_before_anything_is_answered() {
    let same = answers(SECRET, Some(credential("san", SECRET)));
    let login = log_in(Some(demand(Some(credential("san", OWN_SECRET)))), config(Some(same)));
    assert_eq!(login, Err(CloseReason::Authentication(Failure::SameSecret)));
}

/// A target made by hand: each answer follows from the request before.
struct HandMade {
    host: Connection<HeapPool>,
    stat_sn: u32,
}

impl HandMade {
    fn new(config: Config) -> Self {
        Self { host: Connection::new(config, HeapPool, Duration::ZERO), stat_sn: 1 }
    }

    /// The keys of the next request, and whether it asks for the next stage.
    fn request(&mut self) -> (Vec<String>, bool) {
        let mut out = VecDeque::new();
        self.host.poll_transmit(&mut out, 1 << 20);
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        let pdu = decode(&bytes).remove(0);
        let transit = BasicHeader::of(&pdu.bhs).flags & 0x80 != 0;
        let text = String::from_utf8(pdu.data).unwrap();
        (text.split_terminator('\0').map(str::to_owned).collect(), transit)
    }

    fn answer(&mut self, flags: u8, keys: &[&str]) {
        let header =
            pdu::LoginResponse { flags, stat_sn: self.stat_sn.into(), ..pdu::LoginResponse::blank() };
        self.stat_sn += 1;
        let mut bytes = &encode(header.bytes(), &[], &text(keys))[..];
        while !bytes.is_empty() {
            let space = self.host.recv_space();
            if space.is_empty() {
                return;
            }
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.host.received(count, Duration::ZERO);
        }
    }

    fn closed(&mut self) -> Option<CloseReason> {
        std::iter::from_fn(|| self.host.poll_event()).find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    /// As far as the answer to CHAP_A.
    fn offered(chap: Answers) -> Self {
        let mut target = Self::new(config(Some(chap)));
        target.request();
        target.answer(0x00, &["AuthMethod=CHAP"]);
        assert_eq!(target.request(), (vec!["CHAP_A=8,7,6,5".to_owned()], false));
        target
    }
}

const CHALLENGE: [&str; 3] = ["CHAP_A=5", "CHAP_I=7", "CHAP_C=0x0102030405060708"];

#[test]
fn s12_1_3_the_requests_of_a_login() {
    let mutual = answers(SECRET, Some(credential("san", OWN_SECRET)));
    for (chap, methods) in [(answers(SECRET, None), "CHAP,None"), (mutual.clone(), "CHAP")] {
        let (keys, transit) = HandMade::new(config(Some(chap))).request();
        assert_eq!(keys.last().unwrap(), &format!("AuthMethod={methods}"));
        assert!(!transit, "a stage that has just begun");
    }
    let mut target = HandMade::offered(mutual);
    target.answer(0x00, &CHALLENGE);
    let (keys, transit) = target.request();
    let names: Vec<_> = keys.iter().map(|key| key.split('=').next().unwrap()).collect();
    assert_eq!((names, transit), (vec!["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"], true));
    assert!(keys[1].starts_with("CHAP_R=0x") && keys[1].len() == 9 + 32, "{}", keys[1]);
    assert_eq!(keys[3].len(), 9 + 32, "a challenge as long as the digest");
    assert!(!format!("{:?}", target.host.poll_event()).contains(SECRET));
}

#[test]
fn s12_1_3_a_challenge_out_of_order_or_unreadable() {
    use Failure::{BadValue, OutOfOrder, Twice, UnknownAlgorithm};
    let [a, i, c] = CHALLENGE;
    let reflected = format!("CHAP_C=0x{}", "02".repeat(32));
    for (keys, why) in [
        (&[a, i][..], OutOfOrder),
        (&[a, c], OutOfOrder),
        (&[i, c], OutOfOrder),
        (&[a, i, c, "CHAP_N=san"], OutOfOrder),
        (&["AuthMethod=CHAP"], OutOfOrder),
        (&[a, i, c, c], Twice),
        (&["CHAP_A=4", i, c], UnknownAlgorithm),
        (&[a, "CHAP_I=256", c], BadValue),
        (&[a, i, "CHAP_C=0x"], BadValue),
        (&[a, i, "CHAP_C=hello"], BadValue),
        (&[a, i, &reflected], Failure::Reflected),
    ] {
        let mut target = HandMade::offered(answers(SECRET, None));
        target.answer(0x00, keys);
        assert_eq!(target.closed(), Some(CloseReason::Authentication(why)), "{keys:?}");
    }
}

/// §6.3: who wants proof does not go on without, whatever the target says about stages.
#[test]
fn s6_3_a_target_that_leaves_the_stage_without_proof() {
    let mutual = || answers(SECRET, Some(credential("san", OWN_SECRET)));
    let out_of_order = Some(CloseReason::Authentication(Failure::OutOfOrder));
    let mut target = HandMade::offered(mutual());
    target.answer(0x81, &CHALLENGE);
    assert_eq!(target.closed(), out_of_order, "with the challenge");
    let mut target = HandMade::offered(mutual());
    target.answer(0x00, &CHALLENGE);
    target.request();
    target.answer(0x81, &[]);
    assert_eq!(target.closed(), out_of_order, "with nothing");
    let mut target = HandMade::offered(mutual());
    target.answer(0x87, &[]);
    assert_eq!(target.closed(), out_of_order, "at once");
    let mut target = HandMade::new(config(Some(mutual())));
    target.request();
    target.answer(0x81, &["AuthMethod=None"]);
    assert_eq!(target.closed(), Some(CloseReason::Authentication(Failure::NotOffered)));
    let mut target = HandMade::new(config(Some(answers(SECRET, None))));
    target.request();
    target.answer(0x81, &["AuthMethod=CHAP"]);
    assert_eq!(target.closed(), out_of_order, "CHAP chosen, and not done");
}

/// The target's own response must be a response, and by the same algorithm.
#[test]
fn s12_1_3_responses_of_the_target() {
    let zeros = |bytes: usize| format!("CHAP_R=0x{}", "00".repeat(bytes));
    for (keys, why) in [
        (vec!["CHAP_N=san".to_owned(), zeros(16)], Failure::WrongResponse),
        (vec!["CHAP_N=san".to_owned(), zeros(15)], Failure::BadValue),
        (vec!["CHAP_N=san".to_owned(), zeros(20)], Failure::BadValue),
        (vec![zeros(16)], Failure::OutOfOrder),
        (vec!["CHAP_N=san".to_owned()], Failure::OutOfOrder),
        (vec!["CHAP_N=san".to_owned(), zeros(16), "CHAP_I=1".to_owned()], Failure::OutOfOrder),
    ] {
        let mut target = HandMade::offered(answers(SECRET, Some(credential("san", OWN_SECRET))));
        target.answer(0x00, &CHALLENGE);
        target.request();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        target.answer(0x81, &keys);
        assert_eq!(target.closed(), Some(CloseReason::Authentication(why)), "{keys:?}");
    }
}

#[test]
fn a_refusal_is_told_as_such_in_the_middle_of_the_stage() {
    let mut target = HandMade::offered(answers(SECRET, None));
    let header = pdu::LoginResponse {
        status: 0x0201.into(),
        stat_sn: target.stat_sn.into(),
        ..pdu::LoginResponse::blank()
    };
    let bytes = encode(header.bytes(), &[], &[]);
    target.host.recv_space()[..48].copy_from_slice(&bytes);
    target.host.received(48, Duration::ZERO);
    let status = LoginStatus::AuthenticationFailure;
    assert_eq!(target.closed(), Some(CloseReason::LoginRefused { status, address: None }));
}
