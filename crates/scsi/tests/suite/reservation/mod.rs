//! Persistent reservations (SPC-4 5.13, 6.15, 6.16) and RESERVE and RELEASE of SPC-2, as several hosts see them.

mod access;
mod identity;
mod kept;
mod preempt;
mod register;
mod reserve;
mod scenarios;
mod spc2;

use scsi::{AdditionalSense, Completion, NexusId, NexusInfo, ReservationType, Reservations, Status};

use crate::harness::{A, B, Disk, SenseInfo, TEST_UNIT_READY, nexus};

/// A third host.
pub(crate) const C: NexusId = NexusId(3);
/// Host A through a second target port.
pub(crate) const A2: NexusId = NexusId(4);
/// Nobody: looks at what there is, so that those it is about do not hear of it by that.
const OBSERVER: NexusId = NexusId(99);
/// Relative identifiers of the ports that A, B and C, and that A2 came through.
pub(crate) const PORT: u16 = 7;
pub(crate) const PORT2: u16 = 9;

/// Keys, by host.
pub(crate) const KEY_A: u64 = 0xa;
pub(crate) const KEY_B: u64 = 0xb;
pub(crate) const KEY_C: u64 = 0xc;

/// Service actions of PERSISTENT RESERVE OUT.
pub(crate) const REGISTER: u8 = 0;
pub(crate) const RESERVE: u8 = 1;
pub(crate) const RELEASE: u8 = 2;
pub(crate) const CLEAR: u8 = 3;
pub(crate) const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
pub(crate) const REGISTER_AND_IGNORE: u8 = 6;
pub(crate) const REGISTER_AND_MOVE: u8 = 7;

pub(crate) const SPEC_I_PT: u8 = 0x08;
pub(crate) const ALL_TG_PT: u8 = 0x04;
pub(crate) const APTPL: u8 = 0x01;

pub(crate) const PREEMPTED: AdditionalSense = AdditionalSense::RESERVATIONS_PREEMPTED;
pub(crate) const RELEASED: AdditionalSense = AdditionalSense::RESERVATIONS_RELEASED;
pub(crate) const UNREGISTERED: AdditionalSense = AdditionalSense::REGISTRATIONS_PREEMPTED;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Good,
    Conflict,
    Busy,
    /// Sense key and additional sense.
    Check(u8, AdditionalSense),
}

