//! A scripted array: it does what the standards say, written independently of our target, and lies where told.

mod blocks;
mod copies;
mod identity;
mod reservations;

use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use initiator::{Answer, ClientError};

use crate::fabric::{Discovered, Fabric, Local, NexusSpec, Peer};
use crate::request::Request;

/// Blocks of each unit.
pub(crate) const BLOCKS: u64 = 64 << 11;
pub(crate) const BLOCK: usize = 512;

/// What the array does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Another product on the second path.
    OtherProduct,
    /// A listed VPD page is not there.
    MissingPage,
    /// TPGS says that hosts may set states.
    FalseExplicit,
    /// Groups are in a state that they do not support.
    ImpossibleState,
    /// The second path is in standby, and reads.
    BusyStandby,
    /// Another serial number on the second path.
    OtherSerial,
    /// No name of the unit.
    Nameless,
    /// Another NAA name on the second path.
    OtherName,
    /// READ CAPACITY (10) is one block off.
    OtherCapacity,
    /// The first aligned block is not 0.
    Misaligned,
    /// Optimal transfer length above the maximum.
    AbsurdLimits,
    /// Its own LUN is not in REPORT LUNS.
    UnlistedLun,
    /// TPGS is set on one path and clear on the other.
    OtherTpgs,
    /// Port groups differ by path (tcmu-runner#452).
    OtherGroups,
    /// No group is active.
    NoActiveGroup,
    /// VPD 83h names a group that is not reported.
    UnknownGroup,
    /// Both ports say the same relative identifier.
    SamePort,
    /// The second path serves another copy of the data.
    SplitBrain,
    /// A command is reported but not there.
    FalseSupport,
    /// One command format tells another CDB length.
    OtherLength,
    /// COMPARE AND WRITE is neither reported nor there.
    NoCompareAndWrite,
    /// Unknown operation codes are GOOD.
    AllIsGood,
    /// Reads past the end return zeroes.
    NoEnd,
    /// No persistent reservations.
    NoReservations,
    /// Reads are slow.
    Slow,
    /// Type 8h is not there.
    FiveTypes,
    /// Registering with a wrong key works.
    AnyKey,
    /// READ RESERVATION is empty right after RESERVE (esos#62).
    EmptyRead,
    /// Unit attentions do not reach others (scst#155).
    LostAttention,
    /// Registrants may not write under Registrants Only.
    StrictTypes,
    /// The holder's unregistering keeps the reservation.
    KeptReservation,
    /// PREEMPT leaves the victim registered.
    KeptVictim,
    /// PREEMPT wins for everybody.
    EveryoneWins,
    /// The generation stands still.
    FrozenGeneration,
    /// READ FULL STATUS leaves the last registration out.
    ShortStatus,
    /// Registrations end with the session.
    Forgetful,
    /// APTPL is taken but not reported.
    HiddenPowerLoss,
    /// Lists of any length are taken.
    AnyLength,
    /// RESERVE(6) is GOOD to everybody.
    WeakReserve,
    /// A preempted owner may still write.
    LateOwner,
    /// Writes of a victim land after PREEMPT AND ABORT.
    LateWrites,
    /// MAXIMUM COMPARE AND WRITE LENGTH is 0.
    HiddenCompare,
    /// A match is not written.
    EmptySwap,
    /// The offset of a miscompare is wrong.
    WrongOffset,
    /// COMPARE AND WRITE does not compare.
    BlindSwap,
    /// WRITE SAME writes a block too many.
    WideSame,
    /// UNMAP empties a block too many.
    WideUnmap,
    /// The list of copy descriptors is empty.
    NoDescriptors,
    /// EXTENDED COPY corrupts a byte.
    CorruptCopy,
    /// EXTENDED COPY to nowhere is GOOD.
    AnyCopy,
    /// No thresholds.
    NoThresholds,
    /// Absent units are there.
    GhostUnit,
    /// MAXIMUM UNMAP LBA COUNT is 0.
    NoUnmapLimit,
    /// The log page's parameters are of another format.
    OddLog,
    /// The threshold page has another code.
    OddThresholds,
    /// GET LBA STATUS begins elsewhere.
    StatusElsewhere,
    /// Unmapped blocks stay mapped.
    StillMapped,
    /// No ranges in the ODX limits.
    NoRanges,
    /// A token gives the source as it is now.
    LiveToken,
    /// The zero token writes nothing.
    LazyZero,
    /// Any token is taken.
    AnyToken,
    /// What is no token is an invalid field.
    OddTokenSense,
    /// DEL_TKN does nothing.
    UndyingToken,
    /// INACTIVITY TIMEOUT does nothing.
    PatientToken,
    /// Tokens for blocks that are not there.
    EndlessToken,
    /// Data differs with digests.
    DigestCorrupts,
    /// SendTargets does not name the target.
    Undiscovered,
    /// The old session lives on.
    TwoSessions,
    /// A new session of the same port is a stranger to its registration.
    LostPorts,
}

