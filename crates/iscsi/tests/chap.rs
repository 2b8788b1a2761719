//! CHAP as a target, request by request, in the groups of the UNH-IOL's suite for it: CHAP_A, CHAP_I, CHAP_C, CHAP_N and
//! CHAP_R valid, invalid, out of order, reflected and the same (RFC 7143 §9.2.1, §12.1.3; RFC 1994 §4).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::chap::{Account, Credential, Demand, Failure, NONCE_BYTES, Nonce, Outstanding, Secret};
use iscsi::pdu::{self, LoginStatus};
use iscsi::target::{CloseReason, Config, Event, LoginAccept, LoginProven};
use iscsi::{PortalGroupTag, Tsih};
use sha2::Digest;

const USER: &str = "iqn.2026-11.test:host";
const SECRET: &str = "twelve bytes at least";
const OWN: &str = "palisade";
const OWN_SECRET: &str = "another secret, of the target";
/// What the initiator challenges with, in hexadecimal.
const CHALLENGE: &str = "0x000102030405060708090a0b0c0d0e0f";

fn random(seed: u8) -> [u8; NONCE_BYTES] {
    std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(u8::try_from(at).unwrap()))
}

fn credential(name: &str, secret: &str) -> Credential {
    Credential { name: name.to_owned(), secret: Secret::new(secret) }
}

fn demand(seed: u8) -> Demand {
    let target = Some(credential(OWN, OWN_SECRET));
    let account = Account { initiator: credential(USER, SECRET), target };
    Demand { accounts: vec![account], optional: false, nonce: Nonce::new(random(seed)) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "0b".to_owned();
    for group in bytes.chunks(3) {
        let word =
            group.iter().chain([0; 3].iter()).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            let character = CHARACTERS[word >> (18 - 6 * place) & 63];
            text.push(if place <= group.len() { char::from(character) } else { '=' });
        }
    }
    text
}

/// The digest that CHAP makes, by the algorithm's number.
fn response(algorithm: u32, identifier: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    let message = [&[identifier], secret.as_bytes(), challenge].concat();
    match algorithm {
        5 => md5::Md5::digest(&message).to_vec(),
        6 => sha1::Sha1::digest(&message).to_vec(),
        7 => sha2::Sha256::digest(&message).to_vec(),
        _ => sha3::Sha3_256::digest(&message).to_vec(),
    }
}

/// A login that has come as far as some step.
struct Login {
    wire: Wire,
    algorithm: u32,
    identifier: u8,
    challenge: Vec<u8>,
    answers: Vec<String>,
}

impl Login {
    /// The first request is answered by the caller's demand.
    fn begin(demand: Demand, transit: Option<u8>, stage: u8, first: &[&str]) -> Self {
        let mut wire = Wire::new(Config::default());
        let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
        let mut keys: Vec<&str> = names.iter().map(String::as_str).collect();
        keys.extend_from_slice(first);
        wire.send_login(stage, transit, &keys);
        let Some(Event::LoginRequested(_)) = wire.target.poll_event() else { panic!("no login requested") };
        wire.target.login_authenticate(demand, PortalGroupTag(1));
        Self { wire, algorithm: 0, identifier: 0, challenge: Vec::new(), answers: Vec::new() }
    }

    /// AuthMethod is agreed upon: CHAP_A is next.
    fn method() -> Self {
        let mut login = Self::begin(demand(1), None, 0, &["AuthMethod=CHAP,None"]);
        login.expect(0x00, &["TargetPortalGroupTag=1", "AuthMethod=CHAP"]);
        login
    }

    /// The challenge is there: CHAP_N and CHAP_R are next.
    fn challenged(list: &str, algorithm: u32) -> Self {
        let mut login = Self::method();
        login.send(&[&format!("CHAP_A={list}")]);
        login.take_challenge(algorithm);
        login
    }

    #[track_caller]
    fn take_challenge(&mut self, algorithm: u32) {
        self.expect(0x00, &[]);
        assert_eq!(self.value("CHAP_A"), algorithm.to_string());
        self.algorithm = algorithm;
        self.identifier = self.value("CHAP_I").parse().unwrap();
        self.challenge = from_hex(&self.value("CHAP_C"));
    }

    fn send(&mut self, keys: &[&str]) {
        self.wire.send_login(0, None, keys);
    }

    fn send_and_leave(&mut self, keys: &[&str]) {
        self.wire.send_login(0, Some(1), keys);
    }

