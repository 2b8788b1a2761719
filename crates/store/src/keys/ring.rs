//! The keys of a pool in memory: what is on the disks, and, once a secret has opened it, the key that wraps the others.
//!
//! What changes them makes another [`KeyArea`], which counts when it is on the disks.

use super::wrap::{Secret, WrappingKey, random, unwrap, wrap};
use crate::format::PoolId;
use crate::format::keys::{FAMILIES_MAX, Family, FamilyId, KeyArea, KeyCost, SLOTS, Slot};
use crate::volume::DATA_KEY_BYTES;
use block::{BlockError, ErrorKind, Result, Runtime};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// A family's data key.
pub(super) type DataKey = Zeroizing<[u8; DATA_KEY_BYTES]>;

/// The keys of a pool.
#[derive(Clone)]
pub(super) struct Ring {
    pub(super) area: KeyArea,
    /// The pool key; none while the pool is locked.
    pub(super) key: Option<WrappingKey>,
}

fn fail<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T> {
    Err(BlockError::new(kind, "keys", message))
}

/// What a slot's content can be opened for only.
fn slot_place(pool: &PoolId) -> Vec<u8> {
    [b"palisade pool key 1", &pool[..]].concat()
}

/// What a family's key can be opened for only.
fn family_place(area: &KeyArea, id: FamilyId) -> Vec<u8> {
    [b"palisade family key 1", &area.pool[..], &area.key, &id.0.to_le_bytes()].concat()
}

fn unwrapped() -> BlockError {
    BlockError::new(ErrorKind::Corrupt, "keys", "a key cannot be wrapped or is damaged")
}

impl Ring {
    /// New keys, which `secret` opens. Takes the time that its cost says.
    pub(super) fn new(
        pool: PoolId,
        secret: &Secret,
        encrypt_new: bool,
        cost: KeyCost,
        runtime: &dyn Runtime,
    ) -> Result<Self> {
        let area = KeyArea {
            pool,
            generation: 1,
            key: runtime.random_id(),
            next_family: FamilyId(1),
            encrypt_new,
            slots: [const { None }; SLOTS],
            families: BTreeMap::new(),
        };
        let ring = Self { area, key: Some(random(runtime)) };
        let (area, _) = ring.with_slot(None, secret, cost, runtime)?;
        Ok(Self { area: KeyArea { generation: 1, ..area }, ..ring })
    }