/// One session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    /// The portal: 0, or 1 for port 3261.
    pub(crate) path: usize,
    pub(crate) lun: u16,
    pub(crate) digests: bool,
    pub(crate) is_open: bool,
    pub(crate) attentions: VecDeque<(u8, u8)>,
    /// Tells sessions of the same port apart, for an array that does.
    pub(crate) number: usize,
}

/// The array's state.
pub(crate) struct State {
    pub(crate) lies: Vec<Lie>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) units: BTreeMap<u16, blocks::Unit>,
    pub(crate) reservations: BTreeMap<u16, reservations::Table>,
    pub(crate) tokens: Vec<copies::Token>,
    pub(crate) results: BTreeMap<u32, copies::Outcome>,
}

impl State {
    pub(crate) fn lies(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    /// A unit attention for a session.
    pub(crate) fn attention(&mut self, session: usize, code: (u8, u8)) {
        if !self.lies(Lie::LostAttention) {
            self.sessions[session].attentions.push_back(code);
        }
    }
}

/// GOOD with data.
pub(crate) fn good(data: impl Into<bytes::Bytes>) -> Answer {
    Answer { data: data.into(), ..Answer::default() }
}

/// A status alone.
pub(crate) fn status(status: u8) -> Answer {
    Answer { status, ..Answer::default() }
}

/// CHECK CONDITION.
pub(crate) fn sense(key: u8, code: u8, qualifier: u8) -> Answer {
    sense_at(key, code, qualifier, None)
}

/// CHECK CONDITION with an INFORMATION field.
pub(crate) fn sense_at(key: u8, code: u8, qualifier: u8, information: Option<u32>) -> Answer {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12], sense[13]) = (0x70, key, 10, code, qualifier);
    if let Some(information) = information {
        sense[0] = 0xf0;
        sense[3..7].copy_from_slice(&information.to_be_bytes());
    }
    Answer { status: 2, sense: sense.into(), ..Answer::default() }
}

/// The array, as a fabric for a run.
#[derive(Clone)]
pub(crate) struct Array(pub(crate) Rc<RefCell<State>>);

impl Array {
    pub(crate) fn new(lies: &[Lie]) -> Self {
        Self(Rc::new(RefCell::new(State {
            lies: lies.to_vec(),
            sessions: Vec::new(),
            units: (0..2).map(|lun| (lun, blocks::Unit::default())).collect(),
            reservations: (0..2).map(|lun| (lun, reservations::Table::default())).collect(),
            tokens: Vec::new(),
            results: BTreeMap::new(),
        })))
    }
}

impl Array {
    /// Registers somebody else with unit 0.
    pub(crate) fn register_a_stranger(&self, key: u64) {
        self.0.borrow_mut().stranger(key);
    }

    /// The keys registered with unit 0.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.0.borrow().keys()
    }
}

