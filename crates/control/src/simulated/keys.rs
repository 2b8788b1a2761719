//! Keys of a simulated pool: secrets are compared, and nothing is encrypted.

use crate::{Error, ErrorKind, KeyChange, KeySlot, PoolKeys, PoolSecret, Result};

/// Key slots of a pool.
const SLOTS: usize = 8;

/// The keys of a pool.
pub(super) struct SimKeys {
    slots: Vec<Option<PoolSecret>>,
    locked: bool,
    encrypt_new: bool,
}

fn fail<T>(kind: ErrorKind, message: &str) -> Result<T> {
    Err(Error::new(kind, "keys", message))
}

/// Whether encrypted volumes can be made.
pub(super) fn check_open(keys: Option<&SimKeys>) -> Result<()> {
    match keys {
        None => fail(ErrorKind::Invalid, "the pool has no keys"),
        Some(keys) if keys.locked => fail(ErrorKind::Locked, "the pool is locked"),
        Some(_) => Ok(()),
    }
}

/// Does it.
pub(super) fn change(keys: &mut Option<SimKeys>, change: KeyChange<PoolSecret>) -> Result<()> {
    if let KeyChange::Begin { secret, encrypt_new } = change {
        if keys.is_some() {
            return fail(ErrorKind::Exists, "it has keys already");
        }
        let mut slots = vec![None; SLOTS];
        slots[0] = Some(secret);
        *keys = Some(SimKeys { slots, locked: false, encrypt_new });
        return Ok(());
    }
    let Some(keys) = keys else { return fail(ErrorKind::Invalid, "the pool has no keys") };
    keys.change(change)
}

impl SimKeys {
    pub(super) fn lock(&mut self) {
        self.locked = true;
    }

    pub(super) fn status(&self, data_keys: usize) -> PoolKeys {
        let slot = |(index, slot): (u8, &Option<PoolSecret>)| {
            let passphrase = matches!(slot.as_ref()?, PoolSecret::Passphrase(_));
            Some(KeySlot { index, passphrase })
        };
        PoolKeys {
            locked: self.locked,
            damaged: false,
            encrypt_new: self.encrypt_new,
            slots: (0..).zip(&self.slots).filter_map(slot).collect(),
            data_keys,
            data_keys_max: 1000,
        }
    }

    fn slot_of(&self, secret: &PoolSecret) -> Result<usize> {
        let at = self.slots.iter().position(|slot| slot.as_ref() == Some(secret));
        at.map_or_else(|| fail(ErrorKind::Denied, "it opens no slot"), Ok)
    }

    fn change(&mut self, change: KeyChange<PoolSecret>) -> Result<()> {
        if self.locked && matches!(change, KeyChange::Add(_) | KeyChange::Replace(..) | KeyChange::Rekey(_)) {
            return fail(ErrorKind::Locked, "the pool is locked");
        }
        match change {
            KeyChange::Begin { .. } => fail(ErrorKind::Exists, "it has keys already"),
            KeyChange::Unlock(secret) => {
                self.slot_of(&secret)?;
                self.locked = false;
                Ok(())
            }
            KeyChange::Lock => {
                self.lock();
                Ok(())
            }
            KeyChange::Add(secret) => match self.slots.iter_mut().find(|slot| slot.is_none()) {
                Some(slot) => {
                    *slot = Some(secret);
                    Ok(())
                }
                None => fail(ErrorKind::Invalid, "all slots are taken"),
            },
            KeyChange::Replace(index, secret) => {
                match self.slots.get_mut(usize::from(index)).filter(|slot| slot.is_some()) {
                    Some(slot) => {
                        *slot = Some(secret);
                        Ok(())
                    }
                    None => fail(ErrorKind::NotFound, "the slot is empty"),
                }
            }
            KeyChange::Remove(_) if self.slots.iter().flatten().count() == 1 => {
                fail(ErrorKind::Invalid, "the last one stays")
            }
            KeyChange::Remove(index) => match self.slots.get_mut(usize::from(index)).and_then(Option::take) {
                Some(_) => Ok(()),
                None => fail(ErrorKind::NotFound, "the slot is empty"),
            },
            KeyChange::Rekey(secrets) => {
                let kept = secrets.iter().map(|secret| self.slot_of(secret)).collect::<Result<Vec<_>>>()?;
                for (index, slot) in self.slots.iter_mut().enumerate() {
                    if !kept.contains(&index) {
                        *slot = None;
                    }
                }
                Ok(())
            }
            KeyChange::EncryptNew(encrypt) => {
                self.encrypt_new = encrypt;
                Ok(())
            }
        }
    }
}