    /// The slot that `secret` opens, and what is in it. Takes the time that all slots of its kind cost.
    pub(super) fn opened_by(area: &KeyArea, secret: &Secret) -> Option<(usize, WrappingKey)> {
        let place = slot_place(&area.pool);
        let open =
            |slot: &Slot| unwrap(&secret.key(slot.kind, &slot.salt)?, &slot.nonce, &place, &slot.wrapped);
        let slots = area.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((index, slot.as_ref()?))).find_map(|(index, slot)| {
            let key: Zeroizing<_> = open(slot)?;
            Some((index, key))
        })
    }

    fn key(&self) -> Result<&WrappingKey> {
        let locked = || BlockError::new(ErrorKind::Locked, "keys", "the pool is locked; unlock it first");
        self.key.as_ref().ok_or_else(locked)
    }

    /// The next version of what is on the disks.
    pub(super) fn next(&self) -> KeyArea {
        KeyArea { generation: self.area.generation + 1, ..self.area.clone() }
    }

    /// The data key of a family; none if there is none, it is damaged, or the pool is locked.
    pub(super) fn data_key(&self, id: FamilyId) -> Option<DataKey> {
        let family = self.area.families.get(&id)?;
        unwrap(self.key.as_ref()?, &family.nonce, &family_place(&self.area, id), &family.wrapped)
    }

    /// With a family more.
    pub(super) fn with_family(&self, runtime: &dyn Runtime) -> Result<(KeyArea, FamilyId, DataKey)> {
        let key = self.key()?;
        if self.area.families.len() >= FAMILIES_MAX {
            let message = format!(
                "a pool has keys for at most {FAMILIES_MAX} encrypted volumes (not counting snapshots and clones)"
            );
            return fail(ErrorKind::NoSpace, message);
        }
        let mut area = self.next();
        let id = area.next_family;
        let data_key: DataKey = random(runtime);
        area.next_family = FamilyId(id.0 + 1);
        let family = wrapped_family(&area, key, id, &data_key, runtime)?;
        area.families.insert(id, family);
        Ok((area, id, data_key))
    }

    /// Without the families that are not `used`; none if all are.
    pub(super) fn without_unused(&self, used: &BTreeSet<FamilyId>) -> Option<KeyArea> {
        if self.area.families.keys().all(|id| used.contains(id)) {
            return None;
        }
        let mut area = self.next();
        area.families.retain(|id, _| used.contains(id));
        Some(area)
    }

    /// With another secret: in slot `index`, instead of what is there, or in the first free one. Takes the time that
    /// its cost says.
    pub(super) fn with_slot(
        &self,
        index: Option<usize>,
        secret: &Secret,
        cost: KeyCost,
        runtime: &dyn Runtime,
    ) -> Result<(KeyArea, usize)> {
        let key = self.key()?;
        if let Some(flaw) = secret.flaw() {
            return fail(ErrorKind::Invalid, flaw);
        }
        let mut area = self.next();
        let full = || format!("all {SLOTS} key slots are taken; remove one first");
        let Some(index) = index.or_else(|| area.slots.iter().position(Option::is_none)) else {
            return fail(ErrorKind::Invalid, full());
        };
        let slot = sealed_slot(&area.pool, key, secret, cost, runtime)?;
        match area.slots.get_mut(index) {
            Some(place) => *place = Some(slot),
            None => return fail(ErrorKind::NotFound, "there is no such key slot"),
        }
        Ok((area, index))
    }

    /// Without slot `index`.
    pub(super) fn without_slot(&self, index: usize) -> Result<KeyArea> {
        let mut area = self.next();
        if area.slots.get_mut(index).and_then(Option::take).is_none() {
            return fail(ErrorKind::NotFound, format!("key slot {index} is empty"));
        }
        if area.slots.iter().all(Option::is_none) {
            return fail(
                ErrorKind::Invalid,
                "the last key slot stays: without it nothing could be read again",
            );
        }
        Ok(area)
    }

    /// With another pool key, in the slots that `secrets` open. The others are empty then. Takes the time that the
    /// secrets cost.
    pub(super) fn rekeyed(&self, secrets: &[Secret], runtime: &dyn Runtime) -> Result<Self> {
        let old = self.key()?;
        let new: WrappingKey = random(runtime);
        let mut area = KeyArea { key: runtime.random_id(), slots: [const { None }; SLOTS], ..self.next() };
        for secret in secrets {
            let Some((index, _)) = Self::opened_by(&self.area, secret) else {
                return fail(ErrorKind::Denied, "a passphrase or key file that was given opens no key slot");
            };
            let cost = match self.area.slots.get(index).and_then(Option::as_ref).map(|slot| slot.kind) {
                Some(crate::format::keys::SlotKind::Passphrase(cost)) => cost,
                _ => KeyCost::default(),
            };
            let slot = sealed_slot(&area.pool, &new, secret, cost, runtime)?;
            if let Some(place) = area.slots.get_mut(index) {
                *place = Some(slot);
            }
        }
        if area.slots.iter().all(Option::is_none) {
            return fail(
                ErrorKind::Invalid,
                "give the passphrases or key files that shall open the pool from now on",
            );
        }
        for (id, family) in &self.area.families {
            let place = family_place(&self.area, *id);
            let data_key: DataKey =
                unwrap(old, &family.nonce, &place, &family.wrapped).ok_or_else(unwrapped)?;
            let family = wrapped_family(&area, &new, *id, &data_key, runtime)?;
            area.families.insert(*id, family);
        }
        Ok(Self { area, key: Some(new) })
    }
}

fn sealed_slot(
    pool: &PoolId,
    key: &WrappingKey,
    secret: &Secret,
    cost: KeyCost,
    runtime: &dyn Runtime,
) -> Result<Slot> {
    let (kind, salt, nonce) = (secret.kind(cost), *random(runtime), *random(runtime));
    let own = secret.key(kind, &salt).ok_or_else(unwrapped)?;
    let wrapped = wrap(&own, &nonce, &slot_place(pool), &**key).ok_or_else(unwrapped)?;
    Ok(Slot { kind, salt, nonce, wrapped })
}

fn wrapped_family(
    area: &KeyArea,
    key: &WrappingKey,
    id: FamilyId,
    data_key: &DataKey,
    runtime: &dyn Runtime,
) -> Result<Family> {
    let nonce = *random(runtime);
    let wrapped = wrap(key, &nonce, &family_place(area, id), &**data_key).ok_or_else(unwrapped)?;
    Ok(Family { nonce, wrapped })
}
