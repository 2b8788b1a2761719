//! The pool's keys, as its users see them.

use super::Pool;
use crate::keys::Secret;
use crate::options::KeyStatus;
use block::Result;
use std::sync::Arc;

impl Pool {
    /// What is known of the keys; none if the pool has none.
    #[must_use]
    pub fn keys(&self) -> Option<KeyStatus> {
        self.engine.key_status()
    }

    /// Makes the pool's first keys, which `secret` opens; it is unlocked then. With `encrypt_new`, new volumes should be
    /// encrypted unless something else is asked for: [`KeyStatus::encrypt_new`] says so to callers.
    ///
    /// # Errors
    /// `Exists` if it has keys; `Invalid` for an empty passphrase or a short key file; the disk's.
    pub async fn begin_encryption(&self, secret: Secret, encrypt_new: bool) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.begin_encryption(secret, encrypt_new).await }).await
    }

    /// Lets encrypted volumes be read and written, until the pool is closed or locked. Until then they answer `Locked`.
    ///
    /// # Errors
    /// `Denied` if the secret opens no slot; `Invalid` if there are no keys, `Corrupt` if they are damaged.
    pub async fn unlock(&self, secret: Secret) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.unlock(secret).await }).await
    }

    /// Forgets what opens encrypted volumes. Reads and writes in progress end.
    ///
    /// # Errors
    /// `Invalid` if there are no keys.
    pub async fn lock(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.lock().await }).await
    }

    /// Adds a passphrase or key file, and returns its slot.
    ///
    /// # Errors
    /// `Locked`; `Invalid` for a secret that is none, and if all slots are taken; the disk's.
    pub async fn add_key(&self, secret: Secret) -> Result<u8> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.put_slot(None, secret).await }).await
    }

    /// Puts a passphrase or key file in the place of that in `slot`, which opens nothing any more.
    ///
    /// # Errors
    /// As [`Pool::add_key`]; `NotFound` if the slot is empty.
    pub async fn change_key(&self, slot: u8, secret: Secret) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.put_slot(Some(slot), secret).await.map(|_| ()) }).await
    }

    /// Removes the passphrase or key file in `slot`.
    ///
    /// # Errors
    /// `NotFound` if it is empty; `Invalid` if it is the last; the disk's.
    pub async fn remove_key(&self, slot: u8) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.remove_slot(slot).await }).await
    }

    /// Sets whether new volumes should be encrypted unless something else is asked for.
    ///
    /// # Errors
    /// `Invalid` if there are no keys; the disk's.
    pub async fn set_encrypt_new(&self, encrypt_new: bool) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.set_encrypt_new(encrypt_new).await }).await
    }

    /// Wraps all data keys with a new pool key, which only `secrets` open from then on, each in the slot it has. The old
    /// forms are overwritten. Data stays as it is encrypted. Returns the slots that were emptied.
    ///
    /// # Errors
    /// `Locked`; `Denied` if a secret opens no slot, `Invalid` if there is none; the disk's.
    pub async fn rekey(&self, secrets: Vec<Secret>) -> Result<Vec<u8>> {
        let engine = Arc::clone(&self.engine);
        self.engine.detached(async move { engine.rekey(secrets).await }).await
    }
}
