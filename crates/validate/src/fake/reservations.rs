//! Persistent reservations of the scripted array, from the text of SPC-4.

use initiator::Answer;

use super::{Lie, State, good, sense, status};
use crate::bytes_at::number;
use crate::request::{Request, put};

const CLEARED: (u8, u8) = (0x2a, 0x03);
const RELEASED: (u8, u8) = (0x2a, 0x04);
const PREEMPTED: (u8, u8) = (0x2a, 0x05);

/// An initiator port at a target port.
type Nexus = (String, [u8; 6], usize, usize);

/// A unit's registrations and reservation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    generation: u32,
    keys: Vec<(Nexus, u64)>,
    /// The holder and the type.
    held: Option<(Nexus, u8)>,
    power_loss: bool,
    /// RESERVE(6).
    old: Option<Nexus>,
}

impl Table {
    fn key_of(&self, nexus: &Nexus) -> Option<u64> {
        self.keys.iter().find(|(of, _)| of == nexus).map(|(_, key)| *key)
    }

    fn holds(&self, nexus: &Nexus) -> bool {
        self.held
            .as_ref()
            .is_some_and(|(holder, kind)| holder == nexus || (*kind > 6 && self.key_of(nexus).is_some()))
    }
}

impl State {
    pub(super) fn stranger(&mut self, key: u64) {
        self.table(0).keys.push((("iqn.stranger:1".to_owned(), [0; 6], 0, 0), key));
    }

    pub(super) fn keys(&self) -> Vec<u64> {
        self.reservations[&0].keys.iter().map(|(_, key)| *key).collect()
    }

    fn name_of(&self, session: usize) -> Nexus {
        let session = &self.sessions[session];
        (session.initiator.clone(), session.isid, session.path, session.number)
    }

    fn table(&mut self, lun: u16) -> &mut Table {
        self.reservations.get_mut(&lun).expect("a unit that is there")
    }

    /// Tells these registrants, and not the sender.
    fn tell(&mut self, lun: u16, sender: &Nexus, whom: &[Nexus], what: (u8, u8)) {
        for session in 0..self.sessions.len() {
            let name = self.name_of(session);
            if self.sessions[session].lun == lun && name != *sender && whom.contains(&name) {
                self.attention(session, what);
            }
        }
    }

    pub(super) fn forget(&mut self, session: usize) {
        let name = self.name_of(session);
        for table in self.reservations.values_mut() {
            table.keys.retain(|(of, _)| *of != name);
            table.held.take_if(|(holder, _)| *holder == name);
        }
    }

    pub(super) fn conflicts(&mut self, session: usize, lun: u16, request: &Request) -> bool {
        let name = self.name_of(session);
        let (strict, late) = (self.lies(Lie::StrictTypes), self.lies(Lie::LateOwner));
        let table = self.table(lun);
        let reads = matches!(request.cdb[0], 0x28 | 0x88 | 0x8f | 0x84);
        let writes = matches!(request.cdb[0], 0x2a | 0x8a | 0x42 | 0x89 | 0x93 | 0x83);
        if !reads && !writes {
            return false;
        }
        if table.old.as_ref().is_some_and(|holder| *holder != name) {
            return true;
        }
        let Some((_, kind)) = table.held else { return false };
        let shares = table.key_of(&name).is_some() && kind > 3 && !strict;
        let allowed =
            table.holds(&name) || shares || (reads && matches!(kind, 1 | 5 | 7)) || (writes && late);
        !allowed
    }

    pub(super) fn reserve(&mut self, session: usize, lun: u16, request: &Request) -> Option<Answer> {
        let cdb = &request.cdb;
        if matches!(cdb[0], 0x5e | 0x5f) && self.lies(Lie::NoReservations) {
            return Some(sense(5, 0x20, 0));
        }
        match cdb[0] {
            0x16 | 0x17 => Some(self.old_reserve(session, lun, cdb[0] == 0x16)),
            0x5e => Some(self.reserve_in(lun, cdb[1] & 0x1f)),
            0x5f => Some(self.reserve_out(session, lun, request)),
            _ => None,
        }
    }

