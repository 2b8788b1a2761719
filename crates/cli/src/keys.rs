//! The verbs on keys of pools. Passphrases are never on the command line, where others could see them.

use crate::args::{Key, KeyOptions};
use crate::chap::Input;
use crate::output::Output;
use crate::pools::whole_path;
use api::{
    Change, ChangeKeys, Client, ErrorClass, KeySecret, KeySlot, KeySlotKind, KeyState, Outcome, Pool,
    PoolEncryption, Problem, Secret,
};
use std::path::Path;

/// Longest passphrase that is read from a file, in bytes; the daemon takes no longer ones.
const PASSPHRASE_BYTES_MAX: u64 = 64 << 10;

/// What a passphrase is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It opens something: a mistake is noticed.
    Open,
    /// It will open something: it is asked for twice.
    Set,
}

/// The passphrase or key file that the options say.
pub(crate) fn secret(options: &KeyOptions, purpose: Purpose) -> Result<KeySecret, Problem> {
    if let Some(path) = &options.key_file {
        return Ok(KeySecret::KeyFile(whole_path(path)?));
    }
    if let Some(path) = &options.passphrase_file {
        return passphrase_in(path).map(KeySecret::Passphrase);
    }
    let mut input = Input::new();
    let first = input.secret("Passphrase: ")?;
    if purpose == Purpose::Set && input.is_terminal() && input.secret("The same again: ")? != first {
        return Err(Problem::new(
            ErrorClass::Usage,
            "passphrase",
            "the two are not the same; nothing was done",
        ));
    }
    Ok(KeySecret::Passphrase(first))
}

fn passphrase_in(path: &Path) -> Result<Secret, Problem> {
    let fail = |why: String| Problem::new(ErrorClass::Usage, path.display().to_string(), why);
    let mut text = Secret(String::new());
    let read = std::fs::File::open(path).and_then(|file| {
        std::io::Read::read_to_string(&mut std::io::Read::take(file, PASSPHRASE_BYTES_MAX + 2), &mut text.0)
    });
    read.map_err(|error| fail(format!("the passphrase cannot be read: {error}")))?;
    let length = text.0.trim_end_matches(['\r', '\n']).len();
    text.0.truncate(length);
    Ok(text)
}

pub(crate) async fn run(client: &Client, verb: Key, out: Output) -> Result<(), Problem> {
    let (pool, request) = match verb {
        Key::Add { pool, key } => (pool, ChangeKeys::Add(secret(&key, Purpose::Set)?)),
        Key::Change { pool, slot, key } => {
            (pool, ChangeKeys::Replace { slot, secret: secret(&key, Purpose::Set)? })
        }
        Key::Remove { pool, slot } => (pool, ChangeKeys::Remove { slot }),
    };
    out.print(&client.change_keys(&pool, &request).await?, opened_by)
}

pub(crate) async fn unlock(
    client: &Client,
    pool: &str,
    options: &KeyOptions,
    out: Output,
) -> Result<(), Problem> {
    let request = ChangeKeys::Unlock(secret(options, Purpose::Open)?);
    out.print(&client.change_keys(pool, &request).await?, |change| {
        let name = &change.item.name;
        match change.outcome {
            Outcome::Unchanged => format!("Pool {name} is unlocked already, and this opens it."),
            _ => format!("Pool {name} is unlocked: hosts find its encrypted volumes ready."),
        }
    })
}

pub(crate) async fn lock(client: &Client, pool: &str, out: Output) -> Result<(), Problem> {
    out.print(&client.change_keys(pool, &ChangeKeys::Lock).await?, |change| {
        let name = &change.item.name;
        format!("Pool {name} is locked: hosts are told that its encrypted volumes are not ready.")
    })
}