    /// The right response.
    fn right(&self) -> Vec<u8> {
        response(self.algorithm, self.identifier, SECRET, &self.challenge)
    }

    fn respond(&mut self, more: &[&str]) {
        let (name, right) = (format!("CHAP_N={USER}"), format!("CHAP_R={}", hex(&self.right())));
        let mut keys = vec![name.as_str(), right.as_str()];
        keys.extend_from_slice(more);
        self.send_and_leave(&keys);
    }

    fn value(&self, key: &str) -> String {
        let start = format!("{key}=");
        let mut values = self.answers.iter().filter_map(|pair| pair.strip_prefix(&start));
        values.next().unwrap_or_else(|| panic!("no {key} in {:?}", self.answers)).to_owned()
    }

    /// One answer with these flags, and these keys if any are given.
    #[track_caller]
    fn expect(&mut self, flags: u8, keys: &[&str]) {
        let pdu = self.wire.receive_one();
        let header: pdu::LoginResponse = pdu.as_a();
        assert_eq!((header.status.get(), header.flags), (0, flags));
        self.answers =
            String::from_utf8(pdu.data).unwrap().split_terminator('\0').map(str::to_owned).collect();
        if !keys.is_empty() {
            assert_eq!(self.answers, keys);
        }
    }

    /// What was proven; the caller lets it go on.
    #[track_caller]
    fn proven(&mut self) -> LoginProven {
        let Some(Event::LoginProven(proven)) = self.wire.target.poll_event() else { panic!("not proven") };
        assert!(self.wire.receive().is_empty(), "nothing is said before the caller agrees");
        let accept = LoginAccept { tsih: Tsih(9), portal_group_tag: PortalGroupTag(1), target_alias: None };
        self.wire.target.login_accept(accept);
        proven
    }

    /// Status 0201h, and the end, for this reason.
    #[track_caller]
    fn fails(&mut self, why: Failure) {
        let events = self.wire.events();
        let failures =
            events.iter().filter(|event| matches!(event, Event::AuthenticationFailed(is) if *is == why));
        assert_eq!(failures.count(), 1, "{why:?} expected: {events:?}");
        let refused = CloseReason::LoginRefused(LoginStatus::AuthenticationFailure);
        assert!(matches!(events.last(), Some(Event::Closed(reason)) if *reason == refused), "{events:?}");
        let header: pdu::LoginResponse = self.wire.receive_one().as_a();
        assert_eq!(header.status.get(), 0x0201);
        assert!(self.wire.target.is_closed());
    }
}

#[test]
fn chap_valid_one_way_through_every_algorithm_and_both_encodings() {
    for (algorithm, length) in [(5, 16), (6, 20), (7, 32), (8, 32)] {
        for encode in [hex, base64] {
            let mut login = Login::challenged(&algorithm.to_string(), algorithm);
            assert_eq!(login.challenge.len(), length, "§9.2.1: a challenge of at least 16 bytes");
            let right = encode(&login.right());
            login.send_and_leave(&[&format!("CHAP_N={USER}"), &format!("CHAP_R={right}")]);
            let proven = login.proven();
            assert_eq!(proven.requested.initiator_name, INITIATOR);
            assert_eq!((proven.proof.user.as_deref(), proven.proof.challenge), (Some(USER), None));
            login.expect(0x81, &[]);
            assert!(login.answers.is_empty(), "one-way: {:?}", login.answers);
            login.wire.send_login(1, Some(3), &[]);
            login.expect(0x87, &["MaxRecvDataSegmentLength=262144"]);
            assert!(matches!(login.wire.target.poll_event(), Some(Event::SessionEstablished(_))));
        }
    }
}

#[test]
fn chap_valid_mutual_the_target_proves_itself_in_hexadecimal() {
    for algorithm in [5, 6, 7, 8] {
        let mut login = Login::challenged(&algorithm.to_string(), algorithm);
        login.respond(&["CHAP_I=200", &format!("CHAP_C={CHALLENGE}")]);
        let proven = login.proven();
        assert_eq!(proven.proof.challenge, Some(from_hex(CHALLENGE)));
        login.expect(0x81, &[]);
        let right = response(algorithm, 200, OWN_SECRET, &from_hex(CHALLENGE));
        assert_eq!(login.answers, [format!("CHAP_N={OWN}"), format!("CHAP_R={}", hex(&right))]);
    }
}

