//! SANITIZE (SBC-4 4.11 and 5.30), and what the unit says while it goes on and after it failed.

use scsi::command::{COMMANDS, Feature, Operation};
use scsi::{
    AdditionalSense, BlockSize, Cdb, CopyAgent, CopySide, DataOut, LogicalUnitConfig, MediaCommand,
    MediaFailureKind, MediaOutcome, Sanitization, SanitizeMethod, Sense, SenseFormat, SenseKey, Status, Step,
};

use crate::harness::{
    A, B, BLOCK, BLOCKS, Disk, SenseInfo, TEST_UNIT_READY, cdb, config, data_out, identity, pattern,
};

const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const CRYPTO_ERASE: u8 = 0x03;
const EXIT_FAILURE_MODE: u8 = 0x1f;
const IMMED: u8 = 0x80;
const ZNR: u8 = 0x40;
const AUSE: u8 = 0x20;
const INVERT: u8 = 0x80;
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];

fn sanitize(flags: u8, list_len: usize) -> [u8; 10] {
    let [high, low] = u16::try_from(list_len).unwrap().to_be_bytes();
    [0x48, flags, 0, 0, 0, 0, 0, high, low, 0]
}

/// The parameter list of OVERWRITE.
fn overwrite(first: u8, pattern: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(pattern.len()).unwrap().to_be_bytes();
    [&[first, 0, high, low], pattern].concat()
}

fn running(progress: u16) -> Sanitization {
    Sanitization::Running { progress }
}

fn failed(unrestricted_exit: bool) -> Sanitization {
    Sanitization::Failed { unrestricted_exit }
}

/// A disk that was written from end to end.
fn written() -> Disk {
    let mut disk = Disk::new();
    disk.medium.bytes.fill(0xd7);
    disk.medium.mapped.fill(true);
    disk
}

#[test]
fn block_erase_leaves_nothing_mapped_and_zeroes_to_read() {
    let mut disk = written();
    disk.good(&sanitize(BLOCK_ERASE, 0), &[]);
    let expected =
        MediaCommand::Sanitize { method: SanitizeMethod::BlockErase, unrestricted_exit: false, wait: true };
    assert_eq!(disk.medium.log, [expected]);
    assert!(disk.medium.mapped.iter().all(|mapped| !mapped));
    assert_eq!(disk.good(&cdb(0x28, 0, BLOCKS - 1, 1), &[]), [0; BLOCK]);
}

/// SBC-4 5.30.3.2: the pattern is repeated in each logical block, whose first byte is the pattern's first.
#[test]
fn overwrite_begins_the_pattern_anew_in_every_block() {
    for len in [1, 4, 5, BLOCK / 2, BLOCK - 1, BLOCK] {
        let mut disk = written();
        let pattern: Vec<u8> = (0..len).map(|at| u8::try_from(at % 253).unwrap()).collect();
        let list = overwrite(1, &pattern);
        disk.good(&sanitize(OVERWRITE, list.len()), &list);
        for block in disk.medium.bytes.chunks(BLOCK) {
            assert!(block.iter().zip(pattern.iter().cycle()).all(|(is, wanted)| is == wanted), "{len} bytes");
        }
    }
}

/// SBC-4 5.30.3.2: if the number of passes is even the first one is inverted, else it is not, and between passes the
/// pattern is inverted. So the last pass writes it as it is.
#[test]
fn whatever_the_number_of_passes_the_last_one_writes_the_pattern() {
    for first in (1..=31).flat_map(|count| [count, INVERT | count]) {
        let mut disk = written();
        let list = overwrite(first, &[0x0f, 0xf0]);
        disk.good(&sanitize(OVERWRITE, list.len()), &list);
        assert_eq!(disk.medium.bytes[..4], [0x0f, 0xf0, 0x0f, 0xf0], "{first:02x}");
        let invert = first & INVERT != 0;
        let mut inverted = invert && (first & 0x1f) % 2 == 0;
        (1..first & 0x1f).for_each(|_| inverted ^= invert);
        assert!(!inverted, "{first:02x}");
    }
}