/// Gives a pool keys, or says what is to become of its new volumes.
pub(crate) async fn encrypt(
    client: &Client,
    pool: &str,
    new_volumes: bool,
    options: &KeyOptions,
    out: Output,
) -> Result<(), Problem> {
    let named = options.key_file.is_some() || options.passphrase_file.is_some();
    let request = match client.pool(pool).await?.encryption {
        Some(_) if !named => ChangeKeys::EncryptNewVolumes(new_volumes),
        _ => ChangeKeys::Begin { secret: secret(options, Purpose::Set)?, encrypt_new_volumes: new_volumes },
    };
    out.print(&client.change_keys(pool, &request).await?, |change| {
        let name = &change.item.name;
        let new = match new_volumes {
            true => "New volumes are encrypted from now on",
            false => "New volumes are encrypted if made with --encrypt on",
        };
        format!("Pool {name} has keys. {new}; volumes that are there stay as they are.")
    })
}

/// Asks for all that shall open the pool from now on.
pub(crate) async fn rekey(
    client: &Client,
    pool: &str,
    key_files: &[String],
    passphrase_files: &[std::path::PathBuf],
    out: Output,
) -> Result<(), Problem> {
    let mut secrets = Vec::new();
    for path in key_files {
        secrets.push(KeySecret::KeyFile(whole_path(path)?));
    }
    for path in passphrase_files {
        secrets.push(KeySecret::Passphrase(passphrase_in(path)?));
    }
    if secrets.is_empty() {
        let none = KeyOptions { key_file: None, passphrase_file: None };
        secrets.push(secret(&none, Purpose::Open)?);
    }
    out.print(&client.change_keys(pool, &ChangeKeys::Rekey(secrets)).await?, |change| {
        format!("Pool {} has a new key; the old one is overwritten. {}", change.item.name, opened_by(change))
    })
}

fn opened_by(change: &Change<Pool>) -> String {
    let slots = change.item.encryption.as_ref().map_or_else(String::new, slots);
    format!("Pool {} is opened by: {slots}.", change.item.name)
}

fn slots(encryption: &PoolEncryption) -> String {
    let named = |slot: &KeySlot| match slot.kind {
        KeySlotKind::Passphrase => format!("{} passphrase", slot.slot),
        KeySlotKind::KeyFile => format!("{} key file", slot.slot),
    };
    encryption.slots.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// What `pool show` says of keys: nothing if there are none.
pub(crate) fn shown(encryption: Option<&PoolEncryption>) -> [(&'static str, String); 3] {
    let Some(keys) = encryption else {
        return ["Encryption", "Key slots", "Key file"].map(|name| (name, String::new()));
    };
    let state = match keys.state {
        KeyState::Unlocked => "unlocked",
        KeyState::Locked => "LOCKED",
        KeyState::Damaged => "KEYS DAMAGED",
    };
    let new = if keys.encrypt_new_volumes { "new volumes are encrypted" } else { "if asked for" };
    let counts = format!("{state}; {new}; {} of {} data keys", keys.data_keys, keys.data_keys_max);
    let file = keys.key_file.clone().unwrap_or_default();
    [("Encryption", counts), ("Key slots", slots(keys)), ("Key file", file)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_passphrase_file_the_line_end_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words");
        for (content, expected) in [("words", "words"), ("a b \n", "a b "), ("x\r\n", "x"), ("\n", "")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(passphrase_in(&path).unwrap().0, expected);
        }
        assert!(passphrase_in(&directory.path().join("gone")).is_err());
    }

    #[test]
    fn keys_are_shown_without_secrets_and_not_at_all_where_there_are_none() {
        assert!(shown(None).iter().all(|(_, value)| value.is_empty()));
        let slot = |slot, kind| KeySlot { slot, kind };
        let keys = PoolEncryption {
            state: KeyState::Locked,
            encrypt_new_volumes: true,
            slots: vec![slot(0, KeySlotKind::Passphrase), slot(2, KeySlotKind::KeyFile)],
            key_file: Some("/k".to_owned()),
            data_keys: 3,
            data_keys_max: 10,
        };
        let [(_, state), (_, slots), (_, file)] = shown(Some(&keys));
        assert_eq!(state, "LOCKED; new volumes are encrypted; 3 of 10 data keys");
        assert_eq!((slots.as_str(), file.as_str()), ("0 passphrase, 2 key file", "/k"));
    }
}