/// §6.1: either case of the prefix and of the digits; §4.2.7.2: a name in another case is the same.
#[test]
fn chap_valid_spellings() {
    let mut login = Login::challenged("5", 5);
    let right = hex(&login.right()).to_uppercase();
    login.send(&[&format!("CHAP_N={}", USER.to_uppercase()), &format!("CHAP_R={right}")]);
    login.proven();
    login.expect(0x00, &[]);
    login.send_and_leave(&[]);
    login.expect(0x81, &[]);
}

#[test]
fn chap_a_the_best_of_the_list_is_chosen_and_unknown_ones_are_passed_over() {
    for (list, chosen) in [("5,6,7,8", 8), ("7,5", 7), ("1,2,6,99,5", 6), ("0x5", 5)] {
        Login::challenged(list, chosen);
    }
}

#[test]
fn chap_a_invalid() {
    for list in ["", "0", "9", "md5", "-5", "4294967301"] {
        let mut login = Login::method();
        login.send(&[&format!("CHAP_A={list}")]);
        login.fails(Failure::UnknownAlgorithm);
    }
}

#[test]
fn chap_a_twice() {
    let mut login = Login::method();
    login.send(&["CHAP_A=5", "CHAP_A=5"]);
    login.fails(Failure::Twice);
    let mut login = Login::challenged("5", 5);
    login.send(&["CHAP_A=5"]);
    login.fails(Failure::OutOfOrder);
}

/// §12.1.3: the keys have an order. Each of these comes at a time of another one.
#[test]
fn chap_keys_out_of_order() {
    let everything: [&[&str]; 6] = [
        &["CHAP_N=u", "CHAP_R=0x00000000000000000000000000000000"],
        &["CHAP_I=1", "CHAP_C=0x0102"],
        &["CHAP_A=5", "CHAP_I=1"],
        &["CHAP_A=5", "CHAP_N=u"],
        &["AuthMethod=CHAP", "CHAP_A=5"],
        &[],
    ];
    for keys in everything {
        let mut login = Login::method();
        login.send(keys);
        login.fails(Failure::OutOfOrder);
    }
    let mut login = Login::begin(demand(1), None, 0, &["AuthMethod=CHAP", "CHAP_A=5"]);
    login.fails(Failure::OutOfOrder);
    let mut login = Login::begin(demand(1), None, 0, &["CHAP_A=5"]);
    login.fails(Failure::OutOfOrder);
    for keys in [&[][..], &["AuthMethod=CHAP"], &["CHAP_N=u"], &["CHAP_R=0x00"], &["CHAP_I=1", "CHAP_C=0x01"]]
    {
        let mut login = Login::challenged("5", 5);
        login.send(keys);
        login.fails(Failure::OutOfOrder);
    }
}

/// §6.3: keys of the security stage after it.
#[test]
fn chap_keys_after_the_security_stage() {
    let mut login = Login::challenged("5", 5);
    login.respond(&[]);
    login.proven();
    login.expect(0x81, &[]);
    login.wire.send_login(1, Some(3), &["CHAP_A=5"]);
    let header: pdu::LoginResponse = login.wire.receive_one().as_a();
    assert_eq!(header.status.get(), LoginStatus::InitiatorError.0);
}

#[test]
fn chap_n_invalid() {
    for (name, why) in [
        ("CHAP_N=", Failure::BadValue),
        ("CHAP_N=iqn.2026-11.test:somebody", Failure::WrongResponse),
        ("CHAP_N=iqn.2026-11.test:hos", Failure::WrongResponse),
        ("X-N=1", Failure::OutOfOrder),
    ] {
        let mut login = Login::challenged("5", 5);
        let right = hex(&login.right());
        login.send_and_leave(&[name, &format!("CHAP_R={right}")]);
        login.fails(why);
    }
}

#[test]
fn chap_r_invalid() {
    type Spoil = fn(&[u8]) -> String;
    let cases: [(Spoil, Failure); 9] = [
        (|right| hex(&right.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()), Failure::WrongResponse),
        (|right| base64(&right.iter().rev().copied().collect::<Vec<_>>()), Failure::WrongResponse),
        (|right| hex(&right[1..]), Failure::BadValue),
        (|right| hex(&[right, &[0]].concat()), Failure::BadValue),
        (|right| hex(right)[2..].to_owned(), Failure::BadValue),
        (|right| hex(right).replace('0', "g"), Failure::BadValue),
        (|right| base64(right).replace('=', ""), Failure::BadValue),
        (|_| String::new(), Failure::BadValue),
        (|_| "17".to_owned(), Failure::BadValue),
    ];
    for (spoil, why) in cases {
        let mut login = Login::challenged("5", 5);
        let spoiled = spoil(&login.right());
        login.send_and_leave(&[&format!("CHAP_N={USER}"), &format!("CHAP_R={spoiled}")]);
        login.fails(why);
    }
}