#[test]
fn a_pattern_may_fill_a_large_block() {
    let mut disk = Disk::with(LogicalUnitConfig {
        sanitize: true,
        ..LogicalUnitConfig::new(identity(), BlockSize::B4096, 16)
    });
    let list = overwrite(1, &vec![0x5a; 4096]);
    let command = disk.asks(&sanitize(OVERWRITE | IMMED | AUSE, list.len()), &list);
    let method = SanitizeMethod::Overwrite(vec![0x5a; 4096].into());
    assert_eq!(command, MediaCommand::Sanitize { method, unrestricted_exit: true, wait: false });
    let list = overwrite(1, &vec![0; 4097]);
    disk.illegal(&sanitize(OVERWRITE, list.len()), &list, AdditionalSense::INVALID_FIELD_IN_CDB);
}

/// SBC-4 table 121: what each service action wants of PARAMETER LIST LENGTH.
#[test]
fn lists_of_a_wrong_length_are_refused_by_the_cdb() {
    let mut disk = written();
    let wrong = |action: u8, len: usize| (sanitize(action, len), vec![0; len]);
    let cases = [
        wrong(BLOCK_ERASE, 8),
        wrong(BLOCK_ERASE, 1),
        wrong(EXIT_FAILURE_MODE, 8),
        wrong(OVERWRITE, 0),
        wrong(OVERWRITE, 1),
        wrong(OVERWRITE, 4),
        wrong(OVERWRITE, BLOCK + 5),
        wrong(OVERWRITE, 0xffff),
    ];
    for (cdb, list) in &cases {
        let info = disk.illegal(cdb, list, AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 7, None)), "{cdb:02x?}");
    }
    assert_eq!(disk.medium.log, []);
}

