//! A logical unit with a medium in memory, and shorthand to talk to it.

use bytes::Bytes;
use scsi::{
    AdditionalSense, BlockExtent, BlockSize, Cdb, Comparison, Completion, CopyCommand, CopyFault, CopyRange,
    CopyReport, CopySide, CopyWork, DataOut, Durability, Geometry, Identity, LogicalUnit, LogicalUnitConfig,
    Lun, MediaCommand, MediaOutcome, NexusId, NexusInfo, NotKept, Reservations, Resources, RodToken,
    SanitizeMethod, SenseKey, Status, Step, TargetPort, UnitReference,
};

/// Host A, which all shorthand speaks for.
pub(crate) const A: NexusId = NexusId(1);
/// Host B.
pub(crate) const B: NexusId = NexusId(2);

/// Blocks of the ordinary disk under test.
pub(crate) const BLOCKS: u64 = 2048;
/// Its block size.
pub(crate) const BLOCK: usize = 512;
/// What the medium allocates by.
const UNIT: u64 = 4096;

pub(crate) fn identity() -> Identity {
    Identity {
        naa: [0x60, 0x01, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        serial: "0123456789abcdef".into(),
        vendor: "PALISADE".into(),
        product: "volume".into(),
        revision: "0001".into(),
    }
}

pub(crate) fn config() -> LogicalUnitConfig {
    let mut config = LogicalUnitConfig::new(identity(), BlockSize::B512, BLOCKS);
    config.limits.atomic_bytes_max = 128 << 10;
    config.sanitize = true;
    config.crypto_erase = true;
    config
}

pub(crate) fn nexus(host: &str) -> NexusInfo {
    NexusInfo {
        initiator_port: format!("iqn.2026-01.test:{host},i,0x00023d000001"),
        target_port: TargetPort {
            target_name: "iqn.2026-01.test:volume".into(),
            portal_group_tag: 1,
            relative_id: 7,
        },
        read_only: false,
        returned: false,
    }
}

/// Byte at a time, so that nothing clever hides a mistake.
pub(crate) struct Medium {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mapped: Vec<bool>,
    /// What it says of its space.
    pub(crate) resources: Option<Resources>,
    /// Every command that came through, for tests that look at what was asked.
    pub(crate) log: Vec<MediaCommand>,
}

impl Medium {
    fn new(len: u64) -> Self {
        let mapped = usize::try_from(len.div_ceil(UNIT)).unwrap();
        let bytes = vec![0; usize::try_from(len).unwrap()];
        Self { bytes, mapped: vec![false; mapped], resources: None, log: Vec::new() }
    }

    fn slice(&mut self, offset: u64, len: u64) -> &mut [u8] {
        let start = usize::try_from(offset).unwrap();
        &mut self.bytes[start..start + usize::try_from(len).unwrap()]
    }

    fn map(&mut self, offset: u64, len: u64) {
        for unit in offset / UNIT..(offset + len).div_ceil(UNIT) {
            self.mapped[usize::try_from(unit).unwrap()] = true;
        }
    }

    fn write(&mut self, offset: u64, data: &[Bytes]) -> MediaOutcome {
        let data = data.concat();
        let len = data.len() as u64;
        self.slice(offset, len).copy_from_slice(&data);
        self.map(offset, len);
        MediaOutcome::Done
    }

    fn unmap(&mut self, offset: u64, len: u64) {
        self.slice(offset, len).fill(0);
        for unit in offset.div_ceil(UNIT)..(offset + len) / UNIT {
            self.mapped[usize::try_from(unit).unwrap()] = false;
        }
    }

    fn compare(&mut self, offset: u64, with: &[u8]) -> Option<u64> {
        let medium = self.slice(offset, with.len() as u64);
        medium.iter().zip(with).position(|(a, b)| a != b).map(|at| at as u64)
    }

    /// Copies within the medium; nothing else can be reached from here.
    fn copy(&mut self, command: &CopyCommand) -> CopyReport {
        let blocks = self.bytes.len() as u64 / BLOCK as u64;
        let geometry = Geometry { block_size: BlockSize::B512, blocks };
        match &command.work {
            CopyWork::Segments(segments) => {
                for segment in segments {
                    command.progress.begin_segment();
                    for (end, side) in
                        [(segment.source, CopySide::Source), (segment.destination, CopySide::Destination)]
                    {
                        if end.unit != UnitReference::Own {
                            return CopyReport::failed(CopyFault::Unreachable(side));
                        }
                    }
                    match segment.resolve(geometry, geometry) {
                        Ok(range) => self.copy_range(command, range),
                        Err(fault) => return CopyReport::failed(fault),
                    }
                }
                CopyReport::default()
            }
            CopyWork::CreateToken { ranges, .. } => {
                ranges.iter().for_each(|range| command.progress.advance(range.len));
                CopyReport { fault: None, token: Some(RodToken::from_bytes(&[0x5a; 512])) }
            }
            CopyWork::FromToken { ranges, .. } => {
                for range in ranges {
                    self.unmap(range.offset, range.len);
                    command.progress.advance(range.len);
                }
                CopyReport::default()
            }
        }
    }

    fn sanitize(&mut self, method: SanitizeMethod) -> MediaOutcome {
        let len = self.bytes.len();
        match method {
            SanitizeMethod::BlockErase | SanitizeMethod::CryptoErase => self.unmap(0, len as u64),
            SanitizeMethod::Overwrite(block) => {
                self.bytes = block.repeat(len / block.len());
                self.mapped.fill(true);
            }
        }
        MediaOutcome::Done
    }

    fn copy_range(&mut self, command: &CopyCommand, range: CopyRange) {
        let data = Bytes::copy_from_slice(self.slice(range.source_offset, range.len));
        self.write(range.destination_offset, &[data]);
        command.progress.advance(range.len);
    }

    fn status(&self, offset: u64, len: u64, max_extents: usize) -> MediaOutcome {
        let mut extents: Vec<BlockExtent> = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let mapped = self.mapped[usize::try_from(at / UNIT).unwrap()];
            let next = ((at / UNIT + 1) * UNIT).min(offset + len);
            let full = extents.len() == max_extents;
            match extents.last_mut() {
                Some(last) if last.mapped == mapped => last.len += next - at,
                _ if full => break,
                _ => extents.push(BlockExtent { len: next - at, mapped }),
            }
            at = next;
        }
        MediaOutcome::Status(extents)
    }

    /// Does what the documentation of [`MediaCommand`] says.
    pub(crate) fn perform(&mut self, command: MediaCommand) -> MediaOutcome {
        self.log.push(command.clone());
        match command {
            MediaCommand::Read { offset, len, .. } => {
                MediaOutcome::Data(vec![Bytes::copy_from_slice(self.slice(offset, len))])
            }
            MediaCommand::Write { offset, data, .. }
            | MediaCommand::WriteAtomic { offset, data, .. }
            | MediaCommand::WriteAndVerify { offset, data, .. } => self.write(offset, &data),
            MediaCommand::WriteSame { offset, len, pattern, .. } => {
                let count = usize::try_from(len).unwrap() / pattern.len();
                self.write(offset, &vec![pattern; count])
            }
            MediaCommand::WriteZeroes { offset, len, deallocate, .. } => {
                if deallocate {
                    self.unmap(offset, len);
                } else {
                    self.slice(offset, len).fill(0);
                }
                MediaOutcome::Done
            }
            MediaCommand::OrWrite { offset, data, .. } => {
                let data = data.concat();
                let found = self.slice(offset, data.len() as u64).to_vec();
                let merged: Vec<u8> = found.iter().zip(&data).map(|(a, b)| a | b).collect();
                self.write(offset, &[merged.into()])
            }
            MediaCommand::Resources => MediaOutcome::Resources(self.resources),
            MediaCommand::Unmap { ranges } => {
                ranges.iter().for_each(|range| self.unmap(range.offset, range.len));
                MediaOutcome::Done
            }
            MediaCommand::CompareAndWrite { offset, compare, write, .. } => {
                match self.compare(offset, &compare.concat()) {
                    Some(offset) => MediaOutcome::Miscompare { offset },
                    None => self.write(offset, &write),
                }
            }
            MediaCommand::Verify { offset, len, comparison } => {
                let with = match comparison {
                    Comparison::Readable => return MediaOutcome::Done,
                    Comparison::Bytes(chunks) => chunks.concat(),
                    Comparison::RepeatedBlock(block) => {
                        block.repeat(usize::try_from(len).unwrap() / block.len())
                    }
                };
                assert_eq!(with.len() as u64, len);
                self.compare(offset, &with)
                    .map_or(MediaOutcome::Done, |offset| MediaOutcome::Miscompare { offset })
            }
            MediaCommand::BlockStatus { offset, len, max_extents } => self.status(offset, len, max_extents),
            MediaCommand::Copy(copy) => MediaOutcome::Copied(self.copy(&copy)),
            MediaCommand::Sanitize { method, .. } => self.sanitize(method),
            MediaCommand::LeaveFailedSanitize => MediaOutcome::Done,
            MediaCommand::Flush { .. } | MediaCommand::Prefetch { .. } => MediaOutcome::Done,
        }
    }
}

