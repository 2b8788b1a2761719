//! Keys of pools: what opens their encrypted volumes, and how they come to be open again after a restart.
//!
//! Passphrases come with a request and are gone with it. Of a key file the group remembers where it is, so that the pool is
//! unlocked by itself when it is opened.

use crate::file::FileChange;
use crate::group::blocking;
use crate::{Error, ErrorKind, Group, Outcome, PoolEngine, PoolRecord, PoolView, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most bytes that are read of a key file: one more than it may have, so that the pool says so.
const KEY_FILE_BYTES_READ: u64 = (64 << 10) + 1;

/// What opens a pool's keys, as it is given.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// Where a key file is, on the daemon's machine: a whole path.
    File(String),
}

/// What opens a pool's keys.
#[derive(Clone, PartialEq, Eq)]
pub enum PoolSecret {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// What is in a key file.
    KeyFile(Zeroizing<Vec<u8>>),
}

/// A passphrase or key file that opens a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    /// Its number.
    pub index: u8,
    /// It is a passphrase; else a key file.
    pub passphrase: bool,
}

/// The keys of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolKeys {
    /// Encrypted volumes can be neither read nor written.
    pub locked: bool,
    /// The keys cannot be read from any disk.
    pub damaged: bool,
    /// New volumes are encrypted unless something else is asked for.
    pub encrypt_new: bool,
    /// What opens them.
    pub slots: Vec<KeySlot>,
    /// How many data keys there are: one for each encrypted volume with its snapshots and clones.
    pub data_keys: usize,
    /// How many there can be.
    pub data_keys_max: usize,
}

/// What is to be done about a pool's keys.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyChange<S> {
    /// Make the first ones.
    Begin {
        /// What opens them.
        secret: S,
        /// New volumes are encrypted unless something else is asked for.
        encrypt_new: bool,
    },
    /// Let encrypted volumes be used.
    Unlock(S),
    /// Let them be used no more.
    Lock,
    /// Add a passphrase or key file.
    Add(S),
    /// Put one in the place of another.
    Replace(u8, S),
    /// Remove one.
    Remove(u8),
    /// Make a new pool key, which only these open.
    Rekey(Vec<S>),
    /// Whether new volumes are encrypted unless something else is asked for.
    EncryptNew(bool),
}

/// How a volume is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VolumeEncryption {
    /// As it is written.
    #[default]
    None,
    /// Encrypted; its pool is unlocked.
    Open,
    /// Encrypted; hosts are told that it is not ready until its pool is unlocked.
    Locked,
    /// It was encrypted and is deleted, and its key is destroyed.
    Forgotten,
}

impl<S> KeyChange<S> {
    /// The secrets in it.
    fn secrets(&self) -> Vec<&S> {
        match self {
            Self::Begin { secret, .. }
            | Self::Unlock(secret)
            | Self::Add(secret)
            | Self::Replace(_, secret) => {
                vec![secret]
            }
            Self::Rekey(secrets) => secrets.iter().collect(),
            Self::Lock | Self::Remove(_) | Self::EncryptNew(_) => Vec::new(),
        }
    }

    /// The same with other secrets.
    fn try_map<T>(self, mut map: impl FnMut(S) -> Result<T>) -> Result<KeyChange<T>> {
        Ok(match self {
            Self::Begin { secret, encrypt_new } => KeyChange::Begin { secret: map(secret)?, encrypt_new },
            Self::Unlock(secret) => KeyChange::Unlock(map(secret)?),
            Self::Lock => KeyChange::Lock,
            Self::Add(secret) => KeyChange::Add(map(secret)?),
            Self::Replace(slot, secret) => KeyChange::Replace(slot, map(secret)?),
            Self::Remove(slot) => KeyChange::Remove(slot),
            Self::Rekey(secrets) => KeyChange::Rekey(secrets.into_iter().map(map).collect::<Result<_>>()?),
            Self::EncryptNew(encrypt) => KeyChange::EncryptNew(encrypt),
        })
    }
}

impl KeyChange<KeySource> {
    /// The last key file in it.
    fn key_file(&self) -> Option<String> {
        let path = |source: &&KeySource| match source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Passphrase(_) => None,
        };
        self.secrets().iter().rev().find_map(path)
    }
}

