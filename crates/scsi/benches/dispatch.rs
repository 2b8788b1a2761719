//! Decoding, starting and finishing a command; what every I/O pays before and after the medium.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use scsi::{
    BlockSize, Cdb, DataOut, Identity, LogicalUnit, LogicalUnitConfig, MediaCommand, MediaOutcome, NexusId,
    NexusInfo, Step, TargetPort, data_out_len,
};

fn unit() -> LogicalUnit {
    let identity = Identity {
        naa: [0x60; 16],
        serial: "0123456789abcdef".into(),
        vendor: "PALISADE".into(),
        product: "volume".into(),
        revision: "0001".into(),
    };
    let mut unit = LogicalUnit::new(LogicalUnitConfig::new(identity, BlockSize::B512, 1 << 32)).unwrap();
    for id in 0..64 {
        let target_port = TargetPort { target_name: "iqn.t".into(), portal_group_tag: 1, relative_id: 1 };
        let info =
            NexusInfo { initiator_port: "iqn.i".into(), target_port, read_only: false, returned: false };
        unit.add_nexus(NexusId(id), info);
        let _ = unit.execute(NexusId(id), &Cdb::new(&[0; 6]), DataOut::none());
    }
    unit
}

fn dispatch(criterion: &mut Criterion) {
    let mut unit = unit();
    let read = Cdb::new(&[0x28, 0, 0, 1, 2, 3, 0, 0, 8, 0]);
    let write = Cdb::new(&[0x2a, 0, 0, 1, 2, 3, 0, 0, 8, 0]);
    let block = Bytes::from(vec![0; 4096]);
    criterion.bench_function("read(10)", |bencher| {
        bencher.iter(|| {
            let step = unit.execute(NexusId(17), black_box(&read), DataOut::none());
            let Step::Media(MediaCommand::Read { .. }, pending) = step else { unreachable!() };
            unit.finish(pending, MediaOutcome::Data(vec![block.clone()]))
        });
    });
    criterion.bench_function("write(10)", |bencher| {
        bencher.iter(|| {
            let data = DataOut::new(vec![block.clone()], data_out_len(write.bytes(), 512));
            let step = unit.execute(NexusId(17), black_box(&write), data);
            let Step::Media(command, pending) = step else { unreachable!() };
            let completion = unit.finish(pending, MediaOutcome::Done);
            (command, completion)
        });
    });
    let inquiry = Cdb::new(&[0x12, 1, 0x83, 0, 255, 0]);
    criterion.bench_function("inquiry, page 83h", |bencher| {
        bencher.iter(|| unit.execute(NexusId(17), black_box(&inquiry), DataOut::none()));
    });
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
