//! Operational keys over the wire: what each offer is answered with and what then holds (RFC 7143 §13).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::parameters::{DigestOffer, Offer, Parameters};
use iscsi::pdu::{self, LoginStatus};
use iscsi::target::{CloseReason, Config, Event, LoginAccept};
use iscsi::{PortalGroupTag, Tsih};

/// A target with limits that are its own, unlike any default.
fn config() -> Config {
    let offer = Offer {
        header_digest: DigestOffer::PreferCrc32c,
        data_digest: DigestOffer::None,
        max_recv_data_segment_length: 32768,
        max_burst_length: 131_072,
        first_burst_length: 16384,
        initial_r2t: false,
        immediate_data: true,
        max_outstanding_r2t: 4,
        max_connections: 1,
        default_time2wait_s: 5,
        default_time2retain_s: 10,
    };
    Config { offer, ..Config::default() }
}

/// What a login with one more key is answered with, and whether it succeeds.
fn offered(key: &str) -> (LoginStatus, Vec<String>, Parameters) {
    let mut wire = Wire::new(config());
    let initiator = format!("InitiatorName={INITIATOR}");
    let target = format!("TargetName={TARGET}");
    wire.send_login(1, Some(3), &[&initiator, &target, key]);
    let accept = LoginAccept { tsih: Tsih(1), portal_group_tag: PortalGroupTag(1), target_alias: None };
    wire.target.login_accept(accept);
    let pdu = wire.receive_one();
    let response: pdu::LoginResponse = pdu.as_a();
    let status = LoginStatus(response.status.get());
    let closed = wire
        .events()
        .into_iter()
        .any(|event| matches!(event, Event::Closed(CloseReason::LoginRefused(reason)) if reason == status));
    assert_eq!(closed, status != LoginStatus::Success, "{key}");
    let keys = String::from_utf8(pdu.data).unwrap();
    let told = ["TargetPortalGroupTag=1", "MaxRecvDataSegmentLength=32768"];
    let answers = keys.split_terminator('\0').filter(|key| !told.contains(key));
    (status, answers.map(str::to_owned).collect(), *wire.target.parameters())
}

#[test]
fn s13_each_key_is_answered_by_its_result_function() {
    for (offer, answer) in [
        ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C"),
        ("HeaderDigest=None,CRC32C", "HeaderDigest=None"),
        ("DataDigest=CRC32C,None", "DataDigest=None"),
        ("MaxBurstLength=512", "MaxBurstLength=512"),
        ("MaxBurstLength=131072", "MaxBurstLength=131072"),
        ("MaxBurstLength=131073", "MaxBurstLength=131072"),
        ("MaxBurstLength=16777215", "MaxBurstLength=131072"),
        ("FirstBurstLength=16383", "FirstBurstLength=16383"),
        ("FirstBurstLength=0x4001", "FirstBurstLength=16384"),
        ("InitialR2T=Yes", "InitialR2T=Yes"),
        ("InitialR2T=No", "InitialR2T=No"),
        ("ImmediateData=Yes", "ImmediateData=Yes"),
        ("ImmediateData=No", "ImmediateData=No"),
        ("MaxOutstandingR2T=1", "MaxOutstandingR2T=1"),
        ("MaxOutstandingR2T=65535", "MaxOutstandingR2T=4"),
        ("DefaultTime2Wait=4", "DefaultTime2Wait=5"),
        ("DefaultTime2Wait=3600", "DefaultTime2Wait=3600"),
        ("DefaultTime2Retain=9", "DefaultTime2Retain=9"),
        ("DefaultTime2Retain=11", "DefaultTime2Retain=10"),
        ("MaxConnections=65535", "MaxConnections=1"),
        ("ErrorRecoveryLevel=1", "ErrorRecoveryLevel=0"),
        ("DataPDUInOrder=No", "DataPDUInOrder=Yes"),
        ("DataSequenceInOrder=Yes", "DataSequenceInOrder=Yes"),
    ] {
        let (status, answers, _) = offered(offer);
        assert_eq!((status, &answers[..]), (LoginStatus::Success, &[answer.to_owned()][..]), "{offer}");
    }
}

#[test]
fn s6_2_1_values_that_cannot_be_end_the_login() {
    for offer in [
        "DataDigest=CRC32C",
        "HeaderDigest=",
        "MaxBurstLength=511",
        "MaxBurstLength=16777216",
        "FirstBurstLength=-1",
        "FirstBurstLength=4k",
        "InitialR2T=true",
        "ImmediateData=",
        "MaxOutstandingR2T=0",
        "MaxOutstandingR2T=65536",
        "DefaultTime2Wait=3601",
        "DefaultTime2Retain=99999999999999999999",
        "MaxConnections=0",
        "ErrorRecoveryLevel=3",
        "MaxRecvDataSegmentLength=511",
        "=1",
    ] {
        assert_eq!(offered(offer).0, LoginStatus::InitiatorError, "{offer}");
    }
}

#[test]
fn s13_what_was_answered_is_what_holds() {
    assert!(offered("HeaderDigest=CRC32C").2.header_digest);
    assert_eq!(offered("MaxBurstLength=4096").2.max_burst_length, 4096);
    // A first burst is never longer than a burst (§13.14).
    assert_eq!(offered("MaxBurstLength=4096").2.first_burst_length, 4096);
    assert!(!offered("InitialR2T=No").2.initial_r2t);
    assert!(!offered("ImmediateData=No").2.immediate_data);
    assert_eq!(offered("MaxOutstandingR2T=9").2.max_outstanding_r2t, 4);
    assert_eq!(offered("MaxRecvDataSegmentLength=512").2.peer_max_recv_data_segment_length, 512);
    // Nothing said: the defaults of the standard, not the target's wishes.
    let silent = offered("X-nothing=").2;
    assert!(silent.initial_r2t && !silent.header_digest);
    assert_eq!((silent.max_burst_length, silent.first_burst_length), (262_144, 65536));
    assert_eq!((silent.max_outstanding_r2t, silent.peer_max_recv_data_segment_length), (1, 8192));
}
