//! Keys of pools: what opens encrypted volumes.

use crate::client::segment;
use crate::{Change, Client, ClientError, Pool, Secret};
use hyper::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a pool's keys stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Encrypted volumes can be used.
    Unlocked,
    /// Hosts are told that encrypted volumes are not ready, until the pool is unlocked.
    Locked,
    /// No disk has a copy of the keys that can be read: encrypted volumes are lost.
    Damaged,
}

/// What a key slot is opened by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeySlotKind {
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
}

/// A passphrase or key file that opens a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeySlot {
    /// Number of the slot.
    pub slot: u8,
    /// What it is opened by.
    pub kind: KeySlotKind,
}

/// The keys of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolEncryption {
    /// How they stand.
    pub state: KeyState,
    /// New volumes are encrypted unless something else is asked for.
    pub encrypt_new_volumes: bool,
    /// What opens them.
    pub slots: Vec<KeySlot>,
    /// Key file on the daemon's machine that unlocks the pool when it is opened; none: it waits for a passphrase.
    pub key_file: Option<String>,
    /// Data keys there are: one for each encrypted volume with its snapshots and clones.
    pub data_keys: u32,
    /// How many there can be.
    pub data_keys_max: u32,
}

/// How a volume is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeEncryption {
    /// As it is written.
    #[default]
    None,
    /// Encrypted.
    Encrypted,
    /// Encrypted, and its pool is locked: hosts are told that it is not ready.
    Locked,
    /// It was encrypted and is deleted, and its key is destroyed. Only the answer to its deletion says so.
    KeyDestroyed,
}

/// A passphrase or a key file: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeySecret {
    /// A passphrase, up to 64 KiB.
    Passphrase(Secret),
    /// Where a file of 32 bytes to 64 KiB is, on the daemon's machine: a whole path. It is remembered.
    KeyFile(String),
}

/// What is to be done about a pool's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChangeKeys {
    /// Make the first keys of a pool.
    Begin {
        /// What opens them.
        secret: KeySecret,
        /// New volumes are encrypted unless something else is asked for.
        encrypt_new_volumes: bool,
    },
    /// Let encrypted volumes be used.
    Unlock(KeySecret),
    /// Let them be used no more until the pool is unlocked.
    Lock,
    /// Add a passphrase or key file.
    Add(KeySecret),
    /// Put another passphrase or key file into a slot.
    Replace {
        /// Number of the slot.
        slot: u8,
        /// What opens it from now on.
        secret: KeySecret,
    },
    /// Remove a passphrase or key file, but not the last.
    Remove {
        /// Number of its slot.
        slot: u8,
    },
    /// Make a new pool key, which only these, of those there are, open from now on.
    Rekey(Vec<KeySecret>),
    /// Whether new volumes are encrypted unless something else is asked for.
    EncryptNewVolumes(bool),
}

impl Client {
    /// Changes what opens a pool's encrypted volumes, or opens them.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn change_keys(&self, pool: &str, request: &ChangeKeys) -> Result<Change<Pool>, ClientError> {
        self.send(Method::POST, &format!("/pools/{}/keys", segment(pool)), Some(request)).await
    }
}
