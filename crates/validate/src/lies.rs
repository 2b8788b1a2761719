//! Each check against an array that does what the standards say, and against one that lies about what the check is for.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fake::{Array, Lie};
use crate::{CHECKS, Group, Options, Report, RunError, ScratchRange, Verdict, run};

fn options() -> Options {
    Options {
        urls: ["iscsi://h:3260/iqn.a:b/0", "iscsi://h:3261/iqn.a:b/0"]
            .map(|url| url.parse().unwrap())
            .to_vec(),
        also: vec!["iscsi://h:3260/iqn.a:b/1".parse().unwrap()],
        initiators: vec!["iqn.x:one".to_owned(), "iqn.x:two".to_owned()],
        nexuses: 4,
        only: Vec::new(),
        reservations: true,
        force: false,
        destructive: true,
        range: Some(ScratchRange { lba: 8, blocks: 36 << 11 }),
        interrupted: Arc::new(AtomicBool::new(false)),
    }
}

fn try_run(array: &Array, options: &Options) -> Result<Report, RunError> {
    // Slow arrays are slow in virtual time only.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(run(options, Rc::new(array.clone()), |_| {}))
}

fn validate(lies: &[Lie], only: &[Group]) -> Report {
    try_run(&Array::new(lies), &Options { only: only.to_vec(), ..options() }).unwrap()
}

fn verdict(report: &Report, id: &str) -> Verdict {
    report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}")).verdict
}

#[test]
fn an_array_that_does_what_the_standards_say_passes_every_check() {
    let report = validate(&[], &[]);
    let not_passed: Vec<_> = report.checks.iter().filter(|check| check.verdict != Verdict::Passed).collect();
    let told: String = not_passed.iter().map(|check| check.text()).collect();
    assert!(not_passed.is_empty(), "{told}");
    assert_eq!(report.checks.len(), CHECKS.len());
    assert!(report.is_clean());
}

