//! The keys of encrypted volumes: who opens them, and when they are made, wrapped anew and forgotten.
//!
//! A *family* is a volume with its snapshots and clones: they have layers in common, and so a data key, with which their
//! blocks are encrypted ([`crate::volume::Cipher`]). The pool key wraps the data keys; passphrases and key files wrap the
//! pool key, each in a slot. All of it is in the key area of each disk (`docs/format.md`), twice, and overwritten where it
//! is: what has been forgotten there is nowhere else. Everything below and beside [`crate::volume`] sees ciphertext only.
//!
//! A key is on the disks before the catalog says that a volume has it, and goes after the last volume that had it has left
//! the catalog. So what a crash leaves behind are keys that no volume has: these go when the pool is opened.
//!
//! Ranges of volumes are held before the gate, never the other way round.

mod area;
mod erase;
mod ring;
mod wrap;

pub use wrap::{KEY_FILE_BYTES_MIN, SECRET_BYTES_MAX, Secret};

pub(crate) use area::{Found, read};

use crate::engine::Engine;
use crate::format::keys::{FAMILIES_MAX, FamilyId, KeyArea, SlotKind};
use crate::options::{KeySlot, KeyStatus};
use crate::volume::Cipher;
use block::{BlockError, ErrorKind, Result};
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::Mutex;
use ring::Ring;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a pool knows of its keys.
pub(crate) struct Keys {
    /// Held while they change.
    pub(crate) gate: AsyncMutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ring: Option<Ring>,
    /// There should be some, and no copy can be read.
    lost: bool,
    /// Some copy is not as it should be.
    uneven: bool,
    /// Which copies are whole on some disk: a write that failed may have left neither the old one nor the new.
    sound: [bool; 2],
    /// Bytes of each copy on the disks that may not be zeros.
    bytes: usize,
}

impl Keys {
    /// What was found on the disks.
    pub(crate) fn new(found: Found) -> Self {
        let Found { area, lost, uneven, sound, bytes } = found;
        let ring = area.map(|area| Ring { area, key: None });
        Self { gate: AsyncMutex::new(()), inner: Mutex::new(Inner { ring, lost, uneven, sound, bytes }) }
    }

    fn ring(&self) -> Result<Ring> {
        let inner = self.inner.lock();
        let message = match inner.lost {
            true => "the keys of the pool are damaged on all its disks: encrypted volumes cannot be read",
            false => "the pool has no keys; add a passphrase or a key file first",
        };
        let kind = if inner.lost { ErrorKind::Corrupt } else { ErrorKind::Invalid };
        inner.ring.clone().ok_or_else(|| BlockError::new(kind, "keys", message))
    }
}

impl Engine {
    /// What is known of the keys; none if there are none.
    pub(crate) fn key_status(&self) -> Option<KeyStatus> {
        let inner = self.keys.inner.lock();
        if inner.lost {
            return Some(KeyStatus { locked: true, lost: true, ..KeyStatus::default() });
        }
        let ring = inner.ring.as_ref()?;
        let slot = |(index, slot): (u8, &Option<crate::format::keys::Slot>)| {
            let passphrase = matches!(slot.as_ref()?.kind, SlotKind::Passphrase(_));
            Some(KeySlot { index, passphrase })
        };
        Some(KeyStatus {
            locked: ring.key.is_none(),
            lost: false,
            encrypt_new: ring.area.encrypt_new,
            slots: (0..).zip(&ring.area.slots).filter_map(slot).collect(),
            families: ring.area.families.len(),
            families_max: FAMILIES_MAX,
        })
    }

    /// Makes the first keys of the pool.
    ///
    /// # Errors
    /// `Exists` if there are some; `Invalid` for a secret that is none; the disk's.
    pub(crate) async fn begin_encryption(self: &Arc<Self>, secret: Secret, encrypt_new: bool) -> Result<()> {
        let _gate = self.keys.gate.lock().await;
        {
            let inner = self.keys.inner.lock();
            if inner.ring.is_some() || inner.lost {
                return Err(self.error(ErrorKind::Exists, "has keys already"));
            }
        }
        self.state().refusal(&self.name).map_or(Ok(()), Err)?;
        let (engine, cost) = (Arc::clone(self), self.options.key_cost);
        let make = move || Ring::new(engine.pool, &secret, encrypt_new, cost, &*engine.runtime);
        let ring = self.blocking(make).await?;
        // The labels last: before they say so, nobody looks for keys.
        self.write_keys(&ring.area).await?;
        self.label_encryption().await?;
        self.keys.inner.lock().ring = Some(ring);
        tracing::info!(encrypt_new, "the pool has keys");
        Ok(())
    }

