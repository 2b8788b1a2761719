//! Persistent reservations: the commands and what is read back.

use crate::bytes_at::{byte, length, number, slice};
use crate::nexus::{Nexus, Reply};
use crate::outcome::{Outcome, failed};
use crate::request;

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnore,
}

impl Action {
    const fn code(self) -> u8 {
        match self {
            Self::Register => 0,
            Self::Reserve => 1,
            Self::Release => 2,
            Self::Clear => 3,
            Self::Preempt => 4,
            Self::PreemptAndAbort => 5,
            Self::RegisterAndIgnore => 6,
        }
    }
}

/// The types (SPC-4 table 45).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrants,
    ExclusiveAccessRegistrants,
    WriteExclusiveAll,
    ExclusiveAccessAll,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrants,
        Self::ExclusiveAccessRegistrants,
        Self::WriteExclusiveAll,
        Self::ExclusiveAccessAll,
    ];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrants => 5,
            Self::ExclusiveAccessRegistrants => 6,
            Self::WriteExclusiveAll => 7,
            Self::ExclusiveAccessAll => 8,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WriteExclusive => "Write Exclusive",
            Self::ExclusiveAccess => "Exclusive Access",
            Self::WriteExclusiveRegistrants => "Write Exclusive - Registrants Only",
            Self::ExclusiveAccessRegistrants => "Exclusive Access - Registrants Only",
            Self::WriteExclusiveAll => "Write Exclusive - All Registrants",
            Self::ExclusiveAccessAll => "Exclusive Access - All Registrants",
        }
    }

    /// Whether registered nexuses share the holder's access.
    pub(crate) const fn for_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether every registrant is a holder.
    pub(crate) const fn held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    /// Whether others may not even read.
    pub(crate) const fn excludes_reads(self) -> bool {
        matches!(self, Self::ExclusiveAccess | Self::ExclusiveAccessRegistrants | Self::ExclusiveAccessAll)
    }
}

/// A PERSISTENT RESERVE OUT to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    action: Action,
    kind: u8,
    key: u64,
    service_action_key: u64,
    flags: u8,
}

impl Out {
    pub(crate) const fn new(action: Action, key: u64, service_action_key: u64) -> Self {
        Self { action, kind: 0, key, service_action_key, flags: 0 }
    }

    pub(crate) const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind.code();
        self
    }

    /// APTPL: keep registrations through power loss.
    pub(crate) const fn through_power_loss(mut self) -> Self {
        self.flags |= 0x01;
        self
    }
}

/// Sends it once the nexus has no more unit attentions; whatever the status.
pub(crate) async fn send(nexus: &Nexus, out: Out) -> Outcome<Reply> {
    let Out { action, kind, key, service_action_key, flags } = out;
    nexus.ask(request::reserve_out(action.code(), kind, key, service_action_key, flags)).await
}

/// Registers `new` where `old` is registered (0: nothing is).
pub(crate) async fn register(nexus: &Nexus, old: u64, new: u64) -> Outcome {
    send(nexus, Out::new(Action::Register, old, new)).await?.good().map(drop)
}

/// Makes a reservation.
pub(crate) async fn reserve(nexus: &Nexus, key: u64, kind: Kind) -> Outcome {
    send(nexus, Out::new(Action::Reserve, key, 0).kind(kind)).await?.good().map(drop)
}

/// Releases it.
pub(crate) async fn release(nexus: &Nexus, key: u64, kind: Kind) -> Outcome {
    send(nexus, Out::new(Action::Release, key, 0).kind(kind)).await?.good().map(drop)
}

/// READ KEYS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) generation: u64,
    pub(crate) keys: Vec<u64>,
}

/// Reads the generation and every registered key.
pub(crate) async fn keys(nexus: &Nexus) -> Outcome<Keys> {
    let data = nexus.good(request::reserve_in(0)).await?;
    let list = slice(&data, 8, length(&data, 4, 4));
    if data.len() < 8 || list.len() != length(&data, 4, 4) || !list.len().is_multiple_of(8) {
        return failed(format!("READ KEYS through {}: the lengths do not fit", nexus.label));
    }
    Ok(Keys { generation: number(&data, 0, 4), keys: list.chunks(8).map(|key| number(key, 0, 8)).collect() })
}

/// READ RESERVATION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: u64,
    pub(crate) scope: u8,
    pub(crate) kind: u8,
}

/// Reads the reservation, if there is one.
pub(crate) async fn held(nexus: &Nexus) -> Outcome<Option<Held>> {
    let data = nexus.good(request::reserve_in(1)).await?;
    match length(&data, 4, 4) {
        0 if data.len() >= 8 => Ok(None),
        16 if data.len() >= 24 => {
            let (scope, kind) = (byte(&data, 21) >> 4, byte(&data, 21) & 0x0f);
            Ok(Some(Held { key: number(&data, 8, 8), scope, kind }))
        }
        _ => failed(format!("READ RESERVATION through {}: the lengths do not fit", nexus.label)),
    }
}

/// One descriptor of READ FULL STATUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullStatus {
    pub(crate) key: u64,
    pub(crate) is_holder: bool,
    pub(crate) all_ports: bool,
    pub(crate) kind: u8,
    pub(crate) relative_port: u64,
    /// TransportID.
    pub(crate) transport: Vec<u8>,
}

/// Reads every registration with its initiator port.
pub(crate) async fn full_status(nexus: &Nexus) -> Outcome<Vec<FullStatus>> {
    let data = nexus.ask(request::reserve_in(3)).await?.good_if_there()?;
    let mut rest = slice(&data, 8, length(&data, 4, 4));
    let mut found = Vec::new();
    while !rest.is_empty() {
        let transport = slice(rest, 24, length(rest, 20, 4));
        if rest.len() < 24 || transport.len() != length(rest, 20, 4) {
            return failed(format!("READ FULL STATUS through {}: a descriptor is cut off", nexus.label));
        }
        found.push(FullStatus {
            key: number(rest, 0, 8),
            is_holder: byte(rest, 12) & 0x01 != 0,
            all_ports: byte(rest, 12) & 0x02 != 0,
            kind: byte(rest, 13) & 0x0f,
            relative_port: number(rest, 18, 2),
            transport: transport.to_vec(),
        });
        rest = slice(rest, 24 + transport.len(), usize::MAX);
    }
    Ok(found)
}