    fn old_reserve(&mut self, session: usize, lun: u16, reserves: bool) -> Answer {
        let name = self.name_of(session);
        let weak = self.lies(Lie::WeakReserve);
        let table = self.table(lun);
        match reserves {
            true if !table.keys.is_empty() => return status(if weak { 0 } else { 0x18 }),
            true if table.old.as_ref().is_some_and(|holder| *holder != name) => return status(0x18),
            true => table.old = Some(name),
            false => drop(table.old.take_if(|holder| *holder == name)),
        }
        good(Vec::new())
    }

    fn reserve_in(&mut self, lun: u16, action: u8) -> Answer {
        let lies = self.lies.clone();
        let table = self.table(lun);
        let mut data = vec![0; 8];
        put(&mut data, 0, 4, table.generation.into());
        match action {
            0 => table.keys.iter().for_each(|(_, key)| data.extend(key.to_be_bytes())),
            1 if !lies.contains(&Lie::EmptyRead) => {
                if let Some((holder, kind)) = &table.held {
                    let key = if *kind > 6 { 0 } else { table.key_of(holder).unwrap_or(0) };
                    data.extend(key.to_be_bytes());
                    data.extend([0, 0, 0, 0, 0, *kind, 0, 0]);
                }
            }
            1 => {}
            2 => {
                let eight = u8::from(!lies.contains(&Lie::FiveTypes));
                let active = u8::from(table.power_loss && !lies.contains(&Lie::HiddenPowerLoss));
                return good(vec![0, 8, 1, 0x80 | active, 0xea, eight, 0, 0]);
            }
            3 => {
                let count = table.keys.len() - usize::from(lies.contains(&Lie::ShortStatus));
                for (name, key) in &table.keys[..count] {
                    data.extend(status_descriptor(table, name, *key));
                }
            }
            _ => return sense(5, 0x24, 0),
        }
        let length = data.len() as u64 - 8;
        put(&mut data, 4, 4, length);
        good(data)
    }

    fn reserve_out(&mut self, session: usize, lun: u16, request: &Request) -> Answer {
        let (cdb, list) = (&request.cdb, &request.data_out);
        let (action, scope, kind) = (cdb[1] & 0x1f, cdb[2] >> 4, cdb[2] & 0x0f);
        if action > 6 {
            return sense(5, 0x24, 0);
        }
        if list.len() != 24 && !self.lies(Lie::AnyLength) {
            return sense(5, 0x1a, 0);
        }
        if matches!(action, 1 | 2 | 4 | 5) && (scope != 0 || !matches!(kind, 1 | 3 | 5..=8)) {
            return sense(5, 0x24, 0);
        }
        let (key, other) = (number(list, 0, 8), number(list, 8, 8));
        let name = self.name_of(session);
        let any_key = self.lies(Lie::AnyKey);
        let registered = self.table(lun).key_of(&name);
        let unchecked = action == 6 || (action == 0 && any_key);
        if registered.unwrap_or(0) != key && !unchecked
            || (action != 0 && action != 6 && registered.is_none())
        {
            return status(0x18);
        }
        match action {
            0 | 6 => {
                let power_loss = list.get(20).is_some_and(|byte| byte & 1 != 0);
                self.register(lun, &name, other, power_loss)
            }
            1 => self.hold(lun, name, kind),
            2 => self.release(lun, &name, kind),
            3 => self.clear(lun, &name),
            _ => self.preempt(lun, &name, other, kind),
        }
    }

    fn count(&mut self, lun: u16) {
        if !self.lies(Lie::FrozenGeneration) {
            self.table(lun).generation += 1;
        }
    }

