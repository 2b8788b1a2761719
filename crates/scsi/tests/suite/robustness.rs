//! Whatever arrives, the unit answers: no panic, nothing out of range, no unbounded work (promise 9).

use proptest::collection::vec;
use proptest::prelude::*;
use scsi::command::COMMANDS;
use scsi::{
    BlockSize, Cdb, DataOut, LogicalUnitConfig, Lun, MediaCommand, MediaFailureKind, MediaOutcome, Status,
    Step, absent, data_out_len,
};

use crate::harness::{A, Disk, SenseInfo, config, data_out, identity};

/// The range a command touches, as offset and length.
fn ranges(command: &MediaCommand) -> Vec<(u64, u64)> {
    let sum = |chunks: &[bytes::Bytes]| chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    match command {
        MediaCommand::Read { offset, len, .. }
        | MediaCommand::WriteSame { offset, len, .. }
        | MediaCommand::WriteZeroes { offset, len, .. }
        | MediaCommand::Verify { offset, len, .. }
        | MediaCommand::Flush { offset, len }
        | MediaCommand::BlockStatus { offset, len, .. }
        | MediaCommand::Prefetch { offset, len } => vec![(*offset, *len)],
        MediaCommand::Write { offset, data, .. }
        | MediaCommand::WriteAtomic { offset, data, .. }
        | MediaCommand::WriteAndVerify { offset, data, .. }
        | MediaCommand::OrWrite { offset, data, .. } => {
            vec![(*offset, sum(data))]
        }
        MediaCommand::CompareAndWrite { offset, compare, write, .. } => {
            assert_eq!(sum(compare), sum(write));
            vec![(*offset, sum(compare))]
        }
        // Ranges beyond the own unit are checked where they are resolved.
        MediaCommand::Copy(_) => Vec::new(),
        MediaCommand::Unmap { ranges } => ranges.iter().map(|range| (range.offset, range.len)).collect(),
        MediaCommand::Sanitize { .. } | MediaCommand::LeaveFailedSanitize | MediaCommand::Resources => {
            Vec::new()
        }
    }
}

fn check(disk: &mut Disk, blocks: u64, block_size: u64, cdb: &Cdb, data: DataOut) {
    match disk.unit.execute(A, cdb, data) {
        Step::Done(completion) => {
            let failed = completion.status == Status::CheckCondition;
            assert_eq!(failed, !completion.sense.is_empty());
            if failed {
                let _ = SenseInfo::parse(&completion.sense);
            }
            assert!(completion.data_in_len() < 1 << 16);
        }
        Step::Media(command, pending) | Step::Background(command, pending, _) => {
            for (offset, len) in ranges(&command) {
                assert!(len > 0 && offset % block_size == 0 && len % block_size == 0, "{command:?}");
                assert!(offset + len <= blocks * block_size, "{command:?}");
            }
            let completion =
                disk.unit.finish(pending, MediaOutcome::Failed(MediaFailureKind::MediumError.into()));
            assert_eq!(completion.status, Status::CheckCondition);
        }
        Step::ReportLuns(report) => assert_eq!(report.complete(&[Lun::default()]).status, Status::Good),
        Step::Persist(reservations, pending) => {
            assert!(reservations.is_none_or(|kept| kept.registrations.len() <= 4096));
            assert!(matches!(disk.unit.persisted(pending, Ok(())), Step::Done(_) | Step::Abort(..)));
        }
        Step::Abort(nexuses, completion) => {
            assert!(!nexuses.contains(&A) && completion.status == Status::Good);
        }
    }
}

/// Any bytes, or a known command with any bytes behind its operation code, biased to few set bits.
fn any_cdb() -> impl Strategy<Value = Vec<u8>> {
    let sparse = prop_oneof![6 => Just(0_u8), 1 => any::<u8>(), 1 => Just(0xff_u8), 1 => Just(1_u8)];
    let known = (0..COMMANDS.len(), vec(sparse, 16)).prop_map(|(at, mut cdb)| {
        cdb[0] = COMMANDS[at].opcode;
        if let Some(action) = COMMANDS[at].service_action {
            cdb[1] = cdb[1] & 0xe0 | action;
        }
        cdb
    });
    prop_oneof![1 => vec(any::<u8>(), 0..20), 8 => known]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_cdb_with_any_data_is_answered(cdb in any_cdb(), data in vec(any::<u8>(), 0..300), extra in 0_u32..3000) {
        let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
        let mut out = data_out(&data);
        out.expected_len += extra;
        check(&mut disk, 2048, 512, &Cdb::new(&cdb), out);
    }

    #[test]
    fn any_cdb_with_its_data_is_answered(cdb in any_cdb(), blocks in 1_u64..1 << 51, fill: u8) {
        let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, blocks));
        let len = data_out_len(&cdb, 4096).min(1 << 20);
        let chunk = bytes::Bytes::from(vec![fill; usize::try_from(len).unwrap()]);
        check(&mut disk, blocks, 4096, &Cdb::new(&cdb), DataOut::new(vec![chunk], len));
    }

    #[test]
    fn any_cdb_to_nowhere_is_answered(cdb in any_cdb()) {
        prop_assert!(!matches!(absent::execute(&Cdb::new(&cdb)), Step::Media(..)));
    }

    /// Addresses near the end and near 2^64, lengths that overflow their sum.
    #[test]
    fn addresses_at_every_edge_stay_inside(
        opcode in prop::sample::select(vec![0x88_u8, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x89, 0x9c]),
        near in prop::sample::select(vec![0_u64, 2048, 1 << 32, 1 << 55, 1 << 63, u64::MAX]),
        delta in -4_i64..4,
        length in prop_oneof![0_u32..8, Just(u32::MAX), Just(1 << 31)],
    ) {
        let mut disk = Disk::new();
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[2..10].copy_from_slice(&near.wrapping_add_signed(delta).to_be_bytes());
        cdb[10..14].copy_from_slice(&length.to_be_bytes());
        let len = data_out_len(&cdb, 512).min(1 << 16);
        let chunk = bytes::Bytes::from(vec![1; usize::try_from(len).unwrap()]);
        check(&mut disk, 2048, 512, &Cdb::from(cdb), DataOut::new(vec![chunk], len));
    }
}