#[test]
fn a_wrong_list_is_refused_at_its_field() {
    let mut disk = written();
    let block = [0xaa; BLOCK];
    let with = |place: usize, value: u8| {
        let mut list = overwrite(1, &block);
        list[place] = value;
        list
    };
    let cases = [
        (with(0, 0x00), 0, Some(4)),
        (with(0, INVERT), 0, Some(4)),
        (with(0, 0x20 | 1), 0, Some(6)),
        (with(0, 0x40 | 1), 0, Some(6)),
        (with(0, 0x60 | 1), 0, Some(6)),
        (with(1, 1), 1, None),
        (with(2, 0), 2, None),
        (with(2, 0xff), 2, None),
        (with(3, 4), 2, None),
        (with(3, 1), 2, None),
    ];
    for (list, byte, bit) in &cases {
        let cdb = sanitize(OVERWRITE, list.len());
        let info = disk.illegal(&cdb, list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(info.field, Some((false, *byte, *bit)), "{:02x?}", &list[..4]);
    }
    let short = DataOut::new(vec![overwrite(1, &block).split_off(8).into()], 508);
    let refused = disk.of_with(A, &sanitize(OVERWRITE, 516), short);
    assert_eq!(SenseInfo::of(&refused).key, SenseKey::IllegalRequest.code());
    assert_eq!(disk.medium.log, []);
}

/// SBC-4 5.30.5, and VPD B1h: WACEREQ 01b.
#[test]
fn an_encrypted_volume_can_be_given_another_key() {
    let mut disk = Disk::new();
    disk.medium.bytes.fill(7);
    let command = disk.asks(&sanitize(CRYPTO_ERASE | IMMED, 0), &[]);
    let method = SanitizeMethod::CryptoErase;
    assert_eq!(command, MediaCommand::Sanitize { method, unrestricted_exit: false, wait: false });
    disk.good(&sanitize(CRYPTO_ERASE, 0), &[]);
    assert!(disk.medium.bytes.iter().all(|byte| *byte == 0));
    disk.illegal(&sanitize(CRYPTO_ERASE, 8), &[0; 8], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(disk.good(&[0x12, 1, 0xb1, 0, 64, 0], &[])[7], 0x50);
    assert_eq!(disk.good(&[0xa3, 0x0c, 3, 0x48, 0, CRYPTO_ERASE, 0, 0, 0, 255, 0, 0], &[])[1], 3);
    let mut locked = Disk::new();
    locked.unit.set_availability(scsi::Availability::ManualInterventionRequired);
    let info = locked.bad(&sanitize(CRYPTO_ERASE, 0), &[]);
    assert_eq!(
        (info.key, info.additional),
        (SenseKey::NotReady.code(), AdditionalSense::MANUAL_INTERVENTION_REQUIRED)
    );
}

#[test]
fn zones_are_not_offered_and_cryptographic_erase_only_where_there_is_a_key() {
    let mut disk = Disk::with(LogicalUnitConfig { crypto_erase: false, ..config() });
    for action in (0..=0x1f).filter(|action| ![OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE].contains(action)) {
        let info = disk.illegal(&sanitize(action, 0), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 1, Some(4))), "{action:02x}");
        assert_eq!(disk.good(&[0xa3, 0x0c, 3, 0x48, 0, action, 0, 0, 0, 255, 0, 0], &[])[1], 1);
    }
    let info = disk.illegal(&sanitize(ZNR | BLOCK_ERASE, 0), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 1, Some(6))));
    disk.illegal(&sanitize(CRYPTO_ERASE | IMMED, 0), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

/// VPD B1h (SBC-4 6.6.2): WABEREQ says that blocks can be read after BLOCK ERASE, WACEREQ after
/// CRYPTOGRAPHIC ERASE.
#[test]
fn a_volume_that_cannot_be_sanitized_offers_nothing_of_it() {
    let characteristics = [0x12, 1, 0xb1, 0, 64, 0];
    assert_eq!(Disk::new().good(&characteristics, &[])[7], 0x50);
    let mut plain = Disk::with(LogicalUnitConfig { crypto_erase: false, ..config() });
    assert_eq!(plain.good(&characteristics, &[])[7], 0x40);
    let mut disk = Disk::with(LogicalUnitConfig { sanitize: false, ..config() });
    assert_eq!(disk.good(&characteristics, &[])[7], 0);
    for action in [OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE] {
        disk.illegal(&sanitize(action, 0), &[], AdditionalSense::INVALID_OPERATION_CODE);
        assert_eq!(disk.good(&[0xa3, 0x0c, 3, 0x48, 0, action, 0, 0, 0, 255, 0, 0], &[]), [0, 1, 0, 0]);
    }
}

#[test]
fn who_may_not_write_may_not_sanitize() {
    let mut disk = Disk::new();
    for action in [BLOCK_ERASE, EXIT_FAILURE_MODE] {
        let refused = |disk: &mut Disk| {
            let info = disk.bad(&sanitize(action, 0), &[]);
            assert_eq!((info.key, info.additional.code), (SenseKey::DataProtect.code(), 0x27));
        };
        disk.unit.set_nexus_read_only(A, true);
        disk.told(A);
        refused(&mut disk);
        disk.unit.set_nexus_read_only(A, false);
        disk.told(A);
        disk.unit.set_read_only(true);
        disk.told(A);
        refused(&mut disk);
        disk.unit.set_read_only(false);
        disk.told(A);
    }
    assert_eq!(disk.medium.log, []);
}

/// SBC-4 table 13: SANITIZE conflicts with every reservation of another nexus, persistent or not.
#[test]
fn a_reservation_of_another_host_keeps_it_away() {
    let mut disk = Disk::new();
    assert_eq!(disk.of(B, &[0x16, 0, 0, 0, 0, 0], &[]).status, Status::Good);
    let list = overwrite(1, &[0]);
    for (cdb, data) in [
        (sanitize(OVERWRITE, list.len()), &list[..]),
        (sanitize(BLOCK_ERASE, 0), &[]),
        (sanitize(EXIT_FAILURE_MODE, 0), &[]),
    ] {
        assert_eq!(disk.run(&cdb, data).status, Status::ReservationConflict);
    }
    assert_eq!(disk.medium.log, []);
}

/// SBC-4 4.11.2: every command but those that find out what the matter is.
#[test]
fn while_it_goes_on_everything_else_is_refused_and_told_how_far_it_is() {
    let mut disk = Disk::new();
    disk.unit.set_sanitization(running(0x5fff));
    let mut run = 0;
    for command in COMMANDS {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (command.opcode, command.service_action.unwrap_or(0));
        let step = disk.unit.execute(A, &Cdb::new(&cdb), data_out(&[]));
        match command.operation {
            Operation::Inquiry | Operation::RequestSense => {
                run += 1;
                assert!(matches!(step, Step::Done(done) if done.status == Status::Good), "{}", command.name);
            }
            // The sample's length is too short for it, which is not what it is about.
            Operation::ReportLuns => run += 1,
            _ => {
                let Step::Done(refused) = step else { panic!("{} runs", command.name) };
                let info = SenseInfo::of(&refused);
                assert_eq!(
                    (info.key, info.additional),
                    (SenseKey::NotReady.code(), AdditionalSense::SANITIZE_IN_PROGRESS),
                    "{}",
                    command.name
                );
                assert_eq!(refused.sense[15..18], [0x80, 0x5f, 0xff]);
            }
        }
    }
    assert_eq!(run, 3);
    let report = disk.unit.execute(A, &Cdb::new(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]), data_out(&[]));
    assert!(matches!(report, Step::ReportLuns(_)));
    assert_eq!(disk.medium.log, []);
    // START STOP UNIT with LOEJ, which is refused otherwise (libiscsi's Sanitize.Reset).
    let info = disk.bad(&[0x1b, 1, 0, 0, 0x02, 0], &[]);
    assert_eq!(info.additional, AdditionalSense::SANITIZE_IN_PROGRESS);
    disk.unit.set_sanitization(Sanitization::Idle);
    disk.good(&TEST_UNIT_READY, &[]);
}

