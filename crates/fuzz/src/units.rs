//! A logical unit between two hosts that send anything.

use crate::input::Input;
use crate::medium::{CAPACITY_BYTES, Medium};
use bytes::Bytes;
use scsi::{
    BlockSize, Cdb, Completion, DataOut, Identity, LogicalUnit, LogicalUnitConfig, MediaFailureKind,
    MediaOutcome, NexusId, NexusInfo, NotKept, Pending, Sanitization, Status, Step, TargetPort,
};

/// Commands on their way to the medium at most.
const HELD_MAX: usize = 8;

/// A unit, its medium, and commands that wait for it.
pub(crate) struct Unit {
    unit: LogicalUnit,
    medium: Medium,
    held: Vec<(scsi::MediaCommand, Pending)>,
}

impl Unit {
    pub(crate) fn new(block_size: BlockSize) -> Self {
        let identity = Identity {
            naa: [0x6e; 16],
            serial: "fuzz".into(),
            vendor: "PALISADE".into(),
            product: "VOLUME".into(),
            revision: "1".into(),
        };
        let block_bytes = u64::from(block_size.bytes());
        let mut config = LogicalUnitConfig::new(identity, block_size, CAPACITY_BYTES / block_bytes);
        config.limits.atomic_bytes_max = 128 << 10;
        config.sanitize = true;
        config.crypto_erase = true;
        let mut unit = LogicalUnit::new(config).expect("a plain configuration");
        unit.keep_reservations(None);
        for id in 0..2 {
            let tag = u16::try_from(id + 1).expect("small");
            let target_port = TargetPort {
                target_name: "iqn.2026-11.local:t".into(),
                portal_group_tag: tag,
                relative_id: tag,
            };
            let initiator_port = format!("iqn.2026-11.local:i{id},i,0x00023d00000{id}");
            unit.add_nexus(
                NexusId(id),
                NexusInfo { initiator_port, target_port, read_only: false, returned: false },
            );
        }
        Self { unit, medium: Medium::new(block_bytes), held: Vec::new() }
    }

    /// Carries a command out at once.
    pub(crate) fn execute(&mut self, nexus: NexusId, cdb: &[u8], data_out: DataOut) -> Option<Completion> {
        let step = self.unit.execute(nexus, &Cdb::new(cdb), data_out);
        self.take(step, false)
    }

    /// Starts a command; what the medium has to do waits if there is room for it.
    fn start(&mut self, nexus: NexusId, cdb: &[u8], data_out: DataOut) -> Option<Completion> {
        let hold = self.held.len() < HELD_MAX;
        let step = self.unit.execute(nexus, &Cdb::new(cdb), data_out);
        self.take(step, hold)
    }

    fn take(&mut self, step: Step, hold: bool) -> Option<Completion> {
        match step {
            Step::Done(completion) | Step::Abort(_, completion) => Some(completion),
            Step::Media(command, pending) if hold => {
                self.held.push((command, pending));
                None
            }
            Step::Media(command, pending) => {
                let outcome = self.medium.carry_out(command);
                Some(self.unit.finish(pending, outcome))
            }
            Step::Background(command, pending, completion) => {
                let outcome = self.medium.carry_out(command);
                check(&self.unit.finish(pending, outcome));
                Some(completion)
            }
            Step::Persist(kept, pending) => {
                let full = kept.is_some_and(|kept| kept.registrations.len() > 2);
                let step = self.unit.persisted(pending, if full { Err(NotKept::NoRoom) } else { Ok(()) });
                self.take(step, hold)
            }
            Step::ReportLuns(report) => Some(report.complete(&[])),
        }
    }

    /// Ends a command that waits: well, or with a failure.
    fn finish(&mut self, choice: u8) -> Option<Completion> {
        if self.held.is_empty() {
            return None;
        }
        let (command, pending) = self.held.swap_remove(usize::from(choice) % self.held.len());
        let failure = match choice >> 4 {
            1 => Some(MediaFailureKind::MediumError),
            2 => Some(MediaFailureKind::SpaceExhausted),
            3 => Some(MediaFailureKind::Busy),
            _ => None,
        };
        let outcome = match failure {
            Some(kind) => MediaOutcome::Failed(kind.into()),
            None => self.medium.carry_out(command),
        };
        Some(self.unit.finish(pending, outcome))
    }
}

/// What a volume may say of itself.
fn sanitization(choice: u8) -> Sanitization {
    match choice & 7 {
        5 => Sanitization::Running { progress: 1 << 14 },
        6 => Sanitization::Failed { unrestricted_exit: false },
        7 => Sanitization::Failed { unrestricted_exit: true },
        _ => Sanitization::Idle,
    }
}

/// SAM-5: sense data comes with CHECK CONDITION and only with it, and data does not come with it.
pub(crate) fn check(completion: &Completion) {
    let refused = completion.status == Status::CheckCondition;
    assert_eq!(refused, !completion.sense.is_empty(), "{completion:?}");
    assert!(completion.sense.len() <= 252, "sense data is at most 252 bytes");
}

/// Two hosts send any commands with any data to one unit: nothing panics, nothing outside the volume is touched, and
/// every answer is one of SAM's.
pub fn cdb(input: &[u8]) {
    let mut input = Input::new(input);
    let block_size = if input.byte() & 1 == 0 { BlockSize::B512 } else { BlockSize::B4096 };
    let mut unit = Unit::new(block_size);
    while !input.is_empty() {
        let choice = input.byte();
        let nexus = NexusId(u64::from(choice & 1));
        let completion = match choice >> 1 & 7 {
            0 => unit.finish(input.byte()),
            1 => {
                unit.unit.reset();
                unit.unit.set_sanitization(sanitization(choice >> 4));
                None
            }
            how => {
                let cdb: [u8; 16] = input.array();
                let wanted = scsi::data_out_len(&cdb, block_size.bytes());
                let given = u32::from(input.number() & 0x0fff);
                let count = usize::from(input.byte());
                let mut data = input.bytes(count).to_vec();
                // Most commands come with as much as they take.
                let len = if how == 2 { given } else { wanted.min(64 << 10) };
                data.resize(usize::try_from(len.min(wanted)).unwrap_or(0), choice);
                let data_out = DataOut::new(vec![Bytes::from(data)], len);
                if how == 3 { unit.start(nexus, &cdb, data_out) } else { unit.execute(nexus, &cdb, data_out) }
            }
        };
        completion.iter().for_each(check);
    }
    while let Some(completion) = unit.finish(0) {
        check(&completion);
    }
}
