//! A LUN with nothing behind it (SAM-5 5.11, SPC-4 6.4.1).

use scsi::{AdditionalSense, Cdb, Completion, Lun, SenseKey, Status, Step, absent};

use crate::harness::{SenseInfo, cdb};

fn run(cdb: &[u8]) -> Completion {
    match absent::execute(&Cdb::new(cdb)) {
        Step::Done(completion) => completion,
        Step::ReportLuns(report) => report.complete(&[Lun::new(3).unwrap()]),
        other => panic!("there is neither medium nor reservation: {other:?}"),
    }
}

#[test]
fn inquiry_says_that_nothing_is_here() {
    let data = run(&[0x12, 0, 0, 0, 255, 0]).data_in.concat();
    assert_eq!((data.len(), data[0], data[2], data[4]), (36, 0x7f, 6, 31));
    assert!(data[5..].iter().all(|byte| *byte == 0));
    assert_eq!(run(&[0x12, 0, 0, 0, 5, 0]).data_in.concat(), data[..5]);
    assert_eq!(run(&[0x12, 1, 0, 0, 255, 0]).data_in.concat(), [0x7f, 0, 0, 1, 0]);
    for wrong in [[0x12, 1, 0x83, 0, 255, 0], [0x12, 0, 0x83, 0, 255, 0], [0x12, 2, 0, 0, 255, 0]] {
        assert_eq!(SenseInfo::of(&run(&wrong)).additional, AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn report_luns_works() {
    let data = run(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).data_in.concat();
    assert_eq!(data, [0, 0, 0, 8, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(run(&[0xa0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0]).status, Status::CheckCondition);
}

#[test]
fn request_sense_returns_not_supported_as_data() {
    for desc in [0, 1] {
        let completion = run(&[0x03, desc, 0, 0, 255, 0]);
        assert_eq!(completion.status, Status::Good);
        let info = SenseInfo::parse(&completion.data_in.concat());
        assert_eq!((info.key, info.additional), (5, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED));
    }
}

#[test]
fn everything_else_is_not_supported() {
    for cdb in [vec![0; 6], cdb(0x28, 0, 0, 1), cdb(0x2a, 0, 0, 1), vec![0xff; 16], vec![0x9e, 0x10]] {
        let info = SenseInfo::of(&run(&cdb));
        assert_eq!(info.key, SenseKey::IllegalRequest.code());
        assert_eq!(info.additional, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    }
}
