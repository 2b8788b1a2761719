//! What the host hears when the volume fails.

use bytes::Bytes;
use scsi::{
    AdditionalSense, BlockSize, Completion, LogicalUnitConfig, MediaFailure, MediaFailureKind, MediaOutcome,
    SenseKey, Status, Step,
};

use crate::harness::{BLOCK, Disk, SenseInfo, cdb, identity, pattern};

fn ends(disk: &mut Disk, cdb: &[u8], data: &[u8], outcome: MediaOutcome) -> Completion {
    let Step::Media(_, pending) = disk.step(cdb, data) else { panic!("{cdb:02x?}") };
    disk.unit.finish(pending, outcome)
}

fn failed(kind: MediaFailureKind, offset: Option<u64>) -> MediaOutcome {
    MediaOutcome::Failed(MediaFailure { kind, offset })
}

#[test]
fn each_kind_has_its_sense() {
    use MediaFailureKind as Kind;
    let table = [
        (Kind::MediumError, SenseKey::MediumError, AdditionalSense::WRITE_ERROR),
        (Kind::SpaceExhausted, SenseKey::DataProtect, AdditionalSense::SPACE_ALLOCATION_FAILED),
        (Kind::SpaceAllocationInProgress, SenseKey::NotReady, AdditionalSense::SPACE_ALLOCATION_IN_PROGRESS),
        (Kind::NotReady, SenseKey::NotReady, AdditionalSense::NOT_READY),
        (Kind::WriteProtected, SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED),
        (Kind::OutOfRange, SenseKey::IllegalRequest, AdditionalSense::LBA_OUT_OF_RANGE),
        (Kind::Aborted, SenseKey::AbortedCommand, AdditionalSense::NONE),
        (Kind::Internal, SenseKey::HardwareError, AdditionalSense::INTERNAL_TARGET_FAILURE),
    ];
    let mut disk = Disk::new();
    for (kind, key, additional) in table {
        let completion = ends(&mut disk, &cdb(0x2a, 0, 0, 1), &pattern(1), failed(kind, None));
        let info = SenseInfo::of(&completion);
        assert_eq!((info.key, info.additional), (key.code(), additional), "{kind:?}");
        assert_eq!(info.information, None);
    }
    let busy = ends(&mut disk, &cdb(0x28, 0, 0, 1), &[], failed(Kind::Busy, None));
    assert_eq!((busy.status, busy.sense.len()), (Status::Busy, 0));
}

/// Promise 5 and VMware's "TP stun": 07h/27h/07h is what hosts wait at instead of failing.
#[test]
fn out_of_space_is_space_allocation_failed_write_protect() {
    let mut disk = Disk::new();
    let completion =
        ends(&mut disk, &cdb(0x2a, 0, 0, 1), &pattern(1), failed(MediaFailureKind::SpaceExhausted, None));
    let sense = completion.sense;
    assert_eq!((sense[2], sense[12], sense[13]), (0x07, 0x27, 0x07));
}

/// Promise 2: a lost block is a MEDIUM ERROR that names the block, so that hosts can map around it.
#[test]
fn a_medium_error_names_the_block() {
    let outcome = || failed(MediaFailureKind::MediumError, Some(8 * 512));
    let mut disk = Disk::new();
    for (cdb, data, additional) in [
        (cdb(0x28, 0, 4, 8), vec![], AdditionalSense::UNRECOVERED_READ_ERROR),
        (cdb(0x2f, 0, 4, 8), vec![], AdditionalSense::UNRECOVERED_READ_ERROR),
        (cdb(0x89, 0, 4, 8), pattern(16), AdditionalSense::UNRECOVERED_READ_ERROR),
        (cdb(0x2a, 0, 4, 8), pattern(8), AdditionalSense::WRITE_ERROR),
        (cdb(0x41, 0, 4, 8), pattern(1), AdditionalSense::WRITE_ERROR),
        (cdb(0x35, 0, 4, 8), vec![], AdditionalSense::WRITE_ERROR),
    ] {
        let info = SenseInfo::of(&ends(&mut disk, &cdb, &data, outcome()));
        assert_eq!((info.key, info.additional), (3, additional), "{cdb:02x?}");
        assert_eq!(info.information, Some(8));
    }
    let mut large = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 1 << 20));
    let outcome = failed(MediaFailureKind::MediumError, Some(40_960));
    let info = SenseInfo::of(&ends(&mut large, &cdb(0x28, 0, 4, 8), &[], outcome));
    assert_eq!(info.information, Some(10));
}

/// Neither wrong data nor a panic, should the caller answer the wrong question.
#[test]
fn answers_that_do_not_fit_are_internal_failures() {
    let mut disk = Disk::new();
    let data = |len: usize| MediaOutcome::Data(vec![Bytes::from(vec![0; len])]);
    let status = || MediaOutcome::Status(Vec::new());
    let miscompare = || MediaOutcome::Miscompare { offset: 0 };
    let read = cdb(0x28, 0, 0, 2);
    let write = cdb(0x2a, 0, 0, 1);
    let mut get_lba_status = cdb(0x9e, 0x12, 0, 24);
    get_lba_status.truncate(16);
    for (cdb, outcome) in [
        (&read, data(BLOCK)),
        (&read, data(3 * BLOCK)),
        (&read, data(0)),
        (&read, MediaOutcome::Done),
        (&read, status()),
        (&read, miscompare()),
        (&write, data(BLOCK)),
        (&write, miscompare()),
        (&write, status()),
        (&get_lba_status, data(8)),
        (&get_lba_status, MediaOutcome::Done),
    ] {
        let completion = ends(&mut disk, cdb, &pattern(1), outcome.clone());
        let info = SenseInfo::of(&completion);
        assert_eq!((info.key, info.additional), (4, AdditionalSense::INTERNAL_TARGET_FAILURE), "{outcome:?}");
        assert!(completion.data_in.is_empty());
    }
}

#[test]
fn a_read_passes_its_chunks_on_unchanged() {
    let mut disk = Disk::new();
    let chunks = vec![Bytes::from_static(&[1; 512]), Bytes::from_static(&[2; 512])];
    let completion = ends(&mut disk, &cdb(0x28, 0, 0, 2), &[], MediaOutcome::Data(chunks.clone()));
    assert_eq!(completion.data_in.len(), 2);
    assert!(completion.data_in.iter().zip(&chunks).all(|(out, put)| out.as_ptr() == put.as_ptr()));
}

/// A command outlives its nexus when a session dies under it.
#[test]
fn a_command_of_a_gone_nexus_can_be_finished() {
    let mut disk = Disk::new();
    let Step::Media(_, pending) = disk.step(&cdb(0x2a, 0, 0, 1), &pattern(1)) else { panic!() };
    disk.unit.remove_nexus(crate::harness::A);
    assert_eq!(disk.unit.finish(pending, MediaOutcome::Done), Completion::good());
}
