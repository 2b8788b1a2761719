//! What each service action of PERSISTENT RESERVE OUT does (SPC-4 5.13.7 to 5.13.12): from a state and a request to
//! the next state and who is told, or to a refusal. Nothing here has an effect by itself.

use std::collections::BTreeSet;

use super::kind::{ReservationKey, ReservationType};
use super::registrant::Registrant;
use super::state::{REGISTRATIONS_MAX, Registration, Reservation, Reservations, Standing};
use crate::sense::{AdditionalSense, Sense};
use crate::unit::UnitAttention;

/// The service actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnoreExistingKey,
    RegisterAndMove,
}

/// A parameter list and the fields of the CDB, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) action: Action,
    /// TYPE, or why it and SCOPE make no reservation. Some actions do not look.
    pub(super) kind: Result<ReservationType, Sense>,
    /// RESERVATION KEY.
    pub(super) key: ReservationKey,
    /// SERVICE ACTION RESERVATION KEY.
    pub(super) new_key: ReservationKey,
    pub(super) aptpl: bool,
    /// ALL_TG_PT.
    pub(super) all_ports: bool,
    /// SPEC_I_PT: initiator ports to be registered too.
    pub(super) initiator_ports: Option<Vec<String>>,
    /// Of REGISTER AND MOVE.
    pub(super) destination: Option<Registrant>,
    /// UNREG.
    pub(super) unregister: bool,
}

/// What a request leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) state: Reservations,
    /// Whether the state survives from now on a loss of power; `None`: as before.
    pub(super) aptpl: Option<bool>,
    /// PRGENERATION counts it.
    pub(super) counts: bool,
    pub(super) attentions: Vec<(Registrant, UnitAttention)>,
    /// The nexuses whose tasks are aborted.
    pub(super) aborted: Vec<Registrant>,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(Sense),
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

type Decision = Result<Change, Refusal>;

/// Where fields stand in the parameter list, for field pointers.
pub(super) const SERVICE_ACTION_KEY_AT: u16 = 8;
pub(super) const RELATIVE_PORT_AT: u16 = 18;
pub(super) const FLAGS_AT: u16 = 20;
pub(super) const TRANSPORT_ID_AT: u16 = 24;
const SPEC_I_PT_BIT: u8 = 3;

impl Change {
    fn of(state: &Reservations) -> Self {
        let state = state.clone();
        Self { state, aptpl: None, counts: true, attentions: Vec::new(), aborted: Vec::new() }
    }

    /// GOOD, and all stays as it is.
    fn nothing(state: &Reservations) -> Self {
        Self { counts: false, ..Self::of(state) }
    }

    /// Tells every registrant but `except`.
    fn tell_registrants(&mut self, attention: UnitAttention, except: &Registrant) {
        let others = self.state.registrations.keys().filter(|other| *other != except);
        self.attentions.extend(others.map(|other| (other.clone(), attention)));
    }

    /// Takes a registration away. With the holder's goes the reservation, of which registrants hear if it was for
    /// them (SPC-4 5.13.11.2).
    fn unregister(&mut self, who: &Registrant, actor: &Registrant) {
        let held_by_who = self.state.standing(who) == Standing::Holder;
        self.state.unregister(who);
        let Some(held) = &self.state.reservation else { return };
        let kind = held.kind;
        let ends = if kind.is_all_registrants() { self.state.is_empty() } else { held_by_who };
        if ends {
            self.state.reservation = None;
            if kind.admits_registrants() {
                self.tell_registrants(UnitAttention::ReservationsReleased, actor);
            }
        }
    }

    /// Registers `who`, or changes its key.
    fn register(&mut self, who: Registrant, key: ReservationKey, all_ports: bool) -> Result<(), Refusal> {
        self.state.register(who, Registration { key, all_ports });
        if self.state.registrations.len() > REGISTRATIONS_MAX {
            return Err(Sense::illegal(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES).into());
        }
        Ok(())
    }
}

/// What `request`, which came through the nexus `me`, does to `state`. `ports` are the target's, `me`'s among them.
pub(super) fn decide(
    state: &Reservations,
    me: &Registrant,
    request: &Request,
    ports: &BTreeSet<u16>,
) -> Decision {
    match request.action {
        Action::Register | Action::RegisterAndIgnoreExistingKey => register(state, me, request, ports),
        _ if state.key_of(me) != Some(request.key) => Err(Refusal::Conflict),
        Action::Reserve => reserve(state, me, request.kind?),
        Action::Release => release(state, me, request.kind?),
        Action::Clear => Ok(clear(state, Some(me))),
        Action::Preempt | Action::PreemptAndAbort => preempt(state, me, request),
        Action::RegisterAndMove => register_and_move(state, me, request, ports),
    }
}

/// SPC-4 5.13.7, tables 53 and 54.
fn register(state: &Reservations, me: &Registrant, request: &Request, ports: &BTreeSet<u16>) -> Decision {
    let ignores = request.action == Action::RegisterAndIgnoreExistingKey;
    let registered = state.key_of(me);
    if !ignores && registered.unwrap_or(ReservationKey::NONE) != request.key {
        return Err(Refusal::Conflict);
    }
    if request.initiator_ports.is_some() && (ignores || registered.is_some()) {
        return Err(Sense::invalid_parameter(FLAGS_AT, Some(SPEC_I_PT_BIT)).into());
    }
    let unregisters = request.new_key == ReservationKey::NONE;
    if unregisters && registered.is_none() {
        return Ok(Change::nothing(state));
    }
    let mut change = Change { aptpl: Some(request.aptpl), ..Change::of(state) };
    let at_ports = |initiator_port: &str| -> Vec<Registrant> {
        let at = |port: u16| Registrant { initiator_port: initiator_port.to_owned(), target_port: port };
        if request.all_ports { ports.iter().copied().map(at).collect() } else { vec![at(me.target_port)] }
    };
    for who in at_ports(&me.initiator_port) {
        if unregisters {
            change.unregister(&who, me);
        } else {
            change.register(who, request.new_key, request.all_ports)?;
        }
    }
    let listed = request.initiator_ports.iter().flatten().flat_map(|port| at_ports(port));
    for who in listed {
        if !change.state.registrations.contains_key(&who) {
            change.register(who, request.new_key, request.all_ports)?;
        }
    }
    Ok(change)
}