impl Fabric for Array {
    fn connect<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Rc<dyn Peer>, ClientError>> {
        let mut state = self.0.borrow_mut();
        let keep = state.lies(Lie::TwoSessions);
        for old in state.sessions.iter_mut().filter(|_| !keep) {
            if old.initiator == spec.initiator && old.isid == spec.isid {
                old.is_open = false;
            }
        }
        let number = if state.lies(Lie::LostPorts) { state.sessions.len() } else { 0 };
        state.sessions.push(Session {
            initiator: spec.initiator.clone(),
            isid: spec.isid,
            path: usize::from(spec.url.port == 3261),
            lun: spec.url.lun,
            digests: spec.digests.header || spec.digests.data,
            is_open: true,
            attentions: VecDeque::from([(0x29, 0x00)]),
            number,
        });
        let peer = Wire { array: self.0.clone(), session: state.sessions.len() - 1 };
        Box::pin(async move { Ok(Rc::new(peer) as Rc<dyn Peer>) })
    }

    fn discover<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Vec<Discovered>, ClientError>> {
        let name = if self.0.borrow().lies(Lie::Undiscovered) { "iqn.a:other" } else { &spec.url.iqn };
        let found = vec![(name.to_owned(), vec!["10.0.0.1:3260,1".to_owned(), "10.0.0.1:3261,2".to_owned()])];
        Box::pin(async move { Ok(found) })
    }
}

/// A session's end.
struct Wire {
    array: Rc<RefCell<State>>,
    session: usize,
}

impl Peer for Wire {
    fn send(&self, request: Request) -> Local<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            // As on a wire, others come in between the sending and the doing.
            tokio::task::yield_now().await;
            let is_slow = self.array.borrow().lies(Lie::Slow) && request.cdb[0] == 0x88;
            if is_slow {
                tokio::time::sleep(core::time::Duration::from_millis(700)).await;
            }
            let late = self.array.borrow().lies(Lie::LateWrites)
                && request.cdb[0] == 0x8a
                && request.data_out.len() == 64 << 10;
            if late && self.array.borrow().sessions[self.session].isid[5] == 0 {
                tokio::time::sleep(core::time::Duration::from_millis(200)).await;
                return Ok(self.array.borrow_mut().write_through(self.session, &request));
            }
            let mut state = self.array.borrow_mut();
            if !state.sessions[self.session].is_open {
                return Err(ClientError::ConnectionLost { reason: "replaced".into() });
            }
            Ok(state.execute(self.session, &request))
        })
    }

    fn log_out(&self) -> Local<'_, ()> {
        let mut state = self.array.borrow_mut();
        state.sessions[self.session].is_open = false;
        if state.lies(Lie::Forgetful) {
            state.forget(self.session);
        }
        Box::pin(async {})
    }
}

impl State {
    fn execute(&mut self, session: usize, request: &Request) -> Answer {
        let lun = request.lun.unwrap_or(self.sessions[session].lun);
        let opcode = request.cdb[0];
        if !self.units.contains_key(&lun) {
            return self.absent(opcode);
        }
        let waits = matches!(opcode, 0x12 | 0xa0 | 0x03);
        if !waits && let Some((code, qualifier)) = self.sessions[session].attentions.pop_front() {
            return sense(6, code, qualifier);
        }
        if self.conflicts(session, lun, request) {
            return status(0x18);
        }
        self.identify(session, lun, request)
            .or_else(|| self.reserve(session, lun, request))
            .or_else(|| self.transfer(session, lun, request))
            .or_else(|| self.copy(lun, request))
            .unwrap_or_else(|| match self.lies(Lie::AllIsGood) {
                true => good(Vec::new()),
                false => sense(5, 0x20, 0x00),
            })
    }

    fn absent(&self, opcode: u8) -> Answer {
        if opcode == 0x12 {
            let mut data = vec![0; 36];
            data[0] = if self.lies(Lie::GhostUnit) { 0 } else { 0x7f };
            return good(data);
        }
        if self.lies(Lie::GhostUnit) { good(Vec::new()) } else { sense(5, 0x25, 0x00) }
    }
}