/// The check, the lie it is for, and what it has to say.
const LIES: &[(&str, Lie, &str)] = &[
    ("identity.inquiry", Lie::OtherProduct, "says `SCRIPTED"),
    ("identity.vpd-list", Lie::MissingPage, "page 8Fh is in the list"),
    ("identity.serial", Lie::OtherSerial, "SERIAL-OTHER"),
    ("identity.names", Lie::Nameless, "no designator of the logical unit"),
    ("identity.coherence", Lie::OtherName, "the first path says"),
    ("identity.capacity", Lie::OtherCapacity, "READ CAPACITY(10) says last block"),
    ("identity.physical-block", Lie::Misaligned, "LOWEST ALIGNED"),
    ("identity.block-limits", Lie::AbsurdLimits, "OPTIMAL TRANSFER LENGTH is above"),
    ("identity.lun-list", Lie::UnlistedLun, "LUN 0 is not in the list"),
    ("paths.tpgs", Lie::OtherTpgs, "TPGS is 0 but"),
    ("paths.tpgs", Lie::FalseExplicit, "TPGS says explicit ALUA, but"),
    ("paths.same-groups", Lie::OtherGroups, "says 00 00 00 18"),
    ("paths.sound-groups", Lie::NoActiveGroup, "no target port group is in an active state"),
    ("paths.listed-ports", Lie::UnknownGroup, "its group 9 is not reported"),
    ("paths.states", Lie::ImpossibleState, "its group is active/optimized, which its byte 80 does not"),
    ("paths.states", Lie::BusyStandby, "NOT READY 04h/0Bh is expected"),
    ("paths.distinct-ports", Lie::SamePort, "both say port 1"),
    ("paths.same-data", Lie::SplitBrain, "written through"),
    ("commands.consistent", Lie::FalseSupport, "reported as supported, but READ(12)"),
    ("commands.described", Lie::OtherLength, "CDB SIZE is"),
    ("commands.expected", Lie::NoCompareAndWrite, "COMPARE AND WRITE is not supported"),
    ("commands.unknown", Lie::AllIsGood, "ended with GOOD"),
    ("commands.out-of-range", Lie::NoEnd, "LOGICAL BLOCK ADDRESS OUT OF RANGE, is expected"),
    ("cluster.potential-disk", Lie::NoReservations, "persistent reservations"),
    ("cluster.latency", Lie::Slow, "take 700 ms"),
    ("cluster.pr-capabilities", Lie::FiveTypes, "type 8h is not supported"),
    ("cluster.pr-register", Lie::AnyKey, "RESERVATION CONFLICT is expected"),
    ("cluster.pr-reserve-read", Lie::EmptyRead, "says none, not key"),
    ("cluster.pr-release", Lie::LostAttention, "gets no unit attention 2Ah/04h"),
    ("cluster.pr-types", Lie::StrictTypes, "by a registrant"),
    ("cluster.pr-unregister", Lie::KeptReservation, "after the holder of"),
    ("cluster.pr-clear", Lie::LostAttention, "gets no unit attention 2Ah/03h"),
    ("cluster.pr-preempt", Lie::LostAttention, "gets no unit attention 2Ah/05h"),
    ("cluster.pr-preempt-abort", Lie::KeptVictim, "the victim's key is still registered"),
    ("cluster.pr-preempt-all", Lie::KeptVictim, "keys left"),
    ("cluster.pr-late-writes", Lie::LateWrites, "written after PREEMPT AND ABORT"),
    ("cluster.pr-generation", Lie::FrozenGeneration, "after REGISTER PRGENERATION"),
    ("cluster.pr-full-status", Lie::ShortStatus, "3 registrations of 4"),
    ("cluster.pr-nexus-loss", Lie::Forgetful, "after the holder's logout"),
    ("cluster.pr-power-loss", Lie::HiddenPowerLoss, "PTPL_A in REPORT CAPABILITIES is 0"),
    ("cluster.pr-nonsense", Lie::AnyLength, "PARAMETER LIST LENGTH ERROR, is expected"),
    ("cluster.spc2-reserve", Lie::WeakReserve, "while there are registrations"),
    ("cluster.arbitration", Lie::KeptVictim, "RESERVATION CONFLICT is expected"),
    ("cluster.multiple-arbitration", Lie::EveryoneWins, "3 of 3 simultaneous PREEMPTs won"),
    ("cluster.failover", Lie::LateOwner, "RESERVATION CONFLICT is expected"),
    ("cluster.simultaneous-failover", Lie::KeptVictim, "keys left"),
    ("vaai.ats-limit", Lie::HiddenCompare, "its maximum length in VPD page B0h is 0"),
    ("vaai.ats-match", Lie::EmptySwap, "after a match"),
    ("vaai.ats-miscompare", Lie::WrongOffset, "INFORMATION says"),
    ("vaai.ats-concurrent", Lie::BlindSwap, "4 of 4 swaps won"),
    ("vaai.write-same", Lie::WideSame, "the block after WRITE SAME"),
    ("vaai.unmap", Lie::WideUnmap, "the block after the range unmapped"),
    ("vaai.xcopy-parameters", Lie::NoDescriptors, "is not in the list"),
    ("vaai.xcopy", Lie::CorruptCopy, "the copy: byte"),
    ("vaai.xcopy-between", Lie::CorruptCopy, "the copy: byte"),
    ("vaai.xcopy-refused", Lie::AnyCopy, "a copy from a unit that is not there"),
    ("vaai.tp-stun", Lie::NoThresholds, "no soft threshold"),
    ("vaai.device-loss", Lie::GhostUnit, "LOGICAL UNIT NOT SUPPORTED, is expected"),
    ("thin.pages", Lie::NoUnmapLimit, "MAXIMUM UNMAP LBA COUNT is 0"),
    ("thin.log-page", Lie::OddLog, "FORMAT AND LINKING is 0"),
    ("thin.thresholds", Lie::OddThresholds, "came back"),
    ("thin.lba-status", Lie::StatusElsewhere, "the first range is"),
    ("thin.deallocation", Lie::StillMapped, "still mapped"),
    ("odx.limits", Lie::NoRanges, "MAXIMUM RANGE DESCRIPTORS is 0"),
    ("odx.copy", Lie::LiveToken, "whose source has changed since"),
    ("odx.zero", Lie::LazyZero, "written using the zero token"),
    ("odx.forged", Lie::AnyToken, "never given out"),
    ("odx.invalid", Lie::OddTokenSense, "a token of a reserved type: WRITE USING TOKEN"),
    ("odx.invalid", Lie::AnyToken, "a token that says it is 24 bytes long was written from"),
    ("odx.ended", Lie::UndyingToken, "a deleted token was written from"),
    ("odx.ended", Lie::PatientToken, "INACTIVITY TIMEOUT was written from"),
    ("odx.out-of-range", Lie::EndlessToken, "past the end is GOOD"),
    ("iscsi.digests", Lie::DigestCorrupts, "reads other data than without digests"),
    ("iscsi.discovery", Lie::Undiscovered, "does not name"),
    ("iscsi.reinstatement", Lie::TwoSessions, "still answers"),
];

/// Checks about what a host can do without: their worst is a warning.
const WARNINGS: [&str; 2] = ["commands.expected", "vaai.tp-stun"];

/// What is not as it should be with this check and this lie.
fn judge(id: &str, lie: Lie, says: &str) -> Option<String> {
    let group = CHECKS.iter().find(|check| check.id == id)?.group;
    let report = validate(&[lie], &[group]);
    let found = report.checks.iter().find(|check| check.id == id)?;
    let worst = if WARNINGS.contains(&id) { Verdict::Warning } else { Verdict::Failed };
    let is_seen = found.verdict == worst && report.is_clean() == (worst == Verdict::Warning);
    let is_told = found.details.iter().any(|detail| detail.contains(says));
    (!is_seen || !is_told).then(|| format!("{id} and {lie:?}, {says}: {}", found.text()))
}