/// A unit, its medium, and hosts A and B that have heard of the power on.
pub(crate) struct Disk {
    pub(crate) unit: LogicalUnit,
    pub(crate) medium: Medium,
    /// Reservations that outlive the unit, and what keeping them ends with.
    pub(crate) kept: Option<Reservations>,
    pub(crate) keeping: Result<(), NotKept>,
    /// The nexuses whose tasks had to end, in order.
    pub(crate) aborted: Vec<NexusId>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: LogicalUnitConfig) -> Self {
        let bytes = (config.blocks * u64::from(config.block_size.bytes())).min(64 << 20);
        let mut unit = LogicalUnit::new(config).unwrap();
        for (id, host) in [(A, "a"), (B, "b")] {
            unit.add_nexus(id, nexus(host));
        }
        let medium = Medium::new(bytes);
        let mut disk = Self { unit, medium, kept: None, keeping: Ok(()), aborted: Vec::new() };
        for id in [A, B] {
            let told = disk.of(id, &TEST_UNIT_READY, &[]);
            assert_eq!(SenseInfo::of(&told).additional, AdditionalSense::POWER_ON_OR_RESET);
        }
        disk
    }

    /// The step a CDB of host A leads to.
    pub(crate) fn step(&mut self, cdb: &[u8], data: &[u8]) -> Step {
        self.unit.execute(A, &Cdb::new(cdb), data_out(data))
    }

    /// The medium command a CDB leads to, which stays unfinished.
    pub(crate) fn asks(&mut self, cdb: &[u8], data: &[u8]) -> MediaCommand {
        match self.step(cdb, data) {
            Step::Media(command, pending) => {
                drop(pending);
                command
            }
            other => panic!("{cdb:02x?} asks nothing of the medium: {other:?}"),
        }
    }

    /// Runs a command of `id` to its end.
    pub(crate) fn of(&mut self, id: NexusId, cdb: &[u8], data: &[u8]) -> Completion {
        self.of_with(id, cdb, data_out(data))
    }

    pub(crate) fn of_with(&mut self, id: NexusId, cdb: &[u8], data: DataOut) -> Completion {
        let step = self.unit.execute(id, &Cdb::new(cdb), data);
        self.carry_out(step)
    }

    /// Does what a step asks for, until the host is answered.
    pub(crate) fn carry_out(&mut self, step: Step) -> Completion {
        match step {
            Step::Done(completion) => completion,
            Step::Media(command, pending) => {
                let outcome = self.medium.perform(command);
                self.unit.finish(pending, outcome)
            }
            Step::Background(command, pending, completion) => {
                let outcome = self.medium.perform(command);
                let _ = self.unit.finish(pending, outcome);
                completion
            }
            Step::ReportLuns(report) => report.complete(&[Lun::default()]),
            Step::Persist(reservations, pending) => {
                if self.keeping.is_ok() {
                    self.kept = reservations;
                }
                let step = self.unit.persisted(pending, self.keeping);
                self.carry_out(step)
            }
            Step::Abort(nexuses, completion) => {
                self.aborted.extend(nexuses);
                completion
            }
        }
    }

    /// Runs a command of host A.
    pub(crate) fn run(&mut self, cdb: &[u8], data: &[u8]) -> Completion {
        self.of(A, cdb, data)
    }

    /// Runs a command that has to succeed and returns its Data-In.
    #[track_caller]
    pub(crate) fn good(&mut self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let completion = self.run(cdb, data);
        assert_eq!(completion.status, Status::Good, "{cdb:02x?}: {:02x?}", completion.sense);
        completion.data_in.concat()
    }

    /// Runs a command that has to fail and returns why.
    #[track_caller]
    pub(crate) fn bad(&mut self, cdb: &[u8], data: &[u8]) -> SenseInfo {
        let completion = self.run(cdb, data);
        assert_eq!(completion.status, Status::CheckCondition, "{cdb:02x?} did not fail");
        assert!(completion.data_in.is_empty());
        SenseInfo::of(&completion)
    }

    /// Asserts that a command fails as an ILLEGAL REQUEST with `additional`.
    #[track_caller]
    pub(crate) fn illegal(&mut self, cdb: &[u8], data: &[u8], additional: AdditionalSense) -> SenseInfo {
        let info = self.bad(cdb, data);
        assert_eq!((info.key, info.additional), (SenseKey::IllegalRequest.code(), additional), "{cdb:02x?}");
        info
    }

    /// What `id` hears of when it looks.
    pub(crate) fn told(&mut self, id: NexusId) -> Option<AdditionalSense> {
        let completion = self.of(id, &TEST_UNIT_READY, &[]);
        (completion.status == Status::CheckCondition).then(|| SenseInfo::of(&completion).additional)
    }
}