    fn register(&mut self, lun: u16, name: &Nexus, key: u64, power_loss: bool) -> Answer {
        let keeps = self.lies(Lie::KeptReservation);
        let table = self.table(lun);
        if key == 0 && table.key_of(name).is_none() {
            return good(Vec::new());
        }
        table.power_loss = power_loss;
        let place = table.keys.iter_mut().find(|(of, _)| of == name);
        match place {
            Some(place) if key != 0 => place.1 = key,
            Some(_) => {
                let was_holder = table.holds(name);
                table.keys.retain(|(of, _)| of != name);
                let ended = table.held.as_ref().is_some_and(|(_, kind)| *kind <= 6 || table.keys.is_empty());
                if was_holder && ended && !keeps {
                    let kind = table.held.take().map_or(0, |(_, kind)| kind);
                    let rest: Vec<Nexus> = table.keys.iter().map(|(of, _)| of.clone()).collect();
                    if kind > 3 {
                        self.tell(lun, name, &rest, RELEASED);
                    }
                }
            }
            None => table.keys.push((name.clone(), key)),
        }
        self.count(lun);
        good(Vec::new())
    }

    fn hold(&mut self, lun: u16, name: Nexus, kind: u8) -> Answer {
        let table = self.table(lun);
        match &table.held {
            None => table.held = Some((name, kind)),
            Some((_, there)) if table.holds(&name) && *there == kind => {}
            Some(_) => return status(0x18),
        }
        good(Vec::new())
    }

    fn release(&mut self, lun: u16, name: &Nexus, kind: u8) -> Answer {
        let table = self.table(lun);
        if !table.holds(name) {
            return good(Vec::new());
        }
        if table.held.as_ref().is_some_and(|(_, there)| *there != kind) {
            return sense(5, 0x26, 0x04);
        }
        table.held = None;
        let all: Vec<Nexus> = table.keys.iter().map(|(of, _)| of.clone()).collect();
        if kind > 3 {
            self.tell(lun, name, &all, RELEASED);
        }
        good(Vec::new())
    }

    fn clear(&mut self, lun: u16, name: &Nexus) -> Answer {
        let table = self.table(lun);
        let all: Vec<Nexus> = table.keys.drain(..).map(|(of, _)| of).collect();
        table.held = None;
        self.tell(lun, name, &all, CLEARED);
        self.count(lun);
        good(Vec::new())
    }

    fn preempt(&mut self, lun: u16, name: &Nexus, key: u64, kind: u8) -> Answer {
        let (keeps, everyone) = (self.lies(Lie::KeptVictim), self.lies(Lie::EveryoneWins));
        let table = self.table(lun);
        let held = table.held.clone();
        let all_held = held.as_ref().is_some_and(|(_, there)| *there > 6);
        let by_zero = key == 0 && all_held;
        let victims: Vec<Nexus> = table
            .keys
            .iter()
            .filter(|(of, its)| of != name && (by_zero || *its == key))
            .map(|(of, _)| of.clone())
            .collect();
        let is_known = by_zero || table.keys.iter().any(|(_, its)| *its == key);
        if !is_known {
            return status(if everyone { 0 } else { 0x18 });
        }
        let takes = by_zero
            || held.as_ref().is_some_and(|(holder, there)| *there <= 6 && table.key_of(holder) == Some(key));
        if !keeps {
            table.keys.retain(|(of, _)| !victims.contains(of));
        }
        let rest: Vec<Nexus> = table.keys.iter().map(|(of, _)| of.clone()).collect();
        if takes {
            table.held = Some((name.clone(), kind));
        }
        self.tell(lun, name, &victims, PREEMPTED);
        if takes && held.is_some_and(|(_, there)| there != kind) {
            self.tell(lun, name, &rest, RELEASED);
        }
        self.count(lun);
        good(Vec::new())
    }
}

fn status_descriptor(table: &Table, name: &Nexus, key: u64) -> Vec<u8> {
    let mut transport = vec![0x45, 0, 0, 0];
    let (iqn, isid, path, _) = name;
    let isid: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
    transport.extend(format!("{iqn},i,0x{isid}\0").into_bytes());
    while !transport.len().is_multiple_of(4) {
        transport.push(0);
    }
    let length = transport.len() as u64 - 4;
    put(&mut transport, 2, 2, length);
    let mut entry = vec![0; 24];
    put(&mut entry, 0, 8, key);
    entry[12] = u8::from(table.holds(name));
    entry[13] = table.held.as_ref().map_or(0, |(_, kind)| *kind);
    put(&mut entry, 18, 2, *path as u64 + 1);
    put(&mut entry, 20, 4, transport.len() as u64);
    entry.extend(transport);
    entry
}
