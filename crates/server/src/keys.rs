//! Keys of pools, from the model's words to the store's.

use control::{KeyChange, KeySlot, PoolKeys, PoolSecret, Result};
use store::{KeyStatus, Pool, Secret};

fn secret_of(secret: PoolSecret) -> Secret {
    match secret {
        PoolSecret::Passphrase(bytes) => Secret::Passphrase(bytes),
        PoolSecret::KeyFile(bytes) => Secret::KeyFile(bytes),
    }
}

/// What a pool knows of its keys.
pub(crate) fn keys_of(status: KeyStatus) -> PoolKeys {
    let KeyStatus { locked, lost, encrypt_new, slots, families, families_max } = status;
    let slot = |slot: store::KeySlot| KeySlot { index: slot.index, passphrase: slot.passphrase };
    PoolKeys {
        locked,
        damaged: lost,
        encrypt_new,
        slots: slots.into_iter().map(slot).collect(),
        data_keys: families,
        data_keys_max: families_max,
    }
}

/// What an administrator should know of them.
pub(crate) fn warning_of(status: Option<&KeyStatus>) -> Option<String> {
    let status = status?;
    if status.lost {
        return Some("its keys are damaged on all disks: encrypted volumes cannot be read".to_owned());
    }
    let waits = status.locked && status.families > 0;
    waits.then(|| "it is locked: encrypted volumes are not ready until `palisade pool unlock`".to_owned())
}

/// Does it.
pub(crate) async fn change(pool: &Pool, change: KeyChange<PoolSecret>) -> Result<()> {
    match change {
        KeyChange::Begin { secret, encrypt_new } => {
            pool.begin_encryption(secret_of(secret), encrypt_new).await?;
        }
        KeyChange::Unlock(secret) => pool.unlock(secret_of(secret)).await?,
        KeyChange::Lock => pool.lock().await?,
        KeyChange::Add(secret) => drop(pool.add_key(secret_of(secret)).await?),
        KeyChange::Replace(slot, secret) => pool.change_key(slot, secret_of(secret)).await?,
        KeyChange::Remove(slot) => pool.remove_key(slot).await?,
        KeyChange::Rekey(secrets) => {
            drop(pool.rekey(secrets.into_iter().map(secret_of).collect()).await?);
        }
        KeyChange::EncryptNew(encrypt) => pool.set_encrypt_new(encrypt).await?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_pool_is_warned_of_if_something_in_it_is_encrypted() {
        let status = |locked, lost, families| KeyStatus { locked, lost, families, ..KeyStatus::default() };
        assert_eq!(warning_of(None), None);
        assert_eq!(warning_of(Some(&status(false, false, 3))), None);
        assert_eq!(warning_of(Some(&status(true, false, 0))), None, "nobody waits");
        assert!(warning_of(Some(&status(true, false, 1))).is_some_and(|text| text.contains("unlock")));
        assert!(warning_of(Some(&status(true, true, 0))).is_some_and(|text| text.contains("damaged")));
    }
}