/// SPC-4 5.13.9: the holder may ask again for what it has; all else is a conflict.
fn reserve(state: &Reservations, me: &Registrant, kind: ReservationType) -> Decision {
    match state.kind() {
        None => {}
        Some(held) if held == kind && state.standing(me) == Standing::Holder => {
            return Ok(Change::nothing(state));
        }
        Some(_) => return Err(Refusal::Conflict),
    }
    let mut change = Change { counts: false, ..Change::of(state) };
    change.state.reservation = Some(held_by(me, kind));
    Ok(change)
}

fn held_by(me: &Registrant, kind: ReservationType) -> Reservation {
    Reservation { kind, holder: (!kind.is_all_registrants()).then(|| me.clone()) }
}

/// SPC-4 5.13.11.1.
fn release(state: &Reservations, me: &Registrant, kind: ReservationType) -> Decision {
    if state.standing(me) != Standing::Holder {
        return Ok(Change::nothing(state));
    }
    if state.kind() != Some(kind) {
        return Err(Sense::illegal(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION).into());
    }
    let mut change = Change { counts: false, ..Change::of(state) };
    change.state.reservation = None;
    if kind.admits_registrants() {
        change.tell_registrants(UnitAttention::ReservationsReleased, me);
    }
    Ok(change)
}

/// SPC-4 5.13.11.3. Nobody in particular does it if an administrator does: then every registrant hears of it.
pub(super) fn clear(state: &Reservations, me: Option<&Registrant>) -> Change {
    let mut change = Change::of(state);
    let former = std::mem::take(&mut change.state);
    let others = former.registrations.into_keys().filter(|other| Some(other) != me);
    change.attentions = others.map(|other| (other, UnitAttention::ReservationsPreempted)).collect();
    change
}

/// Whose registrations a PREEMPT takes, and whether the reservation too (SPC-4 table 57).
fn preempted(
    state: &Reservations,
    me: &Registrant,
    key: ReservationKey,
) -> Result<(Vec<Registrant>, bool), Refusal> {
    let all = state.kind().is_some_and(ReservationType::is_all_registrants);
    if key == ReservationKey::NONE {
        if !all {
            return Err(Sense::invalid_parameter(SERVICE_ACTION_KEY_AT, None).into());
        }
        let others = state.registrations.keys().filter(|other| *other != me);
        return Ok((others.cloned().collect(), true));
    }
    let mut victims = state.with_key(key);
    if victims.is_empty() {
        return Err(Refusal::Conflict);
    }
    let holder = state.reservation.as_ref().and_then(|held| held.holder.as_ref());
    let takes = holder.is_some_and(|holder| state.key_of(holder) == Some(key));
    if takes {
        victims.retain(|victim| victim != me);
    }
    Ok((victims, takes))
}

/// SPC-4 5.13.11.4 and, with the abort, 5.13.11.5. The tasks of the nexus that asks are left alone.
fn preempt(state: &Reservations, me: &Registrant, request: &Request) -> Decision {
    let (victims, takes) = preempted(state, me, request.new_key)?;
    let mut change = Change::of(state);
    let former = state.kind();
    if takes {
        change.state.reservation = Some(held_by(me, request.kind?));
    }
    victims.iter().for_each(|victim| change.state.unregister(victim));
    if change.state.is_empty() {
        change.state.reservation = None;
    }
    let others: Vec<_> = victims.into_iter().filter(|victim| victim != me).collect();
    let told = others.iter().map(|victim| (victim.clone(), UnitAttention::RegistrationsPreempted));
    change.attentions = told.collect();
    if takes && former != change.state.kind() {
        change.tell_registrants(UnitAttention::ReservationsReleased, me);
    }
    if request.action == Action::PreemptAndAbort {
        change.aborted = others;
    }
    Ok(change)
}

/// SPC-4 5.13.8. A reservation that all registrants hold cannot be moved.
fn register_and_move(
    state: &Reservations,
    me: &Registrant,
    request: &Request,
    ports: &BTreeSet<u16>,
) -> Decision {
    let Some(held) = state.reservation.as_ref().filter(|held| held.holder.as_ref() == Some(me)) else {
        return Err(Refusal::Conflict);
    };
    if request.new_key == ReservationKey::NONE {
        return Err(Sense::invalid_parameter(SERVICE_ACTION_KEY_AT, None).into());
    }
    let destination = request.destination.as_ref().filter(|destination| *destination != me);
    let Some(destination) = destination else {
        return Err(Sense::invalid_parameter(TRANSPORT_ID_AT, None).into());
    };
    if !ports.contains(&destination.target_port) {
        return Err(Sense::invalid_parameter(RELATIVE_PORT_AT, None).into());
    }
    let mut change = Change { aptpl: Some(request.aptpl), ..Change::of(state) };
    change.state.reservation = Some(Reservation { kind: held.kind, holder: Some(destination.clone()) });
    if request.unregister {
        change.state.unregister(me);
    }
    change.register(destination.clone(), request.new_key, false)?;
    Ok(change)
}