/// A response for the wrong identifier, the wrong challenge or by another algorithm of the same length.
#[test]
fn chap_r_of_something_else() {
    let mut login = Login::challenged("7", 7);
    let other = [
        response(7, login.identifier ^ 1, SECRET, &login.challenge),
        response(7, login.identifier, SECRET, &login.challenge[1..]),
        response(8, login.identifier, SECRET, &login.challenge),
        response(7, login.identifier, OWN_SECRET, &login.challenge),
        response(7, login.identifier, "", &login.challenge),
    ];
    for wrong in other {
        login.send_and_leave(&[&format!("CHAP_N={USER}"), &format!("CHAP_R={}", hex(&wrong))]);
        login.fails(Failure::WrongResponse);
        login = Login::challenged("7", 7);
    }
}

#[test]
fn chap_n_and_r_twice() {
    for again in ["CHAP_N=x", "CHAP_R=0x00", "CHAP_I=1", "CHAP_C=0x0101"] {
        let mut login = Login::challenged("5", 5);
        let challenge = format!("CHAP_C={CHALLENGE}");
        login.respond(&["CHAP_I=1", &challenge, again]);
        login.fails(Failure::Twice);
    }
}

/// A response that was right for an earlier login (§9.2.1: challenges are never used again).
#[test]
fn chap_r_replayed() {
    let mut first = Login::challenged("8", 8);
    let recorded = first.right();
    first.respond(&[]);
    first.proven();
    let mut second = Login::begin(demand(2), None, 0, &["AuthMethod=CHAP"]);
    second.expect(0x00, &[]);
    second.send(&["CHAP_A=8"]);
    second.take_challenge(8);
    assert_ne!(second.challenge, first.challenge);
    second.send_and_leave(&[&format!("CHAP_N={USER}"), &format!("CHAP_R={}", hex(&recorded))]);
    second.fails(Failure::WrongResponse);
}

#[test]
fn chap_i_invalid() {
    for value in ["", "256", "-1", "x", "0x100"] {
        let mut login = Login::challenged("5", 5);
        login.respond(&[&format!("CHAP_I={value}"), &format!("CHAP_C={CHALLENGE}")]);
        login.fails(Failure::BadValue);
    }
    let mut login = Login::challenged("5", 5);
    login.respond(&["CHAP_I=1"]);
    login.fails(Failure::OutOfOrder);
}