    /// As for sharing: from now on the pool is not for builds that know nothing of this. Twice, as each label has two of
    /// the four slots.
    async fn label_encryption(self: &Arc<Self>) -> Result<()> {
        let _gate = self.grow_gate.lock().await;
        if self.catalog().labels().iter().any(|label| !label.can_be_encrypted()) {
            let message = "has a catalog in too many parts for a label of an encrypted pool";
            return Err(self.error(ErrorKind::Invalid, message));
        }
        for _ in 0..2 {
            let catalog = self.catalog();
            self.blocking(move || catalog.update_labels(|label| label.encrypted = true)).await?;
        }
        Ok(())
    }

    /// Opens the keys: encrypted volumes can be read and written. Opening them again is fine.
    ///
    /// # Errors
    /// `Denied` if the secret opens no slot; `Invalid` if there are no keys, `Corrupt` if they are damaged.
    pub(crate) async fn unlock(self: &Arc<Self>, secret: Secret) -> Result<()> {
        let _gate = self.keys.gate.lock().await;
        let area = self.keys.ring()?.area;
        let opened = self.blocking(move || Ok(Ring::opened_by(&area, &secret))).await?;
        let Some((slot, key)) = opened else {
            return Err(self.error(ErrorKind::Denied, "no key slot is opened by this passphrase or key file"));
        };
        {
            let mut inner = self.keys.inner.lock();
            inner.ring.iter_mut().for_each(|ring| ring.key = Some(key.clone()));
        }
        self.take_in_ciphers();
        self.resume_sanitizing();
        tracing::info!(slot, "the pool is unlocked");
        Ok(())
    }

    /// Forgets what opens encrypted volumes, until it is unlocked again. What is under way ends.
    ///
    /// # Errors
    /// `Invalid` if there are no keys.
    pub(crate) async fn lock(&self) -> Result<()> {
        let _gate = self.keys.gate.lock().await;
        self.keys.ring()?;
        self.state().ciphers.clear();
        self.keys.inner.lock().ring.iter_mut().for_each(|ring| ring.key = None);
        tracing::info!("the pool is locked");
        Ok(())
    }

    /// Has the state know the cipher of each family.
    fn take_in_ciphers(&self) {
        let ciphers = {
            let inner = self.keys.inner.lock();
            let ring = inner.ring.iter();
            let ids = ring.flat_map(|ring| ring.area.families.keys().map(move |id| (ring, *id)));
            ids.filter_map(|(ring, id)| Some((id, Arc::new(Cipher::new(&*ring.data_key(id)?))))).collect()
        };
        self.state().ciphers = ciphers;
    }

    /// Makes the key of a new family, which is on the disks when this returns. The gate is held.
    ///
    /// # Errors
    /// `Locked`; `Invalid` if the pool has no keys; `NoSpace` if there is no place for one more; the disk's.
    pub(crate) async fn add_family(&self) -> Result<FamilyId> {
        let ring = self.keys.ring()?;
        let (area, id, key) = ring.with_family(&*self.runtime)?;
        self.change_keys(area).await?;
        self.state().ciphers.insert(id, Arc::new(Cipher::new(&key)));
        Ok(id)
    }