pub(crate) const BAD_PARAMETER: End = End::Check(5, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
pub(crate) const BAD_FIELD: End = End::Check(5, AdditionalSense::INVALID_FIELD_IN_CDB);
pub(crate) const BAD_LENGTH: End = End::Check(5, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

impl End {
    pub(crate) fn of(completion: &Completion) -> Self {
        match completion.status {
            Status::Good => Self::Good,
            Status::ReservationConflict => Self::Conflict,
            Status::Busy => Self::Busy,
            Status::CheckCondition => {
                let info = SenseInfo::of(completion);
                Self::Check(info.key, info.additional)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What READ RESERVATION says: key and type.
pub(crate) type Held = Option<(u64, u8)>;

/// A disk and the hosts of a cluster. No unit attention is pending at first.
pub(crate) struct Cluster {
    pub(crate) disk: Disk,
}

pub(crate) fn through(host: &str, port: u16) -> NexusInfo {
    let mut info = nexus(host);
    info.target_port.relative_id = port;
    info.target_port.portal_group_tag = port;
    info
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// A unit that kept these reservations.
    pub(crate) fn with(kept: Option<Reservations>) -> Self {
        let mut disk = Disk::new();
        disk.unit.keep_reservations(kept.clone());
        disk.kept = kept;
        disk.unit.add_nexus(C, through("c", PORT));
        disk.unit.add_nexus(OBSERVER, through("observer", PORT));
        disk.unit.add_nexus(A2, through("a", PORT2));
        let mut cluster = Self { disk };
        for id in [C, A2, OBSERVER] {
            assert_eq!(cluster.told(id), [AdditionalSense::POWER_ON_OR_RESET]);
        }
        cluster
    }

    /// A, B and C are registered.
    pub(crate) fn registered() -> Self {
        let mut cluster = Self::new();
        for (id, key) in [(A, KEY_A), (B, KEY_B), (C, KEY_C)] {
            assert_eq!(cluster.register(id, key), End::Good);
        }
        cluster
    }

    /// A and B are registered, and A holds a reservation of this type, or one of all registrants.
    pub(crate) fn held(kind: ReservationType) -> Self {
        let mut cluster = Self::new();
        cluster.register(A, KEY_A);
        cluster.register(B, KEY_B);
        assert_eq!(cluster.out(A, RESERVE, kind.code(), KEY_A, 0), End::Good);
        cluster
    }

    pub(crate) fn end(&mut self, id: NexusId, cdb: &[u8], data: &[u8]) -> End {
        End::of(&self.disk.of(id, cdb, data))
    }

    /// PERSISTENT RESERVE OUT with a basic parameter list.
    pub(crate) fn out(&mut self, id: NexusId, action: u8, kind: u8, key: u64, new_key: u64) -> End {
        self.out_list(id, action, kind, &list(key, new_key, 0))
    }

    pub(crate) fn out_list(&mut self, id: NexusId, action: u8, kind: u8, list: &[u8]) -> End {
        self.end(id, &out_cdb(action, kind, list.len()), list)
    }

    pub(crate) fn register(&mut self, id: NexusId, key: u64) -> End {
        self.out(id, REGISTER_AND_IGNORE, 0, 0, key)
    }

    pub(crate) fn read_in(&mut self, action: u8) -> Vec<u8> {
        self.told(OBSERVER);
        let answer = self.disk.of(OBSERVER, &[0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[]);
        assert_eq!(answer.status, Status::Good);
        answer.data_in.concat()
    }

    /// PRGENERATION and the registered keys.
    pub(crate) fn keys(&mut self) -> (u32, Vec<u64>) {
        let data = self.read_in(0);
        let len = usize::try_from(number(&data[4..8])).unwrap();
        assert_eq!(data.len(), 8 + len, "ADDITIONAL LENGTH");
        let generation = u32::try_from(number(&data[..4])).unwrap();
        (generation, data[8..].chunks(8).map(number).collect())
    }

    pub(crate) fn generation(&mut self) -> u32 {
        self.keys().0
    }

    pub(crate) fn held_now(&mut self) -> Held {
        let data = self.read_in(1);
        match number(&data[4..8]) {
            0 => None,
            16 => {
                assert!(data.len() == 24 && data[16..21] == [0; 5] && data[22..] == [0, 0]);
                Some((number(&data[8..16]), data[21]))
            }
            len => panic!("{len} bytes of a reservation"),
        }
    }

    /// What a host hears of when it looks, until there is no more.
    pub(crate) fn told(&mut self, id: NexusId) -> Vec<AdditionalSense> {
        std::iter::from_fn(|| self.disk.told(id)).collect()
    }

    pub(crate) fn write(&mut self, id: NexusId) -> End {
        self.end(id, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x5a; 512])
    }

    pub(crate) fn read(&mut self, id: NexusId) -> End {
        self.end(id, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[])
    }

    pub(crate) fn ready(&mut self, id: NexusId) -> End {
        self.end(id, &TEST_UNIT_READY, &[])
    }
}

pub(crate) fn out_cdb(action: u8, kind: u8, len: usize) -> [u8; 10] {
    let [a, b, c, d] = u32::try_from(len).unwrap().to_be_bytes();
    [0x5f, action, kind, 0, 0, a, b, c, d, 0]
}

/// The basic parameter list.
pub(crate) fn list(key: u64, new_key: u64, flags: u8) -> Vec<u8> {
    [&key.to_be_bytes()[..], &new_key.to_be_bytes(), &[0; 4], &[flags, 0, 0, 0]].concat()
}

/// An iSCSI TransportID of format 01b (SPC-4 table 509).
pub(crate) fn transport_id(host: &str) -> Vec<u8> {
    id_of(0x45, &nexus(host).initiator_port)
}

/// Of format 00b: without a port (table 508).
pub(crate) fn device_id(host: &str) -> Vec<u8> {
    id_of(0x05, &format!("iqn.2026-01.test:{host}"))
}

fn id_of(format: u8, name: &str) -> Vec<u8> {
    let len = (name.len() + 1).next_multiple_of(4);
    let mut id = vec![format, 0, 0, u8::try_from(len).unwrap()];
    id.extend_from_slice(name.as_bytes());
    id.resize(4 + len, 0);
    id
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
