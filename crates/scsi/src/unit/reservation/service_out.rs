//! PERSISTENT RESERVE OUT (SPC-4 6.16): its CDB and parameter list.

use super::decide::{
    Action, FLAGS_AT, RELATIVE_PORT_AT, Refusal, Request, SERVICE_ACTION_KEY_AT, TRANSPORT_ID_AT,
};
use super::kind::{ReservationKey, ReservationType};
use super::registrant::{Registrant, TransportId};
use crate::completion::{Completion, Status};
use crate::sense::{AdditionalSense, Sense, SenseKey};
use crate::unit::dispatch::Task;
use crate::unit::parameters::gather;
use crate::unit::{DataOut, LogicalUnit, Step};

/// Length of a parameter list without TransportIDs.
const BASIC_LEN: usize = 24;
/// Longest parameter list, in bytes: TransportIDs of a cluster of any size.
const LEN_MAX: u32 = 256 << 10;
/// Behind the basic list: TRANSPORTID PARAMETER DATA LENGTH.
const LIST_LEN_AT: u16 = 24;
const LIST_AT: u16 = 28;

const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;
/// Of REGISTER AND MOVE, in another byte than the flags of the others.
const MOVE_FLAGS_AT: u16 = 17;
const UNREG: u8 = 0x02;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

impl Action {
    fn of(service_action: Option<u8>) -> Option<Self> {
        Some(match service_action? {
            0 => Self::Register,
            1 => Self::Reserve,
            2 => Self::Release,
            3 => Self::Clear,
            4 => Self::Preempt,
            5 => Self::PreemptAndAbort,
            6 => Self::RegisterAndIgnoreExistingKey,
            7 => Self::RegisterAndMove,
            _ => return None,
        })
    }

    /// It says for how long the state is to be kept.
    fn has_aptpl(self) -> bool {
        matches!(self, Self::Register | Self::RegisterAndIgnoreExistingKey | Self::RegisterAndMove)
    }

    /// It decides what others may do.
    fn concerns_others(self) -> bool {
        !matches!(self, Self::Register | Self::RegisterAndIgnoreExistingKey | Self::Release)
    }
}

/// A basic parameter list, and what is behind it.
struct List<'a> {
    basic: &'a [u8],
    rest: &'a [u8],
}

impl List<'_> {
    fn byte(&self, at: u16) -> u8 {
        self.basic.get(usize::from(at)).copied().unwrap_or(0)
    }

    fn bytes<const N: usize>(&self, at: u16) -> [u8; N] {
        let from = usize::from(at);
        let bytes = self.basic.get(from..from + N).and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; N])
    }

    fn key(&self, at: u16) -> ReservationKey {
        ReservationKey(u64::from_be_bytes(self.bytes(at)))
    }
}