pub(crate) const TEST_UNIT_READY: [u8; 6] = [0; 6];

pub(crate) fn data_out(data: &[u8]) -> DataOut {
    // In two chunks, as they may come from several PDUs.
    let (first, second) = data.split_at(data.len() / 3);
    let chunks = [first, second].into_iter().filter(|chunk| !chunk.is_empty());
    DataOut::new(chunks.map(Bytes::copy_from_slice).collect(), u32::try_from(data.len()).unwrap())
}

/// Sense data, read back from its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SenseInfo {
    pub(crate) key: u8,
    pub(crate) additional: AdditionalSense,
    pub(crate) information: Option<u64>,
    /// In the CDB?, byte, bit.
    pub(crate) field: Option<(bool, u16, Option<u8>)>,
}

impl SenseInfo {
    #[track_caller]
    pub(crate) fn of(completion: &Completion) -> Self {
        assert_eq!(completion.status, Status::CheckCondition);
        Self::parse(&completion.sense)
    }

    #[track_caller]
    pub(crate) fn parse(sense: &[u8]) -> Self {
        let additional = |code, qualifier| AdditionalSense { code, qualifier };
        match sense[0] & 0x7f {
            0x70 => {
                assert_eq!(sense.len(), 18);
                let information = u32::from_be_bytes(sense[3..7].try_into().unwrap());
                Self {
                    key: sense[2],
                    additional: additional(sense[12], sense[13]),
                    information: (sense[0] & 0x80 != 0).then(|| information.into()),
                    field: field(&sense[15..18]),
                }
            }
            0x72 => {
                assert_eq!(sense.len(), 8 + usize::from(sense[7]));
                let mut info = Self {
                    key: sense[1],
                    additional: additional(sense[2], sense[3]),
                    information: None,
                    field: None,
                };
                let mut rest = &sense[8..];
                while let [kind, len, ..] = *rest {
                    match kind {
                        0 => info.information = Some(u64::from_be_bytes(rest[4..12].try_into().unwrap())),
                        2 => info.field = field(&rest[4..7]),
                        other => panic!("descriptor {other:02x}"),
                    }
                    rest = &rest[2 + usize::from(len)..];
                }
                info
            }
            other => panic!("response code {other:02x}"),
        }
    }
}

