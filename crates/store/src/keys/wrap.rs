//! What wraps keys: XChaCha20-Poly1305, with keys that are drawn, or come of a passphrase or of a file's content.

use crate::format::keys::{KeyCost, NONCE_BYTES, SALT_BYTES, SlotKind, WRAPPING_KEY_BYTES};
use argon2::{Algorithm, Argon2, Params, Version};
use block::Runtime;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes that a key file has at least.
pub const KEY_FILE_BYTES_MIN: usize = 32;
/// Bytes that a key file or passphrase has at most.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// What the content of key files is expanded for.
const KEY_FILE_INFO: &[u8] = b"palisade key file 1";

/// A key that wraps others.
pub(crate) type WrappingKey = Zeroizing<[u8; WRAPPING_KEY_BYTES]>;

/// What opens a pool's keys. It is overwritten in memory when it goes.
#[derive(Clone)]
pub enum Secret {
    /// What a person knows.
    Passphrase(Zeroizing<Vec<u8>>),
    /// What is in a file.
    KeyFile(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase",
            Self::KeyFile(_) => "KeyFile",
        })
    }
}

impl Secret {
    /// What is wrong with it, if it cannot be used for a new slot.
    pub(super) fn flaw(&self) -> Option<String> {
        let (name, bytes, least) = match self {
            Self::Passphrase(bytes) => ("a passphrase", bytes, 1),
            Self::KeyFile(bytes) => ("a key file", bytes, KEY_FILE_BYTES_MIN),
        };
        let fits = (least..=SECRET_BYTES_MAX).contains(&bytes.len());
        (!fits).then(|| format!("{name} has {least} to {SECRET_BYTES_MAX} bytes, not {}", bytes.len()))
    }

    /// How a slot for it is opened.
    pub(super) fn kind(&self, cost: KeyCost) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase(cost),
            Self::KeyFile(_) => SlotKind::KeyFile,
        }
    }

    /// The key for a slot of that kind; none if this is of the other one. A passphrase takes time and memory.
    pub(super) fn key(&self, kind: SlotKind, salt: &[u8; SALT_BYTES]) -> Option<WrappingKey> {
        let mut key = WrappingKey::default();
        match (self, kind) {
            (Self::Passphrase(bytes), SlotKind::Passphrase(cost)) => {
                let length = Some(WRAPPING_KEY_BYTES);
                let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, length).ok()?;
                let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon.hash_password_into(bytes, salt, &mut *key).ok()?;
            }
            (Self::KeyFile(bytes), SlotKind::KeyFile) => {
                Hkdf::<Sha256>::new(Some(salt), bytes).expand(KEY_FILE_INFO, &mut *key).ok()?;
            }
            _ => return None,
        }
        Some(key)
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>(runtime: &dyn Runtime) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    for part in bytes.chunks_mut(16) {
        let random = Zeroizing::new(runtime.random_id());
        part.copy_from_slice(&random[..part.len()]);
    }
    bytes
}

/// `plain`, wrapped; `place` is what it can be opened for only.
pub(super) fn wrap<const N: usize>(
    key: &WrappingKey,
    nonce: &[u8; NONCE_BYTES],
    place: &[u8],
    plain: &[u8],
) -> Option<[u8; N]> {
    let payload = Payload { msg: plain, aad: place };
    let cipher = XChaCha20Poly1305::new((&**key).into());
    cipher.encrypt(&XNonce::from(*nonce), payload).ok()?.try_into().ok()
}

/// What was wrapped; none if the key is another, or something was changed.
pub(super) fn unwrap<const N: usize>(
    key: &WrappingKey,
    nonce: &[u8; NONCE_BYTES],
    place: &[u8],
    wrapped: &[u8],
) -> Option<Zeroizing<[u8; N]>> {
    let payload = Payload { msg: wrapped, aad: place };
    let cipher = XChaCha20Poly1305::new((&**key).into());
    let plain = Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
    let mut bytes = Zeroizing::new([0; N]);
    (plain.len() == N).then(|| bytes.copy_from_slice(&plain))?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: KeyCost = KeyCost { memory_kib: 8, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Secret {
        Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
    }

    fn file(content: &[u8]) -> Secret {
        Secret::KeyFile(Zeroizing::new(content.to_vec()))
    }

    /// As OpenSSL and another implementation of HKDF have them. What is fixed here is what
    /// pools on disks depend on: a change of it would lock them.
    #[test]
    fn the_keys_of_secrets_stay_the_same_for_ever() {
        let salt = [1; SALT_BYTES];
        let hex = |key: WrappingKey| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let of_file = file(&[2; 32]).key(SlotKind::KeyFile, &salt).map(hex);
        let of_words = passphrase("correct horse").key(SlotKind::Passphrase(CHEAP), &salt).map(hex);
        assert_eq!(
            of_file.as_deref(),
            Some("e35d6a7863743b62e2b33b33cd5882c4969c0ce6c41085617811f8cce8efcd0b")
        );
        assert_eq!(
            of_words.as_deref(),
            Some("3994be021d1825b7f3ba7d96aa2d9e67bf822eee4872fa7f8bb981ed9464cb50")
        );
    }

    #[test]
    fn salt_cost_and_secret_each_change_the_key() {
        let key = |text: &str, cost, salt: u8| {
            passphrase(text).key(SlotKind::Passphrase(cost), &[salt; SALT_BYTES]).map(|key| *key)
        };
        let dearer = KeyCost { passes: 2, ..CHEAP };
        let keys = [key("a", CHEAP, 1), key("b", CHEAP, 1), key("a", dearer, 1), key("a", CHEAP, 2)];
        assert!(keys.iter().all(Option::is_some));
        assert!((0..4).all(|one| (0..one).all(|other| keys[one] != keys[other])));
        assert_eq!(passphrase("a").key(SlotKind::KeyFile, &[1; SALT_BYTES]).map(|key| *key), None);
        assert_eq!(file(&[1; 32]).key(SlotKind::Passphrase(CHEAP), &[1; SALT_BYTES]).map(|key| *key), None);
    }

    #[test]
    fn what_is_wrapped_is_opened_in_its_place_with_its_key_only() {
        let (key, nonce) = (WrappingKey::new([1; 32]), [2; NONCE_BYTES]);
        let wrapped: [u8; 48] = wrap(&key, &nonce, b"here", &[3; 32]).unwrap();
        assert_eq!(unwrap(&key, &nonce, b"here", &wrapped).map(|plain| *plain), Some([3; 32]));
        assert!(unwrap::<32>(&key, &nonce, b"there", &wrapped).is_none());
        assert!(unwrap::<32>(&WrappingKey::new([2; 32]), &nonce, b"here", &wrapped).is_none());
        assert!(unwrap::<31>(&key, &nonce, b"here", &wrapped).is_none());
        for at in 0..wrapped.len() {
            let mut changed = wrapped;
            changed[at] ^= 1;
            assert!(unwrap::<32>(&key, &nonce, b"here", &changed).is_none(), "byte {at}");
        }
    }

    #[test]
    fn short_key_files_and_empty_passphrases_are_no_secrets_and_none_is_shown() {
        assert_eq!(passphrase("x").flaw().or(file(&[0; 32]).flaw()), None);
        for bad in [passphrase(""), file(&[0; 31]), file(&vec![0; SECRET_BYTES_MAX + 1])] {
            assert!(bad.flaw().is_some());
        }
        assert_eq!(format!("{:?}", passphrase("hush")), "Passphrase");
    }
}