    /// Overwrites the keys of families of which no volume is left. The gate is held.
    pub(crate) async fn forget_unused(&self) {
        let Ok(ring) = self.keys.ring() else { return };
        let used: BTreeSet<FamilyId> =
            self.state().volumes.values().filter_map(|entry| entry.record.family).collect();
        let uneven = self.keys.inner.lock().uneven;
        let area = match ring.without_unused(&used) {
            Some(area) => area,
            None if uneven => ring.next(),
            None => return,
        };
        self.state().ciphers.retain(|id, _| used.contains(id));
        let gone = ring.area.families.len() - area.families.len();
        match self.change_keys(area).await {
            Ok(()) if gone > 0 => tracing::info!(gone, "keys of deleted volumes are overwritten"),
            Ok(()) => tracing::warn!("damaged or missing copies of the keys are written anew"),
            Err(error) => {
                let what = "keys that should be forgotten could not be overwritten; it is tried again when a volume \
                            is deleted and when the pool is opened";
                self.state().degrade(&format!("{what}: {error}"));
            }
        }
    }

    /// [`Engine::forget_unused`] for who does not hold the gate.
    pub(crate) async fn sweep_keys(&self) {
        let _gate = self.keys.gate.lock().await;
        self.forget_unused().await;
    }

    /// Adds a secret, or puts it in the place of another. Returns its slot.
    ///
    /// # Errors
    /// `Locked`; `Invalid` for a secret that is none, and if all slots are taken; `NotFound` if `instead_of` is empty; the
    /// disk's.
    pub(crate) async fn put_slot(self: &Arc<Self>, instead_of: Option<u8>, secret: Secret) -> Result<u8> {
        let _gate = self.keys.gate.lock().await;
        let ring = self.keys.ring()?;
        let index = instead_of.map(usize::from);
        if index.is_some_and(|index| ring.area.slots.get(index).is_none_or(Option::is_none)) {
            return Err(self.error(ErrorKind::NotFound, "has no such key slot"));
        }
        let (engine, cost) = (Arc::clone(self), self.options.key_cost);
        let make = move || ring.with_slot(index, &secret, cost, &*engine.runtime);
        let (area, index) = self.blocking(make).await?;
        self.change_keys(area).await?;
        Ok(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for the last one; the disk's.
    pub(crate) async fn remove_slot(&self, index: u8) -> Result<()> {
        let _gate = self.keys.gate.lock().await;
        let area = self.keys.ring()?.without_slot(usize::from(index))?;
        self.change_keys(area).await
    }

    /// Sets whether new volumes are encrypted if nothing else is asked for.
    ///
    /// # Errors
    /// `Invalid` if there are no keys; the disk's.
    pub(crate) async fn set_encrypt_new(&self, encrypt_new: bool) -> Result<()> {
        let _gate = self.keys.gate.lock().await;
        let ring = self.keys.ring()?;
        if ring.area.encrypt_new == encrypt_new {
            return Ok(());
        }
        self.change_keys(KeyArea { encrypt_new, ..ring.next() }).await
    }

    /// Wraps all with a new pool key, which `secrets` open from then on and no others. Returns the slots that are
    /// empty now.
    ///
    /// # Errors
    /// `Locked`; `Denied` if one of them opens no slot, `Invalid` if there is none; the disk's.
    pub(crate) async fn rekey(self: &Arc<Self>, secrets: Vec<Secret>) -> Result<Vec<u8>> {
        let _gate = self.keys.gate.lock().await;
        let ring = self.keys.ring()?;
        let before = ring.area.slots.clone();
        let engine = Arc::clone(self);
        let new = self.blocking(move || ring.rekeyed(&secrets, &*engine.runtime)).await?;
        self.change_keys(new.area.clone()).await?;
        self.keys.inner.lock().ring.iter_mut().for_each(|ring| ring.key.clone_from(&new.key));
        tracing::info!("the pool has a new key");
        let gone = (0..).zip(before.iter().zip(&new.area.slots));
        Ok(gone.filter(|(_, (old, new))| old.is_some() && new.is_none()).map(|(index, _)| index).collect())
    }

    /// Writes the keys to all disks, then takes them in.
    async fn change_keys(&self, area: KeyArea) -> Result<()> {
        self.state().refusal(&self.name).map_or(Ok(()), Err)?;
        let written = self.write_keys(&area).await;
        let mut inner = self.keys.inner.lock();
        inner.uneven = written.is_err();
        if let Some(ring) = &mut inner.ring {
            match &written {
                Ok(()) => ring.area = area,
                // What a disk may have of it is not written again under this number.
                Err(_) => ring.area.generation = area.generation,
            }
        }
        written
    }
}
