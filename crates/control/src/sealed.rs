//! A secret as it is kept: encrypted and authenticated, bound to the record it is in.

use crate::chap::Secret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of a nonce, drawn anew for each secret.
pub(crate) const NONCE_BYTES: usize = 24;

/// What is kept of a secret: `1:KEY:NONCE:CIPHERTEXT` in hexadecimal, where 1 is the format, XChaCha20-Poly1305, and
/// KEY names the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

/// Where a secret belongs. Moved elsewhere it cannot be opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The record: `host` or `group` with its identity.
    pub(crate) object: &'a str,
    /// `initiator` or `target`: who proves it.
    pub(crate) role: &'a str,
    /// The user name it goes with.
    pub(crate) user: &'a str,
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        ["palisade chap 1", self.object, self.role, self.user].join("\0").into_bytes()
    }
}

/// Why a sealed secret cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It was sealed with another key.
    OtherKey,
    /// It was changed, or put into another record.
    Damaged,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl Sealed {
    /// Seals a secret; none if it is too long to be one.
    pub(crate) fn seal(
        key_id: &str,
        key: &[u8; KEY_BYTES],
        nonce: [u8; NONCE_BYTES],
        place: Place<'_>,
        secret: &Secret,
    ) -> Option<Self> {
        let payload = Payload { msg: secret.bytes(), aad: &place.associated_data() };
        let content = XChaCha20Poly1305::new(key.into()).encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(Self(format!("1:{key_id}:{}:{}", hex(&nonce), hex(&content))))
    }

    /// Opens it.
    pub(crate) fn open(
        &self,
        key_id: &str,
        key: &[u8; KEY_BYTES],
        place: Place<'_>,
    ) -> Result<Secret, Unopened> {
        let parts: Vec<&str> = self.0.split(':').collect();
        let ["1", sealed_with, nonce, content] = parts.as_slice() else { return Err(Unopened::Damaged) };
        if *sealed_with != key_id {
            return Err(Unopened::OtherKey);
        }
        let nonce = from_hex(nonce).and_then(|nonce| <[u8; NONCE_BYTES]>::try_from(nonce).ok());
        let (nonce, content) = nonce.zip(from_hex(content)).ok_or(Unopened::Damaged)?;
        let payload = Payload { msg: &content, aad: &place.associated_data() };
        let secret = XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(nonce), payload);
        secret.map(|secret| Secret::from_bytes(Zeroizing::new(secret))).map_err(|_| Unopened::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];
    const PLACE: Place<'_> = Place { object: "host a", role: "initiator", user: "u" };

    fn sealed() -> Sealed {
        let secret = Secret::parse("twelve bytes at least").unwrap();
        Sealed::seal("k1", &KEY, [1; NONCE_BYTES], PLACE, &secret).unwrap()
    }

    #[test]
    fn a_secret_is_opened_in_its_place_with_its_key_only() {
        let sealed = sealed();
        assert_eq!(sealed.open("k1", &KEY, PLACE).unwrap().bytes(), b"twelve bytes at least");
        let elsewhere = [
            Place { object: "host b", ..PLACE },
            Place { role: "target", ..PLACE },
            Place { user: "v", ..PLACE },
        ];
        for place in elsewhere {
            assert_eq!(sealed.open("k1", &KEY, place).unwrap_err(), Unopened::Damaged, "{place:?}");
        }
        assert_eq!(sealed.open("k2", &KEY, PLACE).unwrap_err(), Unopened::OtherKey);
        assert_eq!(sealed.open("k1", &[8; KEY_BYTES], PLACE).unwrap_err(), Unopened::Damaged);
    }

    #[test]
    fn what_was_changed_is_not_opened_and_nothing_is_shown() {
        let text = sealed().0;
        assert!(!text.contains(&hex(b"twelve")) && !format!("{:?}", sealed()).contains(&text));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = Sealed(String::from_utf8(changed).unwrap());
            assert!(changed.open("k1", &KEY, PLACE).is_err(), "byte {at}");
        }
        for text in ["", "1:k1", "1:k1::", "1:k1:zz:zz", "1:k1:00:ä"] {
            assert_eq!(Sealed(text.to_owned()).open("k1", &KEY, PLACE).unwrap_err(), Unopened::Damaged);
        }
    }
}