/// SPC-4 4.5.2.4.4: PROGRESS INDICATION, in either format, with GOOD status.
#[test]
fn request_sense_tells_progress() {
    let mut disk = Disk::new();
    for progress in [0, 1, 0x8000, u16::MAX] {
        let [high, low] = progress.to_be_bytes();
        disk.unit.set_sanitization(running(progress));
        let sense = disk.good(&REQUEST_SENSE, &[]);
        assert_eq!((sense[2], sense[12], sense[13]), (2, 0x04, 0x1b));
        assert_eq!(sense[15..18], [0x80, high, low]);
        let sense = disk.good(&[0x03, 1, 0, 0, 252, 0], &[]);
        assert_eq!(sense[..4], [0x72, 2, 0x04, 0x1b]);
        assert_eq!(sense[8..], [0x02, 0x06, 0, 0, 0x80, high, low, 0]);
    }
    let expected = Sense::NONE.with_progress(0).encode(SenseFormat::Fixed);
    assert_eq!(expected[15..18], [0x80, 0, 0], "0 is a progress, too");
}

/// SAM-5 5.14.6: what a nexus has not been told yet comes first.
#[test]
fn unit_attentions_come_before_the_progress() {
    let mut disk = Disk::new();
    disk.unit.set_sanitization(running(7));
    disk.unit.reset();
    assert_eq!(disk.told(B), Some(AdditionalSense::BUS_DEVICE_RESET));
    assert_eq!(disk.told(B), Some(AdditionalSense::SANITIZE_IN_PROGRESS), "a reset does not end it");
}

/// SBC-4 4.11.3: in the unrestricted mode a failure may be left.
#[test]
fn after_a_failure_only_another_try_and_the_exit_are_left() {
    let mut disk = Disk::new();
    for unrestricted_exit in [false, true] {
        disk.unit.set_sanitization(failed(unrestricted_exit));
        for cdb in [cdb(0x28, 0, 0, 1), TEST_UNIT_READY.to_vec(), vec![0x1b, 0, 0, 0, 1, 0]] {
            let info = disk.bad(&cdb, &[]);
            assert_eq!((info.key, info.additional), (3, AdditionalSense::SANITIZE_FAILED));
        }
        let polled = SenseInfo::parse(&disk.good(&REQUEST_SENSE, &[]));
        assert_eq!((polled.key, polled.additional), (3, AdditionalSense::SANITIZE_FAILED));
        disk.good(&[0x12, 0, 0, 0, 96, 0], &[]);
        let again = disk.asks(&sanitize(BLOCK_ERASE, 0), &[]);
        assert!(matches!(again, MediaCommand::Sanitize { .. }));
    }
    assert_eq!(disk.asks(&sanitize(EXIT_FAILURE_MODE, 0), &[]), MediaCommand::LeaveFailedSanitize);
    disk.good(&sanitize(EXIT_FAILURE_MODE, 0), &[]);
    disk.unit.set_sanitization(Sanitization::Idle);
    disk.good(&TEST_UNIT_READY, &[]);
    disk.good(&sanitize(EXIT_FAILURE_MODE | IMMED, 0), &[]);
}