/// §12.1.3: 1 to 1024 bytes.
#[test]
fn chap_c_lengths() {
    let long: Vec<u8> = (0..1024_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for (encode, length) in [(hex as fn(&[u8]) -> String, 1), (base64, 1), (hex, 1024), (base64, 1024)] {
        let mut login = Login::challenged("7", 7);
        login.respond(&["CHAP_I=0xff", &format!("CHAP_C={}", encode(&long[..length]))]);
        login.proven();
        login.expect(0x81, &[]);
        assert_eq!(login.value("CHAP_R"), hex(&response(7, 255, OWN_SECRET, &long[..length])));
    }
    for value in ["0x".to_owned(), "0b".to_owned(), base64(&[1; 1025]), "0xzz".to_owned(), "5".to_owned()] {
        let mut login = Login::challenged("7", 7);
        login.respond(&["CHAP_I=1", &format!("CHAP_C={value}")]);
        login.fails(Failure::BadValue);
    }
    let mut login = Login::challenged("7", 7);
    login.respond(&["CHAP_C=0x0102"]);
    login.fails(Failure::OutOfOrder);
    let mut login = Login::challenged("7", 7);
    login.respond(&["CHAP_I=1", &format!("CHAP_C={}", hex(&[1; 1025]))]);
    let header: pdu::LoginResponse = login.wire.receive_one().as_a();
    assert_eq!(header.status.get(), LoginStatus::InitiatorError.0, "longer than any value may be");
}

/// §12.1.3: "Responders MUST check for this condition and close the iSCSI TCP connection if it occurs."
#[test]
fn chap_c_reflected() {
    for algorithm in [5, 6, 7, 8] {
        for encode in [hex, base64] {
            let mut login = Login::challenged(&algorithm.to_string(), algorithm);
            let (identifier, ours) = (login.identifier, encode(&login.challenge));
            login.respond(&[&format!("CHAP_I={identifier}"), &format!("CHAP_C={ours}")]);
            login.fails(Failure::Reflected);
        }
    }
}

/// §9.2.1: the attacker has our challenge answered on a second connection. The caller knows the challenges of all.
#[test]
fn chap_c_reflected_over_a_second_connection() {
    let mut outstanding = Outstanding::default();
    let (first, second) = (demand(1), demand(2));
    outstanding.issue(&first.nonce);
    outstanding.issue(&second.nonce);
    let first = Login::challenged("5", 5);
    let mut login = Login::begin(second, None, 0, &["AuthMethod=CHAP"]);
    login.expect(0x00, &[]);
    login.send(&["CHAP_A=5"]);
    login.take_challenge(5);
    login.respond(&["CHAP_I=1", &format!("CHAP_C={}", hex(&first.challenge))]);
    let Some(Event::LoginProven(proven)) = login.wire.target.poll_event() else { panic!("not proven") };
    assert!(outstanding.contains(&proven.proof.challenge.unwrap()));
    login.wire.target.login_reject(LoginStatus::AuthenticationFailure);
    let pdu = login.wire.receive_one();
    assert!(pdu.data.is_empty(), "the response never leaves");
    assert_eq!(pdu.as_a::<pdu::LoginResponse>().status.get(), 0x0201);
}

/// §9.2.1: "the same secret MUST NOT be used for authentication in both directions".
#[test]
fn chap_the_same_secret_both_ways_is_refused() {
    let mut same = demand(1);
    same.accounts[0].target = Some(credential(OWN, SECRET));
    let mut login = Login::begin(same, None, 0, &["AuthMethod=CHAP"]);
    login.expect(0x00, &[]);
    login.send(&["CHAP_A=5"]);
    login.take_challenge(5);
    login.respond(&["CHAP_I=1", &format!("CHAP_C={CHALLENGE}")]);
    login.fails(Failure::SameSecret);
}

#[test]
fn chap_mutual_without_a_secret_of_ours_is_refused() {
    let mut one_way = demand(1);
    one_way.accounts[0].target = None;
    let mut login = Login::begin(one_way, None, 0, &["AuthMethod=CHAP"]);
    login.expect(0x00, &[]);
    login.send(&["CHAP_A=5"]);
    login.take_challenge(5);
    login.respond(&["CHAP_I=1", &format!("CHAP_C={CHALLENGE}")]);
    login.fails(Failure::NoOwnSecret);
}

/// §6.3.2: with authentication required there is no way around it.
#[test]
fn s6_3_2_no_way_around_the_security_stage() {
    for (stage, transit, first) in [
        (0, Some(1), &[][..]),
        (0, Some(3), &[]),
        (0, Some(1), &["AuthMethod=None"]),
        (0, None, &["AuthMethod=None"]),
        (0, None, &["AuthMethod=KRB5,SRP,None"]),
        (1, Some(3), &[]),
        (1, None, &[]),
    ] {
        let mut login = Login::begin(demand(1), transit, stage, first);
        login.fails(Failure::NotOffered);
    }
}

/// §6.3: T is granted when the stage is through, not before, and asking for it with nothing said ends the login.
#[test]
fn s6_3_transit_while_unfinished() {
    let mut login = Login::begin(demand(1), Some(1), 0, &["AuthMethod=CHAP,None"]);
    login.expect(0x00, &[]);
    login.send_and_leave(&["CHAP_A=5"]);
    login.expect(0x00, &[]);
    login.send_and_leave(&[]);
    login.fails(Failure::OutOfOrder);
    let mut login = Login::method();
    login.wire.send_login(1, Some(3), &[]);
    let header: pdu::LoginResponse = login.wire.receive_one().as_a();
    assert_eq!(header.status.get(), LoginStatus::InitiatorError.0, "a stage that was not agreed upon");
    // The caller cannot let it in too early either.
    let mut login = Login::method();
    let accept = LoginAccept { tsih: Tsih(9), portal_group_tag: PortalGroupTag(1), target_alias: None };
    login.wire.target.login_accept(accept);
    assert!(login.wire.receive().is_empty());
    login.send(&["CHAP_A=5"]);
    login.expect(0x00, &[]);
}

/// An initiator without AuthMethod in its first request may still send it.
#[test]
fn s12_1_auth_method_in_a_later_request() {
    let mut login = Login::begin(demand(1), None, 0, &[]);
    login.expect(0x00, &["TargetPortalGroupTag=1"]);
    login.send(&["AuthMethod=CHAP"]);
    login.expect(0x00, &["AuthMethod=CHAP"]);
}

#[test]
fn s12_1_optional_authentication_takes_what_the_initiator_wants() {
    let optional = || Demand { optional: true, ..demand(1) };
    for (stage, transit, first) in
        [(0, Some(1), &["AuthMethod=CHAP,None"][..]), (0, Some(1), &[]), (1, Some(3), &[])]
    {
        let mut login = Login::begin(optional(), transit, stage, first);
        assert_eq!(login.proven().proof.user, None);
        login.expect(0x80 | stage << 2 | transit.unwrap(), &[]);
    }
    let mut login = Login::begin(optional(), None, 0, &["AuthMethod=CHAP"]);
    login.expect(0x00, &["TargetPortalGroupTag=1", "AuthMethod=CHAP"]);
    login.send(&["CHAP_A=5"]);
    login.take_challenge(5);
    login.send(&["CHAP_N=x", "CHAP_R=0x00000000000000000000000000000000"]);
    login.fails(Failure::WrongResponse);
    let nobody = Demand { accounts: Vec::new(), ..optional() };
    Login::begin(nobody, None, 0, &["AuthMethod=CHAP"]).fails(Failure::NoCredentials);
}

/// Who is not known is challenged like anyone, and told no more than anyone.
#[test]
fn s9_2_1_an_unknown_user_looks_like_a_wrong_secret() {
    let nobody = Demand { accounts: Vec::new(), ..demand(1) };
    let mut login = Login::begin(nobody, None, 0, &["AuthMethod=CHAP"]);
    login.expect(0x00, &[]);
    login.send(&["CHAP_A=7"]);
    login.take_challenge(7);
    login.respond(&[]);
    login.fails(Failure::WrongResponse);
}

/// Discovery knows a host by one of several accounts.
#[test]
fn any_of_several_accounts_lets_in() {
    let accounts = || {
        let second = Account { initiator: credential("second", "the second one's secret"), target: None };
        Demand { accounts: vec![demand(1).accounts[0].clone(), second], ..demand(1) }
    };
    for (user, secret, lets_in) in [
        (USER, SECRET, true),
        ("second", "the second one's secret", true),
        ("second", SECRET, false),
        (USER, "the second one's secret", false),
    ] {
        let mut login = Login::begin(accounts(), None, 0, &["AuthMethod=CHAP"]);
        login.expect(0x00, &[]);
        login.send(&["CHAP_A=6"]);
        login.take_challenge(6);
        let right = response(6, login.identifier, secret, &login.challenge);
        login.send_and_leave(&[&format!("CHAP_N={user}"), &format!("CHAP_R={}", hex(&right))]);
        match lets_in {
            true => assert_eq!(login.proven().proof.user.as_deref(), Some(user)),
            false => login.fails(Failure::WrongResponse),
        }
    }
}

/// §12.1: a target that demands nothing says so, and takes no keys of CHAP.
#[test]
fn s12_1_without_a_demand_only_none_will_do() {
    for (keys, why) in [
        (&["AuthMethod=CHAP"][..], Failure::NoCredentials),
        (&["AuthMethod=None", "CHAP_A=5"], Failure::OutOfOrder),
        (&["AuthMethod=None", "AuthMethod=None"], Failure::Twice),
    ] {
        let mut wire = Wire::new(Config::default());
        let mut all = vec!["InitiatorName=iqn.2026-11.test:host", "TargetName=iqn.2026-11.test:disk"];
        all.extend_from_slice(keys);
        wire.send_login(0, Some(1), &all);
        wire.accept();
        let mut login =
            Login { wire, algorithm: 0, identifier: 0, challenge: Vec::new(), answers: Vec::new() };
        login.fails(why);
    }
}

#[test]
fn nothing_of_a_secret_is_in_what_can_be_printed() {
    let mut login = Login::challenged("5", 5);
    login.respond(&["CHAP_I=1", &format!("CHAP_C={CHALLENGE}")]);
    let Some(event) = login.wire.target.poll_event() else { panic!() };
    let printed = format!("{event:?} {:?}", demand(1));
    for hidden in [SECRET, OWN_SECRET] {
        assert!(
            !printed.contains(hidden) && !printed.contains(&format!("{:?}", hidden.as_bytes())),
            "{printed}"
        );
    }
}