/// Reads the key file, if it is one. Blocks.
fn read(source: KeySource) -> Result<PoolSecret> {
    let path = match source {
        KeySource::Passphrase(passphrase) => return Ok(PoolSecret::Passphrase(passphrase)),
        KeySource::File(path) => path,
    };
    if !Path::new(&path).is_absolute() {
        return Err(Error::invalid(path, "write the whole path of the key file, as the daemon finds it"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(4096));
    let read = File::open(&path).and_then(|file| file.take(KEY_FILE_BYTES_READ).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(PoolSecret::KeyFile(content)),
        Err(error) => {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Device,
            };
            Err(Error::new(kind, path, format!("the key file cannot be read: {error}")))
        }
    }
}

impl Group {
    /// Changes what opens a pool's encrypted volumes, or opens them. Where a key file is, is remembered.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `Denied` for a passphrase or key file that opens nothing; `Locked` for what needs a pool that
    /// is unlocked; `Invalid`, `Exists`; what reading the key file says.
    pub async fn change_pool_keys(
        &self,
        pool: &str,
        change: KeyChange<KeySource>,
    ) -> Result<(Outcome, PoolView)> {
        let _change = self.changes.lock().await;
        let (mut record, engine) = {
            let state = self.state.read();
            let entry = state.find_pool(pool)?;
            (entry.record.clone(), entry.open()?)
        };
        let before = engine.keys();
        let rewraps = matches!(change, KeyChange::Rekey(_) | KeyChange::Replace(..));
        let key_file = change.key_file();
        self.change_keys(&record, &engine, change).await?;
        let mut changed = rewraps || engine.keys() != before;
        if key_file.is_some() && key_file != record.key_file {
            record.key_file = key_file;
            let remember = (!record.volatile).then(|| FileChange::PutPool(record.clone()));
            self.persist(remember.into_iter().collect()).await?;
            if let Some(entry) = self.state.write().pools.get_mut(&record.id) {
                entry.record = record.clone();
            }
            changed = true;
        }
        let outcome = if changed { Outcome::Changed } else { Outcome::Unchanged };
        Ok((outcome, self.pool(&record.id.to_string())?))
    }

    /// Reads key files, then has the pool do it.
    pub(crate) async fn change_keys(
        &self,
        pool: &PoolRecord,
        engine: &Arc<dyn PoolEngine>,
        change: KeyChange<KeySource>,
    ) -> Result<()> {
        let change = blocking(&*self.runtime, move || change.try_map(read)).await??;
        let object = || format!("pool {}", pool.name);
        engine.change_keys(change).await.map_err(|error| Error { object: object(), ..error })
    }

    /// Unlocks a pool that has just been opened, if it is known where a key file is. If that fails it stays locked.
    pub(crate) async fn unlock_by_file(&self, pool: &PoolRecord, engine: &Arc<dyn PoolEngine>) {
        if !engine.keys().is_some_and(|keys| keys.locked && !keys.damaged) {
            return;
        }
        let Some(key_file) = pool.key_file.clone() else {
            tracing::warn!(pool = %pool.name, "locked: encrypted volumes wait for `palisade pool unlock`");
            return;
        };
        let unlock = KeyChange::Unlock(KeySource::File(key_file.clone()));
        match self.change_keys(pool, engine, unlock).await {
            Ok(()) => tracing::info!(pool = %pool.name, key_file, "unlocked by its key file"),
            Err(error) => tracing::error!(pool = %pool.name, key_file, %error, "the pool stays locked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_as_it_is_by_a_whole_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key").display().to_string();
        std::fs::write(&path, b"content\n").unwrap();
        let content = read(KeySource::File(path.clone())).unwrap();
        assert!(content == PoolSecret::KeyFile(Zeroizing::new(b"content\n".to_vec())));
        let kind = |path: &str| read(KeySource::File(path.to_owned())).err().map(|error| error.kind);
        assert_eq!(kind("key"), Some(ErrorKind::Invalid));
        assert_eq!(kind(&format!("{path}.gone")), Some(ErrorKind::NotFound));
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        match read(KeySource::File(path)).unwrap() {
            PoolSecret::KeyFile(content) => assert_eq!(content.len(), (64 << 10) + 1, "no more is read"),
            PoolSecret::Passphrase(_) => panic!("it was a file"),
        }
    }
}