fn field(bytes: &[u8]) -> Option<(bool, u16, Option<u8>)> {
    let bit = (bytes[0] & 0x08 != 0).then_some(bytes[0] & 0x07);
    (bytes[0] & 0x80 != 0).then(|| (bytes[0] & 0x40 != 0, u16::from_be_bytes([bytes[1], bytes[2]]), bit))
}

/// The CDBs of one family, by their sizes: address, length and byte 1.
pub(crate) fn cdb(opcode: u8, flags: u8, lba: u64, length: u32) -> Vec<u8> {
    let length_bytes = length.to_be_bytes();
    let lba_bytes = lba.to_be_bytes();
    match opcode >> 5 {
        0 => {
            let [_, high, middle, low] = u32::try_from(lba).unwrap().to_be_bytes();
            assert!(high & 0xe0 == 0 && flags == 0);
            vec![opcode, high, middle, low, length_bytes[3], 0]
        }
        1 | 2 => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&u32::try_from(lba).unwrap().to_be_bytes());
            cdb.extend_from_slice(&[0, length_bytes[2], length_bytes[3], 0]);
            cdb
        }
        4 => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&lba_bytes);
            cdb.extend_from_slice(&length_bytes);
            cdb.extend_from_slice(&[0, 0]);
            cdb
        }
        5 => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&u32::try_from(lba).unwrap().to_be_bytes());
            cdb.extend_from_slice(&length_bytes);
            cdb.extend_from_slice(&[0, 0]);
            cdb
        }
        _ => panic!("opcode {opcode:02x}"),
    }
}

/// The durability a write was asked for.
pub(crate) fn durability(command: &MediaCommand) -> Durability {
    match command {
        MediaCommand::Write { durability, .. }
        | MediaCommand::WriteAtomic { durability, .. }
        | MediaCommand::WriteSame { durability, .. }
        | MediaCommand::WriteZeroes { durability, .. }
        | MediaCommand::CompareAndWrite { durability, .. } => *durability,
        other => panic!("not a write: {other:?}"),
    }
}

/// Data of `blocks` blocks in which no two places look the same.
pub(crate) fn pattern(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| u8::try_from((at / BLOCK * 31 + at) % 251).unwrap()).collect()
}