/// SBC-4 4.11.1 and 5.30.1: the restricted mode is left by success only, and not by way of AUSE.
#[test]
fn a_failure_of_the_restricted_mode_has_no_exit() {
    let mut disk = Disk::new();
    disk.unit.set_sanitization(failed(false));
    let invalid = AdditionalSense::INVALID_FIELD_IN_CDB;
    let info = disk.illegal(&sanitize(EXIT_FAILURE_MODE, 0), &[], invalid);
    assert_eq!(info.field, Some((true, 1, Some(4))));
    for action in [BLOCK_ERASE, OVERWRITE] {
        let list = if action == OVERWRITE { overwrite(1, &[0]) } else { Vec::new() };
        let info = disk.illegal(&sanitize(action | AUSE, list.len()), &list, invalid);
        assert_eq!(info.field, Some((true, 1, Some(5))));
        disk.good(&sanitize(action, list.len()), &list);
    }
}

#[test]
fn how_it_ends_is_told() {
    let mut disk = Disk::new();
    let mut ends = |outcome: MediaOutcome| {
        let Step::Media(_, pending) = disk.step(&sanitize(BLOCK_ERASE, 0), &[]) else { panic!() };
        let completion = disk.unit.finish(pending, outcome);
        let info = SenseInfo::of(&completion);
        (info.key, info.additional)
    };
    let not_begun = |kind: MediaFailureKind| MediaOutcome::Failed(kind.into());
    assert_eq!(ends(MediaOutcome::SanitizeFailed), (3, AdditionalSense::SANITIZE_FAILED));
    assert_eq!(ends(not_begun(MediaFailureKind::Busy)), (2, AdditionalSense::SANITIZE_IN_PROGRESS));
    assert_eq!(ends(not_begun(MediaFailureKind::MediumError)), (3, AdditionalSense::WRITE_ERROR));
    assert_eq!(ends(not_begun(MediaFailureKind::WriteProtected)), (7, AdditionalSense::WRITE_PROTECTED));
    assert_eq!(ends(not_begun(MediaFailureKind::OutOfRange)), (5, AdditionalSense::INVALID_FIELD_IN_CDB));
    let write = disk.step(&cdb(0x2a, 0, 0, 1), &pattern(1));
    let Step::Media(_, pending) = write else { panic!("{write:?}") };
    let completion = disk.unit.finish(pending, MediaOutcome::SanitizeFailed);
    assert_eq!(SenseInfo::of(&completion).additional, AdditionalSense::INTERNAL_TARGET_FAILURE);
}

/// EXTENDED COPY and tokens come to a volume by another way than its commands.
#[test]
fn copies_meet_the_same_refusal() {
    let mut disk = Disk::new();
    let agent = CopyAgent { nexus: Some(A), initiator: "iqn.2026-01.test:a", read_only: false };
    for (state, sense) in [
        (running(9), AdditionalSense::SANITIZE_IN_PROGRESS),
        (failed(true), AdditionalSense::SANITIZE_FAILED),
    ] {
        disk.unit.set_sanitization(state);
        for side in [CopySide::Source, CopySide::Destination] {
            let refused = disk.unit.admit_copy(agent, side).unwrap_err();
            assert_eq!(refused.sense.map(|sense| sense.additional), Some(sense));
        }
    }
    disk.unit.set_sanitization(Sanitization::Idle);
    assert!(disk.unit.admit_copy(agent, CopySide::Destination).is_ok());
}

#[test]
fn the_table_has_three_service_actions_that_need_time() {
    let rows: Vec<_> = COMMANDS.iter().filter(|command| command.feature == Feature::Sanitize).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.opcode == 0x48 && row.timeouts.recommended_seconds >= 3600));
}