#[test]
fn each_check_fails_on_the_lie_it_is_for() {
    let unseen: Vec<_> = LIES.iter().filter_map(|(id, lie, says)| judge(id, *lie, says)).collect();
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn every_check_has_its_lie() {
    for check in CHECKS {
        assert!(LIES.iter().any(|(id, ..)| *id == check.id), "{}", check.id);
    }
}

#[test]
fn without_permission_nothing_is_reserved_or_written() {
    let array = Array::new(&[]);
    let timid = Options { reservations: false, destructive: false, range: None, ..options() };
    let report = try_run(&array, &timid).unwrap();
    assert!(array.0.borrow().units.values().all(|unit| unit.mapped.is_empty()));
    let outs = ["PERSISTENT RESERVE OUT", "RESERVE(6)", "EXTENDED COPY", "UNMAP", "WRITE SAME"];
    for exchange in report.checks.iter().flat_map(|check| &check.exchanges) {
        let is_empty = exchange.data_out_bytes == 0;
        assert!(is_empty || exchange.status != "GOOD", "{exchange:?}");
        assert!(is_empty || !outs.iter().any(|out| exchange.command.starts_with(out)), "{exchange:?}");
    }
    assert_eq!(verdict(&report, "cluster.pr-register"), Verdict::Skipped);
    assert_eq!(verdict(&report, "vaai.write-same"), Verdict::Skipped);
    assert_eq!(verdict(&report, "identity.names"), Verdict::Passed);
}

#[test]
fn writes_stay_inside_the_range_given() {
    let array = Array::new(&[]);
    let range = ScratchRange { lba: 1000, blocks: 17 << 11 };
    let report = try_run(&array, &Options { range: Some(range), ..options() }).unwrap();
    assert_eq!(report.counts.failed, 0, "{}", report.text());
    for unit in array.0.borrow().units.values() {
        assert!(unit.mapped.iter().all(|at| (range.lba..range.lba + range.blocks).contains(at)));
    }
}

#[test]
fn paths_to_different_units_are_refused_before_anything_is_done() {
    let array = Array::new(&[]);
    let mixed =
        ["iscsi://h:3260/iqn.a:b/0", "iscsi://h:3260/iqn.a:b/1"].map(|url| url.parse().unwrap()).to_vec();
    match try_run(&array, &Options { urls: mixed, also: Vec::new(), ..options() }) {
        Err(RunError::Options(why)) => assert!(why.contains("are different logical units"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(array.0.borrow().units.values().all(|unit| unit.mapped.is_empty()));
}

#[test]
fn what_others_have_registered_is_left_alone_unless_forced() {
    let array = Array::new(&[]);
    let cluster = Options { only: vec![Group::Cluster], ..options() };
    let stopped = Options { interrupted: Arc::new(AtomicBool::new(true)), ..cluster.clone() };
    assert_eq!(try_run(&array, &stopped).unwrap().counts.passed, 0);
    array.register_a_stranger(0x4711);
    match try_run(&array, &cluster) {
        Err(RunError::InUse(who)) => assert!(who.contains("0x0000000000004711"), "{who}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(array.keys(), [0x4711]);
    let report = try_run(&array, &Options { force: true, ..cluster }).unwrap();
    assert!(report.is_clean(), "{}", report.text());
    assert!(array.keys().is_empty());
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let array = Array::new(&[]);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let options = Options { only: vec![Group::Cluster], ..options() };
    let mut checks = 0;
    let report = runtime.block_on(run(&options, Rc::new(array.clone()), |_| {
        checks += 1;
        options.interrupted.store(checks >= 6, Ordering::Relaxed);
    }));
    let report = report.unwrap();
    assert!(report.interrupted && !report.is_clean());
    assert!(report.counts.skipped > 10 && report.left_behind.is_empty(), "{}", report.text());
    assert!(array.keys().is_empty());
}

#[test]
fn keys_that_an_array_forgot_the_owner_of_are_removed_too() {
    // As tgt does: a registration is the session's, and a new session of the same port is a stranger.
    let array = Array::new(&[Lie::LostPorts]);
    let report = try_run(&array, &Options { only: vec![Group::Cluster], ..options() }).unwrap();
    assert_eq!(verdict(&report, "cluster.pr-nexus-loss"), Verdict::Failed);
    assert_eq!(verdict(&report, "cluster.arbitration"), Verdict::Passed, "{}", report.text());
    assert!(array.keys().is_empty() && report.left_behind.is_empty());
}

#[test]
fn reports_tell_commands_answers_and_clauses() {
    let report = validate(&[Lie::EmptyRead], &[Group::Cluster]);
    let text = report.text();
    assert!(
        text.contains("FAIL  cluster.pr-reserve-read") && text.contains("by SPC-4 PERSISTENT RESERVE IN"),
        "{text}"
    );
    assert!(
        text.contains("PERSISTENT RESERVE IN, READ RESERVATION [5e 01 00 00 00 00 00 20 00 00]"),
        "{text}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["counts"]["failed"], report.counts.failed);
    let check =
        json["checks"].as_array().unwrap().iter().find(|check| check["id"] == "cluster.pr-register").unwrap();
    assert_eq!((&check["verdict"], &check["group"]), (&"passed".into(), &"cluster".into()));
    assert!(check["exchanges"][0]["cdb"].as_str().unwrap().starts_with("5f 00"));
    let html = report.html();
    assert!(
        html.starts_with("<!doctype html>") && html.contains("class=\"v failed\"") && !html.contains("http")
    );
}