impl LogicalUnit {
    /// Commands that change reservations come one after the other: while one is made durable, others find the unit
    /// busy.
    pub(in crate::unit) fn persistent_reserve_out(
        &mut self,
        task: &Task<'_>,
        data_out: DataOut,
    ) -> Result<Step, Sense> {
        let action = Action::of(task.command.service_action).ok_or(Sense::invalid_cdb_bit(1, 4))?;
        if self.reserving.spc2_owner.is_some() {
            // SPC-2 table 8: also for the nexus that has the unit.
            return Ok(Step::Done(Completion::bare(Status::ReservationConflict)));
        }
        if self.reserving.changing {
            return Ok(Step::Done(Completion::busy()));
        }
        if task.read_only && action.concerns_others() {
            // Who may only read has no say in who may write.
            return Err(Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED));
        }
        if task.length() > LEN_MAX {
            return Err(LENGTH_ERROR);
        }
        let list = gather(self.data(task, data_out)?);
        let (basic, rest) = list.split_at_checked(BASIC_LEN).ok_or(LENGTH_ERROR)?;
        let request = self.request(task, action, &List { basic, rest })?;
        match self.decide(task.nexus, &request) {
            Ok(step) => Ok(step),
            Err(Refusal::Conflict) => Ok(Step::Done(Completion::bare(Status::ReservationConflict))),
            Err(Refusal::Check(sense)) => Err(sense),
        }
    }

    fn request(&self, task: &Task<'_>, action: Action, list: &List<'_>) -> Result<Request, Sense> {
        let moves = action == Action::RegisterAndMove;
        let flags_at = if moves { MOVE_FLAGS_AT } else { FLAGS_AT };
        let flags = list.byte(flags_at);
        let aptpl = action.has_aptpl() && flags & APTPL != 0;
        if aptpl && !self.reserving.keeps {
            return Err(Sense::invalid_parameter(flags_at, Some(0)));
        }
        let lists_ports = !moves && flags & SPEC_I_PT != 0;
        if lists_ports && action != Action::Register {
            return Err(Sense::invalid_parameter(FLAGS_AT, Some(3)));
        }
        let initiator_ports = if lists_ports { Some(self.listed_ports(list)?) } else { None };
        let destination = if moves { Some(destination(list)?) } else { None };
        if initiator_ports.is_none() && destination.is_none() && !list.rest.is_empty() {
            return Err(LENGTH_ERROR);
        }
        Ok(Request {
            action,
            kind: kind(task.cdb.byte(2)),
            key: list.key(0),
            new_key: list.key(SERVICE_ACTION_KEY_AT),
            aptpl,
            all_ports: !moves && flags & ALL_TG_PT != 0,
            initiator_ports,
            destination,
            unregister: moves && flags & UNREG != 0,
        })
    }

    /// The initiator ports of SPEC_I_PT (SPC-4 6.16.3). An initiator without a port stands for those of its ports
    /// that are logged in.
    fn listed_ports(&self, list: &List<'_>) -> Result<Vec<String>, Sense> {
        let (len, mut rest) = list.rest.split_first_chunk::<4>().ok_or(LENGTH_ERROR)?;
        if usize::try_from(u32::from_be_bytes(*len)).ok() != Some(rest.len()) {
            return Err(Sense::invalid_parameter(LIST_LEN_AT, None));
        }
        let whole = rest.len();
        let mut ports = Vec::new();
        while !rest.is_empty() {
            let at = u16::try_from(whole - rest.len()).unwrap_or(u16::MAX).saturating_add(LIST_AT);
            let (id, behind) = TransportId::parse(rest, at)?;
            match id {
                TransportId::Port(port) => ports.push(port),
                TransportId::Device(name) => {
                    let before = ports.len();
                    ports.extend(self.nexuses.ports_of(&name));
                    if ports.len() == before {
                        return Err(Sense::invalid_parameter(at, None));
                    }
                }
            }
            rest = behind;
        }
        Ok(ports)
    }
}

/// SCOPE and TYPE.
fn kind(byte: u8) -> Result<ReservationType, Sense> {
    if byte >> 4 != 0 {
        return Err(Sense::invalid_cdb_bit(2, 7));
    }
    ReservationType::from_code(byte & 0x0f).ok_or(Sense::invalid_cdb_bit(2, 3))
}

/// Where REGISTER AND MOVE moves to (SPC-4 6.16.4): one initiator port, named in full.
fn destination(list: &List<'_>) -> Result<Registrant, Sense> {
    const ID_LEN_AT: u16 = 20;
    let len = u32::from_be_bytes(list.bytes(ID_LEN_AT));
    if usize::try_from(len).ok() != Some(list.rest.len()) {
        return Err(Sense::invalid_parameter(ID_LEN_AT, None));
    }
    match TransportId::parse(list.rest, TRANSPORT_ID_AT)? {
        (TransportId::Port(initiator_port), []) => {
            let target_port = u16::from_be_bytes(list.bytes(RELATIVE_PORT_AT));
            Ok(Registrant { initiator_port, target_port })
        }
        (TransportId::Port(_), _) => Err(Sense::invalid_parameter(ID_LEN_AT, None)),
        (TransportId::Device(_), _) => Err(Sense::invalid_parameter(TRANSPORT_ID_AT, None)),
    }
}
